//! What users would otherwise pick, in the same run, on the same machine and with the same work: the plain serverless chat in
//! Node.js on the same emulator (`peers/node.rs`), and ejabberd over its own protocol (`peers/ejabberd.rs`). And Poste
//! beside them. What is lost and doubled when a receiver or a server is killed is counted, since speed is had cheaply by
//! who does not care.

mod ejabberd;
mod node;
mod poste;
mod table;
mod xmpp;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;

pub(crate) use poste::Receiver;
pub(crate) use table::table;

use crate::delivery::{count, megabytes};
use crate::local::Local;
use crate::report::{Report, percentile};

/// What the figures are of.
const SUBJECT: &str = "peers";
/// Messages at a steady rate, as for Poste elsewhere: ten a second.
const STEADY: Rate = Rate { name: "", messages: 300, interval: Duration::from_millis(100) };
/// And when there is more to do: half of what the emulator, one process with one thread, can do for Poste.
const LOADED: Rate = Rate { name: "loaded_", messages: 500, interval: Duration::from_millis(40) };
/// How often the receiver is killed, and how many messages are sent meanwhile each time, at what distance.
const KILLS: usize = 20;
const WHILE_KILLED: usize = 25;
const BETWEEN: Duration = Duration::from_millis(20);
/// After which of them it is killed, and after which it comes back.
const KILLED_AT: usize = 9;
const BACK_AT: usize = 14;
/// How often the server is killed, after the same message each time, but each time a little later, while they come so
/// fast that some are always under way.
const SERVER_KILLS: u32 = 5;
const HURRY: Duration = Duration::from_millis(2);
const LATER: Duration = Duration::from_micros(700);
/// A message that nobody disturbs is there by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// Nothing comes any more after this; after a kill, for the time being.
const QUIET: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);
/// What was under way when a server was killed comes by then, if it comes: functions start again when they are called.
const STARTED_AGAIN: Duration = Duration::from_secs(10);

/// Messages of each phase have numbers of their own.
const FIRST: usize = 0;
const OF_RATES: [usize; 2] = [1_000, 2_000];
const OF_RECEIVER_KILLS: usize = 10_000;
const OF_SERVER_KILLS: usize = 20_000;

/// Measures all of them. One that is not here, or does not work, is told of in the report, and costs none of the other
/// figures of a long run.
pub(crate) async fn measure(local: &Local, folder: &Path, accounts: &Path, report: &mut Report) {
    // First: no other functions run beside its.
    for (what, measured) in [
        ("Poste, beside others,", poste::measure(local, accounts, report).await),
        ("the plain Node.js chat", node::measure(local, folder, report).await),
        ("ejabberd", ejabberd::measure(folder, report).await),
    ] {
        if let Err(error) = measured {
            report.note(format!("{what} was not measured to the end: {error:#}"));
        }
    }
}

/// One end of a way that messages take.
trait End {
    /// Sends a message with this number, and waits for nothing.
    async fn say(&mut self, n: usize) -> anyhow::Result<()>;

    /// The number of the next message that a person would see, and when it came, if one comes in time.
    async fn hear(&mut self, patience: Duration) -> anyhow::Result<Option<(Instant, usize)>>;
}

/// A device, with what its disk would hold.
trait Device: End {
    /// Connects, says again what may be lost, and fetches what was missed, as far as it can.
    async fn connect(&mut self) -> anyhow::Result<()>;

    /// Its process is killed: nobody says goodbye, and the system closes its sockets.
    fn cut(&mut self);

    /// What it has said and takes to be safe.
    async fn acknowledged(&mut self) -> anyhow::Result<BTreeSet<usize>>;
}

/// A server, or what stands for one.
trait Server {
    /// What its processes have used so far.
    fn used(&self) -> anyhow::Result<Used>;

    /// Kills all its processes, and sees to it that it serves again. Says whether connections have ended.
    async fn kill(&mut self) -> anyhow::Result<bool>;
}

