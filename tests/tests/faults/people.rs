//! People who write while something goes wrong, on the device library, and what must hold of it afterwards.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures::future::join_all;
use poste_client::{Client, ClientConfig, State, Target};
use poste_protocol::{
    Author, Cell, ConversationId, DeviceId, Event, MessageId, Platform, ProviderToken, PushStatus, PushStyle,
    PushToken, UserId,
};
use poste_tests::{
    DEADLINE, Deployment, Device, Faults, Ledger, Lists, Road, account, as_shown, eventually, screen, waiting,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use uuid::Uuid;

use crate::table::{Blow, Trouble};

/// Who writes to whom.
const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// On what.
const KINDS: [&str; 2] = ["phone", "tablet"];
/// All of them.
pub(crate) const DEVICES: usize = USERS.len() * KINDS.len();
/// The labels of a device's messages begin here, times its place.
pub(crate) const LABELS: u64 = 1_000_000;
/// Between two messages of a device, about.
pub(crate) const PAUSE: Duration = Duration::from_millis(120);
/// Between two blows of each kind, about.
const BETWEEN: Duration = Duration::from_millis(400);
/// How long everything may take to come to rest.
pub(crate) const PATIENCE: Duration = DEADLINE.saturating_mul(6);
/// After so long in peace a device that has not everything has lost a delivery, and connects anew.
const LATE: Duration = Duration::from_secs(12);
/// Between two looks at everything that a device shows.
const LOOK: Duration = Duration::from_millis(100);
/// Files: one with several parts, the others with one.
const LARGE: usize = 9 << 20;
const SMALL: usize = 100 << 10;
/// Files of each device.
const FILES: usize = 2;
/// How far a clock is set.
const MONTHS_MS: i64 = 400 * 24 * 3_600 * 1_000;
/// Blows that take seconds come this often at most.
const RESTARTS: usize = 2;

/// One device and what it was told to write.
struct Person {
    author: Author,
    config: ClientConfig,
    /// None while its application is closed.
    client: Option<Client>,
    ledger: Ledger,
    labels: u64,
    files: Vec<(ConversationId, MessageId)>,
}

/// All who write, in one-to-one conversations and in a group.
pub(crate) struct People {
    all: Vec<Person>,
    group: ConversationId,
    road: Road,
    folder: PathBuf,
    /// Who is away, with the tokens to be woken by.
    away: Option<(UserId, Vec<String>)>,
}

impl Person {
    fn client(&self) -> &Client {
        self.client.as_ref().expect("its application is open")
    }

    fn label(&mut self) -> u64 {
        self.labels + self.ledger.next()
    }

    /// Writes a message, or sends a file, which is on the disk when this returns.
    async fn writes(&mut self, to: Target, file: Option<&Path>) {
        let label = self.label();
        self.ledger.writes(label);
        let body = format!("{label} from {}", self.author.user);
        let message = match file {
            None => self.client().send(to, body).await,
            Some(file) => self.client().send_file(to, file.to_owned(), body, None).await,
        };
        let message = message.expect("it is on the disk");
        self.ledger.wrote(label, message.id);
        if file.is_some() {
            self.files.push((message.conversation, message.id));
        }
    }

    async fn screen(&self) -> (Lists, Vec<MessageId>) {
        let labels = self.labels..self.labels + LABELS;
        let own = |message: &poste_client::Message| {
            message.user == self.author.user
                && poste_tests::label(&message.body).is_some_and(|label| labels.contains(&label))
        };
        let (lists, outbox) = screen(self.client(), own).await.expect("readable");
        assert!(outbox.iter().all(|entry| entry.failure.is_none()), "nobody refused anything: {outbox:?}");
        (lists, waiting(&outbox))
    }

    /// Closes its application, has its clock set, and opens it again.
    async fn sets_its_clock(&mut self, by_ms: i64) {
        self.client.take().expect("its application is open").close().await;
        // As if the clock on the wall had said something else when it was looked at last.
        let file = rusqlite::Connection::open(&self.config.path).expect("its file");
        let changed =
            file.execute("UPDATE clock SET wall = max(0, wall + ?)", [by_ms]).expect("a clock that was noted");
        assert_eq!(changed, 1, "the device has noted its clock");
        file.close().expect("closed");
        self.client = Some(Client::open(self.config.clone()).await.expect("the account opens"));
    }
}

impl People {
    /// All are connected, and know each other by a group. Guests are in it, too, and look after themselves.
    pub(crate) async fn gather(deployment: &Deployment, folder: &Path, trouble: &Trouble, guests: &[UserId]) -> Self {
        let stack = deployment.stack();
        let there = stack.endpoint.strip_prefix("http://").expect("an address").to_owned();
        let road = Road::to(&there).await;
        let users = USERS.map(|name| deployment.user(name));
        let mut founder = deployment.device(&deployment.user("founder"), "phone").await;
        let group = ConversationId::group();
        let away = if trouble.wakes { Some(Box::pin(is_away(deployment)).await) } else { None };
        let members = users.iter().chain(guests).chain(away.iter().map(|(user, _)| user)).cloned().collect();
        let event = founder.does(&group, Event::Created { title: "trouble".into(), members });
        founder.sends(&event).await;

        let mut people = Vec::new();
        for (n, (user, kind)) in users.iter().flat_map(|user| KINDS.map(|kind| (user, kind))).enumerate() {
            let place = folder.join(format!("{n}"));
            let mut config = account(&stack.socket_url.replace(&there, road.address()), &place, user, kind);
            // Whoever waits half a minute before it tries again is as right, and takes longer to judge.
            config.tuning.backoff_cap = 3_000;
            config.tuning.request_deadline = 5_000;
            let client = Client::open(config.clone()).await.expect("the account opens");
            people.push(Person {
                author: Author { user: user.clone(), device: DeviceId::new(kind).expect("well formed") },
                config,
                client: Some(client),
                ledger: Ledger::default(),
                labels: LABELS * (n as u64 + 1),
                files: Vec::new(),
            });
        }
        for person in &people {
            eventually("everybody knows the group", PATIENCE, async || {
                person.client().conversation(group.clone()).await.expect("readable").map(drop)
            })
            .await;
        }
        Self { all: people, group, road, folder: folder.to_owned(), away }
    }

    /// The group that all are in.
    pub(crate) fn group(&self) -> &ConversationId {
        &self.group
    }

    /// One of the users.
    pub(crate) fn somebody(&self) -> &UserId {
        &self.all[0].author.user
    }

    /// The devices, each with its author.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (&Author, &Client)> {
        self.all.iter().map(|person| (&person.author, person.client()))
    }

    /// A guest whose application is updated to the library of now: its file is opened by it, with what is in it. What it
    /// was told to write before is judged with everything else.
    pub(crate) async fn updates(&mut self, author: Author, config: ClientConfig, ledger: Ledger, labels: u64) {
        let client = Client::open(config.clone()).await.expect("a file of an older version opens");
        self.all.push(Person { author, config, client: Some(client), ledger, labels, files: Vec::new() });
    }

    /// Everybody writes, and what was wished for strikes. Says how often something did that the proxy does not count.
    pub(crate) async fn live(
        &mut self,
        deployment: &Deployment,
        faults: &Faults,
        trouble: &Trouble,
        time: Duration,
        pause: Duration,
        chance: &mut StdRng,
    ) -> u64 {
        let users: Vec<UserId> = self.all.iter().map(|person| person.author.user.clone()).collect();
        let files = if trouble.files { self.make_files(chance) } else { Vec::new() };
        let (group, road, away) = (&self.group, &self.road, &self.away);
        let ends = Instant::now() + time;
        let mut chances: Vec<StdRng> = self.all.iter().map(|_| StdRng::seed_from_u64(chance.random())).collect();
        let blows = strike(deployment, faults, trouble, group, road, ends);
        let lives = join_all(self.all.iter_mut().zip(&mut chances).enumerate().map(async |(n, (person, chance))| {
            let mut files = files.iter().skip(n % 2).step_by(2);
            let mut struck = 0;
            let mut written = 0;
            // Each writes something, however soon it ends.
            while Instant::now() < ends || written < 5 {
                let to = match (chance.random_range(0..10), away) {
                    (0..5, _) => Target::Conversation(group.clone()),
                    (5, Some((away, _))) => Target::User(away.clone()),
                    _ => {
                        let others: Vec<_> = users.iter().filter(|user| **user != person.author.user).collect();
                        Target::User(others[chance.random_range(0..others.len())].clone())
                    }
                };
                let file = files.next();
                person.writes(to, file.map(PathBuf::as_path)).await;
                written += 1;
                struck += person.suffers(&trouble.blows, chance).await;
                tokio::time::sleep(pause.mul_f64(chance.random_range(0.2..1.8))).await;
            }
            struck
        }));
        let (struck, suffered) = futures::join!(blows, lives);
        struck + suffered.into_iter().sum::<u64>()
    }

    fn make_files(&self, chance: &mut StdRng) -> Vec<PathBuf> {
        let lengths = std::iter::once(LARGE).chain(std::iter::repeat_n(SMALL, 2 * FILES - 1));
        let make = |(n, length): (usize, usize)| {
            let mut bytes = vec![0; length];
            chance.fill(&mut bytes[..]);
            let file = self.folder.join(format!("file-{n}"));
            std::fs::write(&file, bytes).expect("a file");
            file
        };
        lengths.enumerate().map(make).collect()
    }

    /// Waits until nothing waits in an outbox and everybody has everything. Says how many had to connect anew for it: who
    /// is online and loses a single delivery learns of it from the next one, or then.
    pub(crate) async fn come_to_rest(&mut self) -> usize {
        for person in &self.all {
            person.client().set_network(true).await.expect("open");
        }
        for person in &self.all {
            eventually("the outbox is empty", PATIENCE, async || person.screen().await.1.is_empty().then_some(()))
                .await;
        }
        let heads = self.heads().await;
        let began = Instant::now();
        let mut late = 0;
        for person in &self.all {
            let has_all = async || {
                let shown = ends(&person.screen().await.0);
                heads
                    .iter()
                    .filter(|(id, _)| shown.contains_key(*id))
                    .all(|(id, head)| shown[id] == *head)
                    .then_some(())
            };
            let mut there = None;
            while there.is_none() && began.elapsed() < LATE {
                there = has_all().await;
                tokio::time::sleep(LOOK).await;
            }
            if there.is_none() {
                late += 1;
                person.client().set_network(false).await.expect("open");
                person.client().set_network(true).await.expect("open");
                eventually("it has everything", PATIENCE, has_all).await;
            }
        }
        late
    }

    /// The last number that any device shows of each conversation.
    async fn heads(&self) -> BTreeMap<ConversationId, u64> {
        let mut heads = BTreeMap::new();
        for person in &self.all {
            for (id, last) in ends(&person.screen().await.0) {
                let head = heads.entry(id).or_insert(last);
                *head = last.max(*head);
            }
        }
        heads
    }

    /// I1, I2, I4, I5, I9: everything that was written is in the logs, once, in the order of writing; every device shows
    /// the logs; every file is there. Gives the numbers that were never used.
    pub(crate) async fn judge(&mut self, deployment: &Deployment) -> u64 {
        let mut logs: BTreeMap<ConversationId, Vec<Cell>> = BTreeMap::new();
        let mut readers: BTreeMap<UserId, Device> = BTreeMap::new();
        for person in &mut self.all {
            let user = person.author.user.clone();
            if !readers.contains_key(&user) {
                readers.insert(user.clone(), deployment.device(&user, "reader").await);
            }
            let reader = readers.get_mut(&user).expect("it was made a moment ago");
            let (lists, outbox) = person.screen().await;
            person.ledger.check_screen(&lists, &outbox);
            let mut of_person = BTreeMap::new();
            for (id, list) in &lists {
                if !logs.contains_key(id) {
                    logs.insert(id.clone(), reader.whole_log(id).await);
                }
                let shown: Vec<_> = list.iter().map(|line| (line.seq.expect("all is sent"), line.id)).collect();
                assert_eq!(shown, as_shown(&logs[id]), "{:?} shows the log of {id}", person.author);
                assert!(list.iter().all(|line| line.state != State::Failed));
                of_person.insert(id.clone(), logs[id].clone());
            }
            person.ledger.check_logs(&of_person, |cell| cell.by == person.author);
        }
        for person in &self.all {
            for (conversation, message) in &person.files {
                let others = self.all.iter().filter(|other| other.author != person.author);
                for other in others {
                    if other.client().conversation(conversation.clone()).await.expect("readable").is_some() {
                        let file = other.client().download(conversation.clone(), *message).await;
                        // The library has held it against its checksum.
                        file.expect("the file is there");
                        break;
                    }
                }
            }
        }
        logs.values().map(|log| numbers_without_messages(log)).sum()
    }

    /// P1: who is away was woken, whatever failed.
    pub(crate) async fn is_woken(&self, deployment: &Deployment) {
        let provider = deployment.provider();
        for token in self.away.iter().flat_map(|(_, tokens)| tokens) {
            eventually("who is away is woken", PATIENCE, async || {
                (!provider.taken(token).await.is_empty()).then_some(())
            })
            .await;
        }
    }

    /// What `send` returned for.
    pub(crate) fn written(&self) -> usize {
        self.all.iter().map(|person| person.ledger.written()).sum()
    }

    /// Files that were sent.
    pub(crate) fn files(&self) -> usize {
        self.all.iter().map(|person| person.files.len()).sum()
    }

    /// All close their applications.
    pub(crate) async fn leave(self) {
        for person in self.all {
            if let Some(client) = person.client {
                client.close().await;
            }
        }
    }
}

