//! Poste, held against the others: times and CPU with devices that keep nothing, as theirs do; what is lost with the
//! device library, in a process that is killed, since what is promised is promised with it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use poste_client::{Client, Message, State, Target};
use poste_local::Stack;
use poste_protocol::{ConversationId, FromServer, Request, SendFrame, Submission, UserId};
use serde::{Deserialize, Serialize};

use super::node::Functions;
use super::{
    BACK_AT, BETWEEN, End, FIRST, HURRY, KILLED_AT, KILLS, LATER, OF_RECEIVER_KILLS, OF_SERVER_KILLS, PAUSE,
    SERVER_KILLS, Server, Tally, WHILE_KILLED, number_of,
};
use crate::account::body;
use crate::local::Local;
use crate::report::Report;
use crate::wire::{Device, letter};

/// Everything must be there by then: a kill costs somebody a deadline or a backoff.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(20);
/// More messages than there are.
const ALL: usize = 10_000;
/// This program, also after another was built in its place: measuring single pieces does that.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// What tells a process of this program that it is a device, and which.
const RECEIVER: &str = "POSTE_BENCH_RECEIVER";

/// Measures it.
pub(crate) async fn measure(local: &Local, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let mut pair = Plain::pair(local).await?;
    let mut server = Functions { local: local.clone() };
    super::rates("poste", "Poste, plain sockets", &mut pair, &|| server.used(), report).await?;
    drop(pair);
    let what = "Poste with its device library";
    let tally = receiver_killed(local, folder).await.context("a receiver is killed")?;
    tally.report("poste", what, "receiver", report);
    let tally = server_killed(local, folder, &mut server).await.context("functions are killed")?;
    tally.report("poste", what, "server", report);
    Ok(())
}

/// A device without the library.
struct Plain {
    device: Device,
    peer: UserId,
    /// Of its next envelope.
    number: u64,
    heard: VecDeque<(Instant, usize)>,
}

impl Plain {
    async fn pair(local: &Local) -> anyhow::Result<[Self; 2]> {
        let (alice, bob) = (Local::user("alice")?, Local::user("bob")?);
        let one = Device::connect(local, &alice, "phone").await?;
        let other = Device::connect(local, &bob, "phone").await?;
        let plain = |device, peer| Self { device, peer, number: 1, heard: VecDeque::new() };
        Ok([plain(one, bob), plain(other, alice)])
    }
}

impl End for Plain {
    async fn say(&mut self, n: usize) -> anyhow::Result<()> {
        let envelope = letter(self.device.user(), &self.peer, self.number, &[body(n as u64)])?;
        self.number += 1;
        let submission = Submission { envelope, age_ms: 0, attempt: 1, resolved: None };
        let reference = self.device.reference()?;
        let frame = SendFrame { reference, submissions: vec![submission], marks: Vec::new() };
        self.device.post(&Request::Send(frame)).await
    }

    async fn hear(&mut self, patience: Duration) -> anyhow::Result<Option<(Instant, usize)>> {
        if self.heard.is_empty() {
            let numbers = |frame| match frame {
                FromServer::Delivery(delivery) => {
                    let cells = delivery.items.into_iter().flat_map(|item| item.cells);
                    let messages = cells.flat_map(|cell| cell.messages);
                    Some(messages.filter_map(|message| number_of(&message.body)).collect::<Vec<_>>())
                }
                _ => None,
            };
            let Ok(next) = tokio::time::timeout(patience, self.device.next(numbers)).await else { return Ok(None) };
            let (at, numbers) = next?;
            self.heard.extend(numbers.into_iter().map(|n| (at, n)));
        }
        Ok(self.heard.pop_front())
    }
}

/// A device in a process of its own: this program once more. It opens its account, and does what the library does.
#[derive(Serialize, Deserialize)]
pub(crate) struct Receiver {
    stack: Stack,
    folder: PathBuf,
    user: UserId,
}

impl Receiver {
    /// What this process is, if it is one.
    pub(crate) fn ordered() -> anyhow::Result<Option<Self>> {
        std::env::var(RECEIVER).ok().map(|order| serde_json::from_str(&order).context("an order")).transpose()
    }

