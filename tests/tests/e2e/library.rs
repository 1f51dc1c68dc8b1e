//! The device library on the deployed stack: a rolled-back file is put right without loss or double.

use std::{fs, path::Path};

use poste_client::{Client, State, Target};
use poste_protocol::{ConversationId, UserId};
use poste_tests::{DEADLINE, Deployment, eventually, open, settled};

async fn writes(client: &Client, peer: &UserId, bodies: &[&str]) {
    for body in bodies {
        client.send(Target::User(peer.clone()), *body).await.expect("it is on the disk");
    }
}

/// The whole list of a client, once it has so many messages of the log: number and body.
async fn list(client: &Client, conversation: &ConversationId, count: usize) -> Vec<(u64, String)> {
    eventually("the client has the whole log", DEADLINE * 2, async || {
        let messages = client.history(conversation.clone(), None, 1_000).await.expect("readable");
        assert!(messages.iter().all(|message| message.state != State::Failed), "{messages:?}");
        let numbered = messages.into_iter().filter_map(|m| Some((m.seq?.get(), m.body))).collect::<Vec<_>>();
        (numbered.len() >= count).then_some(numbered)
    })
    .await
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
    }
}

/// L2, C2, C5, failures 2 and 8: a file that is copied back to an older state, with an envelope in its outbox that was
/// acknowledged since: what was sent is found again, what is new is renumbered; nothing is lost, nothing doubled.
#[tokio::test]
async fn a_file_that_is_rolled_back() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let conversation = ConversationId::direct(&alice, &bob);
    let folder = tempfile::tempdir().expect("a folder");
    let (live, backup) = (folder.path().join("live"), folder.path().join("backup"));

    let client = open(&deployment, &live, &alice, "phone", true).await;
    for body in ["one", "two", "three"] {
        writes(&client, &bob, &[body]).await;
        settled(&client).await;
    }
    client.set_network(false).await.expect("open");
    writes(&client, &bob, &["in the outbox"]).await;
    client.close().await;
    copy(&live, &backup);

    let client = open(&deployment, &live, &alice, "phone", true).await;
    settled(&client).await;
    for body in ["after the backup", "and another", "and a third"] {
        writes(&client, &bob, &[body]).await;
        settled(&client).await;
    }
    list(&client, &conversation, 7).await;
    client.close().await;
    fs::remove_dir_all(&live).expect("the folder goes");
    copy(&backup, &live);

    // The person goes on writing on the restored device, first without a network.
    let client = open(&deployment, &live, &alice, "phone", false).await;
    writes(&client, &bob, &["written on the restored device", "offline"]).await;
    client.set_network(true).await.expect("open");
    settled(&client).await;
    writes(&client, &bob, &["and online"]).await;
    settled(&client).await;
    let restored = list(&client, &conversation, 10).await;
    client.close().await;

    let expected = [
        "one",
        "two",
        "three",
        "in the outbox",
        "after the backup",
        "and another",
        "and a third",
        "written on the restored device",
        "offline",
        "and online",
    ];
    let bodies: Vec<&str> = restored.iter().map(|(_, body)| body.as_str()).collect();
    assert_eq!(bodies, expected, "no loss, no double, in the order of writing");
    let mut bobs = deployment.device(&bob, "phone").await;
    let log = bobs.whole_log(&conversation).await;
    let log: Vec<(u64, String)> = log
        .iter()
        .flat_map(|cell| cell.messages.iter().zip(cell.seq.get()..).map(|(m, seq)| (seq, m.body.clone())))
        .collect();
    assert_eq!(log, restored, "the device has what the log has");
}

/// L2, C2, failure 9: a file from before everything: the device learns what it had written, and goes on.
#[tokio::test]
async fn a_device_that_comes_back_without_its_file() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let conversation = ConversationId::direct(&alice, &bob);
    let folder = tempfile::tempdir().expect("a folder");
    let client = open(&deployment, &folder.path().join("first"), &alice, "phone", true).await;
    for body in ["one", "two", "three"] {
        writes(&client, &bob, &[body]).await;
        settled(&client).await;
    }
    client.close().await;
    // The same device id with nothing on the disk: its first number is taken.
    let client = open(&deployment, &folder.path().join("second"), &alice, "phone", false).await;
    writes(&client, &bob, &["four"]).await;
    client.set_network(true).await.expect("open");
    settled(&client).await;
    let list = list(&client, &conversation, 4).await;
    client.close().await;
    let expected = [(1, "one"), (2, "two"), (3, "three"), (4, "four")];
    assert!(list.iter().map(|(seq, body)| (*seq, body.as_str())).eq(expected), "{list:?}");
}
