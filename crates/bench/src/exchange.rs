//! Messages between pairs of devices with the library, at a steady rate.
//!
//! The load is open: each message has its time, whatever became of the one before, and what it takes is counted from
//! that time. So a system that falls behind shows it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use poste_client::{Client, Event, Message, State, Target};
use poste_protocol::UserId;
use tokio::task::JoinSet;

use crate::account::WORDS;
use crate::local::Local;

/// How long after the last message was to be sent everything must be there.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(20);

/// Two people, each with a device that is connected.
pub(crate) struct Pair {
    people: [(UserId, Arc<Client>); 2],
}

/// How messages go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// How many, over all pairs in turn.
    pub(crate) messages: usize,
    /// The time from one to the next.
    pub(crate) interval: Duration,
    /// Both write, in turn; or only the first of each pair.
    pub(crate) both: bool,
}

/// What came of them.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// From the time at which each was to be sent until it was on the other device's disk, and shown.
    pub(crate) delivered: Vec<Duration>,
    /// Until its acknowledgement was on the sender's disk.
    pub(crate) acknowledged: Vec<Duration>,
}

/// When each message was seen first.
#[derive(Default)]
struct Board {
    delivered: Vec<Option<Instant>>,
    acknowledged: Vec<Option<Instant>>,
}

impl Pair {
    /// Two people who have begun to write to each other.
    pub(crate) async fn open(local: &Local, folder: &Path) -> anyhow::Result<Self> {
        let (one, other) = (Local::user("alice")?, Local::user("bob")?);
        let clients = (local.client(folder, &one).await?, local.client(folder, &other).await?);
        let pair = Self { people: [(one, Arc::new(clients.0)), (other, Arc::new(clients.1))] };
        let greeting = Plan { messages: 2, interval: Duration::ZERO, both: true };
        exchange(std::slice::from_ref(&pair), greeting).await.context("the first messages")?;
        Ok(pair)
    }

    /// The one who writes first, and the other.
    pub(crate) fn people(&self) -> [(&UserId, &Arc<Client>); 2] {
        [0, 1].map(|n| (&self.people[n].0, &self.people[n].1))
    }

    /// Closes both devices.
    pub(crate) async fn close(self) {
        for (_, client) in &self.people {
            client.close().await;
        }
    }
}

/// Sends messages as planned. Who gets one has its conversation open, and so has read it at once.
pub(crate) async fn exchange(pairs: &[Pair], plan: Plan) -> anyhow::Result<Outcome> {
    let board =
        Arc::new(Mutex::new(Board { delivered: vec![None; plan.messages], acknowledged: vec![None; plan.messages] }));
    let mut watching = JoinSet::new();
    for (user, client) in pairs.iter().flat_map(|pair| &pair.people) {
        watching.spawn(watch(user.clone(), client.clone(), board.clone(), client.events()));
    }
    let began = Instant::now() + LOOK;
    let due = |n: usize| began + plan.interval * u32::try_from(n).unwrap_or(u32::MAX);
    let mut sending = JoinSet::new();
    for n in 0..plan.messages {
        tokio::time::sleep_until(due(n).into()).await;
        let pair = &pairs[n % pairs.len()];
        let writer = if plan.both { n / pairs.len() % 2 } else { 0 };
        let (client, to) = (pair.people[writer].1.clone(), pair.people[1 - writer].0.clone());
        sending.spawn(async move { client.send(Target::User(to), format!("{n} {WORDS}")).await });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    let deadline = Instant::now() + PATIENCE;
    let missing = || {
        let board = board.lock().expect("nobody panics who holds it");
        board.delivered.iter().chain(&board.acknowledged).filter(|seen| seen.is_none()).count()
    };
    while missing() > 0 {
        ensure!(Instant::now() < deadline, "{} deliveries and acknowledgements did not come", missing());
        tokio::time::sleep(LOOK).await;
    }
    watching.shutdown().await;
    let board = board.lock().expect("nobody panics who holds it");
    let times = |seen: &[Option<Instant>]| {
        seen.iter().enumerate().filter_map(|(n, at)| Some(at.as_ref()?.saturating_duration_since(due(n)))).collect()
    };
    Ok(Outcome { delivered: times(&board.delivered), acknowledged: times(&board.acknowledged) })
}

/// Notes what one device sees, and reads what comes.
async fn watch(me: UserId, client: Arc<Client>, board: Arc<Mutex<Board>>, mut events: poste_client::Events) {
    while let Some(event) = events.next().await {
        let (Event::Added { message } | Event::Updated { message }) = event else { continue };
        let seen = Instant::now();
        let Some(n) = number_of(&message) else { continue };
        if message.user == me {
            if !matches!(message.state, State::Pending | State::Failed) {
                note(&board, n, seen, |board| &mut board.acknowledged);
            }
        } else if let Some(seq) = message.seq {
            note(&board, n, seen, |board| &mut board.delivered);
            // A client that is being closed has nobody who reads.
            let _ = client.mark_read(message.conversation, seq).await;
        }
    }
}

fn note(board: &Mutex<Board>, n: usize, seen: Instant, list: fn(&mut Board) -> &mut Vec<Option<Instant>>) {
    let mut board = board.lock().expect("nobody panics who holds it");
    if let Some(place) = list(&mut board).get_mut(n) {
        place.get_or_insert(seen);
    }
}

fn number_of(message: &Message) -> Option<usize> {
    message.body.split(' ').next()?.parse().ok()
}
