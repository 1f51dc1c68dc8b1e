//! Who is here, and who is writing. Apart from everything else: what goes wrong here goes wrong nowhere else.

use std::sync::Arc;

use poste_aws::{
    Parts,
    gateway::{self, Event, Reply},
};
use poste_domain::routes;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let parts = Parts::load();
    let presences = Arc::new(parts.presences()?);
    let clock = parts.clock();
    gateway::serve(move |Event { route, caller, text, .. }| {
        let (presences, now) = (presences.clone(), clock.now_ms());
        async move {
            match route.as_str() {
                "watch" => Reply::Frame(Box::new(routes::watch(&presences, &caller, now, &text).await)),
                "away" => {
                    routes::away(&presences, &caller).await;
                    Reply::Nothing
                }
                "typing" => {
                    routes::typing(&presences, &caller, now, &text).await;
                    Reply::Nothing
                }
                _ => Reply::Frame(Box::new(routes::unknown(&text))),
            }
        }
    })
    .await
}
