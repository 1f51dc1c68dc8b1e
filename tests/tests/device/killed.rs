//! The device's process is killed at random instants, over and over, and started again on the same file.
//!
//! `POSTE_KILLS` says how often (1,000 before a release), `POSTE_SEED` repeats a run's choices; the instants themselves
//! are the machine's. The deaths of one file are a round; a round ends with a life in peace, and then everything is
//! compared: the lists of the device and of its peers with the logs.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use poste_client::{State, Target};
use poste_protocol::{Cell, ConversationId, MessageId, UserId};
use poste_tests::{DEADLINE, Deployment, Ended, Ledger, Line, Lists, Mortal, Order, Told, as_shown, eventually, open};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::MORTAL;

/// Deaths, unless `POSTE_KILLS` says otherwise.
const KILLS: usize = 36;
/// So many land everywhere, also in what takes a millisecond.
const MANY: usize = 500;
/// Deaths of one file.
const ROUND: usize = 12;
/// With whom the device talks.
const PEERS: [&str; 3] = ["bob", "carol", "dave"];
/// What a life is filled with: more than it lasts for.
const ORDERS: usize = 150;
/// Nobody lives longer.
const LIFE: Duration = Duration::from_millis(1_500);
/// How long it may take until the outbox is empty and all have everything, when nobody dies any more.
const PATIENCE: Duration = DEADLINE.saturating_mul(6);

/// When a life ends.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// So long after its start: the program has hardly begun.
    Start(Duration),
    /// So long after it began to open its file: tables are made, or what the last death left is put in order.
    Opening(Duration),
    /// So long after its start, wherever it is.
    Time(Duration),
    /// So long after so many answers.
    Work(Duration, usize),
    /// So long after the beginning of the next checkpoint, in which pages go from the file's log into the file.
    Checkpoint(Duration),
    /// So long after it began to close its file.
    Closing(Duration),
}

impl Death {
    /// Of the first lives most end while the file is made.
    fn draw(chance: &mut StdRng, first: bool) -> Self {
        let kind = if first { chance.random_range(0..6) } else { chance.random_range(0..24) };
        let mut within = |micros: u64| Duration::from_micros(chance.random_range(0..micros));
        match kind {
            0 => Self::Start(within(30_000)),
            1..5 => Self::Opening(within(8_000)),
            5..10 => Self::Time(within(1_000_000)),
            10..19 => Self::Work(within(3_000), chance.random_range(3..ORDERS)),
            19..22 => Self::Checkpoint(within(3_000)),
            _ => Self::Closing(within(8_000)),
        }
    }

    /// Deaths that come after work want much of it.
    fn wants_pages(self) -> bool {
        matches!(self, Self::Checkpoint(_) | Self::Closing(_))
    }
}

/// Where the deaths met the device, and what it did in its lives.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    /// Lives that ended by themselves.
    survived: usize,
    before_opening: usize,
    opening: usize,
    /// Of those while it opened its file: when there was none before.
    making_the_file: usize,
    closing: usize,
    checkpoint: usize,
    in_send: usize,
    /// Deaths that left envelopes under way, and how many messages deaths left in the outbox.
    under_way: usize,
    waiting: usize,
    /// How often the network was cut.
    cuts: usize,
    /// Messages: that `send` returned for, or that were there all the same;
    written: usize,
    /// of these, those for which it had not returned when the device died;
    half_written: usize,
    /// those for which it had not and that were not there;
    not_written: usize,
    /// those that a full disk refused;
    refused: usize,
    /// and those of others.
    received: usize,
    /// Numbers of the logs without a message.
    voids: u64,
}

