//! A device whose state was rolled back, or is used twice.

use poste_protocol::Code;
use poste_tests::{Deployment, envelope, next_after, resent, submission};

/// L2, C2: a number that was used for another envelope is a conflict, which says where the lane stands; nothing is
/// stored; under a greater number it is.
#[tokio::test]
async fn a_rolled_back_device_is_told_and_renumbers() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut written = Vec::new();
    for body in ["one", "two", "three"] {
        written.push(phone.tells(&bob, body).await.0);
    }
    // A backup of the time after the first envelope: the device counts from 2 again.
    let conversation = written[0].conversation.clone();
    for number in [2, 3] {
        let other = envelope(&conversation, Some(&bob), number, &["written after the roll-back"]);
        let refusal = phone.submit(submission(&other)).await.expect_err("a conflict");
        assert_eq!((refusal.code, refusal.retryable), (Code::LaneConflict, false), "number {number}");
        let lane = refusal.lane.expect("a conflict tells where the lane stands");
        assert_eq!((lane.number.get(), lane.seq.get()), (3, 3), "number {number}");
        assert_eq!(deployment.admin().copies(&other).await, [0; 0], "nothing is stored");
    }
    // What it still has of before is a repeat, as ever.
    for (envelope, seq) in written.iter().zip(1..) {
        let again = phone.submit(resent(envelope)).await.expect("a repeat");
        assert_eq!((again.seq, again.repeat), (seq, true));
    }
    let renumbered = next_after(&written[2], "written after the roll-back");
    let accepted = phone.sends(&renumbered).await;
    assert_eq!((accepted.seq, accepted.repeat), (4, false));
    bobs.hears(&renumbered).await;
    assert_eq!(deployment.admin().log(&conversation).await.len(), 4);
}

/// L2: numbers need not be without gaps, only greater: a device that dropped an envelope goes on.
#[tokio::test]
async fn a_number_may_be_left_out() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let conversation = phone.with(&bob);
    for (number, seq) in [(5, 1), (9, 2), (1_000_000, 3)] {
        let envelope = envelope(&conversation, Some(&bob), number, &["further on"]);
        assert_eq!(phone.sends(&envelope).await.seq, seq);
    }
}

/// L2: lanes are per device and per conversation.
#[tokio::test]
async fn other_devices_and_conversations_have_lanes_of_their_own() {
    let deployment = Deployment::here();
    let (alice, bob, carol) = (deployment.user("alice"), deployment.user("bob"), deployment.user("carol"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut tablet = deployment.device(&alice, "tablet").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let first = |conversation, peer| envelope(&conversation, Some(peer), 1, &["my first"]);
    assert_eq!(phone.sends(&first(phone.with(&bob), &bob)).await.seq, 1);
    assert_eq!(tablet.sends(&first(tablet.with(&bob), &bob)).await.seq, 2);
    assert_eq!(bobs.sends(&first(bobs.with(&alice), &alice)).await.seq, 3);
    assert_eq!(phone.sends(&first(phone.with(&carol), &carol)).await.seq, 1);
}
