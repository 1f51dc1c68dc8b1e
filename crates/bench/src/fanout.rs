//! One message to groups of 2 to 500 members, each with a device that is connected: what is asked of the tables, and how
//! many frames are posted.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::{join_all, try_join_all};
use poste_protocol::{ConversationId, Event, UserId, limits};

use crate::delivery::count;
use crate::local::Local;
use crate::report::{Report, percentile};
use crate::wire::{Device, to_group};

/// What the figures are of.
const SUBJECT: &str = "fanout";
/// Members of the groups.
const SIZES: [usize; 4] = [2, 10, 100, 500];
/// Messages to each.
const MESSAGES: usize = 10;
/// Devices that connect at once, and that leave at once.
const AT_ONCE: usize = 10;
/// Between some that leave and the next.
const BETWEEN: Duration = Duration::from_millis(200);
/// Members who write, when many do: more than have room in the head.
const WRITERS: usize = 12;
/// Those whose lanes are outside of it.
const OUTSIDE: usize = 2;

/// A group, as its owner's device has it.
struct Group {
    id: ConversationId,
    /// Of the owner's next envelope.
    number: u64,
}

/// Measures everything.
pub(crate) async fn measure(local: &Local, report: &mut Report) -> anyhow::Result<()> {
    let owner = Local::user("owner")?;
    let mut phone = Device::connect(local, &owner, "phone").await?;
    let largest = SIZES[SIZES.len() - 1];
    let users = (1..largest).map(|_| Local::user("member")).collect::<anyhow::Result<Vec<_>>>()?;
    let mut devices = Vec::new();
    for some in users.chunks(AT_ONCE) {
        let connected = join_all(some.iter().map(async |user| Device::connect(local, user, "phone").await)).await;
        devices.extend(connected.into_iter().collect::<anyhow::Result<Vec<_>>>()?);
    }
    for size in SIZES {
        let mut group = found(&mut phone, &users[..size - 1]).await?;
        let members = &mut devices[..size - 1];
        // What functions remember is what they remember of a group that is in use.
        say(&mut phone, &mut group, members).await.context("the first message")?;
        local.settle().await?;
        let run = async {
            let mut times = Vec::new();
            for _ in 0..MESSAGES {
                times.push(say(&mut phone, &mut group, members).await?);
            }
            Ok(times)
        };
        let (mut times, usage) = local.counted(run).await?;
        times.sort_unstable();
        let each = |sum: f64| sum / count(MESSAGES);
        let (calls, posts) = (each(usage.table_calls()), each(usage.posts()));
        report.key(format!("fanout_{size}_table_calls"), calls);
        report.key(format!("fanout_{size}_posts"), posts);
        report.key(format!("fanout_{size}_p50_ms"), percentile(&times, 50).as_secs_f64() * 1_000.0);
        report.key(format!("fanout_{size}_read_units"), each(usage.counted().read_units));
        let counted = usage.counted().for_each_of(count(MESSAGES) * count(size) / 1_000.0);
        report.key(format!("usd_per_million_per_1000_members_{size}"), counted.dollars(&crate::prices::PRICES));
        ensure!((posts - count(size - 1)).abs() < 0.01, "{posts} posts for {} other live devices", size - 1);
        report.add(SUBJECT, format!("sent until all of {size} members have it"), times);
    }
    many_writers(local, &mut phone, &users, &mut devices, report).await.context("many writers")?;
    // All at once would start hundreds of functions, and what is measured next would share the machine with them.
    while !devices.is_empty() {
        devices.truncate(devices.len().saturating_sub(AT_ONCE));
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(())
}

/// What a message of a device costs whose lane found no room in the head.
async fn many_writers(
    local: &Local,
    phone: &mut Device,
    users: &[UserId],
    devices: &mut [Device],
    report: &mut Report,
) -> anyhow::Result<()> {
    let group = found(phone, &users[..WRITERS]).await?;
    for device in &mut devices[..WRITERS] {
        device.send(vec![to_group(&group.id, 1, "who is first?", None)?]).await?;
    }
    local.settle().await?;
    let run = async {
        for number in 0..MESSAGES {
            for device in &mut devices[WRITERS - OUTSIDE..WRITERS] {
                device.send(vec![to_group(&group.id, number as u64 + 2, "me too", None)?]).await?;
            }
        }
        Ok(())
    };
    let ((), usage) = local.counted(run).await?;
    let units = usage.sum(|kind| kind.what == "write" && kind.who == "send");
    report.key("many_writers_write_units", units / count(MESSAGES * OUTSIDE));
    Ok(())
}

/// Makes a group of the device's user and others.
async fn found(phone: &mut Device, users: &[UserId]) -> anyhow::Result<Group> {
    let mut group = Group { id: ConversationId::group(), number: 1 };
    for (n, some) in users.chunks(limits::EVENT_USERS).enumerate() {
        let event = match n {
            0 => Event::Created { title: "choir".into(), members: some.to_vec() },
            _ => Event::Added { users: some.to_vec() },
        };
        phone.send(vec![to_group(&group.id, group.number, "", Some(event))?]).await?;
        group.number += 1;
    }
    Ok(group)
}

/// Says something, and waits until everybody has it.
async fn say(phone: &mut Device, group: &mut Group, members: &mut [Device]) -> anyhow::Result<Duration> {
    let envelope = to_group(&group.id, group.number, "hello everybody", None)?;
    group.number += 1;
    let id = envelope.id;
    let began = Instant::now();
    phone.send(vec![envelope]).await?;
    let heard = try_join_all(members.iter_mut().map(async |member| member.hears(id).await)).await?;
    let last = heard.into_iter().max().unwrap_or(began);
    Ok(last - began)
}