/// C2, I1, I2, I4, I5, I9, failures 2 and 8.
#[tokio::test]
async fn what_send_returned_for_survives_every_kill() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = number("POSTE_SEED").unwrap_or_else(rand::random::<u64>);
    let kills = number("POSTE_KILLS").and_then(|kills| usize::try_from(kills).ok()).unwrap_or(KILLS);
    println!("POSTE_SEED={seed} POSTE_KILLS={kills}");
    let began = Instant::now();
    let deployment = Deployment::here();
    let mut chance = StdRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    while tally.kills < kills {
        round(&deployment, &mut chance, (kills - tally.kills).min(ROUND), &mut tally).await;
        println!("{} kills after {:.0?}", tally.kills, began.elapsed());
    }
    println!("seed {seed}, {:.0?}: {tally:#?}", began.elapsed());
    assert!(tally.written >= kills, "the device wrote");
    assert!(tally.opening >= kills / 30, "it was killed while it opened its file");
    assert!(tally.in_send >= kills / 6, "it was killed in the midst of `send`");
    assert!(tally.under_way >= kills / 6, "it was killed while envelopes were under way");
    assert!(tally.cuts > 0 && tally.received > 0, "its network came and went, and it received");
    if kills >= MANY {
        let everywhere = [tally.making_the_file, tally.checkpoint, tally.closing, tally.refused];
        assert!(everywhere.iter().all(|count| *count > 0), "of many kills some land everywhere");
    }
}

/// One file: `kills` deaths, and then peace.
async fn round(deployment: &Deployment, chance: &mut StdRng, kills: usize, tally: &mut Tally) {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("alice");
    let alice = deployment.user("alice");
    let mut peers = Vec::new();
    for name in PEERS {
        let user = deployment.user(name);
        let client = open(deployment, &folder.path().join(name), &user, "phone", true).await;
        peers.push((user, client));
    }
    let users: Vec<UserId> = peers.iter().map(|(user, _)| user.clone()).collect();
    let mut ledger = Ledger::default();
    let mut answers = 0;
    let mut opened = false;
    let mut deaths = 0;
    while deaths < kills {
        for (n, (_, client)) in peers.iter().enumerate() {
            if chance.random_range(0..3) == 0 {
                answers += 1;
                let body = format!("{answers} from {}", PEERS[n]);
                client.send(Target::User(alice.clone()), body).await.expect("it is on the disk");
            }
        }
        let death = Death::draw(chance, !opened);
        let life = Life { binary: MORTAL, folder: &place, user: &alice };
        deaths += usize::from(life.live(death, &script(chance, &users, death, ledger.next()), &mut ledger, tally));
        opened |= place.join("account").exists();
    }

    // In peace. What the peers wrote is in the logs before those are read.
    for (_, client) in &peers {
        eventually("the peer's outbox is empty", PATIENCE, async || {
            client.outbox().await.expect("readable").is_empty().then_some(())
        })
        .await;
    }
    let mut device = Mortal::start(MORTAL, &place, &alice, "phone");
    assert_eq!(device.does(&Order::Open { network: true }), Told::Done);
    let mut reader = deployment.device(&alice, "reader").await;
    let mut logs = BTreeMap::new();
    let screen = eventually("the outbox is empty, and the device shows the log", PATIENCE, async || {
        let Told::Shown { lists, outbox, .. } = device.does(&Order::Show) else { panic!("nothing is shown") };
        ledger.check_screen(&lists, &outbox);
        let settled = |list: &Vec<_>| list.iter().all(|line: &Line| line.state != State::Sent);
        if !outbox.is_empty() || !lists.values().all(settled) {
            return None;
        }
        for conversation in lists.keys() {
            logs.insert(conversation.clone(), reader.whole_log(conversation).await);
        }
        ledger.check_logs(&logs, |cell| cell.by.user == alice);
        let shown = |(id, list): (&ConversationId, &Vec<Line>)| {
            let list: Vec<_> = list.iter().filter_map(|line| Some((line.seq?, line.id))).collect();
            list == as_shown(&logs[id])
        };
        lists.iter().all(shown).then_some(lists)
    })
    .await;
    assert_eq!(device.does(&Order::Close), Told::Done);
    for (user, client) in &peers {
        let conversation = ConversationId::direct(&alice, user);
        let Some(log) = logs.get(&conversation) else { continue };
        // I4: the other side sees exactly the log.
        eventually("the peer shows the log", PATIENCE, async || {
            let list = client.history(conversation.clone(), None, 100_000).await.expect("readable");
            let list: Vec<_> = list.iter().filter_map(|message| Some((message.seq?.get(), message.id))).collect();
            (list == as_shown(log)).then_some(())
        })
        .await;
        client.close().await;
    }
    let received = screen.values().flatten().filter(|line| !line.own).count();
    assert_eq!(received, answers, "everything that was written to the device is on its screen");
    tally.received += received;
    tally.written += ledger.written();
    tally.half_written += ledger.half_written;
    tally.not_written += ledger.not_written;
    tally.refused += ledger.refused;
    tally.voids += logs.values().map(|log| numbers_without_messages(log)).sum::<u64>();
}

