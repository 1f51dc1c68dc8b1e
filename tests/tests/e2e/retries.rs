//! Calls that take effect, whose answer is lost, and that the SDK makes again by itself.

use std::sync::Arc;

use poste_aws::SystemClock;
use poste_domain::{
    Claim, Lane, LaneKey, Retention,
    append::{Append, Settings},
    ports::{Head, Placement, Placing, Slot, Terms},
};
use poste_protocol::{Author, ConversationId, DeviceId, EnvelopeId, Number, Outcome, Seq, Submission};
use poste_sim::contract::Ports;
use poste_tests::{Deployment, envelope, next_after, now_ms, seq, submission};
use uuid::Uuid;

fn fresh() -> ConversationId {
    ConversationId::new(format!("c{}", Uuid::now_v7().simple())).expect("a valid id")
}

fn claim(n: u64, count: u64) -> Claim {
    Claim { number: Number::new(n).expect("positive"), id: EnvelopeId(Uuid::now_v7()), count }
}

async fn head(ports: &Ports, conversation: &ConversationId) -> Head {
    ports.heads.head(conversation).await.expect("a look").expect("a head")
}

/// L2: in the head numbers are reserved once, and the second call finds the claim standing; outside, numbers are
/// reserved twice and bound once, so that the first range is a hole. A slot is found as it was put.
#[tokio::test]
async fn every_write_that_is_made_twice_counts_once() {
    let deployment = Deployment::here();
    let ports = deployment.ports_with_lost_answers().await;
    let conversation = fresh();
    ports.heads.create(&conversation, Retention::FOREVER, 1).await.expect("made once");
    let place = async |lane: &LaneKey, claim: Claim| {
        let (conversation, terms, retention) = (&conversation, Terms::Next, Retention::FOREVER);
        let placement = Placement { conversation, lane, claim, terms, now_ms: 1, retention, roster: None };
        ports.heads.place(&placement).await.expect("a placing")
    };
    let author = |n: usize| Author {
        user: deployment.user("writer"),
        device: DeviceId::new(format!("d{n}")).expect("a valid id"),
    };
    for n in 0..ports.lanes_in_head {
        let (key, claim, first) = (LaneKey::of(&author(n)), claim(1, 2), 2 * n as u64 + 1);
        assert_eq!(place(&key, claim).await, Placing::Standing(Lane::taken(&claim, seq(first))));
        assert_eq!(head(&ports, &conversation).await.head, seq(first + 1));
    }
    let before = head(&ports, &conversation).await.head;
    let (key, claim) = (LaneKey::of(&author(99)), claim(1, 2));
    let second_range = before.plus(3);
    assert_eq!(place(&key, claim).await, Placing::Placed { first: second_range, roster: Seq::ZERO });
    assert_eq!(head(&ports, &conversation).await.head, before.plus(4));
    assert_eq!(ports.heads.lane(&conversation, &key).await.expect("a look"), Some(Lane::taken(&claim, second_range)));

    let void = Slot::Void(seq(5));
    assert_eq!(ports.log.put(&conversation, &void, None).await.expect("a put"), Some(void));
    let now = head(&ports, &conversation).await;
    let next = now.next_epochs(Retention::of(1_000), 9);
    ports.heads.turn(&conversation, &now, &next).await.expect("turned once");
    assert_eq!(head(&ports, &conversation).await.epochs, next);
}

/// L2, L3: the rules on such ports store every envelope once, at the place that they acknowledge.
#[tokio::test]
async fn the_rules_store_once_whatever_answers_are_lost() {
    let deployment = Deployment::here();
    let ports = deployment.ports_with_lost_answers().await;
    let append = Append::new(
        ports.heads.clone(),
        ports.log.clone(),
        ports.members.clone(),
        ports.files.clone(),
        ports.courier.clone(),
        Arc::new(SystemClock),
        Settings { retention: Retention::of(60 * 24 * 3_600 * 1_000), ..Settings::default() },
    );
    let alice = Author { user: deployment.user("alice"), device: DeviceId::new("phone").expect("a valid id") };
    let bob = deployment.user("bob");
    let conversation = ConversationId::direct(&alice.user, &bob);
    let mut letter = envelope(&conversation, Some(&bob), 1, &["first"]);
    for n in 1..=5 {
        let sent: Submission = submission(&letter);
        for _ in 0..2 {
            let outcome = append.append(&alice, &sent).await.expect("stored");
            let Outcome::Accepted { seq, at, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(deployment.admin().copies(&letter).await, [seq.get()]);
            assert!(at <= now_ms());
        }
        letter = next_after(&letter, &format!("number {n}"));
    }
    let parcels = ports.far_end.parcels(10).await;
    assert_eq!(parcels.len(), 10, "published at every attempt");
}
