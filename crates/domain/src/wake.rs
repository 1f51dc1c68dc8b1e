//! Who is woken by a push, and when.
//!
//! A push is a wake-up and never the message: it may fail, be late, come twice or stand for others, and nothing is lost.
//! So nothing here is in the way of the log or of live connections. `deliver` queues wake-ups ([`Alarms`]); `notify`
//! looks at the marks when they come out, and pushes to who still needs it ([`Waking`]).

mod bucket;
mod pushes;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, stream};
use poste_protocol::{Author, Cell, ConversationId, Event, Message, PushId, Seq, UserId};

use crate::{
    Class,
    ports::{Clock, Devices, Marks, Mutes, Noted, Parcel, Push, Pushed, Pusher, Wake, Wakeable, Wakes},
    way,
};
use bucket::Bucket;
pub use pushes::Pushes;
use pushes::Step;

/// Users in one wake-up: as many as one read of marks takes.
pub const USERS: usize = 100;

/// Users that are looked after at once.
const AT_ONCE: usize = 16;

/// How long a batch is worked on before the rest is put off, in milliseconds. Within the function's timeout with all
/// that is under way by then.
const PATIENCE_MS: u64 = 15_000;

/// Attempts to change what is noted of a device, when others change it at the same moment.
const NOTES: u32 = 5;

/// How long a provider that asks for less is left alone, in milliseconds.
const THROTTLED_MS: u64 = 1_000;

/// Characters of a message that a push tells, where the deployment wants it to tell any.
const CONTENT: usize = 120;

/// The largest delay of a queue, in milliseconds.
const LONGEST_GRACE_MS: u64 = 15 * 60 * 1_000;

/// Queues wake-ups.
pub struct Alarms {
    wakes: Arc<dyn Wakes>,
    grace_ms: u64,
    content: bool,
}

impl Alarms {
    /// Who seems to be connected is given `grace_ms` to mark. `content` puts words of the message into the wake-up.
    pub fn new(wakes: Arc<dyn Wakes>, grace_ms: u64, content: bool) -> Self {
        Self { wakes, grace_ms: grace_ms.min(LONGEST_GRACE_MS), content }
    }

    /// Queues what must be looked at for these parcels: at once for who has no live connection, after the grace for
    /// who has. `heard` are the members that see each, `live` those who seem to be connected. Returns the positions of
    /// the parcels that could not be queued.
    pub(crate) async fn set(
        &self,
        parcels: &[Parcel],
        heard: &BTreeMap<usize, Vec<UserId>>,
        live: &BTreeSet<UserId>,
        now_ms: u64,
    ) -> BTreeSet<usize> {
        let (mut positions, mut wakes) = (Vec::new(), Vec::new());
        for (position, users) in heard {
            let Some((conversation, cell)) = parcels.get(*position).and_then(Parcel::cell) else { continue };
            let others = users.iter().filter(|user| concerns(cell, user)).cloned();
            let (connected, away): (Vec<_>, Vec<_>) = others.partition(|user| live.contains(user));
            for (users, delay) in [(away, 0), (connected, self.grace_ms)] {
                for users in users.chunks(USERS) {
                    positions.push(*position);
                    wakes.push((self.wake(conversation, cell, users.to_vec(), now_ms), delay));
                }
            }
        }
        if wakes.is_empty() {
            return BTreeSet::new();
        }
        let outcomes = self.wakes.queue(&wakes).await;
        let mut failed = BTreeSet::new();
        for (position, outcome) in positions.into_iter().zip(outcomes) {
            if let Err(trouble) = outcome {
                tracing::warn!(%trouble, "cannot queue a wake-up");
                failed.insert(position);
            }
        }
        failed
    }

    fn wake(&self, conversation: &ConversationId, cell: &Cell, users: Vec<UserId>, now_ms: u64) -> Wake {
        let content = self.content.then(|| said(cell).last()).flatten();
        Wake {
            envelope: Some(cell.envelope),
            conversation: conversation.clone(),
            seq: cell.seq,
            through: cell.last(),
            at_ms: now_ms,
            users,
            content: content.map(|message| message.body.chars().take(CONTENT).collect()),
        }
    }
}

