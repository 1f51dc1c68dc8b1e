//! The demonstration: two devices, a tunnel, and nothing lost.
//!
//! Everything that is claimed is checked on the devices' own files; what does not hold, or takes too long, is an error.

mod person;
mod timeline;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use poste_client::{Connection, Message, State};

use crate::say;
use crate::stack::Stack;
use person::Person;
use timeline::{Timeline, millis};

/// What bob writes in the tunnel: more than two envelopes hold.
const IN_THE_TUNNEL: usize = 60;

/// What alice writes meanwhile, each this long: more than two pages hold.
const MEANWHILE: usize = 40;
const LONG: usize = 2_000;

/// How long any step may take before the demonstration is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plays the demonstration on a running stack; an error if what it shows does not hold.
pub(crate) async fn play(stack: &Stack) -> anyhow::Result<()> {
    let folder = folder(stack)?.join("demo");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    let mut timeline = Timeline::begin();
    let alice = Person::open(stack, &folder, "alice", "phone", "bob").await?;
    let bob = Person::open(stack, &folder, "bob", "laptop", "alice").await?;
    let played = scenes(&mut timeline, &alice, &bob).await;
    alice.close().await;
    bob.close().await;
    played.context("the demonstration failed")?;
    timeline.summary();
    Ok(())
}

async fn scenes(timeline: &mut Timeline, alice: &Person, bob: &Person) -> anyhow::Result<()> {
    timeline.scene("Two devices connect");
    for person in [alice, bob] {
        connect(timeline, person).await?;
    }

    timeline.scene("A message goes each way");
    timeline.says("(the first one also starts the functions)");
    one_message(timeline, alice, bob, "Hi Bob! Coffee at the station?").await?;
    one_message(timeline, bob, alice, "Gladly, I am on the train. A tunnel is coming.").await?;

    timeline.scene("Bob goes into a tunnel, and both keep writing");
    let pending = tunnel(timeline, alice, bob).await?;

    timeline.scene("Bob comes back");
    comes_back(timeline, alice, bob, pending).await?;

    timeline.scene("Both lists, read from the two devices' own files");
    compare(timeline, alice, bob).await
}

async fn connect(timeline: &mut Timeline, person: &Person) -> anyhow::Result<()> {
    let began = Instant::now();
    person.client.set_network(true).await?;
    let at = person.connected_since(began).await?;
    timeline.took(format!("{} is connected", person.name), at - began);
    Ok(())
}

/// One message with all that becomes of it: pending, sent, delivered, read.
async fn one_message(timeline: &mut Timeline, from: &Person, to: &Person, body: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let message = from.write(body).await?;
    ensure!(message.state == State::Pending, "a new message must be pending, and is {:?}", message.state);
    timeline.took(format!("{} writes \"{body}\": pending, on the disk", from.name), began.elapsed());
    let sent = from.reached(&message, State::Sent).await?;
    timeline.took(format!("{} sees it sent: the server has stored it", from.name), sent - began);
    let arrived = to.reached(&message, State::Received).await?;
    timeline.took(format!("{} has it on the screen", to.name), arrived - began);
    let delivered = from.reached(&message, State::Delivered).await?;
    timeline.took(format!("{} sees it delivered: {}'s device has stored it", from.name, to.name), delivered - began);
    let opened = Instant::now();
    to.read_all().await?;
    let read = from.reached(&message, State::Read).await?;
    timeline.took(format!("{} sees it read, since {} opened it", from.name, to.name), read - opened);
    Ok(())
}

async fn tunnel(timeline: &mut Timeline, alice: &Person, bob: &Person) -> anyhow::Result<Vec<Message>> {
    bob.client.set_network(false).await?;
    bob.is(Connection::Off).await?;
    timeline.says("bob has no network");

    let began = Instant::now();
    let mut pending = Vec::new();
    for index in 1..=IN_THE_TUNNEL {
        pending.push(bob.write(&format!("tunnel thought {index}")).await?);
    }
    let each = began.elapsed() / u32::try_from(IN_THE_TUNNEL)?;
    timeline.took(format!("bob writes {IN_THE_TUNNEL} messages; each is on his disk after"), each);

    let began = Instant::now();
    let mut last = None;
    for index in 1..=MEANWHILE {
        let long: String = format!("long story, part {index}. ").chars().cycle().take(LONG).collect();
        last = Some(alice.write(&long).await?);
    }
    let last = last.context("alice writes something")?;
    let sent = alice.reached(&last, State::Sent).await?;
    timeline.took(format!("alice writes {MEANWHILE} long messages, and sees all of them sent"), sent - began);

    let shown = bob.list().await?;
    let waiting = shown.iter().filter(|message| message.state == State::Pending).count();
    ensure!(waiting == IN_THE_TUNNEL, "bob's list shows {waiting} pending messages instead of {IN_THE_TUNNEL}");
    ensure!(bob.knows(&last).await? == 0, "bob cannot have what alice wrote meanwhile");
    timeline.says(format!("bob's list, with no network: {} messages, {waiting} of them pending:", shown.len()));
    for message in &shown[shown.len() - 3..] {
        timeline.says(format!("    {}  ◷", message.body));
    }
    let delivered = alice.list().await?.iter().filter(|message| message.state == State::Sent).count();
    ensure!(delivered == MEANWHILE, "alice sees {delivered} messages sent and not delivered instead of {MEANWHILE}");
    timeline.says(format!("alice's list: {delivered} messages sent, not delivered: ✓"));
    Ok(pending)
}

