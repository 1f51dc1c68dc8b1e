//! What is in the tables when a new version is deployed was written by the ones before.
//!
//! `recorded/VERSION/items.jsonl` has what a version has stored of a few conversations: one line about them, and a line for
//! each item. `RECORD=1` writes it, from the stack that runs: a step of a release (CONTRIBUTING.md).

use std::fs;
use std::path::{Path, PathBuf};

use poste_protocol::{
    ConversationId, Event, Message, MessageId, MessagePlace, Platform, ProviderToken, PushStatus, PushStyle, PushToken,
    UserId,
};
use poste_tests::{Deployment, now_ms, seq, submission};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What was recorded.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    alice: UserId,
    bob: UserId,
    direct: ConversationId,
    group: ConversationId,
    /// Bodies in the direct conversation, in order; one that was deleted is empty.
    texts: Vec<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded")
}

/// Plays a few conversations and writes down what is in the tables of them.
#[tokio::test]
async fn what_is_stored_is_recorded() {
    if std::env::var_os("RECORD").is_none_or(|value| value != "1") {
        return;
    }
    let deployment = Deployment::here();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| deployment.user(name));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let (first, sent) = phone.tells(&bob, "are you there?").await;
    let place = |accepted: u64, id: MessageId| MessagePlace { seq: seq(accepted), id };
    let (second, answered) = bobs.tells(&alice, "I am").await;
    let mut edits = phone.writes(&bob, "are you here?");
    edits.messages[0].edits = Some(place(sent.seq, first.messages[0].id));
    phone.sends(&edits).await;
    let mut deletes = bobs.writes(&alice, "");
    deletes.messages = vec![Message {
        deletes: Some(place(answered.seq, second.messages[0].id)),
        ..Message::new(MessageId::fresh(), "")
    }];
    bobs.sends(&deletes).await;
    bobs.marks(&first.conversation, Some(4), Some(3)).await;
    // More devices than have room in the head.
    for n in 0..10 {
        deployment.device(&bob, &format!("device-{n}")).await.tells(&alice, &format!("from device {n}")).await;
    }
    let group = ConversationId::group();
    for event in [
        Event::Created { title: "climbing".into(), members: vec![bob.clone()] },
        Event::Added { users: vec![carol.clone()] },
        Event::Removed { users: vec![carol.clone()] },
    ] {
        let event = phone.does(&group, event);
        phone.sends(&event).await;
    }
    let hello = phone.says(&group, "hello everybody");
    phone.sends(&hello).await;
    bobs.mute(&group, Some(now_ms())).await.expect("muted");
    bobs.sets_receipts(false).await;
    let token = ProviderToken::new(Uuid::now_v7().to_string()).expect("visible");
    bobs.registers(Some(PushToken { platform: Platform::Fcm, token, style: PushStyle::Alert })).await;
    bobs.watch(std::slice::from_ref(&group)).await.expect("watching");

    let direct = first.conversation;
    let texts = deployment.admin().texts(&direct).await;
    let names = [alice.as_str(), bob.as_str(), carol.as_str(), direct.as_str(), group.as_str()];
    let items = deployment.admin().recorded(&names).await;
    assert!(items.len() > 20, "{} items", items.len());
    let about = serde_json::to_string(&About { alice, bob, direct, group, texts }).expect("plain fields");
    let version = env!("CARGO_PKG_VERSION").rsplit_once('.').expect("a version has three numbers").0;
    let folder = folder().join(version);
    fs::create_dir_all(&folder).expect("a folder");
    let lines = std::iter::once(about).chain(items).map(|line| line + "\n");
    fs::write(folder.join("items.jsonl"), lines.collect::<String>()).expect("it can be written");
}

/// Q1: what earlier versions have stored is read, listed, and gone on with.
#[tokio::test]
async fn what_earlier_versions_have_stored_is_gone_on_with() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    for version in fs::read_dir(folder()).expect("something was recorded") {
        let text = fs::read_to_string(version.expect("a folder").path().join("items.jsonl")).expect("items");
        let mut lines = text.lines();
        let about: About = serde_json::from_str(lines.next().expect("a line about them")).expect("it can be read");
        let About { alice, bob, direct, group, texts } = &about;
        // On a stack that lives on they are there already, and were gone on with.
        if admin.head(direct).await.is_none() {
            admin.put_recorded(lines).await;
        }
        let mut bobs = deployment.device(bob, "phone").await;
        let mut phone = deployment.device(alice, "phone").await;
        let cells = bobs.whole_log(direct).await;
        let read: Vec<&str> = cells.iter().flat_map(|cell| &cell.messages).map(|message| &*message.body).collect();
        assert_eq!(read[..texts.len()], texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(cells.iter().flat_map(|cell| &cell.messages).any(|message| message.deleted), "one was deleted");
        let list = bobs.list(None).await;
        assert!(list.receipts_off, "he gives no read receipts");
        let listed = |id: &ConversationId| list.conversations.iter().find(|its| its.conversation == *id);
        assert_eq!(listed(direct).and_then(|its| its.peer.as_ref()), Some(alice));
        let its = listed(group).and_then(|its| its.group.as_ref()).expect("the group");
        assert_eq!((its.title.as_str(), its.members), ("climbing", 2));
        assert_eq!(phone.members(group, None).await.expect("members").members.len(), 2);
        let marks = phone.receipts(direct, 1, None).await.expect("marks").marks;
        assert!(marks.iter().any(|mark| mark.user == *bob && mark.delivered >= seq(4)), "{marks:?}");
        assert_eq!(bobs.is_awake(None).await, PushStatus::Registered);

        // Each lane goes on: in the head, and beside it.
        let number = now_ms();
        let mut outside = deployment.device(bob, "device-9").await;
        for (device, to) in [(&mut phone, bob), (&mut outside, alice)] {
            let late = poste_tests::envelope(direct, Some(to), 1, &["from a state that is long over"]);
            device.submit(submission(&late)).await.expect_err("the lane knows better");
            let next = poste_tests::envelope(direct, Some(to), number, &["and on"]);
            let accepted = device.sends(&next).await;
            assert!(accepted.seq > texts.len() as u64 && !accepted.repeat);
            bobs.hears(&next).await;
        }
        let hello = poste_tests::envelope(group, None, number, &["hello again"]);
        bobs.sends(&hello).await;
        phone.hears(&hello).await;
    }
}
