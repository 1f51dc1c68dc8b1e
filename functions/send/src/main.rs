//! Takes envelopes into the log, and marks that ride along.

use std::sync::Arc;

use poste_aws::{
    Parts,
    gateway::{self, Event, Reply},
};
use poste_domain::routes;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let parts = Parts::load().await;
    let (append, marking) = (Arc::new(parts.append()?), Arc::new(parts.marking()?));
    let clock = parts.clock();
    gateway::serve(move |Event { caller, text, .. }| {
        let (append, marking, now) = (append.clone(), marking.clone(), clock.now_ms());
        async move { Reply::Frame(Box::new(routes::send(&append, &marking, &caller, now, &text).await)) }
    })
    .await
}
