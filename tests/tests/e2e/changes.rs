//! Edits and delete-for-everyone: who may, what repeats come to, and that what is deleted is in the table no more.

use poste_client::{Client, Message, State, Target};
use poste_protocol::{Code, ConversationId, Envelope, Message as Written, MessagePlace, UserId};
use poste_tests::{DEADLINE, Deployment, account, bodies, eventually, open, resent, seq, settled, submission};

/// The place of an envelope's first message.
fn place(envelope: &Envelope, at: u64) -> MessagePlace {
    MessagePlace { seq: seq(at), id: envelope.messages[0].id }
}

/// The envelope, as one that edits.
fn editing(mut envelope: Envelope, target: MessagePlace) -> Envelope {
    envelope.messages[0].edits = Some(target);
    envelope
}

/// The envelope, as one that deletes.
fn deleting(mut envelope: Envelope, target: MessagePlace) -> Envelope {
    let id = envelope.messages[0].id;
    envelope.messages = vec![Written { deletes: Some(target), ..Written::new(id, "") }];
    envelope
}

/// L5, L2, L3: what is deleted is gone from the table, edits and all, and from every page; others hear of it; repeats
/// are successes.
#[tokio::test]
async fn what_is_deleted_is_in_the_table_no_more() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut tablet = deployment.device(&alice, "tablet").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let conversation = phone.with(&bob);

    let three = phone.writes_all(&bob, &["before", "a secret", "after"]);
    phone.sends(&three).await;
    let target = MessagePlace { seq: seq(2), id: three.messages[1].id };
    let edit = editing(tablet.writes(&bob, "another secret"), target);
    assert_eq!(tablet.sends(&edit).await.seq, 4);
    assert_eq!(bobs.hears(&edit).await.messages, edit.messages);
    assert_eq!(deployment.admin().texts(&conversation).await, ["before", "a secret", "after", "another secret"]);

    let delete = deleting(phone.writes(&bob, "-"), target);
    let deleted = phone.sends(&delete).await;
    assert_eq!(deployment.admin().texts(&conversation).await, ["before", "", "after", "", ""]);
    assert_eq!(bobs.hears(&delete).await.messages, delete.messages);
    let log = bobs.whole_log(&conversation).await;
    let messages: Vec<_> = log.iter().flat_map(|cell| &cell.messages).collect();
    assert_eq!(messages.iter().map(|message| message.deleted).collect::<Vec<_>>(), [false, true, false, true, false]);
    assert_eq!(messages[1].id, target.id, "its place stays");

    for (device, envelope, at) in [(&mut tablet, &edit, 4), (&mut phone, &delete, deleted.seq)] {
        let repeat = device.submit(resent(envelope)).await.expect("a repeat is a success");
        assert_eq!((repeat.seq, repeat.repeat), (at, true));
    }
    let again = deleting(tablet.writes(&bob, "-"), target);
    tablet.sends(&again).await;
    let late = editing(tablet.writes(&bob, "a last secret"), target);
    tablet.sends(&late).await;
    let texts = deployment.admin().texts(&conversation).await;
    assert!(texts.iter().all(|text| !text.contains("secret")), "{texts:?}");
}

/// L5: only the author; only what is there; and no change of a change.
#[tokio::test]
async fn nobody_changes_what_is_not_theirs() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let (hello, _) = phone.tells(&bob, "hello").await;
    let target = place(&hello, 1);
    for change in [editing(bobs.writes(&alice, "mine"), target), deleting(bobs.writes(&alice, "-"), target)] {
        let refusal = bobs.submit(submission(&change)).await.expect_err("it is not bob's");
        assert_eq!((refusal.code, refusal.retryable), (Code::NoTarget, false));
        let refusal = bobs.submit(resent(&change)).await.expect_err("the refusal stands");
        assert_eq!(refusal.code, Code::NoTarget);
    }
    let edit = editing(phone.writes(&bob, "hello!"), target);
    assert_eq!(phone.sends(&edit).await.seq, 2);
    let elsewhere = [place(&hello, 2), place(&edit, 2), place(&hello, 9)];
    for target in elsewhere {
        let change = deleting(phone.writes(&bob, "-"), target);
        assert_eq!(phone.submit(submission(&change)).await.expect_err("nothing there").code, Code::NoTarget);
    }
    assert_eq!(deployment.admin().texts(&hello.conversation).await, ["hello", "hello!"]);
}

