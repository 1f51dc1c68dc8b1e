//! Catching up: ten thousand messages that were missed, and the same page of a short and of a long log.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::try_join;
use poste_client::Client;
use poste_protocol::{ConversationId, Envelope, Event, Fetch, Request, Seq, UserId, limits};

use crate::account::body;
use crate::delivery::count;
use crate::local::Local;
use crate::report::Report;
use crate::wire::{Device, answer_to, letter, to_group};

/// What the figures are of.
const SUBJECT: &str = "sync";
/// Lengths of the logs of which the end is read.
const LENGTHS: [usize; 2] = [1_000, 100_000];
/// How much of it, in messages.
const END: u32 = 500;
/// How often.
const READS: usize = 20;
/// Messages that are missed; and half as many, to see what grows with them.
const MISSED: usize = 10_000;
const HALF: usize = 5_000;
/// In so many conversations.
const CONVERSATIONS: usize = 500;
/// Envelopes of a frame: what fits.
const TOGETHER: usize = 6;
/// Everything must be there by then.
const PATIENCE: Duration = Duration::from_mins(3);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Measures everything.
pub(crate) async fn measure(local: &Local, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    ends(local, report).await.context("logs of different lengths")?;
    let half = in_one(local, folder, HALF, "half", report).await.context("half as many messages")?;
    let all = in_one(local, folder, MISSED, "one", report).await.context("one conversation")?;
    report.key("sync_missing_ratio", all / half);
    in_many(local, folder, report).await.context("many conversations")?;
    Ok(())
}

/// The end of logs of different lengths.
async fn ends(local: &Local, report: &mut Report) -> anyhow::Result<()> {
    let mut units = Vec::new();
    for length in LENGTHS {
        let (alice, bob) = (Local::user("alice")?, Local::user("bob")?);
        let mut phone = Device::connect(local, &alice, "phone").await?;
        write(&mut phone, &bob, 1, length).await?;
        let conversation = ConversationId::direct(&alice, &bob);
        local.settle().await?;
        let run = async {
            let mut times = Vec::new();
            for _ in 0..READS {
                let after = Some(Seq::new(length as u64 - u64::from(END))?);
                times.push(fetch(&mut phone, &conversation, after).await?);
            }
            Ok(times)
        };
        let (mut times, usage) = local.counted(run).await?;
        let read = usage.counted().read_units / count(READS);
        report.key(format!("sync_end_of_{length}_read_units"), read);
        report.key_p50(format!("sync_end_of_{length}_p50_ms"), &mut times);
        report.add(SUBJECT, format!("a page of {END} messages at the end of {length}"), times);
        units.push(read);
    }
    report.key("sync_log_length_ratio", units[1] / units[0]);
    report.note(
        "the page at the end of a long log takes the emulator long, which looks through the whole log for each query; \
         what is read, and billed, is the same",
    );
    Ok(())
}

/// So many in one conversation. Gives what is read for a thousand of them.
async fn in_one(local: &Local, folder: &Path, missed: usize, how: &str, report: &mut Report) -> anyhow::Result<f64> {
    let (alice, bob) = (Local::user("alice")?, Local::user("bob")?);
    let mut phone = Device::connect(local, &alice, "phone").await?;
    phone.send(vec![letter(&alice, &bob, 1, &[body(0)])?]).await?;
    let client = local.client(folder, &bob).await?;
    has(&client, 1).await?;
    cut(local, &client).await?;
    write(&mut phone, &bob, 2, missed).await?;
    caught_up(local, &client, 1 + missed as u64, missed, how, report).await
}

