//! What was written offline goes out at once: a thousand messages to one person.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use poste_client::Target;
use poste_protocol::ConversationId;

use crate::delivery::{bill, count};
use crate::exchange::Pair;
use crate::local::Local;
use crate::report::Report;

/// What the figures are of.
const SUBJECT: &str = "flush";
/// Messages that wait.
const MESSAGES: usize = 1_000;
/// Bytes of each.
const BYTES: usize = 200;
/// All of them must be there by then.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Measures everything.
pub(crate) async fn measure(local: &Local, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let pair = Pair::open(local, folder).await?;
    let [(alice, phone), (bob, tablet)] = pair.people();
    local.settle().await?;
    phone.set_network(false).await?;
    for n in 0..MESSAGES {
        let body = format!("{:<BYTES$}", format!("{n} of those that wait"));
        phone.send(Target::User(bob.clone()), body).await?;
    }
    let conversation = ConversationId::direct(alice, bob);
    let head = async || -> anyhow::Result<u64> {
        let known = tablet.conversation(conversation.clone()).await?.context("they have written before")?;
        Ok(known.cursor.get())
    };
    let before = head().await?;
    let frames = async || -> anyhow::Result<u64> {
        let (one, other) = (phone.counters().await?, tablet.counters().await?);
        Ok(one.frames_sent + one.frames_received + other.frames_sent + other.frames_received)
    };
    let frames_before = frames().await?;
    let run = async {
        let began = Instant::now();
        phone.set_network(true).await?;
        while head().await? < before + MESSAGES as u64 {
            ensure!(began.elapsed() < PATIENCE, "they did not all come");
            tokio::time::sleep(LOOK).await;
        }
        Ok(began.elapsed())
    };
    let (time, usage) = local.counted(run).await?;
    ensure!(phone.outbox().await?.is_empty(), "something is left in the outbox");
    report.add_rate(SUBJECT, "queued messages sent and delivered", MESSAGES as u64, time);
    let each = usage.counted().for_each_of(count(MESSAGES));
    report.key("flush_write_units_per_message", each.write_units);
    report.key("flush_read_units_per_message", each.read_units);
    report.key("flush_frames_per_message", each.frames);
    report.key(
        "flush_device_frames_per_message",
        count(usize::try_from(frames().await? - frames_before)?) / count(MESSAGES),
    );
    report.key("flush_ms", time.as_secs_f64() * 1_000.0);
    bill(report, "flush", &usage, MESSAGES);
    pair.close().await;
    Ok(())
}
