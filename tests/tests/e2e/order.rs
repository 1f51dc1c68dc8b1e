//! One order for everyone.

use futures::join;
use poste_protocol::{EnvelopeId, UserId};
use poste_tests::{Deployment, Replica, bodies};

/// Rounds in which both send at the same moment.
const ROUNDS: usize = 40;

/// L1, O4, C5: two senders at the same moment get different numbers, without a gap; every device reads the same order;
/// what one of them wrote in order stays in order.
#[tokio::test]
async fn two_senders_at_the_same_moment() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut alices = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut tablet = deployment.device(&alice, "tablet").await;
    let mut desk = deployment.device(&bob, "desk").await;
    let conversation = alices.with(&bob);

    let mut from_alice: Vec<EnvelopeId> = Vec::new();
    let mut from_bob: Vec<EnvelopeId> = Vec::new();
    for round in 0..ROUNDS {
        // Of different sizes, so that the counter moves by different steps.
        let a = alices.writes_all(&bob, &bodies(&format!("alice {round}"), 1 + round % 3));
        let b = bobs.writes_all(&alice, &bodies(&format!("bob {round}"), 1 + round % 2));
        let (one, other) = join!(alices.sends(&a), bobs.sends(&b));
        assert_ne!(one.seq, other.seq, "round {round}");
        from_alice.push(a.id);
        from_bob.push(b.id);
    }
    let mut replicas = Vec::new();
    for device in [&mut alices, &mut bobs, &mut tablet, &mut desk] {
        let mut replica = Replica::new(conversation.clone());
        // What came by itself is the same as what is in the pages, for every cell.
        for cell in device.heard(&conversation) {
            replica.take(cell);
        }
        replica.catch_up(device).await;
        replica.is_contiguous();
        replicas.push(replica);
    }
    assert!(replicas.iter().all(|replica| *replica == replicas[0]), "every device has the same list");
    let cells = replicas[0].cells();
    let by = |user: &UserId| cells.iter().filter(|c| c.by.user == *user).map(|c| c.envelope).collect::<Vec<_>>();
    assert_eq!(by(&alice), from_alice, "alice's own order");
    assert_eq!(by(&bob), from_bob, "bob's own order");
}