/// What somebody wrote in a cell: what only changes messages, or happens to a group, is not.
fn said(cell: &Cell) -> impl Iterator<Item = &Message> {
    cell.messages.iter().filter(|message| message.is_text())
}

/// Whether a user who sees a cell is woken for it: for what others wrote, and for being brought into a group. Whatever
/// else happens to a group they learn when they come.
fn concerns(cell: &Cell, user: &UserId) -> bool {
    let for_them = match cell.event() {
        Some(Event::Created { members: users, .. } | Event::Added { users }) => users.contains(user),
        Some(_) => false,
        None => said(cell).next().is_some(),
    };
    for_them && *user != cell.by.user
}

/// How pushes are held back.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The shortest time between two pushes to a device that was not here between them, in milliseconds.
    pub interval_ms: u64,
    /// For how long a wake-up is worth anything, here and at the provider, in milliseconds.
    pub ttl_ms: u64,
    /// Pushes a second, of one instance.
    pub per_second: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { interval_ms: 10_000, ttl_ms: 24 * 3_600 * 1_000, per_second: 50 }
    }
}

/// What became of a wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is left to do.
    Done,
    /// It must come again: after so many milliseconds, if that is known, and otherwise after a wait that grows.
    Again(Option<u64>),
}

impl Fate {
    /// Whatever both need. A wait that is known goes before: it ends after a few times, and nobody whose turn comes soon
    /// has to wait for somebody whose endpoint fails.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Done, fate) | (fate, Self::Done) => fate,
            (Self::Again(one), Self::Again(other)) => Self::Again(one.max(other)),
        }
    }
}

/// What a batch came to, for the log.
#[derive(Debug, Default)]
struct Count {
    pushed: u64,
    marked: u64,
    muted: u64,
    told: u64,
    late: u64,
    waiting: u64,
    gone: u64,
    failed: u64,
}

/// A user who may have to be woken for a wake-up, with how much is unread.
struct Call {
    position: usize,
    unread: u64,
}

/// Wakes devices.
pub struct Waking {
    devices: Arc<dyn Devices>,
    mutes: Arc<dyn Mutes>,
    marks: Arc<dyn Marks>,
    pusher: Arc<dyn Pusher>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    bucket: Mutex<Bucket>,
}

impl Waking {
    /// On these ports.
    pub fn new(
        devices: Arc<dyn Devices>,
        mutes: Arc<dyn Mutes>,
        marks: Arc<dyn Marks>,
        pusher: Arc<dyn Pusher>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let bucket = Mutex::new(Bucket::new(settings.per_second));
        Self { devices, mutes, marks, pusher, clock, settings, bucket }
    }

    /// Pushes to the devices of those who have not marked what they are called for, are not muted, and have not been
    /// told. One fate for each wake-up.
    pub async fn wake(&self, wakes: &[Wake]) -> Vec<Fate> {
        let (began, mut count) = (self.clock.now_ms(), Count::default());
        let mut fates = vec![Fate::Done; wakes.len()];
        let calls = self.calls(wakes, began, &mut fates, &mut count).await;
        let until = began + PATIENCE_MS;
        let users = calls.into_iter().map(|(user, calls)| async move {
            let mut count = Count::default();
            let fates = self.wake_user(&user, wakes, &calls, until, &mut count).await;
            (calls.into_iter().map(|call| call.position).zip(fates).collect::<Vec<_>>(), count)
        });
        let mut outcomes = stream::iter(users).buffer_unordered(AT_ONCE);
        while let Some((outcome, of_user)) = outcomes.next().await {
            for (position, fate) in outcome {
                fates[position] = fates[position].and(fate);
            }
            count.add(&of_user);
        }
        let Count { pushed, marked, muted, told, late, waiting, gone, failed } = count;
        let wakes = wakes.len();
        tracing::info!(metric = "wakes", wakes, pushed, marked, muted, told, late, waiting, gone, failed, "woke");
        fates
    }

