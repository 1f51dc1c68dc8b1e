//! The list of conversations.

use poste_protocol::{Summary, limits};
use poste_tests::{Deployment, Device, bodies, now_ms, submission};

/// All pages of the list, with the sizes of each.
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

/// O2, O6: a fresh device finds all conversations with their heads, page by page, each once.
#[tokio::test]
async fn more_conversations_than_fit_in_a_page() {
    let deployment = Deployment::here();
    let alice = deployment.user("alice");
    let mut phone = deployment.device(&alice, "phone").await;
    assert_eq!(all(&mut phone).await, (Vec::new(), vec![0]), "nothing at first");
    let before = now_ms();
    let peers: Vec<_> = (0..limits::LIST + 5).map(|_| deployment.user("peer")).collect();
    for (i, some) in peers.chunks(limits::SUBMISSIONS).enumerate() {
        let envelopes = some.iter().enumerate().map(|(j, peer)| {
            let messages = 1 + (i * limits::SUBMISSIONS + j) % 3;
            submission(&phone.writes_all(peer, &bodies("message", messages)))
        });
        let envelopes = envelopes.collect();
        phone.send(envelopes).await.expect("a frame that is taken");
    }
    let mut tablet = deployment.device(&alice, "tablet").await;
    let (summaries, sizes) = all(&mut tablet).await;
    assert_eq!(sizes, [limits::LIST, 5]);
    assert!(summaries.is_sorted_by(|a, b| a.conversation < b.conversation), "in the order of their ids, each once");
    for (i, peer) in peers.iter().enumerate() {
        let summary = summaries.iter().find(|s| s.peer.as_ref() == Some(peer)).expect("every peer is in the list");
        assert_eq!(summary.conversation, tablet.with(peer));
        assert_eq!(summary.head.get(), 1 + (i as u64) % 3);
        assert!(summary.active_at >= before && summary.active_at <= now_ms());
    }
    let mut peers_device = deployment.device(&peers[3], "phone").await;
    let (summaries, _) = all(&mut peers_device).await;
    assert_eq!(summaries.iter().map(|s| s.peer.as_ref()).collect::<Vec<_>>(), [Some(&alice)], "the peer's list, too");
}
