//! From one device to another: how long it takes, what is asked of the parts, what is billed, and what the CPU does.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use poste_protocol::{FromServer, Outcome, Request, SendFrame, Sent, Submission};
use serde_json::json;

use crate::account::body;
use crate::exchange::{Pair, Plan, exchange};
use crate::local::Local;
use crate::prices::{Counted, PRICES};
use crate::report::{Report, percentile};
use crate::usage::Usage;
use crate::wire::{Device, letter};

/// What the figures are of.
const SUBJECT: &str = "delivery";
/// Ten messages a second.
const INTERVAL: Duration = Duration::from_millis(100);
/// Messages of each measurement at that rate.
const MESSAGES: usize = 300;
/// Conversations of the crowd, of two devices each.
const CROWD: usize = 25;
/// As people write who think: one message a second.
const CALM: Plan = Plan { messages: 20, interval: Duration::from_secs(1), both: true };
/// Repetitions of a bare request.
const BARE: usize = 200;

/// Measures everything.
pub(crate) async fn measure(local: &Local, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    bare(local, report).await.context("bare requests")?;
    wire(local, report).await.context("plain sockets")?;
    let pair = Pair::open(local, folder).await?;
    let pairs = [pair];
    let plan = Plan { messages: MESSAGES, interval: INTERVAL, both: true };
    let before = local.processes()?;
    let (outcome, usage) = local.counted(exchange(&pairs, plan)).await?;
    let after = local.processes()?;
    let thousands = count(MESSAGES) / 1_000.0;
    let cpu = |before: Duration, after: Duration| (after.saturating_sub(before)).as_secs_f64() / thousands;
    report.key("cpu_s_per_1000", cpu(before.children, after.children));
    report.key("cpu_emulator_s_per_1000", cpu(before.own, after.own));
    let largest = after.resident.iter().max().copied().unwrap_or_default();
    report.key("rss_under_load_mb", megabytes(largest));
    times(report, "2 devices, 10/s", ["deliver", "ack"], outcome.delivered, outcome.acknowledged);
    bill(report, "active", &usage, MESSAGES);
    let (_, usage) = local.counted(exchange(&pairs, CALM)).await?;
    let calm = usage.counted().for_each_of(count(CALM.messages));
    report.key("calm_frames_per_message", calm.frames);
    report.key("usd_per_million_calm", calm.dollars(&PRICES));
    let [pair] = pairs;
    pair.close().await;

    let mut pairs = Vec::new();
    for _ in 0..CROWD {
        pairs.push(Pair::open(local, folder).await?);
    }
    local.settle().await?;
    let outcome = exchange(&pairs, plan).await?;
    times(report, "50 devices, 10/s", ["crowd_deliver", "crowd_ack"], outcome.delivered, outcome.acknowledged);
    for pair in pairs {
        pair.close().await;
    }
    Ok(())
}

/// What the emulator takes for each step by itself, and a function that does nothing.
async fn bare(local: &Local, report: &mut Report) -> anyhow::Result<()> {
    let user = Local::user("echo")?;
    let mut device = Device::connect(local, &user, "phone").await?;
    let mut echoes = Vec::new();
    for n in 0..BARE {
        let began = Instant::now();
        device.say(json!({ "action": "nothing", "ref": format!("e{n}") }).to_string()).await?;
        echoes.push(device.next(Some).await?.0 - began);
    }
    report.key_p50("echo_p50_ms", &mut echoes);
    report.add(SUBJECT, "bare: socket, a function that answers at once, socket", echoes);
    let (mut puts, mut sends) = (Vec::new(), Vec::new());
    for n in 0..BARE {
        let item = json!({ "conversation": { "S": format!("{user}") }, "seq": { "N": n.to_string() } });
        let put = json!({ "TableName": local.stack().tables.log, "Item": item });
        puts.push(local.ask("DynamoDB_20120810.PutItem", &put).await?);
        // A queue without a function behind it.
        let message = json!({ "QueueUrl": local.stack().queues.push_dead_letters, "MessageBody": "nothing" });
        sends.push(local.ask("AmazonSQS.SendMessage", &message).await?);
    }
    report.key_p50("table_call_p50_ms", &mut puts);
    report.key_p50("queue_call_p50_ms", &mut sends);
    report.add(SUBJECT, "bare: an item is put into a table", puts);
    report.add(SUBJECT, "bare: a message is put into a queue", sends);
    Ok(())
}

