//! More devices than the head has room for lanes.

use futures::future::join_all;
use poste_tests::{Accepted, Deployment, Replica, bodies, resent};

/// Lanes that live in the head.
const IN_HEAD: usize = 10;
/// Devices that write.
const DEVICES: usize = 12;
/// Envelopes of each.
const ENVELOPES: usize = 5;

/// L1, L2: the lanes of the first ten devices live in the head and the others' beside it; repeats are recognised in
/// both, also late ones, and nothing is lost or doubled.
#[tokio::test]
async fn lanes_inside_and_outside_the_head() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let users = [deployment.user("alice"), deployment.user("bob")];
    let mut devices = Vec::new();
    for i in 0..DEVICES {
        devices.push(deployment.device(&users[i % 2], &format!("device-{i}")).await);
    }
    let conversation = devices[0].with(&users[1]);
    let written = join_all(devices.iter_mut().enumerate().map(async |(i, device)| {
        let peer = &users[(i + 1) % 2];
        let mut written = Vec::new();
        for j in 0..ENVELOPES {
            let envelope = device.writes_all(peer, &bodies(&format!("device {i} envelope {j}"), 1 + j % 2));
            let accepted = device.sends(&envelope).await;
            assert!(!accepted.repeat, "device {i}, envelope {j}");
            written.push((envelope, accepted));
        }
        written
    }))
    .await;
    assert_eq!(admin.head(&conversation).await.map(|(_, lanes)| lanes), Some(IN_HEAD));
    assert_eq!(admin.lanes_outside(&conversation).await, DEVICES - IN_HEAD);

    // The last is a repeat by its lane, the others are late frames.
    join_all(devices.iter_mut().zip(&written).map(async |(device, written)| {
        for (envelope, first) in written.iter().rev() {
            let again = device.submit(resent(envelope)).await.expect("a repeat is a success");
            assert_eq!(again, Accepted { repeat: true, ..*first });
        }
    }))
    .await;

    let mut replicas = Vec::new();
    for device in devices.iter_mut().take(3).chain([]) {
        let mut replica = Replica::new(conversation.clone());
        for cell in device.heard(&conversation) {
            replica.take(cell);
        }
        replica.catch_up(device).await;
        assert_eq!(replica.envelopes().len(), DEVICES * ENVELOPES);
        replicas.push(replica);
    }
    assert!(replicas.iter().all(|replica| *replica == replicas[0]), "every device has the same list");
    let places: std::collections::HashMap<_, _> =
        replicas[0].cells().into_iter().map(|cell| (cell.envelope, cell.seq.get())).collect();
    for (envelope, accepted) in written.iter().flatten() {
        assert_eq!(places[&envelope.id], accepted.seq, "at its acknowledged number");
    }
    for written in &written {
        assert!(written.is_sorted_by_key(|(_, accepted)| accepted.seq), "each device's own order");
    }
}

/// L2, O4: a stalled writer whose lane is outside the head is placed anew, once.
#[tokio::test]
async fn a_stalled_writer_outside_the_head() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let users = [deployment.user("alice"), deployment.user("bob")];
    let mut devices = Vec::new();
    for i in 0..=IN_HEAD {
        let mut device = deployment.device(&users[0], &format!("device-{i}")).await;
        device.tells(&users[1], &format!("device {i}")).await;
        devices.push(device);
    }
    let conversation = devices[0].with(&users[1]);
    assert_eq!(admin.lanes_outside(&conversation).await, 1);
    let mut last = devices.pop().expect("there are devices");
    let stalled = last.writes(&users[1], "stalled");
    let place = admin.place_only(last.author(), &stalled).await;
    devices[0].tells(&users[1], "after it").await;
    let mut reader = deployment.device(&users[1], "reader").await;
    let mut replica = Replica::new(conversation.clone());
    replica.catch_up(&mut reader).await;
    assert!(replica.cursor().get() > place);

    let accepted = last.submit(resent(&stalled)).await.expect("the retry is a success");
    assert!(accepted.seq > replica.cursor().get() && !accepted.repeat, "{accepted:?}");
    let again = last.submit(resent(&stalled)).await.expect("a repeat");
    assert_eq!(again, Accepted { repeat: true, ..accepted });
    assert_eq!(admin.copies(&stalled).await, [accepted.seq]);
    replica.catch_up(&mut reader).await;
    assert_eq!(replica.envelopes().last(), Some(&stalled.id));
}
