//! Takes envelopes into the log, and marks that ride along.

use std::sync::Arc;

use poste_aws::{
    Parts,
    gateway::{self, Event, Reply},
};
use poste_domain::routes;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let parts = Parts::load();
    let (append, marking) = (Arc::new(parts.append()?), Arc::new(parts.marking()?));
    let rates = Arc::new(parts.rates("send")?);
    let clock = parts.clock();
    gateway::serve(move |Event { caller, text, .. }| {
        let (append, marking, rates, now) = (append.clone(), marking.clone(), rates.clone(), clock.now_ms());
        async move { Reply::Frame(Box::new(routes::send(&append, &marking, &rates, &caller, now, &text).await)) }
    })
    .await
}
