//! What lies between devices and the rules: frames that are late, lost or doubled; functions that are dropped in the
//! middle; a queue that repeats and reorders.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use poste_domain::{
    Claim, LaneKey, Retention,
    append::Settings,
    ports::{Clock, Courier, Heads, News, Parcel, Placement, Placing, Terms, Wake, Wakes},
    routes::Caller,
    wake::Fate,
};
use poste_protocol::{
    Author, Cell, Code, Envelope, EnvelopeId, FromServer, Outcome, Page, Pages, PushStatus, PushToken, SendFrame, Seq,
    Submission, UserId,
};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{functions::Functions, memory::World, mutation::Mutation, weather::Weather};

/// How long a frame travels at most.
const TRAVEL: Duration = Duration::from_millis(60);

/// How long a frame that is held up travels at most: past deadlines, reconnects and everything.
const DETOUR: Duration = Duration::from_secs(40);

/// How long a function lives at most that is going to be dropped.
const SHORT_LIFE: Duration = Duration::from_millis(120);

/// How long a function lives at most.
pub(crate) const LIFE: Duration = Duration::from_secs(28);

/// How often each mishap befalls a frame or a function.
const LOST: f64 = 0.02;
const DOUBLED: f64 = 0.04;
const HELD_UP: f64 = 0.03;
const DROPPED: f64 = 0.05;

/// How often the store looks for what it may remove.
const REMOVAL: Duration = Duration::from_secs(2);

/// What who seems to be connected is given to mark: longer than a function lives, so that a look at the marks from
/// before a mark is not taken for one after it.
const GRACE: Duration = Duration::from_secs(40);

/// The wait after the first failure of a wake-up, and the longest, in milliseconds.
const FIRST_WAIT_MS: u64 = 1_000;
const LONGEST_WAIT_MS: u64 = 60_000;

/// Parcels that the queue hands out at once.
const BATCH: usize = 10;

fn name(caller: &Caller) -> String {
    format!("{}'s {} on {}", caller.author.user, caller.author.device, caller.connection)
}

/// The deployment: the real rules on ports in memory.
pub(crate) struct Network {
    pub(crate) world: Arc<World>,
    functions: Functions,
    weather: Weather,
    calm: std::sync::atomic::AtomicBool,
    connections: Mutex<u64>,
    /// Whose connection is which.
    hearers: Mutex<BTreeMap<String, UserId>>,
    /// Every number that an answer gave to an envelope, whether or not the answer arrived.
    acknowledged: Mutex<BTreeMap<EnvelopeId, BTreeSet<Seq>>>,
    /// What was left in the log of what an answer said was deleted.
    leaks: Mutex<Vec<String>>,
    /// Envelopes that were acknowledged before they were queued for delivery.
    unqueued: Mutex<Vec<EnvelopeId>>,
    /// When an answer said of an envelope that it has expired.
    expired: Mutex<BTreeMap<EnvelopeId, u64>>,
    /// Every page that was answered: to whom, and when.
    pages: Mutex<Vec<(UserId, Page, u64)>>,
    settings: Settings,
}

impl Network {
    pub(crate) fn new(world: Arc<World>, seed: u64, settings: Settings) -> Self {
        Self {
            functions: Functions::new(&world, &settings, GRACE),
            weather: Weather::new(seed, crate::Odds::CALM),
            calm: false.into(),
            connections: Mutex::new(0),
            hearers: Mutex::default(),
            acknowledged: Mutex::default(),
            leaks: Mutex::default(),
            unqueued: Mutex::default(),
            expired: Mutex::default(),
            pages: Mutex::default(),
            settings,
            world,
        }
    }

