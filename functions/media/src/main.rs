//! Plans, signs and completes uploads; signs downloads. No byte of a file passes through it.

use std::sync::Arc;

use poste_aws::{
    Parts,
    gateway::{self, Event, Reply},
};
use poste_domain::routes;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let parts = Parts::load();
    let media = Arc::new(parts.media()?);
    let clock = parts.clock();
    gateway::serve(move |Event { caller, text, .. }| {
        let (media, now) = (media.clone(), clock.now_ms());
        async move { Reply::Frame(Box::new(routes::media(&media, &caller, now, &text).await)) }
    })
    .await
}
