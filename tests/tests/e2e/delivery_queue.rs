//! The delivery queue: what fails comes again, ends among the dead letters after its limit, and harms nobody.

use std::time::Duration;

use poste_tests::{Deployment, eventually};
use serde_json::json;
use uuid::Uuid;

/// Five attempts with the waits of 1, 2, 4, 8 and 16 s between them, with room.
const UNTIL_DEAD: Duration = Duration::from_mins(2);

/// The list (DLQ), failure 5: a message that is no parcel, and a parcel that cannot be delivered, are tried as
/// often as the queue says and end among the dead letters; what was in the same batch is delivered.
#[tokio::test]
async fn what_cannot_be_delivered_ends_among_the_dead_letters() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (alice, bob, carol) = (deployment.user("alice"), deployment.user("bob"), deployment.user("carol"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;

    // A conversation whose members cannot be read.
    let damaged = phone.with(&carol);
    admin.damage_member(&damaged, &carol).await;
    let (lost, accepted) = phone.tells(&carol, "nobody can be found").await;
    assert_eq!(accepted.seq, 1, "what is stored is accepted, whatever becomes of its delivery");

    // Parcels of what is in the log, as the function `send` makes them, in one batch with others that are none.
    let nonsense: Vec<String> = (0..5).map(|i| format!("no parcel {i} {}", Uuid::now_v7())).collect();
    let mut batch = nonsense.clone();
    let mut written = Vec::new();
    for i in 0..5 {
        let (envelope, _) = phone.tells(&bob, &format!("{i}")).await;
        let cell = bobs.hears(&envelope).await;
        batch.push(json!({ "conversation": envelope.conversation, "from": cell.by, "cell": cell }).to_string());
        written.push(envelope);
    }
    admin.queue(&batch).await;
    for envelope in &written {
        let what = format!("a second copy of {}", envelope.id);
        bobs.hear(&what, |device| {
            let copies = device.heard(&envelope.conversation).into_iter().filter(|c| c.envelope == envelope.id);
            (copies.count() >= 2).then_some(())
        })
        .await;
    }

    for body in nonsense.iter().cloned().chain([lost.id.to_string()]) {
        let letter = eventually(&format!("{body} is dead"), UNTIL_DEAD, async || admin.take_dead(&body).await).await;
        assert!(letter.body.contains(&body));
        let limit = deployment.stack().delivery_max_receives;
        assert!(letter.receives == 1 || letter.receives > limit, "tried {limit} times before: {letter:?}");
        // Life goes on meanwhile.
        let (envelope, _) = phone.tells(&bob, "meanwhile").await;
        bobs.hears(&envelope).await;
    }
}

/// L3, D1: a delivery that failed is tried again, and comes when its cause was mended.
#[tokio::test]
async fn what_failed_is_delivered_once_it_can_be() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (alice, bob, carol) = (deployment.user("alice"), deployment.user("bob"), deployment.user("carol"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut carols = deployment.device(&carol, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let conversation = phone.with(&carol);
    admin.damage_member(&conversation, &carol).await;
    let (envelope, _) = phone.tells(&carol, "in the end").await;
    // Whatever was queued later has been delivered: the first attempt is over, or nearly.
    for i in 0..5 {
        let (later, _) = phone.tells(&bob, &format!("{i}")).await;
        bobs.hears(&later).await;
    }
    assert!(carols.heard(&conversation).is_empty());
    admin.repair_member(&conversation, &carol).await;
    carols.hears(&envelope).await;
}
