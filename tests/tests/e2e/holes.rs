//! Numbers that were reserved and not written.

use poste_protocol::{Cell, Envelope, Number};
use poste_tests::{
    DEADLINE, Deployment, Device, Replica, bodies, eventually, next_after, now_ms, resent, seq, submission,
};

/// How long a number may be missing before an existing cell until readers decide that it will never be used.
const GRACE_MS: u64 = 2_000;

/// Alice's phone and bob's, with a conversation of three messages, written by alice.
async fn a_short_talk(deployment: &Deployment) -> (Device, Device, Envelope) {
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let bobs = deployment.device(&bob, "phone").await;
    phone.tells(&bob, "one").await;
    let two = phone.writes_all(&bob, &bodies("two", 2));
    phone.sends(&two).await;
    (phone, bobs, two)
}

/// The seqs that the log has, and which of them are voids.
async fn stored(deployment: &Deployment, envelope: &Envelope) -> (Vec<u64>, Vec<u64>) {
    let log = deployment.admin().log(&envelope.conversation).await;
    let voids = log.iter().filter(|s| s.envelope.is_none()).map(|s| s.seq).collect();
    (log.iter().map(|s| s.seq).collect(), voids)
}

/// O4, failure 4: readers step over an old hole, for everyone and for ever: they put voids on it.
#[tokio::test]
async fn an_old_hole_is_filled_and_stepped_over() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (phone, mut bobs, two) = a_short_talk(&deployment).await;
    // Three numbers that a crashed writer had, then a cell from a minute ago.
    assert_eq!(admin.reserve(&two.conversation, 3).await, 4);
    assert_eq!(admin.reserve(&two.conversation, 1).await, 7);
    let later = next_after(&two, "behind the hole");
    let cell = Cell {
        seq: seq(7),
        envelope: later.id,
        number: Number::FIRST,
        by: phone.author().clone(),
        at: now_ms() - 60_000,
        messages: later.messages.clone(),
    };
    admin.put_cell(&two.conversation, &cell).await;

    let page = bobs.fetch(&two.conversation, seq(0), None).await.expect("a page");
    assert_eq!(page.cells.iter().map(|c| c.seq.get()).collect::<Vec<_>>(), [1, 2, 7]);
    assert_eq!((page.through.get(), page.more, page.retry_after_ms), (7, false, None));
    assert_eq!(stored(&deployment, &two).await, (vec![1, 2, 4, 5, 6, 7], vec![4, 5, 6]));
    let again = bobs.fetch(&two.conversation, seq(3), None).await.expect("a page");
    assert_eq!((again.cells, again.through.get()), (vec![cell], 7), "the same for every reader");
    for after in 4..7 {
        let page = bobs.fetch(&two.conversation, seq(after), None).await.expect("a page");
        assert_eq!((page.cells.len(), page.through.get()), (1, 7), "a cursor on a void is as good as any");
    }
}

/// O4: a long hole is filled page by page.
#[tokio::test]
async fn a_long_hole_is_filled_page_by_page() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (mut phone, mut bobs, two) = a_short_talk(&deployment).await;
    let bob = bobs.user().clone();
    admin.reserve(&two.conversation, 120).await;
    let (behind, accepted) = phone.tells(&bob, "behind the hole").await;
    assert_eq!(accepted.seq, 124);
    let mut replica = Replica::new(two.conversation.clone());
    let pages = replica.catch_up(&mut bobs).await;
    assert!(pages > 2, "{pages} pages");
    assert_eq!(replica.cells().last().map(|cell| cell.envelope), Some(behind.id));
    let (_, voids) = stored(&deployment, &two).await;
    assert_eq!(voids, (4..124).collect::<Vec<_>>());
}

