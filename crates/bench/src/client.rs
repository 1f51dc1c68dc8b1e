//! The device library on an account with 100,000 messages in 500 conversations: what a person waits for, and what the
//! engine's thread is busy with, which everything else on the device waits for.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use poste_client::engine::{Engine, Input, Now, Output};
use poste_client::store::Store;
use poste_client::{Client, ClientConfig, Target, TokenError, TokenProvider, Tuning};
use poste_protocol::{Author, DeviceId, Number, Seq};
use uuid::Uuid;

use crate::account::{self, Account, body, conversation, me, peer};
use crate::disk;
use crate::report::{Report, percentile, timed};
use crate::server::Server;

/// What the figures are of.
const SUBJECT: &str = "client";
/// Messages that a screen shows.
const SCREEN: usize = 50;
/// Messages in a page: about what fits into a frame of 32 KiB.
const PAGE: u64 = 80;

/// Searches that every message answers.
const SEARCHES_FOR_ALL: usize = 20;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
struct Size {
    account: Account,
    /// Repetitions of what only reads.
    reads: usize,
    /// Flushes of the disk before the writing, and again after it.
    flushes: usize,
    /// Messages that are written, and then sent.
    writes: u64,
    /// To so many people.
    recipients: u64,
    /// Messages that wait in one conversation, after days offline.
    waiting: u64,
    /// Pages that come.
    pages: u64,
    /// How often the file is opened, as the system has it in memory and not.
    openings: usize,
    cold_openings: usize,
}

const FULL: Size = Size {
    account: Account { messages: 100_000, conversations: 500, longest: 20_160 },
    reads: 1_000,
    flushes: 500,
    writes: 1_000,
    recipients: 10,
    waiting: 10_000,
    pages: 125,
    openings: 50,
    cold_openings: 20,
};

/// Measures everything, in a folder that is there.
pub(crate) fn measure(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let folder = folder.join("client");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;
    Measurement { path: folder.join("account.db"), size: FULL, report }.make()
}

/// Measurements on one file.
struct Measurement<'a> {
    path: PathBuf,
    size: Size,
    report: &'a mut Report,
}