/// Ten thousand in five hundred: groups, because one device can write to all of them.
async fn in_many(local: &Local, folder: &Path, report: &mut Report) -> anyhow::Result<f64> {
    let (hub, bob) = (Local::user("hub")?, Local::user("bob")?);
    let mut desk = Device::connect(local, &hub, "desk").await?;
    let groups: Vec<_> = (0..CONVERSATIONS).map(|_| ConversationId::group()).collect();
    for some in groups.chunks(limits::SUBMISSIONS) {
        let event = Event::Created { title: "some of many".into(), members: vec![bob.clone()] };
        let founding = some.iter().map(|id| to_group(id, 1, "", Some(event.clone())));
        desk.send(founding.collect::<anyhow::Result<_>>()?).await?;
    }
    let client = local.client(folder, &bob).await?;
    has(&client, CONVERSATIONS as u64).await?;
    cut(local, &client).await?;
    let each = MISSED / CONVERSATIONS;
    let bodies: Vec<String> = (0..each as u64).map(body).collect();
    for some in groups.chunks(TOGETHER) {
        let full = |id| {
            let with = letter(&hub, &bob, 2, &bodies)?;
            Ok(Envelope { conversation: ConversationId::clone(id), to: None, ..with })
        };
        desk.send(some.iter().map(full).collect::<anyhow::Result<_>>()?).await?;
    }
    caught_up(local, &client, (CONVERSATIONS + MISSED) as u64, MISSED, "many", report).await
}

/// Takes a device off the network when it has nothing left to ask: what it was about to ask is not what it misses.
async fn cut(local: &Local, client: &Client) -> anyhow::Result<()> {
    local.settle().await?;
    Ok(client.set_network(false).await?)
}

/// Connects, and notes what it takes until everything is there. Gives what is read for a thousand messages.
async fn caught_up(
    local: &Local,
    client: &Client,
    all: u64,
    missed: usize,
    how: &str,
    report: &mut Report,
) -> anyhow::Result<f64> {
    local.settle().await?;
    let before = client.counters().await?;
    let run = async {
        let began = Instant::now();
        try_join(async { Ok(client.set_network(true).await?) }, has(client, all)).await?;
        Ok(began.elapsed())
    };
    let (time, usage) = local.counted(run).await?;
    let counters = client.counters().await?;
    let frames = counters.frames_sent + counters.frames_received - before.frames_sent - before.frames_received;
    let thousands = count(missed) / 1_000.0;
    let read = usage.counted().read_units / thousands;
    report.key(format!("sync_{how}_ms"), time.as_secs_f64() * 1_000.0);
    report.key(format!("sync_{how}_read_units_per_1000"), read);
    report.key(format!("sync_{how}_frames_per_1000"), count(usize::try_from(frames)?) / thousands);
    report.add_rate(SUBJECT, format!("messages that were missed, {how}: all here"), missed as u64, time);
    let lines = usage.lines(count(missed)).join("\n");
    report.note(format!("counted for each message that was missed ({how}):\n{lines}"));
    client.close().await;
    Ok(read)
}

/// Waits until a device has so much, over all conversations.
async fn has(client: &Client, all: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let here: u64 = client.conversations().await?.iter().map(|one| one.cursor.get()).sum();
        if here >= all {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{here} of {all}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes so many messages to a user, in full envelopes, the first of them with this number.
async fn write(phone: &mut Device, to: &UserId, first: u64, messages: usize) -> anyhow::Result<()> {
    let bodies: Vec<String> = (0..messages as u64).map(body).collect();
    for (number, bodies) in (first..).zip(bodies.chunks(limits::ENVELOPE_MESSAGES)) {
        let from = phone.user().clone();
        phone.send(vec![letter(&from, to, number, bodies)?]).await?;
    }
    Ok(())
}

/// Fetches what is at the end. Gives how long it took.
async fn fetch(phone: &mut Device, conversation: &ConversationId, after: Option<Seq>) -> anyhow::Result<Duration> {
    let (mut after, began) = (after, Instant::now());
    loop {
        let reference = phone.reference()?;
        let (conversation, limit) = (conversation.clone(), Some(END));
        phone
            .post(&Request::Fetch(Fetch { reference: reference.clone(), conversation, after, before: None, limit }))
            .await?;
        let (_, answer) = phone.next(|frame| answer_to(&reference, frame)).await?;
        let poste_protocol::FromServer::Page(page) = answer else { anyhow::bail!("no page: {answer:?}") };
        if !page.more {
            return Ok(began.elapsed());
        }
        after = Some(page.through);
    }
}