async fn writes(client: &Client, peer: &UserId, body: &str) -> Message {
    client.send(Target::User(peer.clone()), body).await.expect("it is on the disk")
}

/// Waits until a client shows these texts last.
async fn shows(client: &Client, conversation: &ConversationId, texts: &[&str]) {
    eventually("the client shows what the log says", DEADLINE * 2, async || {
        let messages = client.history(conversation.clone(), None, texts.len()).await.expect("readable");
        assert!(messages.iter().all(|message| message.state != State::Failed), "{messages:?}");
        messages.iter().map(|message| message.body.as_str()).eq(texts.iter().copied()).then_some(())
    })
    .await;
}

/// L5, C1, C5, O7: changes that were made offline are replayed by devices that were away, and all end alike.
#[tokio::test]
async fn devices_that_were_offline_replay_changes() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let conversation = ConversationId::direct(&alice, &bob);
    let folder = tempfile::tempdir().expect("a folder");
    let phone = open(&deployment, &folder.path().join("phone"), &alice, "phone", true).await;
    let tablet = open(&deployment, &folder.path().join("tablet"), &alice, "tablet", true).await;
    let bobs = open(&deployment, &folder.path().join("bob"), &bob, "phone", true).await;
    let one = writes(&phone, &bob, "helo").await;
    let two = writes(&phone, &bob, "a secret").await;
    settled(&phone).await;
    for client in [&tablet, &bobs] {
        shows(client, &conversation, &["helo", "a secret"]).await;
        client.set_network(false).await.expect("open");
    }

    phone.set_network(false).await.expect("open");
    phone.edit(one.id, "hello").await.expect("on the disk");
    phone.delete(two.id).await.expect("on the disk");
    tablet.edit(two.id, "another secret").await.expect("on the disk");
    shows(&phone, &conversation, &["hello", ""]).await;
    shows(&tablet, &conversation, &["helo", "another secret"]).await;
    phone.set_network(true).await.expect("open");
    settled(&phone).await;
    tablet.set_network(true).await.expect("open");
    bobs.set_network(true).await.expect("open");
    for client in [&phone, &tablet, &bobs] {
        shows(client, &conversation, &["hello", ""]).await;
    }
    settled(&tablet).await;
    let texts = deployment.admin().texts(&conversation).await;
    assert!(texts.iter().all(|text| !text.contains("secret")), "{texts:?}");
    let found = bobs.search("secret", None, None, 10).await.expect("readable");
    assert!(found.hits.is_empty());
    for client in [phone, tablet, bobs] {
        client.close().await;
    }
}

/// L5, O6: on a fresh device the changes come before what they change.
#[tokio::test]
async fn a_fresh_device_knows_changes_before_what_they_change() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let conversation = ConversationId::direct(&alice, &bob);
    let mut phone = deployment.device(&alice, "phone").await;
    let mut tablet = deployment.device(&bob, "tablet").await;
    let first = phone.writes_all(&bob, &["helo", "a secret"]);
    phone.sends(&first).await;
    for part in 0..8 {
        let more = phone.writes_all(&bob, &bodies(&format!("part {part}"), 25));
        phone.sends(&more).await;
    }
    let edit = editing(phone.writes(&bob, "hello"), place(&first, 1));
    phone.sends(&edit).await;
    let target = MessagePlace { seq: seq(2), id: first.messages[1].id };
    let delete = deleting(phone.writes(&bob, "-"), target);
    phone.sends(&delete).await;
    // A first message that is still in the queue would come live, and the device would begin there.
    tablet.hears(&delete).await;

    let folder = tempfile::tempdir().expect("a folder");
    let mut config = account(&deployment.stack().socket_url, folder.path(), &bob, "fresh");
    config.tuning.lazy_history = true;
    let fresh = Client::open(config).await.expect("the account opens");
    shows(&fresh, &conversation, &["part 7 24"]).await;
    let newest = fresh.history(conversation.clone(), None, 1_000).await.expect("readable");
    assert!(newest.len() < 202, "it begins at the end");
    eventually("all of the history is here", DEADLINE * 2, async || {
        let more = fresh.older(conversation.clone()).await.expect("known");
        (!more).then_some(())
    })
    .await;
    let all = fresh.history(conversation, None, 1_000).await.expect("readable");
    assert_eq!((all.len(), all[0].body.as_str(), all[1].deleted), (202, "hello", true));
    assert!(all[0].edited_at.is_some());
    fresh.close().await;
}