    /// No mishaps from here on.
    pub(crate) fn clear_up(&self) {
        self.world.weather.clear_up();
        self.calm.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn acknowledged(&self) -> BTreeMap<EnvelopeId, BTreeSet<Seq>> {
        self.acknowledged.lock().expect("no panic under the lock").clone()
    }

    /// Envelopes that were acknowledged before they were queued for delivery.
    pub(crate) fn unqueued(&self) -> Vec<EnvelopeId> {
        self.unqueued.lock().expect("no panic under the lock").clone()
    }

    /// What was left in the log of what an answer said was deleted: then, and now.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let then = self.leaks.lock().expect("no panic under the lock").clone();
        let all = self.acknowledged();
        let now = all.iter().flat_map(|(id, places)| places.iter().flat_map(|place| self.world.left_by(*id, *place)));
        then.into_iter().chain(now).collect()
    }

    /// When an answer said of an envelope that it has expired.
    pub(crate) fn expired(&self) -> BTreeMap<EnvelopeId, u64> {
        self.expired.lock().expect("no panic under the lock").clone()
    }

    /// Every page that was answered or posted: to whom, and when.
    pub(crate) fn pages(&self) -> Vec<(UserId, Page, u64)> {
        let mut pages = self.pages.lock().expect("no panic under the lock").clone();
        for (connection, frame, at) in self.world.posts() {
            let Ok(FromServer::Pages(posted)) = serde_json::from_str(&frame) else { continue };
            let user = self.hearer(&connection).expect("posted on a connection that was made");
            pages.extend(posted.pages.into_iter().map(|page| (user.clone(), page, at)));
        }
        pages
    }

    /// Whose connection that was.
    pub(crate) fn hearer(&self, connection: &str) -> Option<UserId> {
        self.hearers.lock().expect("no panic under the lock").get(connection).cloned()
    }

    /// How long messages are kept.
    pub(crate) fn retention(&self) -> Retention {
        self.settings.retention
    }

    /// A message that has failed may be sent again without being stored twice: it cannot have been removed.
    pub(crate) fn forgives(&self) -> bool {
        self.settings.retention == Retention::FOREVER
    }

    /// The store removes what is too old, for ever.
    pub(crate) async fn remove(self: Arc<Self>) {
        loop {
            tokio::time::sleep(REMOVAL).await;
            self.world.remove_some();
        }
    }

    pub(crate) fn befalls(&self, likelihood: f64) -> bool {
        let calm = self.calm.load(std::sync::atomic::Ordering::Relaxed);
        !calm && self.weather.chance(likelihood)
    }

    async fn travel(&self) {
        let longest = if self.befalls(HELD_UP) { DETOUR } else { TRAVEL };
        self.weather.pause(longest).await;
    }