impl Person {
    /// What strikes this device, by chance, between two of its messages. Says how often.
    async fn suffers(&mut self, blows: &[Blow], chance: &mut StdRng) -> u64 {
        let mut struck = 0;
        for blow in blows.iter().filter(|blow| matches!(blow, Blow::Tunnel | Blow::SetClock)) {
            if chance.random_range(0..4) > 0 {
                continue;
            }
            struck += 1;
            match blow {
                Blow::Tunnel => {
                    let on = self.client().connection().await.expect("open") == poste_client::Connection::Off;
                    self.client().set_network(on).await.expect("open");
                }
                _ => self.sets_its_clock(if chance.random() { MONTHS_MS } else { -MONTHS_MS }).await,
            }
        }
        struck
    }
}

/// The last number of each list.
fn ends(lists: &Lists) -> BTreeMap<ConversationId, u64> {
    let last = |list: &Vec<poste_tests::Line>| list.iter().filter_map(|line| line.seq).max().unwrap_or_default();
    lists.iter().map(|(id, list)| (id.clone(), last(list))).collect()
}

fn numbers_without_messages(log: &[Cell]) -> u64 {
    let messages: usize = log.iter().map(|cell| cell.messages.len()).sum();
    log.last().map_or(0, |cell| cell.last().get()) - messages as u64
}

