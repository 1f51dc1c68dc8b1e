//! Connections come and go; `hello`; where devices can be woken; and every frame that no route takes.

use std::sync::Arc;

use poste_aws::{
    Parts,
    gateway::{self, Event, Reply},
};
use poste_connect::SUBPROTOCOL;
use poste_domain::{registration::Registry, routes, session::Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    let parts = Parts::load();
    let (session, registry) = (Arc::new(parts.session()?), Arc::new(parts.registry()?));
    let clock = parts.clock();
    gateway::serve(move |event| {
        let (session, registry, now) = (session.clone(), registry.clone(), clock.now_ms());
        async move { handle(&session, &registry, now, event).await }
    })
    .await
}

async fn handle(session: &Session, registry: &Registry, now: u64, event: Event) -> Reply {
    let Event { route, caller, text, subprotocols } = event;
    match route.as_str() {
        "$connect" => match session.connect(&caller).await {
            Ok(false) => Reply::Superseded,
            Ok(true) => Reply::Open(subprotocols.iter().any(|name| name == SUBPROTOCOL).then_some(SUBPROTOCOL)),
            Err(failure) => {
                failure.into_refusal();
                Reply::Unavailable
            }
        },
        "$disconnect" => {
            if let Err(failure) = session.disconnect(&caller).await {
                failure.into_refusal();
            }
            Reply::Nothing
        }
        "hello" => Reply::Frame(Box::new(routes::hello(session, registry, &caller, now, &text).await)),
        "push" => Reply::Frame(Box::new(routes::push(registry, &caller, now, &text).await)),
        "mute" => Reply::Frame(Box::new(routes::mute(registry, &caller, now, &text).await)),
        _ => Reply::Frame(Box::new(routes::unknown(&text))),
    }
}