    /// A function's life, which may end in the middle.
    async fn function<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let life = if self.befalls(DROPPED) {
            let longest = u64::try_from(SHORT_LIFE.as_millis()).unwrap_or(u64::MAX);
            Duration::from_millis(self.weather.below(longest))
        } else {
            LIFE
        };
        let outcome = tokio::time::timeout(life, work).await.ok();
        if outcome.is_none() {
            self.world.chronicle.note(|| "a function was dropped in the middle".to_owned());
        }
        outcome
    }

    /// A handshake. Nothing if it fails.
    pub(crate) async fn connect(&self, author: &Author) -> Option<(Caller, UnboundedReceiver<String>)> {
        let connected_at_ms = self.world.now_ms();
        self.travel().await;
        let number = {
            let mut connections = self.connections.lock().expect("no panic under the lock");
            *connections += 1;
            *connections
        };
        let caller = Caller {
            author: author.clone(),
            connection: format!("c{number}"),
            connected_at_ms,
            token_expires_at_ms: u64::MAX,
        };
        let hearer = (caller.connection.clone(), author.user.clone());
        self.hearers.lock().expect("no panic under the lock").extend([hearer]);
        if !self.function(self.functions.session.connect(&caller)).await?.ok()? {
            return None;
        }
        let socket = self.world.open(&caller.connection);
        self.travel().await;
        Some((caller, socket))
    }

    /// A connection ends at the gateway, which may or may not tell.
    pub(crate) async fn disconnect(&self, caller: &Caller) {
        self.world.close(&caller.connection);
        self.travel().await;
        if !self.befalls(0.5) {
            // Best effort: the outcome concerns nobody.
            let _ = self.function(self.functions.session.disconnect(caller)).await;
        }
    }

    /// A frame on its way to a function, and the answer on its way back.
    pub(crate) fn carry(self: &Arc<Self>, caller: &Caller, text: &str) {
        let copies = match () {
            () if self.befalls(LOST) => 0,
            () if self.befalls(DOUBLED) => 2,
            () => 1,
        };
        self.world.chronicle.note(|| format!("{} sends ({copies} arrive): {text}", name(caller)));
        for _ in 0..copies {
            let (network, caller, text) = (self.clone(), caller.clone(), text.to_owned());
            tokio::spawn(async move {
                network.travel().await;
                let answer = network.function(network.dispatch(&caller, &text)).await.flatten();
                let Some(answer) = answer else { return };
                network.note(&caller, &answer);
                let answer = serde_json::to_string(&answer).expect("a frame has only plain fields");
                let lost = network.befalls(LOST);
                network
                    .world
                    .chronicle
                    .note(|| format!("{} is answered{}: {answer}", name(&caller), if lost { " (lost)" } else { "" }));
                if lost {
                    return;
                }
                network.travel().await;
                network.world.answer(&caller.connection, answer);
            });
        }
    }

    async fn dispatch(&self, caller: &Caller, text: &str) -> Option<FromServer> {
        if self.world.breaks(Mutation::PublishBeforeWrite) || self.world.breaks(Mutation::WakesBeforeWrite) {
            self.publish_early(caller, text).await;
        }
        Some(match self.functions.answer(caller, self.world.now_ms(), text).await? {
            FromServer::Pages(answer) if self.world.breaks(Mutation::CursorSkipsHoles) => {
                let skips = |page: Page| Page { through: page.head, ..page };
                FromServer::Pages(Pages { pages: answer.pages.into_iter().map(skips).collect(), ..answer })
            }
            answer => answer,
        })
    }

    /// Places the envelopes of a frame and publishes them, before anything is written.
    async fn publish_early(&self, caller: &Caller, text: &str) {
        let Ok(frame) = serde_json::from_str::<SendFrame>(text) else { return };
        for Submission { envelope, .. } in frame.submissions {
            let (lane, now_ms) = (LaneKey::of(&caller.author), self.world.now_ms());
            let placement = Placement {
                conversation: &envelope.conversation,
                lane: &lane,
                claim: Claim::of(&envelope),
                terms: Terms::Next,
                now_ms,
                retention: self.settings.retention,
                roster: None,
            };
            let Ok(Placing::Placed { first: seq, .. }) = self.world.place(&placement).await else { continue };
            let Envelope { id: envelope, conversation, to, number, messages } = envelope;
            let cell = Cell { seq, envelope, number, by: caller.author.clone(), at: now_ms, messages };
            if self.world.breaks(Mutation::WakesBeforeWrite) {
                let users = to.into_iter().collect();
                let through = cell.last();
                let envelope = Some(envelope);
                let wake = Wake { envelope, conversation, seq, through, at_ms: now_ms, users, content: None };
                let _ = self.world.queue(&[(wake, 0)]).await;
                continue;
            }
            let parcel = Parcel::of(&caller.author, &conversation, Seq::ZERO, News::Cell(cell));
            // A failure is like one of the publishing that the rules do.
            let _ = self.world.publish(&parcel).await;
        }
    }

    fn note(&self, caller: &Caller, answer: &FromServer) {
        let now = self.world.now_ms();
        let answered = match answer {
            FromServer::Page(page) => std::slice::from_ref(page),
            FromServer::Pages(answer) => &answer.pages,
            _ => &[],
        };
        let of_user = answered.iter().map(|page| (caller.author.user.clone(), page.clone(), now));
        self.pages.lock().expect("no panic under the lock").extend(of_user);
        let FromServer::Sent(sent) = answer else { return };
        for verdict in &sent.verdicts {
            match &verdict.outcome {
                Outcome::Accepted { seq, .. } => {
                    let left = self.world.left_by(verdict.envelope, *seq);
                    self.leaks.lock().expect("no panic under the lock").extend(left);
                    if !self.world.was_queued(verdict.envelope) {
                        self.unqueued.lock().expect("no panic under the lock").push(verdict.envelope);
                    }
                    let mut acknowledged = self.acknowledged.lock().expect("no panic under the lock");
                    acknowledged.entry(verdict.envelope).or_default().insert(*seq);
                }
                Outcome::Refused { error } if error.code == Code::Expired => {
                    self.expired.lock().expect("no panic under the lock").insert(verdict.envelope, now);
                }
                Outcome::Refused { .. } => {}
            }
        }
    }

    /// Hands out what is published, for ever: in no order, at least once, again if it failed.
    pub(crate) async fn deliver(self: Arc<Self>) {
        let mut waiting: Vec<Parcel> = Vec::new();
        let mut taken = 0;
        loop {
            self.weather.pause(TRAVEL).await;
            let fresh = self.world.published_since(taken);
            taken += fresh.len();
            waiting.extend(fresh);
            let mut batch = Vec::new();
            while batch.len() < BATCH && !waiting.is_empty() {
                let length = u64::try_from(waiting.len()).unwrap_or(u64::MAX);
                let position = usize::try_from(self.weather.below(length)).unwrap_or_default();
                batch.push(waiting.swap_remove(position));
            }
            if batch.is_empty() {
                continue;
            }
            match self.function(self.functions.fanout.deliver(&batch)).await {
                Some(failed) => waiting.extend(failed.into_iter().map(|position| batch[position].clone())),
                None => waiting.append(&mut batch.clone()),
            }
            if self.befalls(DOUBLED) {
                waiting.extend(batch);
            }
        }
    }

    /// Registers a device's token, however often it takes.
    pub(crate) async fn register(&self, author: &Author, token: &PushToken) {
        while self.functions.registry.push(author, Some(token)).await != Ok(PushStatus::Registered) {}
    }

    /// Hands out wake-ups, for ever: in no order, at least once, late, again if they must come again.
    pub(crate) async fn notify(self: Arc<Self>) {
        loop {
            self.weather.pause(TRAVEL).await;
            let mut batch = Vec::new();
            let choose = |count: usize| {
                let count = u64::try_from(count).unwrap_or(u64::MAX);
                usize::try_from(self.weather.below(count)).unwrap_or_default()
            };
            while batch.len() < BATCH
                && let Some(taken) = self.world.take_wake(choose)
            {
                batch.push(taken);
            }
            if batch.is_empty() {
                continue;
            }
            let wakes: Vec<Wake> = batch.iter().map(|(wake, _)| wake.clone()).collect();
            let fates = self.function(self.functions.waking.wake(&wakes)).await;
            let doubled = self.befalls(DOUBLED);
            for (position, (wake, receives)) in batch.into_iter().enumerate() {
                let growing = (FIRST_WAIT_MS << receives.min(10)).min(LONGEST_WAIT_MS);
                let again = match fates.as_ref().map_or(Fate::Again(None), |fates| fates[position]) {
                    Fate::Again(Some(_)) if self.world.breaks(Mutation::PutOffsForgotten) => None,
                    Fate::Again(after) => Some(after.unwrap_or(growing)),
                    Fate::Done => doubled.then_some(0),
                };
                if let Some(after) = again {
                    let late = if self.befalls(HELD_UP) { DETOUR } else { Duration::ZERO };
                    let late = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
                    self.world.put_back(wake, receives, after + late);
                }
            }
        }
    }
}
