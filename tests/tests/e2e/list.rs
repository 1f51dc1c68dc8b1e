//! The list of conversations.

use std::time::Duration;

use poste_protocol::{List, Request, Summary, limits};
use poste_tests::{Deployment, Device, bodies, now_ms, submission};

/// The whole list, with how many conversations were in each frame.
async fn all(device: &mut Device) -> (Vec<Summary>, Vec<usize>) {
    let (mut summaries, mut sizes) = (Vec::new(), Vec::new());
    let mut after = None;
    loop {
        let page = device.list(after).await;
        sizes.push(page.conversations.len());
        summaries.extend(page.conversations);
        match page.next {
            Some(next) => after = Some(next),
            None => return (summaries, sizes),
        }
    }
}

/// O2, O6: a fresh device finds all conversations with one request, the newest first, each once, with heads, how much is
/// unread and last messages; or frame by frame, if it takes one at a time.
#[tokio::test]
async fn a_fresh_device_sees_three_hundred_conversations_after_one_request() {
    const PEERS: usize = 300;
    let deployment = Deployment::here();
    let alice = deployment.user("alice");
    let mut phone = deployment.device(&alice, "phone").await;
    assert_eq!(all(&mut phone).await, (Vec::new(), vec![0]), "nothing at first");
    let before = now_ms();
    let peers: Vec<_> = (0..PEERS).map(|_| deployment.user("peer")).collect();
    for (i, some) in peers.chunks(limits::SUBMISSIONS).enumerate() {
        let envelopes = some.iter().enumerate().map(|(j, peer)| {
            let messages = 1 + (i * limits::SUBMISSIONS + j) % 3;
            submission(&phone.writes_all(peer, &bodies("message", messages)))
        });
        let envelopes = envelopes.collect();
        phone.send(envelopes).await.expect("a frame that is taken");
        // The envelopes of a frame are stored at about the same time; those of the next later.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut tablet = deployment.device(&alice, "tablet").await;
    let list = List { reference: tablet.reference(), after: None, frames: Some(16), previews: Some(50) };
    let frames = tablet.lists(&Request::List(list)).await;
    assert!(frames.len() > 1 && frames.iter().all(|frame| frame.next.is_none()));
    let summaries: Vec<Summary> = frames.into_iter().flat_map(|frame| frame.conversations).collect();
    assert!(summaries.is_sorted_by(|a, b| a.active_at >= b.active_at), "the newest first");
    assert_eq!(summaries.len(), PEERS);
    for (i, peer) in peers.iter().enumerate() {
        let summary = summaries.iter().find(|s| s.peer.as_ref() == Some(peer)).expect("every peer is in the list");
        assert_eq!(summary.conversation, tablet.with(peer));
        assert_eq!(summary.head.get(), 1 + (i as u64) % 3);
        assert_eq!(summary.unread, summary.head.get(), "nothing was marked");
        assert!(summary.active_at >= before && summary.active_at <= now_ms());
    }
    for (place, summary) in summaries.iter().enumerate() {
        let shown = summary.last.as_ref().map(|last| last.seq);
        assert_eq!(shown, (place < 50).then_some(summary.head), "the last message of the first fifty");
    }

    let (again, sizes) = all(&mut tablet).await;
    let ids = |list: &[Summary]| list.iter().map(|summary| summary.conversation.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&summaries), "one frame at a time it is the same: {sizes:?}");
    assert!(sizes.len() > 1);

    let mut peers_device = deployment.device(&peers[3], "phone").await;
    let (summaries, _) = all(&mut peers_device).await;
    assert_eq!(summaries.iter().map(|s| s.peer.as_ref()).collect::<Vec<_>>(), [Some(&alice)], "the peer's list, too");
}