fn numbers_without_messages(log: &[Cell]) -> u64 {
    let messages: usize = log.iter().map(|cell| cell.messages.len()).sum();
    log.last().map_or(0, |cell| cell.last().get()) - messages as u64
}

/// What a device is to do in a life: look at what is there, then everything at random.
fn script(chance: &mut StdRng, peers: &[UserId], death: Death, mut label: u64) -> Vec<Order> {
    let mut orders = vec![Order::Open { network: false }, Order::Show, Order::Network { on: true }];
    let mut on = true;
    let mut full = false;
    let troubled = chance.random_range(0..4) == 0;
    for _ in 0..ORDERS {
        orders.push(match chance.random_range(0..100) {
            0..8 if troubled => {
                full = !full;
                let room = (chance.random_range(0..3) > 0).then(|| chance.random_range(0..50_000));
                if full { Order::FillDisk { room } } else { Order::FreeDisk }
            }
            0..80 => {
                let to = peers[chance.random_range(0..peers.len())].clone();
                let long = death.wants_pages() || chance.random_range(0..20) == 0;
                let bytes = if long { chance.random_range(5_000..20_000) } else { chance.random_range(0..200) };
                label += 1;
                Order::Write { to, label: label - 1, bytes }
            }
            80..84 => Order::Read,
            84..88 => {
                on = !on;
                Order::Network { on }
            }
            88..89 => Order::Show,
            _ => Order::Pause { ms: chance.random_range(0..30) },
        });
    }
    if matches!(death, Death::Closing(_)) {
        orders.truncate(chance.random_range(5..ORDERS));
        orders.push(Order::Close);
    }
    orders
}

/// One life of the device.
struct Life<'a> {
    binary: &'a str,
    folder: &'a Path,
    user: &'a UserId,
}

impl Life<'_> {
    /// Lives it. Says whether it was the kill that ended it.
    fn live(&self, death: Death, script: &[Order], ledger: &mut Ledger, tally: &mut Tally) -> bool {
        let new = !self.folder.join("account").exists();
        let born = Instant::now();
        let mut device = Mortal::start(self.binary, self.folder, self.user, "phone");
        device.order(script);
        let index = WalIndex::of(&self.folder.join("account"));
        let mut course = Course { orders: script, done: 0, begun: false, full: false, index, ledger, tally };
        course.start();
        course.until(death, born, &device);
        let Ended { killed, rest } = device.kill();
        for told in rest {
            course.hear(told);
        }
        let Course { done, begun, index, .. } = course;
        if !killed {
            tally.survived += 1;
            return false;
        }
        tally.kills += 1;
        tally.checkpoint += usize::from(index.checkpoint_under_way());
        match script.get(done) {
            Some(Order::Open { .. }) if begun => {
                tally.opening += 1;
                tally.making_the_file += usize::from(new);
            }
            Some(Order::Open { .. }) => tally.before_opening += 1,
            Some(Order::Close) if begun => tally.closing += 1,
            Some(Order::Write { .. }) => tally.in_send += 1,
            _ => {}
        }
        true
    }
}

/// How far a life has come.
struct Course<'a> {
    orders: &'a [Order],
    /// Orders that were answered.
    done: usize,
    /// The next one was begun and is one that says so.
    begun: bool,
    /// The disk is.
    full: bool,
    index: WalIndex,
    ledger: &'a mut Ledger,
    tally: &'a mut Tally,
}

