//! Conversations of others.

use poste_protocol::{
    Code, ConversationId, Digest, MediaFile, MediaId, MediaWish, MessageId, MessagePlace, Refusal, SyncRange, limits,
};
use poste_tests::{Deployment, Device, envelope, number, seq, submission};

/// O5, Q2: who is not a member can neither read nor write nor mark, and learns nothing: the answer is the same as for
/// a conversation that does not exist. Nothing is left behind.
#[tokio::test]
async fn a_stranger_gets_nowhere_and_learns_nothing() {
    let deployment = Deployment::here();
    let (alice, bob, mallory) = (deployment.user("alice"), deployment.user("bob"), deployment.user("mallory"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut stranger = deployment.device(&mallory, "phone").await;
    let (secret, _) = phone.tells(&bob, "secret").await;
    let there = secret.conversation.clone();
    // As long as the real one, so that nothing but existence tells them apart; and one that is no direct conversation.
    let nowhere = ConversationId::direct(&deployment.user("nobody"), &deployment.user("nobody"));
    let group = ConversationId::new("g_nowhere").expect("well formed");

    let seen = everything(&mut stranger, &there).await;
    assert!(seen.iter().all(|refusal| refusal.code == Code::NotMember && !refusal.retryable), "{seen:?}");
    assert_eq!(everything(&mut stranger, &nowhere).await, seen, "the same as for one that does not exist");
    assert_eq!(everything(&mut stranger, &group).await, seen, "the same as for one that does not exist");

    let admin = deployment.admin();
    for conversation in [&there, &nowhere, &group] {
        assert!(!admin.knows(conversation, &mallory).await, "nothing of the stranger is left behind");
    }
    assert_eq!(admin.head(&nowhere).await, None);
    assert_eq!(admin.log(&there).await.len(), 1);
    assert!(stranger.list(None).await.conversations.is_empty());
    let (next, _) = phone.tells(&bob, "and another").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    assert_eq!(bobs.whole_log(&there).await.len(), 2);
    stranger.hello().await;
    assert!(stranger.heard(&next.conversation).is_empty(), "nothing of it is delivered to a stranger");
}

/// All that one may try on a conversation.
async fn everything(device: &mut Device, conversation: &ConversationId) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut note = |refusal: Refusal| refusals.push(refusal);
    for (after, limit) in [(0, None), (1, Some(1)), (1_000_000, None)] {
        note(device.fetch(conversation, seq(after), limit).await.expect_err("no page").refusal);
    }
    let others = [None, Some("alice"), Some("mallory")];
    for to in others {
        let to = to.map(|name| poste_protocol::UserId::new(name).expect("well formed"));
        let envelope = envelope(conversation, to.as_ref(), 1, &["let me in"]);
        note(device.submit(submission(&envelope)).await.expect_err("not taken"));
        // Placing would say more than authorising does: a stranger must not get so far.
        let mut old = submission(&envelope);
        old.age_ms = 365 * 86_400_000;
        old.envelope.number = number(1_000);
        note(device.submit(old).await.expect_err("not taken"));
    }
    for (delivered, read) in [(Some(1), None), (None, Some(1)), (Some(1_000_000), Some(1_000_000))] {
        let mark = poste_protocol::Mark {
            conversation: conversation.clone(),
            delivered: delivered.map(seq),
            read: read.map(seq),
        };
        let results = device.mark(vec![mark]).await.expect("a well-formed frame");
        note(results.into_iter().next().and_then(|r| r.error).expect("not taken"));
    }
    let range = SyncRange { conversation: conversation.clone(), after: Some(seq(0)), limit: None };
    for pages in device.sync(vec![range], 1).await.expect("a well-formed frame") {
        assert!(pages.pages.is_empty(), "no page");
        pages.refused.into_iter().for_each(|refused| note(refused.error));
    }
    note(device.receipts(conversation, 1, None).await.expect_err("nobody's marks").refusal);
    note(device.mute(conversation, Some(limits::INTEGER)).await.expect_err("nothing to mute").refusal);
    let file = MediaFile { size: 1, sha256: Digest::of(b"x"), kind: "image/png".to_owned() };
    let message = MessagePlace { seq: seq(1), id: MessageId::fresh() };
    for wish in [MediaWish::Begin { to: None, file }, MediaWish::Get { message }] {
        note(device.wants(conversation, MediaId::fresh(), wish).await.expect_err("no file goes in or comes out"));
    }
    refusals
}

/// L1, O5: `to` counts only if the conversation's id follows from the two users.
#[tokio::test]
async fn the_addressee_must_go_with_the_conversation() {
    let deployment = Deployment::here();
    let (alice, bob, mallory) = (deployment.user("alice"), deployment.user("bob"), deployment.user("mallory"));
    let mut stranger = deployment.device(&mallory, "phone").await;
    let theirs = ConversationId::direct(&alice, &bob);
    let own = ConversationId::direct(&mallory, &bob);
    let cases = [
        (&theirs, Some(&alice)),
        (&theirs, Some(&bob)),
        (&theirs, Some(&mallory)),
        (&theirs, None),
        (&own, Some(&alice)),
        (&own, Some(&mallory)),
        (&own, None),
    ];
    for (conversation, to) in cases {
        let envelope = envelope(conversation, to, 1, &["hi"]);
        let refusal = stranger.submit(submission(&envelope)).await.expect_err("not taken");
        assert_eq!(refusal.code, Code::NotMember, "{conversation} to {to:?}");
    }
    let admin = deployment.admin();
    for conversation in [&theirs, &own] {
        assert_eq!(admin.head(conversation).await, None);
        for user in [&alice, &bob, &mallory] {
            assert!(!admin.knows(conversation, user).await, "nothing came into being");
        }
    }
    let (_, accepted) = stranger.tells(&bob, "the proper way").await;
    assert_eq!(accepted.seq, 1);
}