    /// Who has to be woken for what: users with their wake-ups, of each conversation the latest first.
    async fn calls(
        &self,
        wakes: &[Wake],
        now_ms: u64,
        fates: &mut [Fate],
        count: &mut Count,
    ) -> BTreeMap<UserId, Vec<Call>> {
        let mut calls: BTreeMap<UserId, Vec<Call>> = BTreeMap::new();
        let fresh = |wake: &Wake| wake.at_ms + self.settings.ttl_ms > now_ms;
        let keys: BTreeSet<_> = wakes.iter().filter(|wake| fresh(wake)).flat_map(Wake::keys).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let marks: HashMap<(ConversationId, UserId), (Seq, Seq)> = match self.marks.of(&keys).await {
            Ok(marks) => {
                // Their own: what they have read is read, whoever is told so.
                let own = marks.into_iter().map(|(conversation, marks)| (conversation, marks.own()));
                own.map(|(conversation, mark)| ((conversation, mark.user), (mark.delivered, mark.read))).collect()
            }
            Err(trouble) => {
                tracing::warn!(%trouble, "cannot find the marks");
                fates.fill(Fate::Again(None));
                return calls;
            }
        };
        for (position, wake) in wakes.iter().enumerate() {
            if !fresh(wake) {
                count.late += wake.users.len() as u64;
                continue;
            }
            let candidates = match self.mutes.candidates(&wake.conversation, &wake.users).await {
                Ok(candidates) => candidates,
                Err(trouble) => {
                    tracing::warn!(%trouble, "cannot find who is muted");
                    fates[position] = Fate::Again(None);
                    continue;
                }
            };
            for candidate in candidates.into_iter().filter(|candidate| candidate.membership.sees(wake.seq)) {
                let key = (wake.conversation.clone(), candidate.user);
                let (delivered, read) = marks.get(&key).copied().unwrap_or((Seq::ZERO, Seq::ZERO));
                if delivered >= wake.through {
                    count.marked += 1;
                } else if candidate.muted_until_ms > now_ms {
                    count.muted += 1;
                } else {
                    let unread = candidate.membership.seen_between(read, wake.through);
                    calls.entry(key.1).or_default().push(Call { position, unread });
                }
            }
        }
        for calls in calls.values_mut() {
            // The latest push of a conversation tells of all before it.
            calls.sort_by_key(|call| std::cmp::Reverse(wakes[call.position].through));
        }
        calls
    }

    async fn wake_user(
        &self,
        user: &UserId,
        wakes: &[Wake],
        calls: &[Call],
        until: u64,
        count: &mut Count,
    ) -> Vec<Fate> {
        let mut fates = vec![Fate::Done; calls.len()];
        let devices = match self.devices.wakeable(user).await {
            Ok(devices) => devices,
            Err(trouble) => {
                tracing::warn!(%trouble, "cannot find a user's devices");
                count.failed += 1;
                fates.fill(Fate::Again(None));
                return fates;
            }
        };
        for mut device in devices {
            let author = Author { user: user.clone(), device: device.device.clone() };
            let mut put_off = Vec::new();
            for (call, fate) in calls.iter().zip(&mut fates) {
                let wake = &wakes[call.position];
                let of_device = self.wake_device(&author, &mut device, wake, call, until, count).await;
                if of_device != Fate::Done && !device.pushes.holds(wake) {
                    put_off.push((wake, call.unread));
                }
                *fate = fate.and(of_device);
            }
            if !put_off.is_empty() {
                // If this is lost, a wake-up pushes that need not have.
                let now = self.clock.now_ms();
                self.note(&author, &mut device, |pushes| pushes.holding(&put_off, now)).await;
            }
        }
        fates
    }

    async fn wake_device(
        &self,
        author: &Author,
        device: &mut Wakeable,
        wake: &Wake,
        call: &Call,
        until: u64,
        count: &mut Count,
    ) -> Fate {
        for _ in 0..NOTES {
            let now = self.clock.now_ms();
            let (begun, badge) = match device.pushes.step(wake, call.unread, now, self.settings.interval_ms) {
                Step::Told => {
                    count.told += 1;
                    return Fate::Done;
                }
                Step::Wait(wait) => {
                    count.waiting += 1;
                    return Fate::Again(Some(wait));
                }
                Step::Push { begun, badge } => (*begun, badge),
            };
            if !self.turn(until).await {
                break;
            }
            // Written down before, so that of two functions one pushes, and nobody to whom the token is no longer theirs.
            match self.devices.note(author, &device.registration.token, &begun).await {
                Ok(Noted::Done) => {
                    device.pushes = begun;
                    return self.push(author, device, wake, call, badge, count).await;
                }
                Ok(Noted::Behind(there)) => device.pushes = *there,
                Ok(Noted::Gone) => break,
                Err(trouble) => {
                    tracing::warn!(%trouble, "cannot begin a push");
                    count.failed += 1;
                    return Fate::Again(None);
                }
            }
        }
        count.waiting += 1;
        Fate::Again(None)
    }

