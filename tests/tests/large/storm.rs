//! Storms: many devices that come back at once.

use std::time::{Duration, Instant};

use futures::future::join_all;
use poste_client::{Client, Event, State, Target};
use poste_protocol::{Outcome, UserId, limits};
use poste_tests::{Device, open, settled, submission};

use crate::alone;

/// Devices that come back at once.
const DEVICES: usize = 200;
/// Devices that were connected all the time, and go on writing.
const SENDERS: usize = 4;
/// What each of them writes, one after the other.
const MESSAGES: usize = 25;
/// What came while the devices were away, for each.
const MISSED: usize = 3;
/// How long everything may take; on a machine that builds beside the tests.
const PATIENCE: Duration = Duration::from_mins(2);

/// How often the same is sent again that a part under load did not answer for.
const ATTEMPTS: usize = 20;

/// Writes to everybody, in few frames, until all of it is acknowledged.
async fn tells_all(desk: &mut Device, users: &[UserId], body: &str) {
    for some in users.chunks(limits::SUBMISSIONS) {
        let mut left: Vec<_> = some.iter().map(|user| submission(&desk.writes(user, body))).collect();
        for attempt in 0.. {
            let verdicts = desk.send(left.clone()).await.expect("a frame that is taken");
            let is_refused = |outcome: &Outcome| match outcome {
                Outcome::Accepted { .. } => false,
                Outcome::Refused { error } => {
                    assert!(error.retryable && attempt < ATTEMPTS, "{error}");
                    true
                }
            };
            let refused = verdicts.iter().map(|verdict| is_refused(&verdict.outcome));
            left = left.into_iter().zip(refused).filter_map(|(sent, again)| again.then_some(sent)).collect();
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// How often it is looked what a device has. Two hundred that are looked at are work, too.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until a device has so many messages with somebody.
async fn has(client: &Client, device: &Device, with: &UserId, count: usize) {
    let (conversation, began) = (device.with(with), Instant::now());
    loop {
        let messages = client.history(conversation.clone(), None, count + 1).await.expect("readable");
        assert!(messages.len() <= count, "nothing twice");
        if messages.len() == count {
            return;
        }
        let counted = client.counters().await.expect("open");
        assert!(began.elapsed() < PATIENCE, "{} of {count} after {PATIENCE:?}: {counted:?}", messages.len());
        tokio::time::sleep(LOOK).await;
    }
}

/// Sends a message, and says how long its acknowledgement took.
async fn acknowledged(client: &Client, to: &UserId, body: String) -> Duration {
    let (mut events, began) = (client.events(), Instant::now());
    let sent = client.send(Target::User(to.clone()), body).await.expect("on the disk");
    loop {
        match events.next().await.expect("the client is open") {
            Event::Updated { message } if message.id == sent.id => match message.state {
                State::Pending => {}
                State::Failed => panic!("{:?}", message.failure),
                _ => return began.elapsed(),
            },
            _ => {}
        }
    }
}

fn shown(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{what}: half within {:.0?}, 95 of 100 within {:.0?}, the slowest {:.0?}", at(50), at(95), at(100));
}

/// O8: two hundred devices come back, list and catch up at once, while others keep sending. `sync` is bounded apart from
/// `send`, so part of the work is refused and comes again, spread. Every message is acknowledged, everybody catches up,
/// nothing is lost and nothing is there twice.
#[tokio::test]
async fn a_storm_neither_starves_sending_nor_loses_anything() {
    let (_alone, deployment) = alone().await;
    let hub = deployment.user("hub");
    let mut desk = deployment.device(&hub, "desk").await;
    let users: Vec<_> = (0..DEVICES).map(|_| deployment.user("crowd")).collect();
    tells_all(&mut desk, &users, "before").await;
    let folder = tempfile::tempdir().expect("a folder");
    let place = |user: &UserId| folder.path().join(user.as_str());
    let began = Instant::now();
    let mut crowd = Vec::new();
    for some in users.chunks(20) {
        let opened = join_all(some.iter().map(async |user| open(&deployment, &place(user), user, "phone", true).await));
        crowd.extend(opened.await);
    }
    for (client, user) in crowd.iter().zip(&users) {
        has(client, &desk, user, 1).await;
    }
    println!("{DEVICES} devices came one after the other in {:.1?}", began.elapsed());
    join_all(crowd.iter().map(async |client| client.set_network(false).await.expect("open"))).await;
    for missed in 0..MISSED {
        tells_all(&mut desk, &users, &format!("missed {missed}")).await;
    }
    let pairs: Vec<_> = (0..SENDERS).map(|_| (deployment.user("writer"), deployment.user("reader"))).collect();
    let mut writers = Vec::new();
    for (writer, reader) in &pairs {
        let client = open(&deployment, &place(writer), writer, "phone", true).await;
        acknowledged(&client, reader, "calm".to_owned()).await;
        writers.push(client);
    }
    let refused_before = refused(&crowd).await;

    let sending = join_all(writers.iter().zip(&pairs).map(async |(client, (_, reader))| {
        let mut times = Vec::new();
        for n in 0..MESSAGES {
            let patient = tokio::time::timeout(PATIENCE, acknowledged(client, reader, format!("storm {n}")));
            times.push(patient.await.expect("sending is not starved"));
        }
        times
    }));
    let storm = join_all(crowd.iter().zip(&users).map(async |(client, user)| {
        let began = Instant::now();
        client.set_network(true).await.expect("open");
        has(client, &desk, user, 1 + MISSED).await;
        began.elapsed()
    }));
    let (sending, storm) = futures::join!(sending, storm);
    shown("acknowledged during the storm", sending.into_iter().flatten().collect());
    shown(&format!("{DEVICES} devices at once: caught up"), storm);
    println!("{} requests were refused, and came again", refused(&crowd).await - refused_before);

    for (client, user) in crowd.iter().zip(&users) {
        has(client, &desk, user, 1 + MISSED).await;
        client.close().await;
    }
    for (client, (writer, reader)) in writers.iter().zip(&pairs) {
        settled(client).await;
        client.close().await;
        let mut device = deployment.device(reader, "phone").await;
        let log = device.whole_log(&device.with(writer)).await;
        let bodies: Vec<_> = log.iter().flat_map(|cell| &cell.messages).map(|message| message.body.clone()).collect();
        let written = (0..MESSAGES).map(|n| format!("storm {n}"));
        assert_eq!(bodies, std::iter::once("calm".to_owned()).chain(written).collect::<Vec<_>>());
    }
}

/// Requests that were refused as a whole so far.
async fn refused(clients: &[Client]) -> u64 {
    let each = join_all(clients.iter().map(async |client| client.counters().await.expect("open").refused)).await;
    each.into_iter().sum()
}