/// What processes have used.
struct Used {
    cpu: Duration,
    /// CPU of the parts that they call, if those are not in it.
    parts: Option<Duration>,
    /// Bytes of memory, of the largest process.
    resident: u64,
}

/// An open load.
struct Rate {
    name: &'static str,
    messages: usize,
    interval: Duration,
}

/// From one end to the other at both rates: how long it takes, and what is used for it.
async fn rates<E: End>(
    name: &str,
    what: &str,
    [sender, receiver]: &mut [E; 2],
    used: &impl Fn() -> anyhow::Result<Used>,
    report: &mut Report,
) -> anyhow::Result<()> {
    sender.say(FIRST).await?;
    ensure!(receiver.hear(PATIENCE).await?.is_some(), "the first message does not come");
    for (rate, first) in [STEADY, LOADED].iter().zip(OF_RATES) {
        let before = used()?;
        let mut times = pace(rate, first, sender, receiver).await?;
        let after = used()?;
        times.sort_unstable();
        let Rate { name: how, messages, interval } = rate;
        for percent in [50, 99] {
            let time = percentile(&times, percent).as_secs_f64() * 1_000.0;
            report.key(format!("{name}_{how}deliver_p{percent}_ms"), time);
        }
        let each = |time: Duration| time.as_secs_f64() / count(*messages) * 1_000.0;
        report.key(format!("{name}_{how}cpu_s_per_1000"), each(after.cpu.saturating_sub(before.cpu)));
        if let (Some(before), Some(after)) = (before.parts, after.parts) {
            report.key(format!("{name}_{how}cpu_emulator_s_per_1000"), each(after.saturating_sub(before)));
        }
        report.key(format!("{name}_rss_mb"), megabytes(after.resident));
        let per_second = 1_000 / interval.as_millis();
        report.add(SUBJECT, format!("{what}, {per_second}/s: send to delivered"), times);
    }
    Ok(())
}

/// Messages at a rate. Gives how long each took from the time at which it was to be sent.
async fn pace<E: End>(rate: &Rate, first: usize, sender: &mut E, receiver: &mut E) -> anyhow::Result<Vec<Duration>> {
    let &Rate { messages, interval, .. } = rate;
    let began = Instant::now() + interval;
    let due = |n: usize| began + interval * u32::try_from(n).unwrap_or(u32::MAX);
    let sending = async {
        for n in 0..messages {
            tokio::time::sleep_until(due(n).into()).await;
            sender.say(first + n).await?;
        }
        anyhow::Ok(())
    };
    let hearing = async {
        let mut times = BTreeMap::new();
        while times.len() < messages {
            let Some((at, number)) = receiver.hear(PATIENCE).await? else { break };
            if let Some(n) = number.checked_sub(first).filter(|n| *n < messages) {
                times.entry(n).or_insert_with(|| at.saturating_duration_since(due(n)));
            }
        }
        anyhow::Ok(times)
    };
    let ((), times) = futures::future::try_join(sending, hearing).await?;
    ensure!(times.len() == messages, "{} of {messages} messages did not come", messages - times.len());
    Ok(times.into_values().collect())
}

/// What came of messages that were sent while somebody was killed.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    /// Those that count: whose sender takes them to be safe.
    said: BTreeSet<usize>,
    /// How often each was shown.
    shown: BTreeMap<usize, usize>,
}

impl Tally {
    fn show(&mut self, n: usize) {
        *self.shown.entry(n).or_default() += 1;
    }

    /// Takes what a device hears, until nothing comes in this time any more.
    async fn listen(&mut self, receiver: &mut impl End, patience: Duration) -> anyhow::Result<()> {
        while let Some((_, n)) = receiver.hear(patience).await? {
            self.show(n);
        }
        Ok(())
    }

    /// The same, until all of these were shown.
    async fn wait_for(&mut self, all: Range<usize>, receiver: &mut impl End, patience: Duration) -> anyhow::Result<()> {
        while !all.clone().all(|n| self.shown.contains_key(&n)) {
            let Some((_, n)) = receiver.hear(patience).await? else { break };
            self.show(n);
        }
        Ok(())
    }

