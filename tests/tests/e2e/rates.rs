//! How much a user may ask for in a minute, on the deployed functions. The rules have tests of their own, in
//! `poste_domain::rates`.

use poste_domain::ports::Period;
use poste_protocol::{Code, ErrorFrame, FromServer, List, Request, Submission};
use poste_tests::{Deployment, now_ms, submission};

/// More than any deployment lets a user ask for.
const ALL: u64 = 1 << 40;

/// More requests than an instance lets pass by itself, and than all instances of this stack do together.
const FLOOD: usize = 16_000;

/// O8: who asks for too much is told when to come back, whatever instance answers; nobody else is held back.
#[tokio::test]
async fn who_floods_is_told_when_to_come_back() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let (mut phone, mut bobs) = (deployment.device(&alice, "phone").await, deployment.device(&bob, "phone").await);
    let (hello, _) = phone.tells(&bob, "hello").await;
    // As if other instances had let her use up this minute, and the next.
    let quotas = deployment.ports().await.quotas;
    for what in ["send", "sync"] {
        for later in [0, 60_000] {
            let taken = quotas.take(&format!("{what}/{alice}"), Period::at(60, now_ms() + later), ALL, ALL).await;
            assert_eq!(taken, Ok(true));
        }
    }

    let mut refused = None;
    for _ in 0..FLOOD {
        let reference = phone.reference();
        let list = Request::List(List { reference, after: None, frames: Some(1), previews: None });
        if let FromServer::Error(error) = phone.ask(&list).await {
            refused = Some(error);
            break;
        }
    }
    let told = |error: ErrorFrame| (error.refusal.code, error.refusal.retryable, error.refusal.retry_after_ms);
    let is_too_fast = |(code, retryable, after): (Code, bool, Option<u64>)| {
        assert_eq!((code, retryable), (Code::TooFast, true));
        assert!(after.is_some_and(|ms| ms <= 60_000), "{after:?}");
    };
    is_too_fast(told(refused.expect("a flood is held back")));
    assert!(!bobs.list(None).await.conversations.is_empty(), "others are not");

    // What she sends is counted by itself: envelopes, sixteen in a frame here, and repeats are envelopes.
    let peers: Vec<_> = (0..16).map(|n| deployment.user(&format!("peer{n}"))).collect();
    let frame: Vec<Submission> = peers.iter().map(|peer| submission(&phone.writes(peer, "flood"))).collect();
    let mut refused = None;
    for _ in 0..FLOOD / 16 {
        if let Err(error) = phone.send(frame.clone()).await {
            refused = Some(error);
            break;
        }
    }
    is_too_fast(told(refused.expect("a flood is held back")));
    bobs.tells(&alice, "still here").await;
    assert_eq!(bobs.whole_log(&hello.conversation).await.len(), 2);
}
