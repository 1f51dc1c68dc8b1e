//! Connections that are gone, and connections that took their place.

use poste_client::{Connection, Target};
use poste_tests::{DEADLINE, Deployment, Registered, eventually, now_ms, open};

const HOUR_MS: u64 = 3_600_000;

/// The connection of a device that died without a close, registered some time ago.
fn dead(id: &str, age_ms: u64) -> Registered {
    Registered { id: id.to_owned(), since_ms: now_ms() - age_ms, until_ms: now_ms() + HOUR_MS }
}

/// D6, failure 10 of others: a connection that is gone (410) is removed, and nobody else suffers: not the user's other
/// devices, not the sender.
#[tokio::test]
async fn a_connection_that_is_gone_is_removed() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let mut desk = deployment.device(&bob, "desk").await;
    let (bob_before, alice_before) = (admin.connections(&bob).await, admin.connections(&alice).await);
    assert_eq!(bob_before.keys().collect::<Vec<_>>(), ["desk", "phone"]);
    for (device, id) in [("dead-1", "bm9ib2R5PQ=="), ("dead-2", "nobody")] {
        admin.put_connection(&bob, device, &dead(id, HOUR_MS)).await;
    }
    admin.put_connection(&alice, "dead-3", &dead("bm9ib2R5Mz0=", HOUR_MS)).await;

    for body in ["one", "two", "three"] {
        let (envelope, _) = phone.tells(&bob, body).await;
        bobs.hears(&envelope).await;
        desk.hears(&envelope).await;
    }
    eventually("the dead connections are removed, and no others", DEADLINE, async || {
        let same = admin.connections(&bob).await == bob_before && admin.connections(&alice).await == alice_before;
        same.then_some(())
    })
    .await;
    let (answer, _) = bobs.tells(&alice, "still here").await;
    phone.hears(&answer).await;
}

/// D6: a connection does not exist for the gateway while it is being opened: one that is young and gone is kept.
#[tokio::test]
async fn a_young_connection_is_kept() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let young = dead("eW91bmc9PQ==", 0);
    admin.put_connection(&bob, "young", &young).await;
    for round in 0..5 {
        // An old one beside it shows that the fan-out has been through.
        admin.put_connection(&bob, "old", &dead("b2xkPT09", HOUR_MS)).await;
        let (envelope, _) = phone.tells(&bob, &format!("round {round}")).await;
        bobs.hears(&envelope).await;
        eventually("the old one is removed", DEADLINE, async || {
            (!admin.connections(&bob).await.contains_key("old")).then_some(())
        })
        .await;
    }
    assert_eq!(admin.connections(&bob).await.get("young"), Some(&young));
}

/// D6, failure 9 of others: a device that comes again takes the place of its older connection; the older one's end,
/// which comes late, does not remove the newer one.
#[tokio::test]
async fn the_late_end_of_an_older_connection_removes_nothing() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut older = deployment.device(&bob, "phone").await;
    let first = admin.connections(&bob).await;
    let mut newer = older.twin().await;
    let second = admin.connections(&bob).await;
    assert_ne!(first["phone"].id, second["phone"].id, "the newer one has taken the place");
    // Goes after the older one: when its end was seen to, so was the older one's.
    let mut canary = deployment.device(&bob, "canary").await;
    assert!(admin.connections(&bob).await.contains_key("canary"));
    older.drop_connection();
    canary.drop_connection();
    eventually("the canary is removed", DEADLINE, async || {
        (!admin.connections(&bob).await.contains_key("canary")).then_some(())
    })
    .await;
    assert_eq!(admin.connections(&bob).await, second);
    let (envelope, _) = phone.tells(&bob, "to the newer one").await;
    newer.hears(&envelope).await;
}

/// D6, O7: a newer connection of the same device replaces the older one, which is told and closed; a connection of
/// another device of the same user has nothing to do with it.
#[tokio::test]
async fn who_is_replaced_is_told_and_closed() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut tablet = deployment.device(&bob, "tablet").await;
    let mut older = deployment.device(&bob, "phone").await;
    let mut newer = older.twin().await;
    older.is_replaced().await;
    older.is_closed().await;
    let (envelope, _) = phone.tells(&bob, "to the newer one").await;
    newer.hears(&envelope).await;
    tablet.hears(&envelope).await;
    newer.hello().await;
}

/// D6: two processes with one device's id do not fight for its place: the one that was there first waits, and says why;
/// what is written there is kept, and goes when a person looks at it.
#[tokio::test]
async fn two_processes_of_one_device_do_not_fight() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let folder = tempfile::tempdir().expect("a folder");
    let older = open(&deployment, folder.path(), &alice, "phone", true).await;
    eventually("the first process is connected", DEADLINE, async || {
        (older.connection().await.expect("open") == Connection::Online).then_some(())
    })
    .await;
    let mut newer = deployment.device(&alice, "phone").await;
    eventually("the first process is replaced", DEADLINE, async || {
        (older.connection().await.expect("open") == Connection::Replaced).then_some(())
    })
    .await;
    older.send(Target::User(bob.clone()), "kept").await.expect("it is on the disk");
    assert_eq!(newer.hello().await.user, alice, "the newer one keeps its place");
    assert_eq!(older.connection().await.expect("open"), Connection::Replaced);

    older.foreground().await.expect("open");
    newer.is_replaced().await;
    newer.is_closed().await;
    eventually("what was kept is sent", DEADLINE, async || {
        older.outbox().await.expect("readable").is_empty().then_some(())
    })
    .await;
    older.close().await;
}

/// D6, O7: a device that left is removed by its own end, and what it missed is in the log when it comes back.
#[tokio::test]
async fn a_device_that_left_is_removed_and_misses_nothing() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let (one, _) = phone.tells(&bob, "one").await;
    bobs.hears(&one).await;
    bobs.drop_connection();
    eventually("the connection is removed", DEADLINE, async || admin.connections(&bob).await.is_empty().then_some(()))
        .await;
    let (two, _) = phone.tells(&bob, "two").await;
    bobs.connect().await;
    let log = bobs.whole_log(&one.conversation).await;
    assert_eq!(log.iter().map(|cell| cell.envelope).collect::<Vec<_>>(), [one.id, two.id]);
}