impl Measurement<'_> {
    fn make(&mut self) -> anyhow::Result<()> {
        let Account { messages, conversations, longest } = self.size.account;
        let (made, time) = timed(|| self.size.account.make(&self.path));
        made?;
        let mib = fs::metadata(&self.path)?.len() / (1024 * 1024);
        self.report.note(format!(
            "the account: {messages} messages in {conversations} conversations, {longest} of them in one; {mib} MiB; \
             made in {:.0} s",
            time.as_secs_f64()
        ));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(self.openings())?;
        runtime.block_on(self.reads())?;
        runtime.block_on(self.writes())?;
        self.flush()?;
        self.pages()?;
        runtime.block_on(self.after_days_offline())
    }

    /// The cold start: from nothing to the list of conversations.
    async fn openings(&mut self) -> anyhow::Result<()> {
        let (mut opened, mut listed) = (Vec::new(), Vec::new());
        for _ in 0..self.size.openings {
            let (open, list) = self.opening().await?;
            opened.push(open);
            listed.push(list);
        }
        self.report.add(SUBJECT, "open the account", opened);
        self.report.add(SUBJECT, "open the account and list its conversations", listed);
        let (mut opened, mut listed) = (Vec::new(), Vec::new());
        for _ in 0..self.size.cold_openings {
            if !disk::forget(&self.path)? {
                self.report
                    .note("opening a file that is not in memory was not measured: this system has no call for it");
                return Ok(());
            }
            let (open, list) = self.opening().await?;
            opened.push(open);
            listed.push(list);
        }
        self.report.add(SUBJECT, "open, the file not in memory", opened);
        self.report.add(SUBJECT, "open and list, the file not in memory", listed);
        Ok(())
    }

    /// Opens the account and lists its conversations. Gives the times at which each was done.
    async fn opening(&self) -> anyhow::Result<(Duration, Duration)> {
        let began = Instant::now();
        let client = open(&self.path).await?;
        let opened = began.elapsed();
        let conversations = client.conversations().await?;
        let listed = began.elapsed();
        ensure!(conversations.len() as u64 == self.size.account.conversations, "{} conversations", conversations.len());
        client.close().await;
        Ok((opened, listed))
    }

    /// What is on the screen.
    async fn reads(&mut self) -> anyhow::Result<()> {
        let Account { conversations, longest: length, .. } = self.size.account;
        let client = open(&self.path).await?;
        let longest = conversation(0)?;

        let mut times = Vec::new();
        for _ in 0..self.size.reads {
            let began = Instant::now();
            let messages = client.history(longest.clone(), None, SCREEN).await?;
            times.push(began.elapsed());
            ensure!(messages.len() == SCREEN, "{} messages", messages.len());
        }
        self.report.add(SUBJECT, format!("open the longest conversation: newest {SCREEN}"), times);

        let mut times = Vec::new();
        for n in 1..conversations {
            let id = conversation(n)?;
            let began = Instant::now();
            client.history(id, None, SCREEN).await?;
            times.push(began.elapsed());
        }
        self.report.add(SUBJECT, format!("open any other conversation: newest {SCREEN}"), times);

        let mut times = Vec::new();
        for n in 0..self.size.reads as u64 {
            let before = Seq::new(length / 4 + n % (length / 2))?;
            let began = Instant::now();
            let messages = client.history(longest.clone(), Some(before), SCREEN).await?;
            times.push(began.elapsed());
            ensure!(messages.len() == SCREEN, "{} messages", messages.len());
        }
        self.report.add(SUBJECT, format!("scroll: {SCREEN} from the middle of the longest"), times);

        let mut times = Vec::new();
        for _ in 0..self.size.reads / 4 {
            let began = Instant::now();
            client.conversations().await?;
            times.push(began.elapsed());
        }
        self.report.add(SUBJECT, format!("list of {conversations} conversations"), times);

        // A word that one message has, and the words that all have.
        let (mut rare, mut common) = (Vec::new(), Vec::new());
        for n in 0..self.size.reads as u64 / 4 {
            let wanted = length - n % (length / 2);
            let began = Instant::now();
            let found = client.search(wanted.to_string(), None, None, SCREEN).await?;
            rare.push(began.elapsed());
            ensure!(!found.hits.is_empty(), "{wanted} is not found");
            let began = Instant::now();
            let found = client.search(body(wanted), Some(longest.clone()), None, SCREEN).await?;
            common.push(began.elapsed());
            ensure!(found.hits.len() <= SCREEN, "{} hits", found.hits.len());
        }
        self.report.add(SUBJECT, format!("search for a rare word: newest {SCREEN}"), rare);
        self.report.add(SUBJECT, "search for a whole message in one conversation", common);

        let mut times = Vec::new();
        for _ in 0..SEARCHES_FOR_ALL {
            let began = Instant::now();
            let found = client.search(account::WORDS, None, None, SCREEN).await?;
            times.push(began.elapsed());
            ensure!(found.hits.len() == SCREEN, "{} hits", found.hits.len());
        }
        self.report.add(SUBJECT, "search for the words that every message has", times);
        client.close().await;
        Ok(())
    }

    /// Writing, and beside it what the disk takes by itself, just before and just after.
    async fn writes(&mut self) -> anyhow::Result<()> {
        let Size { writes, recipients, flushes: count, .. } = self.size;
        let client = open(&self.path).await?;
        let file = self.path.with_file_name("flushed");
        let mut bare = disk::flushes(&file, count)?;
        let mut sends = Vec::new();
        for n in 0..writes {
            let to = Target::User(peer(1 + n % recipients)?);
            let body = body(n);
            let began = Instant::now();
            client.send(to, body).await?;
            sends.push(began.elapsed());
        }
        bare.extend(disk::flushes(&file, count)?);
        sends.sort_unstable();
        bare.sort_unstable();
        let ratio = |percent| percentile(&sends, percent).as_secs_f64() / percentile(&bare, percent).as_secs_f64();
        self.report.note(format!(
            "send takes {:.1} (p50) and {:.1} (p99) times what the disk's own flush takes; less than 1 is possible, since \
             most of the time SQLite writes over its log and appends nothing",
            ratio(50),
            ratio(99)
        ));
        self.report.add(SUBJECT, "send: on the disk", sends);
        self.report.add(SUBJECT, "the disk's own flush: 4 KiB appended, fsync", bare);
        self.report.add(SUBJECT, format!("outbox with {writes} messages"), self.outbox(&client, writes).await?);
        client.close().await;
        Ok(())
    }

    async fn outbox(&self, client: &Client, messages: u64) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::new();
        for _ in 0..self.size.reads / 10 {
            let began = Instant::now();
            let entries = client.outbox().await?;
            times.push(began.elapsed());
            let found: usize = entries.iter().map(|entry| entry.messages.len()).sum();
            ensure!(found as u64 == messages, "{found} messages in the outbox");
        }
        Ok(times)
    }

    /// Sends what was written, to a server that answers at once.
    fn flush(&mut self) -> anyhow::Result<()> {
        let Size { writes, recipients, .. } = self.size;
        let mut device = Device::open(&self.path)?;
        for n in 1..=recipients {
            let id = conversation(n)?;
            let view = device.engine.read()?.conversation_view(&id)?.context("the conversation is there")?;
            device.server.has(id, view.head);
        }
        let (connected, time) = timed(|| device.connect());
        let turns = connected?;
        ensure!(device.engine.read()?.outbox_entries()?.is_empty(), "the outbox is empty");
        let counters = device.engine.counters();
        let (envelopes, frames) = (counters.submissions, counters.frames_sent);
        let what = format!("queued messages sent to {recipients} people: {envelopes} envelopes, {frames} frames");
        self.report.add_rate(SUBJECT, what, writes, time);
        self.report.add(SUBJECT, format!("a turn of the engine while {writes} messages are sent"), turns);
        Ok(())
    }

    /// Takes in what others wrote meanwhile.
    fn pages(&mut self) -> anyhow::Result<()> {
        let (length, pages) = (self.size.account.longest, self.size.pages);
        let mut device = Device::open(&self.path)?;
        let id = conversation(0)?;
        let theirs = Author { user: peer(0)?, device: DeviceId::new("laptop")? };
        for page in 0..pages {
            let mut cells = Vec::new();
            for n in 0..PAGE {
                let place = length + page * PAGE + n + 1;
                let message = account::message(place);
                cells.push(account::cell(Seq::new(place)?, theirs.clone(), Number::new(place)?, vec![message]));
            }
            device.server.add_page(id.clone(), cells);
        }
        let (connected, time) = timed(|| device.connect());
        let turns = connected?;
        let counters = device.engine.counters();
        let cursor = device.engine.read()?.conversation_view(&id)?.map(|view| view.cursor.get());
        ensure!(cursor == Some(length + pages * PAGE) && counters.pages == pages, "{cursor:?}, {counters:?}");
        self.report.add_rate(SUBJECT, format!("messages taken in from {pages} pages"), pages * PAGE, time);
        self.report.key(format!("apply_{}_ms", pages * PAGE), time.as_secs_f64() * 1_000.0);
        self.report.add(SUBJECT, format!("a turn of the engine that takes in a page of {PAGE}"), turns);
        Ok(())
    }

    /// What a person waits for when thousands of messages wait to be sent.
    async fn after_days_offline(&mut self) -> anyhow::Result<()> {
        let (waiting, conversations) = (self.size.waiting, self.size.account.conversations);
        let client = open(&self.path).await?;
        let last = peer(conversations - 1)?;
        let mut times = Vec::new();
        for n in 0..waiting {
            let began = Instant::now();
            client.send(Target::User(last.clone()), body(n)).await?;
            times.push(began.elapsed());
        }
        let tail = times.split_off(times.len().saturating_sub(self.size.reads));
        self.report.add(SUBJECT, format!("send: on the disk, {waiting} waiting in the conversation"), tail);
        self.report.add(SUBJECT, format!("outbox with {waiting} messages"), self.outbox(&client, waiting).await?);
        let mut times = Vec::new();
        for _ in 0..self.size.reads / 10 {
            let began = Instant::now();
            client.conversations().await?;
            times.push(began.elapsed());
        }
        self.report.add(SUBJECT, format!("list of {conversations} conversations, {waiting} messages waiting"), times);
        client.close().await;
        Ok(())
    }
}

