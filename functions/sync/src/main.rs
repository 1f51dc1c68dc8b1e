//! Pages of the log, lists of conversations, and marks.

use std::sync::Arc;

use poste_aws::{
    Parts,
    gateway::{self, Event, Reply},
};
use poste_domain::routes;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let parts = Parts::load();
    let read = Arc::new(parts.read()?);
    let catch_up = Arc::new(parts.catch_up(read.clone())?);
    let (marking, receipts) = (Arc::new(parts.marking()?), Arc::new(parts.receipts()?));
    let rates = Arc::new(parts.rates("sync")?);
    let clock = parts.clock();
    gateway::serve(move |Event { route, caller, text, .. }| {
        let (read, catch_up, now) = (read.clone(), catch_up.clone(), clock.now_ms());
        let (marking, receipts, rates) = (marking.clone(), receipts.clone(), rates.clone());
        async move {
            if let Some(refused) = routes::hold_back(&rates, &caller, now, &text).await {
                return Reply::Frame(Box::new(refused));
            }
            let frame = match route.as_str() {
                "fetch" => routes::fetch(&read, &caller, now, &text).await,
                "sync" => routes::sync(&catch_up, &caller, now, &text).await,
                "list" => routes::list(&catch_up, &caller, now, &text).await,
                "members" => routes::members(&read, &caller, now, &text).await,
                "marks" => routes::marks(&receipts, &caller, now, &text).await,
                "receipts" => routes::receipts(&marking, &caller, now, &text).await,
                "mark" => routes::mark(&marking, &caller, now, &text).await,
                _ => routes::unknown(&text),
            };
            Reply::Frame(Box::new(frame))
        }
    })
    .await
}