async fn comes_back(
    timeline: &mut Timeline,
    alice: &Person,
    bob: &Person,
    pending: Vec<Message>,
) -> anyhow::Result<()> {
    let (first, last) = pending.first().zip(pending.last()).context("bob wrote something")?;
    let before = bob.client.counters().await?;
    let began = Instant::now();
    bob.client.set_network(true).await?;
    let connected = bob.connected_since(began).await?;
    timeline.took("bob is connected", connected - began);
    let first_sent = bob.reached(first, State::Sent).await?;
    timeline.took("the first of his messages is sent", first_sent - began);
    let last_sent = bob.reached(last, State::Sent).await?;
    let envelopes = bob.client.counters().await?.submissions - before.submissions;
    timeline.took(format!("his outbox is empty: {IN_THE_TUNNEL} messages in {envelopes} envelopes"), last_sent - began);
    ensure!(envelopes > 2, "{IN_THE_TUNNEL} messages need more than {envelopes} envelopes");
    let caught_up = bob.received(MEANWHILE + 1).await?;
    let pages = bob.client.counters().await?.pages - before.pages;
    timeline.took(format!("bob has the {MEANWHILE} messages that he missed, in {pages} pages"), caught_up - began);
    ensure!(pages > 1, "{MEANWHILE} long messages need more than {pages} page");
    let arrived = alice.reached(last, State::Received).await?;
    timeline.took("alice has the last of bob's", arrived - began);
    let ticks = alice.settled().await?.max(bob.settled().await?);
    timeline.took("both see everything of theirs delivered: ✓✓", ticks.saturating_duration_since(began));
    ensure!(bob.client.outbox().await?.is_empty(), "bob's outbox is not empty");
    Ok(())
}

/// Compares the lists, message by message.
async fn compare(timeline: &mut Timeline, alice: &Person, bob: &Person) -> anyhow::Result<()> {
    let place = |message: &Message| (message.seq, message.id, message.user.clone(), message.body.clone());
    let (hers, his) = (alice.list().await?, bob.list().await?);
    let written = IN_THE_TUNNEL + MEANWHILE + 2;
    ensure!(hers.len() == written, "alice's list has {} messages instead of {written}", hers.len());
    ensure!(his.len() == written, "bob's list has {} messages instead of {written}", his.len());
    for (index, (mine, yours)) in hers.iter().zip(&his).enumerate() {
        let seq = mine.seq.map(u64::from);
        ensure!(seq == Some(index as u64 + 1), "place {} of alice's list has number {seq:?}", index + 1);
        ensure!(place(mine) == place(yours), "the lists differ at place {}", index + 1);
    }
    let thoughts = his.iter().filter(|message| message.body.starts_with("tunnel thought"));
    for (index, message) in thoughts.enumerate() {
        let wanted = format!("tunnel thought {}", index + 1);
        ensure!(message.body == wanted, "\"{}\" stands where \"{wanted}\" should", message.body);
    }
    timeline.says(format!("alice: {} messages, numbers 1 to {written}, none missing, none twice", hers.len()));
    timeline.says(format!("bob:   {} messages, numbers 1 to {written}, none missing, none twice", his.len()));
    timeline.says("The lists are EQUAL: the same ids, numbers and texts in the same order,");
    timeline.says("and what bob wrote in the tunnel stands in the order in which he wrote it.");
    Ok(())
}

/// Where the stack keeps its things.
fn folder(stack: &Stack) -> anyhow::Result<&Path> {
    stack.logs.parent().context("the folder of the logs is in the stack's folder")
}

/// Two commands with which two people chat on a running stack, from two terminals.
pub(crate) fn chat_commands(stack: &Stack) -> [String; 2] {
    let folder = folder(stack).map_or_else(|_| PathBuf::from("."), Path::to_owned);
    let file = folder.join("stack.json");
    // A stack forgets its tables when it ends: what devices keep must not outlive it either.
    let home = folder.join("chat").join(format!("{}-{}", stack.api_id, stack.pid));
    let (file, home) = (file.display(), home.display());
    [("alice", "bob"), ("bob", "alice")].map(|(user, with)| {
        format!("cargo run -q -p poste -- chat --with {with} --user {user} --stack {file} --home {home}")
    })
}

/// Says a step's time in the unit that fits.
fn in_words(time: Duration) -> String {
    if time < Duration::from_secs(10) { millis(time) } else { say::seconds(time) }
}
