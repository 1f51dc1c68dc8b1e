//! Days without a network: everything that was written meanwhile arrives, in order.

use std::time::Instant;

use poste_client::{State, Target};
use poste_protocol::ConversationId;
use poste_tests::{DEADLINE, Deployment, as_shown, eventually, open};

/// Messages, unless `POSTE_OFFLINE` says otherwise (10,000 before a release).
const MESSAGES: usize = 2_000;
/// To whom one after another goes: most to one.
const TO: [usize; 10] = [0, 0, 1, 0, 0, 2, 0, 0, 1, 0];
/// How long the outbox may stay as long as it is.
const STUCK: std::time::Duration = DEADLINE.saturating_mul(3);

/// C1, C2, C3, I1, I4, I5: thousands of messages written offline are in the logs, each once, in the order of writing;
/// a peer that is online and one that comes later show the same.
#[tokio::test]
async fn what_was_written_offline_arrives_in_order() {
    let count = std::env::var("POSTE_OFFLINE").ok().and_then(|count| count.parse().ok()).unwrap_or(MESSAGES);
    let deployment = Deployment::here();
    let folder = tempfile::tempdir().expect("a folder");
    let alice = deployment.user("alice");
    let phone = open(&deployment, &folder.path().join("alice"), &alice, "phone", false).await;
    let peers = ["bob", "carol", "dave"].map(|name| deployment.user(name));
    let bobs = open(&deployment, &folder.path().join("bob"), &peers[0], "phone", true).await;

    let mut written = [const { Vec::new() }; 3];
    let writing = Instant::now();
    for (label, to) in (0..count).zip(TO.into_iter().cycle()) {
        let message = phone.send(Target::User(peers[to].clone()), label.to_string()).await.expect("it is on the disk");
        written[to].push((message.id, label.to_string()));
    }
    let writing = writing.elapsed();
    assert_eq!(phone.counters().await.expect("open").frames_sent, 0, "there is no network");

    let sending = Instant::now();
    phone.set_network(true).await.expect("open");
    let mut left = count;
    while left > 0 {
        left = eventually("the outbox gets shorter", STUCK, async || {
            let entries = phone.outbox().await.expect("readable");
            assert!(entries.iter().all(|entry| entry.failure.is_none()), "{entries:?}");
            let now: usize = entries.iter().map(|entry| entry.messages.len()).sum();
            (now < left).then_some(now)
        })
        .await;
    }
    let sending = sending.elapsed();
    let counters = phone.counters().await.expect("open");
    println!(
        "{count} messages written offline in {writing:.1?} and sent in {sending:.1?}: {} envelopes ({} again) in {} \
         frames, {} frames received, {} connections",
        counters.submissions,
        counters.resubmissions,
        counters.frames_sent,
        counters.frames_received,
        counters.connections
    );

    let mut reader = deployment.device(&alice, "reader").await;
    for (peer, written) in peers.iter().zip(&written) {
        let conversation = ConversationId::direct(&alice, peer);
        let log = reader.whole_log(&conversation).await;
        let logged: Vec<_> =
            log.iter().flat_map(|cell| &cell.messages).map(|message| (message.id, message.body.clone())).collect();
        assert_eq!(logged, *written, "all of them, each once, in the order of writing");
        let shown = phone.history(conversation.clone(), None, count).await.expect("readable");
        assert!(shown.iter().all(|message| !matches!(message.state, State::Pending | State::Failed)));
        let shown: Vec<_> = shown.iter().filter_map(|message| Some((message.seq?.get(), message.id))).collect();
        assert_eq!(shown, as_shown(&log), "the writer shows the log");
    }
    let carols = open(&deployment, &folder.path().join("carol"), &peers[1], "phone", true).await;
    for (peer, client) in [(&peers[0], &bobs), (&peers[1], &carols)] {
        let conversation = ConversationId::direct(&alice, peer);
        let log = as_shown(&reader.whole_log(&conversation).await);
        eventually("the peer shows the log", STUCK, async || {
            let list = client.history(conversation.clone(), None, count).await.expect("readable");
            let list: Vec<_> = list.iter().filter_map(|message| Some((message.seq?.get(), message.id))).collect();
            (list == log).then_some(())
        })
        .await;
        let counters = client.counters().await.expect("open");
        println!(
            "{} messages reached a peer: {} cells delivered, {} pages, {} frames received",
            log.len(),
            counters.cells_delivered,
            counters.pages,
            counters.frames_received
        );
    }
    for client in [phone, bobs, carols] {
        client.close().await;
    }
}