/// A user whose devices are registered for pushes, and gone.
async fn is_away(deployment: &Deployment) -> (UserId, Vec<String>) {
    let user = deployment.user("dave");
    let mut tokens = Vec::new();
    for kind in ["phone", "tablet", "laptop", "watch"] {
        let mut device = deployment.device(&user, kind).await;
        let token = format!("fault{}", Uuid::now_v7().simple());
        let provider = ProviderToken::new(token.clone()).expect("well formed");
        let wish = PushToken { platform: Platform::Fcm, token: provider, style: PushStyle::Alert };
        assert_eq!(device.registers(Some(wish)).await, PushStatus::Registered);
        device.drop_connection();
        tokens.push(token);
    }
    (user, tokens)
}

/// What strikes everybody, until it ends. Says how often.
async fn strike(
    deployment: &Deployment,
    faults: &Faults,
    trouble: &Trouble,
    group: &ConversationId,
    road: &Road,
    ends: Instant,
) -> u64 {
    let mut struck = 0;
    let mut restarts = 0;
    let has = |blow| trouble.blows.contains(&blow);
    while Instant::now() < ends && !trouble.blows.is_empty() {
        tokio::time::sleep(BETWEEN).await;
        if has(Blow::Kill) {
            // Few at a time: who finds nobody alive learns nothing of dying in the midst of work.
            struck += deployment.processes().iter().step_by(2).filter(|process| process.kill()).count() as u64;
        }
        if has(Blow::Restart) && restarts < RESTARTS {
            faults.restart().await;
            restarts += 1;
            struck += 1;
        }
        if has(Blow::CutDevices) {
            road.cut();
            struck += 1;
        }
        if has(Blow::Redeliver) {
            struck += redeliver(deployment, group).await;
        }
    }
    struck
}

/// Queues parcels again that were delivered, as the function `send` makes them. Says how many.
async fn redeliver(deployment: &Deployment, group: &ConversationId) -> u64 {
    const BATCH: usize = 10;
    let admin = deployment.admin();
    let Ok(cells) = admin.cells(group).await else { return 0 };
    let parcel = |cell: &Cell| json!({ "conversation": group, "from": cell.by, "cell": cell }).to_string();
    let parcels: Vec<String> = cells.iter().rev().take(BATCH).map(parcel).collect();
    if !parcels.is_empty() {
        admin.queue(&parcels).await;
    }
    parcels.len() as u64
}
