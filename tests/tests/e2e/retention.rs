//! Messages that are older than what is kept.

use poste_protocol::{Code, Seq};
use poste_tests::{Deployment, Replica, next_after, now_ms, resent, seq, submission};

/// L8: what is too old is gone, before the store removes it and after, in pages and in the list; the device is told so,
/// no void is put, and what is younger is all there.
#[tokio::test]
async fn what_is_too_old_is_gone_and_a_device_is_told() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let kept = deployment.stack().retention_days;
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let (first, _) = phone.tells(&bob, "old").await;
    let conversation = first.conversation.clone();
    phone.sends(&next_after(&first, "old, too")).await;
    admin.let_pass(&conversation, kept / 2).await;
    let (young, accepted) = bobs.tells(&alice, "young").await;
    assert_eq!(accepted.seq, 3);
    admin.let_pass(&conversation, kept / 2 + 1).await;

    for removed in [vec![], vec![1, 2]] {
        if !removed.is_empty() {
            admin.let_pass(&conversation, kept / 4 + 1).await;
        }
        assert_eq!(admin.remove_expired(&conversation, now_ms()).await, removed);
        let page = bobs.fetch(&conversation, seq(0), None).await.expect("a page");
        assert_eq!(page.cells.iter().map(|cell| cell.envelope).collect::<Vec<_>>(), [young.id]);
        assert_eq!((page.through.get(), page.floor.get(), page.retry_after_ms), (3, 2, None));
    }
    assert_eq!(admin.log(&conversation).await.len(), 1, "no void for what was removed");
    let list = bobs.list(None).await;
    let summary = list.conversations.iter().find(|summary| summary.conversation == conversation).expect("it is listed");
    assert_eq!((summary.head.get(), summary.floor.get()), (3, 2));

    // Everything is gone, and life goes on.
    admin.let_pass(&conversation, kept * 2).await;
    assert_eq!(admin.remove_expired(&conversation, now_ms()).await, [3]);
    let page = bobs.fetch(&conversation, seq(0), None).await.expect("a page");
    assert_eq!((page.cells.len(), page.through.get(), page.floor.get(), page.more), (0, 3, 3, false));
    let (again, accepted) = bobs.tells(&alice, "still here").await;
    assert_eq!(accepted.seq, 4);
    let mut replica = Replica::new(conversation.clone());
    replica.catch_up(&mut phone).await;
    assert_eq!(replica.envelopes(), [again.id]);
    assert_eq!(admin.log(&conversation).await.len(), 1);
}

/// L8, L2: a repeat whose place is gone is refused and written nowhere: nobody can tell any more whether it was stored.
#[tokio::test]
async fn a_repeat_from_before_what_is_kept_is_refused() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let kept = deployment.stack().retention_days;
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let (first, _) = phone.tells(&bob, "one").await;
    let conversation = first.conversation.clone();
    let second = next_after(&first, "two");
    assert_eq!(admin.place_only(phone.author(), &second).await, 2);
    admin.let_pass(&conversation, kept * 2).await;
    assert_eq!(admin.remove_expired(&conversation, now_ms()).await, [1]);
    let refusal = phone.submit(resent(&second)).await.expect_err("gone");
    assert_eq!((refusal.code, refusal.retryable), (Code::Expired, false));
    assert_eq!(admin.log(&conversation).await, [], "neither a cell nor a void");
    let third = next_after(&second, "three");
    assert_eq!(phone.submit(submission(&third)).await.expect("the lane goes on").seq, 3);
    let page = phone.fetch(&conversation, Seq::ZERO, None).await.expect("a page");
    assert_eq!((page.cells.len(), page.cells[0].envelope, page.floor.get()), (1, third.id, 2));
}
