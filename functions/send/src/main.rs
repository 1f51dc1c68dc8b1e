//! Takes envelopes into the log.

use std::sync::Arc;

use poste_aws::{
    Parts,
    gateway::{self, Event, Reply},
};
use poste_domain::routes;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let parts = Parts::load().await;
    let append = Arc::new(parts.append()?);
    let clock = parts.clock();
    gateway::serve(move |Event { caller, text, .. }| {
        let (append, now) = (append.clone(), clock.now_ms());
        async move { Reply::Frame(Box::new(routes::send(&append, &caller, now, &text).await)) }
    })
    .await
}