/// Without the library, its disk and its receipts: what is the server's.
async fn wire(local: &Local, report: &mut Report) -> anyhow::Result<()> {
    let (alice, bob) = (Local::user("alice")?, Local::user("bob")?);
    let mut phone = Device::connect(local, &alice, "phone").await?;
    let mut tablet = Device::connect(local, &bob, "tablet").await?;
    let first = letter(&alice, &bob, 1, &[body(0)])?;
    let id = first.id;
    phone.send(vec![first]).await?;
    tablet.hears(id).await?;
    let run = async {
        let mut letters = Vec::new();
        let began = Instant::now() + INTERVAL;
        for n in 0..MESSAGES {
            let due = began + INTERVAL * u32::try_from(n)?;
            let envelope = letter(&alice, &bob, n as u64 + 2, &[body(n as u64)])?;
            letters.push((envelope.id, due));
            let submission = Submission { envelope, age_ms: 0, attempt: 1, resolved: None };
            let request = Request::Send(SendFrame {
                reference: phone.reference()?,
                submissions: vec![submission],
                marks: Vec::new(),
            });
            tokio::time::sleep_until(due.into()).await;
            phone.post(&request).await?;
        }
        let (mut acks, mut deliveries) = (Vec::new(), Vec::new());
        for (id, due) in letters {
            let is_accepted = |frame| match frame {
                FromServer::Sent(Sent { verdicts, .. }) => {
                    let verdict = verdicts.into_iter().find(|verdict| verdict.envelope == id)?;
                    matches!(verdict.outcome, Outcome::Accepted { .. }).then_some(())
                }
                _ => None,
            };
            acks.push(phone.next(is_accepted).await?.0 - due);
            deliveries.push(tablet.hears(id).await? - due);
        }
        Ok((deliveries, acks))
    };
    let ((delivered, acknowledged), usage) = local.counted(run).await?;
    times(report, "plain sockets, 10/s", ["wire_deliver", "wire_ack"], delivered, acknowledged);
    // Without marks: what is asked of the parts before a message is acknowledged, one after the other, and after.
    let each = |sum: f64| sum / count(MESSAGES);
    report.key("sequential_calls", each(usage.sum(|kind| kind.what == "call" && kind.who == "send")));
    let units = |what: &'static str, who: &'static str| each(usage.sum(|kind| kind.what == what && kind.who == who));
    report.key("write_units_per_message", units("write", "send"));
    report.key("read_units_per_message", units("read", "send"));
    report.key("deliver_read_units_per_message", units("read", "deliver"));
    bill(report, "one_way", &usage, MESSAGES);
    Ok(())
}

/// Notes times, and the keys that begin like this.
fn times(
    report: &mut Report,
    how: &str,
    [deliver, ack]: [&str; 2],
    mut delivered: Vec<Duration>,
    mut acks: Vec<Duration>,
) {
    for (name, what, times) in
        [(deliver, "send to delivered", &mut delivered), (ack, "send to acknowledged", &mut acks)]
    {
        times.sort_unstable();
        for percent in [50, 99] {
            report.key(format!("{name}_p{percent}_ms"), percentile(times, percent).as_secs_f64() * 1_000.0);
        }
        report.add(SUBJECT, format!("{what}: {how}"), std::mem::take(times));
    }
}

/// Notes what is billed for so many messages.
pub(crate) fn bill(report: &mut Report, how: &str, usage: &Usage, messages: usize) {
    let each = usage.counted().for_each_of(count(messages));
    if how == "active" {
        report.key("frames_per_message", each.frames);
        report.key("active_write_units_per_message", each.write_units);
        report.key("active_read_units_per_message", each.read_units);
    }
    report.key(format!("usd_per_million_{how}"), each.dollars(&PRICES));
    let share = |(what, dollars): &(&str, f64)| format!("{what} {dollars:.2}");
    let shares: Vec<String> = each.dollars_per_million(&PRICES).iter().map(share).collect();
    let floor = if how == "flush" { Counted::floor_in_cells_of(25.0, 300.0) } else { Counted::FLOOR };
    report.note(format!(
        "dollars for a million messages ({how}): {:.2} ({}); the floor of the price list: {:.2}",
        each.dollars(&PRICES),
        shares.join(", "),
        floor.dollars(&PRICES)
    ));
    report.note(format!("counted for each message ({how}):\n{}", usage.lines(count(messages)).join("\n")));
}

/// A count as a number to divide by.
pub(crate) fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::NAN, f64::from)
}

/// Bytes in MB of a million.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    u32::try_from(bytes / 1_000).map_or(f64::NAN, f64::from) / 1_000.0
}