    /// Makes a push that was begun, and notes what became of it.
    async fn push(
        &self,
        author: &Author,
        device: &mut Wakeable,
        wake: &Wake,
        call: &Call,
        badge: u64,
        count: &mut Count,
    ) -> Fate {
        let (begun, now) = (device.pushes.clone(), self.clock.now_ms());
        let push = Push {
            id: PushId::fresh(),
            conversation: wake.conversation.clone(),
            seq: wake.seq,
            badge,
            ttl_s: (wake.at_ms + self.settings.ttl_ms).saturating_sub(now) / 1_000,
            content: wake.content.clone(),
        };
        match self.pusher.push(&device.registration, &push).await {
            Ok(Pushed::Taken) => {
                count.pushed += 1;
                way::pushed(author, wake, &push.id);
                let now = self.clock.now_ms();
                self.note(author, device, |pushes| pushes.done(&begun, wake, call.unread, now)).await;
                Fate::Done
            }
            Ok(Pushed::Gone) => {
                count.gone += 1;
                self.bury(author, device).await
            }
            Err(trouble) => {
                tracing::warn!(%trouble, "cannot push");
                count.failed += 1;
                if trouble.class == Class::Throttled {
                    self.lock().close(self.clock.now_ms(), THROTTLED_MS);
                }
                self.note(author, device, Pushes::given_up).await;
                Fate::Again(None)
            }
        }
    }

    /// Waits until there is a token for a push; not beyond `until`. Says whether there is one.
    async fn turn(&self, until: u64) -> bool {
        loop {
            let now = self.clock.now_ms();
            let taken = if now < until { self.lock().take(now) } else { return false };
            match taken {
                Ok(()) => return true,
                Err(wait) if now + wait >= until => return false,
                Err(wait) => tokio::time::sleep(Duration::from_millis(wait)).await,
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().expect("nothing panics while it holds the lock")
    }

    /// Changes what is noted of a device, on whatever others have noted meanwhile. Best effort: a push whose end is not
    /// noted counts as under way for a while and is then made again by whoever comes, so that at worst a device is woken
    /// twice.
    async fn note(&self, author: &Author, device: &mut Wakeable, change: impl Fn(&Pushes) -> Pushes) {
        for _ in 0..NOTES {
            let changed = change(&device.pushes);
            match self.devices.note(author, &device.registration.token, &changed).await {
                Ok(Noted::Done) => {
                    device.pushes = changed;
                    return;
                }
                Ok(Noted::Behind(there)) => device.pushes = *there,
                Ok(Noted::Gone) => return,
                Err(trouble) => {
                    tracing::warn!(%trouble, "cannot note what became of a wake-up");
                    return;
                }
            }
        }
        tracing::warn!("others were always first to note something");
    }

    /// The token is dead: the device is asked for another when it connects.
    async fn bury(&self, author: &Author, device: &Wakeable) -> Fate {
        if let Err(trouble) = self.devices.bury(author, &device.registration).await {
            tracing::warn!(%trouble, "cannot end a registration");
            return Fate::Again(None);
        }
        if let Err(trouble) = self.pusher.remove(&device.registration.endpoint).await {
            tracing::warn!(%trouble, "cannot remove an endpoint");
        }
        Fate::Done
    }
}

impl Count {
    fn add(&mut self, other: &Self) {
        self.pushed += other.pushed;
        self.told += other.told;
        self.waiting += other.waiting;
        self.gone += other.gone;
        self.failed += other.failed;
    }
}

impl Wake {
    /// Whose marks decide about it.
    fn keys(&self) -> impl Iterator<Item = (ConversationId, UserId)> {
        self.users.iter().map(|user| (self.conversation.clone(), user.clone()))
    }
}