    /// Is that device, until nobody holds its input open any more.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = Local::of(self.stack)?.client(&self.folder, &self.user).await?;
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
            client.close().await;
            Ok(())
        })
    }

    /// Starts a process that is.
    fn start(&self) -> anyhow::Result<Process> {
        let mut command = Command::new(THIS_PROGRAM);
        command.env(RECEIVER, serde_json::to_string(self)?).stdin(Stdio::piped());
        Ok(Process(command.spawn()?))
    }
}

/// Its process; dropped, it is killed.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn receiver_killed(local: &Local, folder: &Path) -> anyhow::Result<Tally> {
    let (alice, bob) = (Local::user("alice")?, Local::user("bob")?);
    let conversation = ConversationId::direct(&alice, &bob);
    let sender = local.client(folder, &alice).await?;
    let receiver = Receiver { stack: local.stack().clone(), folder: folder.to_owned(), user: bob.clone() };
    let mut process = Some(receiver.start()?);
    let to = || Target::User(bob.clone());
    sender.send(to(), body(FIRST as u64)).await?;
    until("the first message", async || {
        let list = sender.history(conversation.clone(), None, ALL).await?;
        Ok(list.iter().all(|message| matches!(message.state, State::Delivered | State::Read)))
    })
    .await?;
    for n in 0..KILLS * WHILE_KILLED {
        sender.send(to(), body((OF_RECEIVER_KILLS + n) as u64)).await?;
        tokio::time::sleep(BETWEEN).await;
        match n % WHILE_KILLED {
            KILLED_AT => process = None,
            BACK_AT => process = Some(receiver.start()?),
            last if last == WHILE_KILLED - 1 => tokio::time::sleep(PAUSE).await,
            _ => {}
        }
    }
    drop(process);
    // Killed a last time: what its disk holds, and what it fetches.
    let receiver = local.client(folder, &bob).await?;
    tally(&sender, &receiver, &conversation, OF_RECEIVER_KILLS, KILLS * WHILE_KILLED).await
}

async fn server_killed(local: &Local, folder: &Path, server: &mut Functions) -> anyhow::Result<Tally> {
    let (alice, bob) = (Local::user("alice")?, Local::user("bob")?);
    let conversation = ConversationId::direct(&alice, &bob);
    let (sender, receiver) = (local.client(folder, &alice).await?, local.client(folder, &bob).await?);
    let mut number = OF_SERVER_KILLS;
    for kill in 0..SERVER_KILLS {
        for place in 0..WHILE_KILLED {
            sender.send(Target::User(bob.clone()), body(number as u64)).await?;
            number += 1;
            tokio::time::sleep(HURRY).await;
            if place == KILLED_AT {
                tokio::time::sleep(LATER * kill).await;
                server.kill().await?;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    tally(&sender, &receiver, &conversation, OF_SERVER_KILLS, number - OF_SERVER_KILLS).await
}

/// What came of so many messages, when the devices have nothing more to do with each other.
async fn tally(
    sender: &Client,
    receiver: &Client,
    conversation: &ConversationId,
    first: usize,
    messages: usize,
) -> anyhow::Result<Tally> {
    let count =
        |list: &[Message]| list.iter().filter_map(|message| number_of(&message.body)).filter(|n| *n >= first).count();
    // What is lost never comes: then it is counted, when there was time enough for it to come.
    let all = until("all messages", async || {
        let list = receiver.history(conversation.clone(), None, ALL).await?;
        Ok(sender.outbox().await?.is_empty() && count(&list) >= messages)
    });
    if let Err(late) = all.await {
        eprintln!("  {late:#}");
    }
    let mut tally = Tally::default();
    for message in sender.history(conversation.clone(), None, ALL).await? {
        let is_safe = !matches!(message.state, State::Pending | State::Failed);
        tally.said.extend(number_of(&message.body).filter(|n| is_safe && *n >= first));
    }
    ensure!(!tally.said.is_empty(), "nothing was acknowledged");
    for message in receiver.history(conversation.clone(), None, ALL).await? {
        if let Some(n) = number_of(&message.body) {
            tally.show(n);
        }
    }
    sender.close().await;
    receiver.close().await;
    Ok(tally)
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await? {
        ensure!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
