//! Functions that are killed while people write. A binary of its own: whoever else used the stack would be hit, too.

use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::{join_all, select};
use poste_client::{Client, State, Target};
use poste_protocol::{ConversationId, UserId};
use poste_tests::{DEADLINE, Deployment, eventually, open};
use rand::RngExt;

/// What each of the eight devices writes: so many bursts of so many messages.
const BURSTS: usize = 6;
const BURST: usize = 8;
const DEVICES: [&str; 4] = ["phone", "tablet", "laptop", "watch"];

/// A function's process dies so often.
const BETWEEN_KILLS: Duration = Duration::from_millis(120);

/// Fewer kills than this prove nothing.
const LEAST_KILLS: usize = 20;

/// How long everything may take: each kill costs somebody a deadline or a backoff.
const PATIENCE: Duration = DEADLINE.saturating_mul(15);

/// I1, I2, I4, I5, I9, failures 1, 2 and 8: eight devices write while the functions' processes are killed at random
/// instants. Everything is stored once, in each device's own order, and all devices show the same list.
#[tokio::test]
async fn functions_are_killed_while_eight_devices_write() {
    let deployment = Deployment::here();
    let Some(emulator) = deployment.stack().emulator_pid else {
        println!("not played: the functions of this stack are not processes of ours");
        return;
    };
    let users = [deployment.user("alice"), deployment.user("bob")];
    let conversation = ConversationId::direct(&users[0], &users[1]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut clients = Vec::new();
    for (i, user) in users.iter().enumerate() {
        for device in DEVICES {
            let place = folder.path().join(format!("{i}-{device}"));
            clients.push((open(&deployment, &place, user, device, true).await, users[1 - i].clone()));
        }
    }

    let kills = AtomicUsize::new(0);
    let writing =
        join_all(clients.iter().enumerate().map(async |(i, (client, peer))| write(client, peer, i, &kills).await));
    select(Box::pin(writing), Box::pin(kill(emulator, &kills))).await;
    println!(
        "{} function processes were killed while {} messages were written",
        kills.load(Ordering::Relaxed),
        8 * BURSTS * BURST
    );

    let mut lists = Vec::new();
    for (client, _) in &clients {
        let list = eventually("the client has the whole log", PATIENCE, async || {
            let messages = client.history(conversation.clone(), None, 10_000).await.expect("readable");
            assert!(messages.iter().all(|message| message.state != State::Failed), "{messages:?}");
            let all = messages.len() == 8 * BURSTS * BURST && messages.iter().all(|message| message.seq.is_some());
            all.then(|| messages.into_iter().map(|m| (m.seq, m.id, m.body)).collect::<Vec<_>>())
        });
        lists.push(list.await);
    }
    for list in &lists {
        assert_eq!(*list, lists[0], "all devices show the same list");
    }
    for i in 0..clients.len() {
        let prefix = format!("{i}: ");
        let own: Vec<&str> = lists[0].iter().filter_map(|(_, _, body)| body.strip_prefix(&prefix)).collect();
        let written: Vec<String> = (0..BURSTS * BURST).map(|n| n.to_string()).collect();
        assert_eq!(own, written, "each once, in the order in which device {i} wrote them");
    }
    let mut reader = deployment.device(&users[0], "reader").await;
    let log = reader.whole_log(&conversation).await;
    let log: Vec<_> = log
        .iter()
        .flat_map(|cell| cell.messages.iter().zip(cell.seq.get()..).map(|(message, seq)| (seq, message.id)))
        .collect();
    let shown: Vec<_> = lists[0].iter().map(|(seq, id, _)| (seq.expect("checked").get(), *id)).collect();
    assert_eq!(shown, log, "the devices have what the log has");
    assert!(kills.load(Ordering::Relaxed) >= LEAST_KILLS);
    for (client, _) in clients {
        client.close().await;
    }
}

async fn write(client: &Client, peer: &UserId, device: usize, kills: &AtomicUsize) {
    for burst in 0..BURSTS {
        for n in 0..BURST {
            let body = format!("{device}: {}", burst * BURST + n);
            client.send(Target::User(peer.clone()), body).await.expect("it is on the disk");
        }
        // Until it is sent, and somebody has been killed since the burst before.
        let enough = (burst + 1) * LEAST_KILLS / BURSTS;
        eventually("the outbox is empty", PATIENCE, async || {
            let empty = client.outbox().await.expect("readable").is_empty();
            (empty && kills.load(Ordering::Relaxed) > enough).then_some(())
        })
        .await;
    }
}

/// Kills one of the emulator's functions after another, for ever.
async fn kill(emulator: u32, kills: &AtomicUsize) {
    loop {
        tokio::time::sleep(BETWEEN_KILLS).await;
        let found = Command::new("pgrep").args(["-P", &emulator.to_string(), "-f", "bootstrap"]).output();
        let found = String::from_utf8(found.expect("pgrep runs").stdout).expect("numbers");
        let running: Vec<&str> = found.lines().collect();
        if running.is_empty() {
            continue;
        }
        let victim = running[rand::rng().random_range(0..running.len())];
        if Command::new("kill").args(["-KILL", victim]).status().expect("kill runs").success() {
            kills.fetch_add(1, Ordering::Relaxed);
        }
    }
}