    fn lost(&self) -> usize {
        self.said.iter().filter(|n| !self.shown.contains_key(n)).count()
    }

    /// How often one was shown that had been.
    fn doubled(&self) -> usize {
        let mine = self.shown.iter().filter(|(n, _)| self.said.contains(n));
        mine.map(|(_, often)| often - 1).sum()
    }

    /// Notes them: of so many messages, so many were lost and doubled when this was killed.
    fn report(&self, name: &str, what: &str, killed: &str, report: &mut Report) {
        report.key(format!("{name}_sent_{killed}_killed"), count(self.said.len()));
        report.key(format!("{name}_lost_{killed}_killed"), count(self.lost()));
        report.key(format!("{name}_doubled_{killed}_killed"), count(self.doubled()));
        report.note(format!(
            "{what}, {killed} killed: of {} messages that their sender takes to be safe {} were lost and {} doubled",
            self.said.len(),
            self.lost(),
            self.doubled()
        ));
    }
}

/// Both are killed, one and then the other.
async fn kills<D: Device>(
    name: &str,
    what: &str,
    server: &mut impl Server,
    pair: &mut [D; 2],
    report: &mut Report,
) -> anyhow::Result<()> {
    receiver_killed(pair).await?.report(name, what, "receiver", report);
    server_killed(server, pair).await?.report(name, what, "server", report);
    Ok(())
}

/// The receiver is killed in the midst of messages, and comes back.
async fn receiver_killed<D: Device>([sender, receiver]: &mut [D; 2]) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut numbers = OF_RECEIVER_KILLS..;
    for _ in 0..KILLS {
        for (place, n) in numbers.by_ref().take(WHILE_KILLED).enumerate() {
            sender.say(n).await?;
            tokio::time::sleep(BETWEEN).await;
            if place == KILLED_AT {
                receiver.cut();
            } else if place == BACK_AT {
                receiver.connect().await?;
            }
            tally.listen(receiver, Duration::ZERO).await?;
        }
        tally.listen(receiver, PAUSE).await?;
    }
    tally.listen(receiver, QUIET).await?;
    tally.said =
        sender.acknowledged().await?.into_iter().filter(|n| (OF_RECEIVER_KILLS..numbers.start).contains(n)).collect();
    Ok(tally)
}

/// The server is killed in the midst of messages, and comes back.
async fn server_killed<D: Device>(server: &mut impl Server, [sender, receiver]: &mut [D; 2]) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut numbers = OF_SERVER_KILLS..;
    for kill in 0..SERVER_KILLS {
        for (place, n) in numbers.by_ref().take(WHILE_KILLED).enumerate() {
            sender.say(n).await?;
            tokio::time::sleep(HURRY).await;
            if place == KILLED_AT {
                tokio::time::sleep(LATER * kill).await;
                if server.kill().await? {
                    sender.connect().await?;
                    receiver.connect().await?;
                }
            }
        }
        tally.wait_for(numbers.start - WHILE_KILLED..numbers.start, receiver, STARTED_AGAIN).await?;
    }
    tally.listen(receiver, QUIET).await?;
    tally.said =
        sender.acknowledged().await?.into_iter().filter(|n| (OF_SERVER_KILLS..numbers.start).contains(n)).collect();
    Ok(tally)
}

/// The number that a message begins with.
fn number_of(text: &str) -> Option<usize> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_and_not_shown_is_lost_and_what_was_shown_again_is_doubled() {
        let mut tally = Tally { said: BTreeSet::from([1, 2, 3]), ..Tally::default() };
        for n in [1, 3, 3, 3, 4, 4] {
            tally.show(n);
        }
        assert_eq!((tally.lost(), tally.doubled()), (1, 2), "2 is lost, 3 came thrice, of 4 nobody knows");
    }

    #[test]
    fn a_message_begins_with_its_number() {
        assert_eq!(number_of(&crate::account::body(17)), Some(17));
        assert_eq!(number_of("hello"), None);
    }
}