impl Course<'_> {
    fn start(&mut self) {
        if let Some(order) = self.orders.get(self.done) {
            self.ledger.ordered(order);
        }
    }

    fn hear(&mut self, told: Told) {
        if told == Told::Begun {
            self.begun = true;
            return;
        }
        let order = &self.orders[self.done];
        self.ledger.told(order, &told);
        match (order, told) {
            (Order::Show, Told::Shown { lists, outbox, under_way, .. }) => self.shown(&lists, &outbox, under_way),
            (Order::Open { .. }, Told::Done) => self.index.opened(),
            (Order::Network { on }, _) => self.tally.cuts += usize::from(!on),
            (Order::Write { .. } | Order::Read, Told::Refused { store: true, why }) => {
                assert!(self.full, "there is room, and {order:?} is refused: {why}");
            }
            (Order::FillDisk { .. }, _) => self.full = true,
            (Order::FreeDisk, _) => self.full = false,
            (_, Told::Refused { why, .. }) => panic!("{order:?} is refused: {why}"),
            _ => {}
        }
        self.done += 1;
        self.begun = false;
        self.start();
    }

    fn shown(&mut self, lists: &Lists, outbox: &[MessageId], under_way: usize) {
        self.ledger.check_screen(lists, outbox);
        // The first look, before there is a network: what the death before has left.
        if self.done == 1 {
            self.tally.under_way += usize::from(under_way > 0);
            self.tally.waiting += outbox.len();
            let pending = lists.values().flatten().filter(|line| line.state == State::Pending).count();
            assert_eq!(pending, outbox.len(), "what is pending is in the outbox, and nothing else is");
        }
    }

    /// Listens until it is time to die.
    fn until(&mut self, death: Death, born: Instant, device: &Mortal) {
        let (mut end, then) = match death {
            Death::Start(after) | Death::Time(after) => (born + after, Duration::ZERO),
            Death::Work(then, _) | Death::Checkpoint(then) => (born + LIFE, then),
            Death::Opening(_) | Death::Closing(_) => (born + LIFE, Duration::ZERO),
        };
        loop {
            let opening = matches!(self.orders.get(self.done), Some(Order::Open { .. }));
            match death {
                Death::Opening(after) if self.begun && opening => end = end.min(Instant::now() + after),
                Death::Closing(after) if self.begun && !opening => end = end.min(Instant::now() + after),
                Death::Work(_, answers) if self.done >= answers => break,
                Death::Checkpoint(_) if self.index.checkpoint_under_way() => break,
                _ => {}
            }
            let now = Instant::now();
            if now >= end {
                return;
            }
            // Short looks while something is waited for that is not told.
            let look = if matches!(death, Death::Checkpoint(_)) { Duration::from_micros(200) } else { end - now };
            if let Some(told) = device.hear_within(look.min(end - now)) {
                self.hear(told);
            } else if !matches!(death, Death::Checkpoint(_)) {
                return;
            }
        }
        std::thread::sleep(then);
    }
}

/// The index of the file's log. The places in it are those of `SQLite`'s format of WAL indexes.
struct WalIndex {
    path: PathBuf,
    /// What a checkpoint was to copy when the file was opened: what was there then was recovered, and not begun.
    recovered: Option<u32>,
}

impl WalIndex {
    fn of(account: &Path) -> Self {
        Self { path: account.with_file_name("account-shm"), recovered: None }
    }

    /// The file has just been opened.
    fn opened(&mut self) {
        self.recovered = self.backfill().map(|(_, attempted)| attempted);
    }

    /// Whether a checkpoint was begun and is not finished: it was to copy more than it has copied.
    fn checkpoint_under_way(&self) -> bool {
        let (Some(recovered), Some((done, attempted))) = (self.recovered, self.backfill()) else { return false };
        done < attempted && attempted != recovered
    }

    /// `nBackfill` and `nBackfillAttempted`.
    fn backfill(&self) -> Option<(u32, u32)> {
        let mut bytes = [0; 36];
        File::open(&self.path).ok()?.read_exact_at(&mut bytes, 96).ok()?;
        let number = |four: &[u8]| four.try_into().map(u32::from_ne_bytes).ok();
        Some((number(&bytes[..4])?, number(&bytes[32..])?))
    }
}