/// O4, L3: before a young hole the page ends and says when to ask again; nothing is jumped over, and no void is put.
/// Later it goes on.
#[tokio::test]
async fn a_page_ends_before_a_young_hole() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (mut phone, mut bobs, two) = a_short_talk(&deployment).await;
    let bob = bobs.user().clone();
    admin.reserve(&two.conversation, 2).await;
    let (behind, accepted) = phone.tells(&bob, "behind the hole").await;
    assert_eq!(accepted.seq, 6);
    let page = bobs.fetch(&two.conversation, seq(0), None).await.expect("a page");
    assert_eq!((page.through.get(), page.head.get(), page.more), (3, 6, false), "{page:?}");
    let wait = page.retry_after_ms.expect("it says when to ask again");
    assert!(wait > 0 && wait <= GRACE_MS, "{wait}");
    assert_eq!(stored(&deployment, &two).await.1, [0_u64; 0], "no void while a writer may still be at it");
    bobs.hears(&behind).await;

    let page = eventually("the page goes on", DEADLINE, async || {
        let page = bobs.fetch(&two.conversation, seq(3), None).await.expect("a page");
        (page.through > page.after).then_some(page)
    })
    .await;
    assert!(now_ms() >= accepted.at + GRACE_MS, "not before the grace is over");
    assert_eq!((page.cells.len(), page.cells[0].envelope, page.through.get()), (1, behind.id, 6));
    assert_eq!(stored(&deployment, &two).await.1, [4, 5]);
}

/// O4, L2: what an attempt left unwritten is written by the next one, at a place of that moment; the old one is shut.
#[tokio::test]
async fn what_an_attempt_left_unwritten_gets_another_place() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (mut phone, mut bobs, two) = a_short_talk(&deployment).await;
    let alice = phone.user().clone();
    let cut = next_after(&two, "cut short");
    assert_eq!(admin.place_only(phone.author(), &cut).await, 4);
    let (after, accepted) = bobs.tells(&alice, "after it").await;
    assert_eq!(accepted.seq, 5);
    let accepted = phone.submit(resent(&cut)).await.expect("the retry is a success");
    assert_eq!((accepted.seq, accepted.repeat), (6, false));
    let mut replica = Replica::new(two.conversation.clone());
    replica.catch_up(&mut bobs).await;
    assert_eq!(replica.envelopes()[2..], [after.id, cut.id]);
    assert_eq!(stored(&deployment, &two).await.1, [4]);
}

/// L2, O4, I3: a writer that stalled so long that readers have put voids on its numbers finds another place, once,
/// whatever is repeated; no cursor had passed the place where it is now.
#[tokio::test]
async fn a_stalled_writer_is_placed_anew() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (mut phone, mut bobs, two) = a_short_talk(&deployment).await;
    let alice = phone.user().clone();
    let mut stalled = next_after(&two, "stalled");
    stalled.messages.extend(next_after(&two, "and its second message").messages);
    assert_eq!(admin.place_only(phone.author(), &stalled).await, 4);
    bobs.tells(&alice, "after it").await;

    let mut replica = Replica::new(two.conversation.clone());
    replica.catch_up(&mut bobs).await;
    assert_eq!(replica.cursor().get(), 6, "readers go on without it");
    assert_eq!(stored(&deployment, &two).await.1, [4, 5]);

    let accepted = phone.submit(resent(&stalled)).await.expect("the retry is a success");
    assert_eq!((accepted.seq, accepted.repeat), (7, false));
    let again = phone.submit(resent(&stalled)).await.expect("a repeat");
    assert_eq!((again.seq, again.at, again.repeat), (7, accepted.at, true));
    let cell = bobs.hears(&stalled).await;
    assert_eq!((cell.seq.get(), cell.messages.len()), (7, 2));
    assert_eq!(admin.copies(&stalled).await, [7], "stored once");
    replica.catch_up(&mut bobs).await;
    assert_eq!(replica.cursor().get(), 8);
    assert_eq!(replica.envelopes().last(), Some(&stalled.id));

    // And the device goes on from there.
    let next = next_after(&stalled, "next");
    assert_eq!(phone.submit(submission(&next)).await.expect("taken").seq, 9);
}