/// Nobody asks for a token without a network.
struct NoTokens;

#[async_trait]
impl TokenProvider for NoTokens {
    async fn token(&self, _: bool) -> Result<String, TokenError> {
        Err(TokenError::Unavailable("there is no network".into()))
    }
}

async fn open(path: &Path) -> anyhow::Result<Client> {
    let Author { user, device } = me()?;
    let mut config = ClientConfig::new(PathBuf::from(path), "ws://127.0.0.1:9", user, device, Arc::new(NoTokens));
    config.network = false;
    Ok(Client::open(config).await?)
}

/// The engine over the account's file, with a server in the same thread.
struct Device {
    engine: Engine,
    server: Server,
    now: Now,
}

impl Device {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let me = me()?;
        let store = Store::open(path, &me.user, &me.device)?;
        let engine = Engine::new(store, me, Tuning { lazy_history: false, ..Tuning::default() }, 1);
        Ok(Self {
            engine,
            server: Server::default(),
            now: Now { wall: 1_000_000, mono: 0, boot: Uuid::nil(), since_boot: 0 },
        })
    }

    /// Connects, and answers until the engine has nothing to say any more. Gives the time of each turn.
    fn connect(&mut self) -> anyhow::Result<Vec<Duration>> {
        self.engine.handle(self.now, Input::Network(true))?;
        let mut turns = Vec::new();
        let mut outputs = self.engine.handle(self.now, Input::Connected)?;
        loop {
            let mut next = Vec::new();
            for output in outputs {
                if let Output::Frame(frame) = output {
                    let answer = self.server.answer(&frame)?;
                    let (handled, time) = timed(|| self.engine.handle(self.now, Input::Frame(answer)));
                    next.extend(handled?);
                    turns.push(time);
                }
            }
            if next.is_empty() {
                return Ok(turns);
            }
            outputs = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    #[test]
    fn everything_is_measured_on_a_small_account() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut report = Report::new(None, Machine::here(folder.path()));
        let size = Size {
            account: Account { messages: 400, conversations: 20, longest: 210 },
            reads: 10,
            flushes: 1,
            writes: 20,
            recipients: 4,
            waiting: 40,
            pages: 3,
            openings: 2,
            cold_openings: 1,
        };
        Measurement { path: folder.path().join("account.db"), size, report: &mut report }.make()?;
        let text = report.to_string();
        assert!(text.contains("send: on the disk") && text.contains("a page of 80"), "{text}");
        Ok(())
    }
}
