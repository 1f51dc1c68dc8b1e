//! All ports on one set of tables in memory. Each call takes effect at one instant, like a single-item write.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use poste_domain::{
    Claim, Epochs, Lane, LaneKey, Member, Membership, Retention,
    ports::{
        Advance, Belonging, Belongings, Callback, Clock, Connection, Connections, Courier, Group, Head, Heads, Log,
        Marks, MarksSlice, Members, MembersSlice, News, Parcel, Placement, Placing, Posted, Presence, Registered,
        Registration, Result, Roster, Slot, Slots, Standing, Terms, Told, UserMarks,
    },
};
use poste_protocol::{
    Author, Cell, ConversationId, DeviceId, EnvelopeId, FromServer, Mark, MemberMark, Message, MessagePlace, Seq,
    UserId,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

use crate::{chronicle::Chronicle, mutation::Mutation, weather::Weather};

mod media;
mod wake;

pub use wake::Made;

/// The server's clock when a world begins, in Unix milliseconds.
const EPOCH_MS: u64 = 1_790_000_000_000;

struct HeadItem {
    head: Head,
    lanes: BTreeMap<LaneKey, Lane>,
}

/// How far a replica lags behind, in milliseconds.
const LAG_MS: u64 = 4_000;

/// How likely a slot that may be removed is removed at a time.
const REMOVED: f64 = 0.2;

/// A membership, and when it came to be so.
type Past = (u64, Option<Member>);

#[derive(Default)]
struct State {
    heads: BTreeMap<ConversationId, HeadItem>,
    lanes: BTreeMap<(ConversationId, LaneKey), Lane>,
    log: BTreeMap<ConversationId, BTreeMap<Seq, Slot>>,
    /// How many slots each look into a log asked for.
    looks: Vec<u32>,
    /// Envelopes that were in the delivery queue.
    queued: BTreeSet<EnvelopeId>,
    /// Devices whose connection lost its place to an older one.
    displaced: Vec<String>,
    /// Where edits of a message are: by its cell and its position there.
    edits: BTreeMap<(ConversationId, Seq, usize), BTreeSet<Seq>>,
    /// From when on what may be removed.
    removals: BTreeSet<(u64, ConversationId, Seq)>,
    /// What was removed.
    removed: BTreeMap<ConversationId, BTreeMap<Seq, Slot>>,
    /// What was put where something was removed.
    trespasses: Vec<String>,
    members: BTreeMap<ConversationId, BTreeMap<UserId, Member>>,
    groups: BTreeMap<ConversationId, Group>,
    /// What a membership was, until when.
    past: BTreeMap<(ConversationId, UserId), Vec<Past>>,
    conversations: BTreeMap<UserId, BTreeMap<ConversationId, Option<UserId>>>,
    delivered: BTreeMap<(ConversationId, UserId), BTreeMap<DeviceId, Seq>>,
    read: BTreeMap<(ConversationId, UserId), Seq>,
    /// What was read without others being told.
    kept: BTreeMap<(ConversationId, UserId), Seq>,
    /// Whether users give and get read receipts, and when they decided so.
    receipts: BTreeMap<UserId, (u64, bool)>,
    connections: BTreeMap<(UserId, DeviceId), Connection>,
    presence: BTreeMap<UserId, Standing>,
    queue: Vec<Parcel>,
    sockets: BTreeMap<String, UnboundedSender<String>>,
    posts: Vec<(String, String, u64)>,
    /// What was posted before it was stored.
    premature: Vec<String>,
    /// Every mark as it was after each call: whose, which device, and the device's own `delivered`.
    marked: Vec<(ConversationId, MemberMark, Seq)>,
    media: media::State,
    waking: wake::State,
}

/// A deployment in memory.
pub struct World {
    state: Mutex<State>,
    lanes_in_head: usize,
    began: Instant,
    wrong_by_ms: AtomicI64,
    mutation: Option<Mutation>,
    /// What befalls its calls.
    pub weather: Weather,
    /// What happened, if it is written down.
    pub chronicle: Chronicle,
}

impl World {
    /// An empty one. `lanes_in_head` lanes live beside a conversation's counter, further ones on their own.
    pub fn new(weather: Weather, lanes_in_head: usize) -> Self {
        Self {
            state: Mutex::default(),
            lanes_in_head,
            began: Instant::now(),
            wrong_by_ms: AtomicI64::new(0),
            mutation: None,
            weather,
            chronicle: Chronicle::default(),
        }
    }

    /// The same with a rule broken.
    #[must_use]
    pub fn with(self, mutation: Option<Mutation>) -> Self {
        Self { mutation, ..self }
    }

    /// What time it is, whatever the server's clock says.
    pub(crate) fn right_now_ms(&self) -> u64 {
        EPOCH_MS + u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The server's clock is wrong by so many milliseconds from here on.
    pub fn set_clock_wrong(&self, by_ms: i64) {
        self.wrong_by_ms.store(by_ms, Ordering::Relaxed);
    }

    pub(crate) fn breaks(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// What was posted before it was stored.
    pub fn premature(&self) -> Vec<String> {
        self.state().premature.clone()
    }

    /// Every mark as it was after each call: in which conversation, the user's, and the device's own `delivered`.
    pub fn marked(&self) -> Vec<(ConversationId, MemberMark, Seq)> {
        self.state().marked.clone()
    }

    /// A user gives and gets no read receipts, from the beginning.
    pub fn switch_receipts_off(&self, user: &UserId) {
        self.state().receipts.insert(user.clone(), (0, false));
    }

    /// How far a conversation's counter is.
    pub fn head_of(&self, conversation: &ConversationId) -> Seq {
        self.state().heads.get(conversation).map_or(Seq::ZERO, |item| item.head.head)
    }

    /// What is gone of a conversation.
    pub fn floor_of(&self, conversation: &ConversationId) -> Seq {
        let now = self.now_ms();
        self.state().heads.get(conversation).map_or(Seq::ZERO, |item| item.head.floor(now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }

    /// Everything that a conversation's log holds or held.
    pub fn log_of(&self, conversation: &ConversationId) -> Vec<Slot> {
        let state = self.state();
        let all: BTreeMap<_, _> =
            [&state.removed, &state.log].iter().filter_map(|part| part.get(conversation)).flatten().collect();
        all.into_values().cloned().collect()
    }

    /// How many slots each look into a log asked for, in order.
    pub fn looks(&self) -> Vec<u32> {
        self.state().looks.clone()
    }

    /// The cells that a conversation's log holds.
    pub fn stored(&self, conversation: &ConversationId) -> Vec<Cell> {
        let state = self.state();
        state.log.get(conversation).into_iter().flat_map(BTreeMap::values).filter_map(cell_of).cloned().collect()
    }

    /// Devices whose connection lost its place to an older one.
    pub(crate) fn displaced(&self) -> Vec<String> {
        self.state().displaced.clone()
    }

    /// Whether an envelope has been in the delivery queue.
    pub(crate) fn was_queued(&self, envelope: EnvelopeId) -> bool {
        self.state().queued.contains(&envelope)
    }

    /// What the log holds of the texts that an envelope deletes, which is at this place.
    pub(crate) fn left_by(&self, envelope: EnvelopeId, place: Seq) -> Vec<String> {
        let state = self.state();
        let deletes = state.log.iter().chain(&state.removed).find_map(|(id, log)| {
            let cell = cell_of(log.get(&place)?).filter(|cell| cell.envelope == envelope)?;
            Some((id, cell.messages.iter().filter_map(|message| message.deletes).collect::<Vec<_>>()))
        });
        let Some((id, mut targets)) = deletes else { return Vec::new() };
        let Some(log) = state.log.get(id) else { return Vec::new() };
        // Where retention was there before the delete, the edits go when their own time is up.
        targets
            .retain(|target| log.range(..=target.seq).next_back().is_some_and(|(_, slot)| slot.last() >= target.seq));
        let messages = log.values().filter_map(cell_of).flat_map(Cell::numbered);
        let is_left = |(seq, message): &(Seq, &Message)| {
            let of =
                |target: &MessagePlace| message.edits == Some(*target) || (target.seq, target.id) == (*seq, message.id);
            !(message.body.is_empty() && message.deleted) && targets.iter().any(of)
        };
        messages.filter(is_left).map(|(seq, message)| format!("{:?} at {seq} of {id}", message.body)).collect()
    }

    /// Removes some of what may be removed, as a store does whose removal is late and in no order.
    pub fn remove_some(&self) {
        self.remove(|| self.weather.chance(REMOVED));
    }

    /// Removes all that may be removed.
    pub fn remove_due(&self) {
        self.remove(|| true);
    }

    fn remove(&self, goes: impl Fn() -> bool) {
        let now = self.now_ms();
        let due: Vec<_> = self.state().removals.iter().take_while(|(at, ..)| *at <= now).cloned().collect();
        for (at, conversation, seq) in due {
            if !goes() {
                continue;
            }
            let mut state = self.state();
            let slot = state.log.get_mut(&conversation).and_then(|log| log.remove(&seq));
            if let Some(slot) = slot {
                state.removed.entry(conversation.clone()).or_default().insert(seq, slot);
            }
            state.removals.remove(&(at, conversation, seq));
        }
    }

    /// How many slots were removed.
    pub fn removed(&self) -> usize {
        self.state().removed.values().map(BTreeMap::len).sum()
    }

    /// The groups that there are, or could have come to be.
    pub(crate) fn groups(&self) -> Vec<ConversationId> {
        self.state().heads.keys().filter(|id| id.is_group()).cloned().collect()
    }

    /// What is noted of a group, and of those who are or were in.
    pub(crate) fn noted(&self, id: &ConversationId) -> (Group, BTreeMap<UserId, Member>) {
        let state = self.state();
        let members = state.members.get(id).cloned().unwrap_or_default();
        (state.groups.get(id).cloned().unwrap_or_default(), members)
    }

    /// What was put where something was removed.
    pub fn trespasses(&self) -> Vec<String> {
        self.state().trespasses.clone()
    }

    /// Everything that was published, in the order of publishing.
    pub fn published(&self) -> Vec<Parcel> {
        self.state().queue.clone()
    }

    /// Opens a connection at the gateway; what is posted to it comes out at the other end.
    pub fn open(&self, connection_id: &str) -> UnboundedReceiver<String> {
        let (sender, receiver) = unbounded_channel();
        self.state().sockets.insert(connection_id.to_owned(), sender);
        receiver
    }

    /// Closes a connection at the gateway, without a word to anyone.
    pub fn close(&self, connection_id: &str) {
        self.state().sockets.remove(connection_id);
    }

    /// Puts a frame on a connection, if it is open: an answer of a function.
    pub fn answer(&self, connection_id: &str, frame: String) {
        if let Some(socket) = self.state().sockets.get(connection_id) {
            // Nobody at the other end is like a frame that is lost on the way.
            let _ = socket.send(frame);
        }
    }

    /// Parcels that were published after the first `from`.
    pub fn published_since(&self, from: usize) -> Vec<Parcel> {
        self.state().queue.get(from..).map(<[Parcel]>::to_vec).unwrap_or_default()
    }

    /// The frames that were posted, with their connections, in order; and when.
    pub fn posts(&self) -> Vec<(String, String, u64)> {
        self.state().posts.clone()
    }

    /// Makes somebody a member as `membership` says.
    pub fn admit(&self, conversation: &ConversationId, user: &UserId, membership: Membership) {
        let mut state = self.state();
        state.members.entry(conversation.clone()).or_default().insert(user.clone(), Member::plain(membership));
        state.conversations.entry(user.clone()).or_default().insert(conversation.clone(), None);
    }

    /// Until when a user is here, as far as they are.
    pub fn here_until(&self, user: &UserId) -> Option<u64> {
        self.state().presence.get(user).and_then(|standing| standing.leases.values().max().copied())
    }

    /// A user's membership, as it is.
    pub fn membership_of(&self, conversation: &ConversationId, user: &UserId) -> Option<Membership> {
        self.member_of(conversation, user).map(|member| member.membership)
    }

    fn member_of(&self, conversation: &ConversationId, user: &UserId) -> Option<Member> {
        self.state().members.get(conversation).and_then(|members| members.get(user)).cloned()
    }

    fn told(&self, member: Member) -> Member {
        let membership = Membership::from_the_start();
        if self.breaks(Mutation::MembershipUnchecked) { Member { membership, ..member } } else { member }
    }

    /// A membership as it was a while ago.
    fn lagging(&self, conversation: &ConversationId, user: &UserId) -> Option<Member> {
        let then = self.right_now_ms().saturating_sub(LAG_MS);
        let state = self.state();
        let past = state.past.get(&(conversation.clone(), user.clone()));
        match past.into_iter().flatten().find(|(until, _)| *until > then) {
            Some((_, member)) => member.clone(),
            None => state.members.get(conversation).and_then(|members| members.get(user)).cloned(),
        }
    }

    fn told_head(&self, head: Head) -> Head {
        match self.mutation {
            Some(Mutation::FloorUnknown) => Head { epochs: Epochs::new(Retention::FOREVER, 0), ..head },
            Some(Mutation::FloorTooHigh) => {
                let epochs = Epochs { floor: head.head, ..head.epochs };
                Head { epochs, ..head }
            }
            _ => head,
        }
    }

    /// Makes users members of a conversation from its first message on.
    pub fn admit_all(&self, conversation: &ConversationId, users: &[UserId]) {
        for user in users {
            self.admit(conversation, user, Membership::from_the_start());
        }
    }

    /// Reserves numbers; says which, and the roster then, or why not.
    fn reserve(&self, item: &mut HeadItem, placement: &Placement<'_>) -> std::result::Result<(Seq, Seq), Placing> {
        let head = &mut item.head;
        if !head.epochs.admit(placement.retention, placement.now_ms) && !self.breaks(Mutation::EpochsNeverEnd) {
            return Err(Placing::EpochOver(Box::new(head.clone())));
        }
        if placement.roster.is_some_and(|roster| roster != head.roster) && !self.breaks(Mutation::EventsUnordered) {
            return Err(Placing::RosterMoved);
        }
        head.head = head.head.plus(placement.claim.count);
        head.active_at = placement.now_ms;
        let first = placement.claim.first(head.head).expect("a counter that was just moved");
        if placement.roster.is_some() {
            head.roster = first;
        }
        let roster = if self.breaks(Mutation::RosterUntold) { Seq::ZERO } else { head.roster };
        Ok((first, roster))
    }

    /// Whether a lane may be given to a claim.
    fn yields(&self, standing: &Lane, claim: &Claim, terms: Terms) -> bool {
        match (self.mutation, terms) {
            (Some(Mutation::PlacingAnewUnasked), Terms::Anew(_)) | (Some(Mutation::PlacingUnasked), Terms::Next) => {
                true
            }
            (Some(Mutation::LateFramesStored), Terms::Next) => {
                standing.number != claim.number && standing.id != claim.id
            }
            _ => terms.allow(claim, standing),
        }
    }

    /// Whether a lane is recorded when it is placed.
    fn records(&self, claim: &Claim) -> bool {
        match self.mutation {
            Some(Mutation::LaneAfterCell) => false,
            Some(Mutation::RefusalsForgotten) => claim.count > 0,
            _ => true,
        }
    }

    /// Records a lane where it lives.
    fn record(&self, state: &mut State, conversation: &ConversationId, key: &LaneKey, lane: Lane) {
        let Some(item) = state.heads.get_mut(conversation) else { return };
        if self.is_outside(item, key) {
            state.lanes.insert((conversation.clone(), key.clone()), lane);
        } else {
            item.lanes.insert(key.clone(), lane);
        }
    }

    /// A void for every number that is missing before the next slot, from the last one down.
    async fn put_descending(&self, conversation: &ConversationId, first: Seq) -> Result<Option<Slot>> {
        let next = self.state().log.get(conversation).and_then(|log| log.range(first..).next().map(|(seq, _)| *seq));
        let next = next.unwrap_or(first.next()).max(first.next());
        let mut found = None;
        for number in (first.get()..next.get()).rev() {
            found = self.put_slot(conversation, &Slot::Void(Seq::ZERO.plus(number)), None).await?;
        }
        Ok(found)
    }

    async fn put_slot(&self, conversation: &ConversationId, slot: &Slot, removal: Option<u64>) -> Result<Option<Slot>> {
        self.weather
            .call("log.put", || {
                let mut state = self.state();
                let log = state.log.entry(conversation.clone()).or_default();
                let is_cell = matches!(slot, Slot::Cell(_));
                match log.get(&slot.seq()) {
                    Some(_) if is_cell && self.breaks(Mutation::CellsOverwrite) => {}
                    Some(Slot::Void(_)) if is_cell && self.breaks(Mutation::NoPlacingAnew) => return Ok(None),
                    Some(existing) => return Ok(Some(existing.clone())),
                    None => {}
                }
                log.insert(slot.seq(), slot.clone());
                state.waking.stored(self.right_now_ms(), conversation, slot.seq());
                if let Some(removal) = removal {
                    state.removals.insert((removal, conversation.clone(), slot.seq()));
                }
                if state.removed.get(conversation).is_some_and(|removed| removed.contains_key(&slot.seq())) {
                    state.trespasses.push(format!("{slot:?} in {conversation}"));
                }
                if let Slot::Cell(cell) = slot
                    && self.breaks(Mutation::LaneAfterCell)
                {
                    let count = cell.messages.len() as u64;
                    let lane = Lane { number: cell.number, id: cell.envelope, count, first: cell.seq };
                    self.record(&mut state, conversation, &LaneKey::of(&cell.by), lane);
                }
                Ok(None)
            })
            .await
    }

    /// Whether the lane lives, or would live, outside the head; or what it holds inside.
    fn is_outside(&self, item: &HeadItem, lane: &LaneKey) -> bool {
        !item.lanes.contains_key(lane) && item.lanes.len() >= self.lanes_in_head
    }
}

#[async_trait]
impl Clock for World {
    fn now_ms(&self) -> u64 {
        self.right_now_ms().saturating_add_signed(self.wrong_by_ms.load(Ordering::Relaxed))
    }

    async fn pause(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

#[async_trait]
impl Heads for World {
    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<(ConversationId, Head)>> {
        self.weather
            .call("heads.get", || {
                let state = self.state();
                let head = |id: &ConversationId| {
                    let item = state.heads.get(id)?;
                    Some((id.clone(), self.told_head(item.head.clone())))
                };
                Ok(conversations.iter().filter_map(head).collect())
            })
            .await
    }

    async fn create(&self, conversation: &ConversationId, retention: Retention, now_ms: u64) -> Result<()> {
        self.weather
            .call("heads.create", || {
                self.state().heads.entry(conversation.clone()).or_insert_with(|| {
                    let epochs = Epochs::new(retention, now_ms);
                    let head = Head { head: Seq::ZERO, active_at: now_ms, roster: Seq::ZERO, epochs };
                    HeadItem { head, lanes: BTreeMap::new() }
                });
                Ok(())
            })
            .await
    }

    async fn lane(&self, conversation: &ConversationId, lane: &LaneKey) -> Result<Option<Lane>> {
        self.weather
            .call("heads.lane", || {
                let state = self.state();
                let inside = state.heads.get(conversation).and_then(|item| item.lanes.get(lane));
                Ok(inside.or_else(|| state.lanes.get(&(conversation.clone(), lane.clone()))).copied())
            })
            .await
    }

    async fn place(&self, placement: &Placement<'_>) -> Result<Placing> {
        let Placement { conversation, lane, claim, terms, .. } = *placement;
        let inside = self
            .weather
            .call("heads.place", || {
                let mut state = self.state();
                let Some(item) = state.heads.get_mut(conversation) else { return Ok(Some(Placing::NoConversation)) };
                if self.is_outside(item, lane) {
                    return Ok(None);
                }
                if let Some(standing) = item.lanes.get(lane).filter(|standing| !self.yields(standing, &claim, terms)) {
                    return Ok(Some(Placing::Standing(*standing)));
                }
                Ok(Some(match self.reserve(item, placement) {
                    Err(refused) => refused,
                    Ok((first, roster)) => {
                        if self.records(&claim) {
                            item.lanes.insert(lane.clone(), Lane::taken(&claim, first));
                        }
                        Placing::Placed { first, roster }
                    }
                }))
            })
            .await?;
        if let Some(placing) = inside {
            return Ok(placing);
        }
        let reserved = self
            .weather
            .call("heads.reserve", || {
                let mut state = self.state();
                Ok(match state.heads.get_mut(conversation) {
                    Some(item) => self.reserve(item, placement),
                    None => Err(Placing::NoConversation),
                })
            })
            .await?;
        let (first, roster) = match reserved {
            Ok(reserved) => reserved,
            Err(refused) => return Ok(refused),
        };
        self.weather
            .call("lanes.bind", || {
                let mut state = self.state();
                let key = (conversation.clone(), lane.clone());
                if let Some(standing) = state.lanes.get(&key).filter(|standing| !self.yields(standing, &claim, terms)) {
                    return Ok(Placing::Standing(*standing));
                }
                if self.records(&claim) {
                    state.lanes.insert(key, Lane::taken(&claim, first));
                }
                Ok(Placing::Placed { first, roster })
            })
            .await
    }

    async fn turn(&self, conversation: &ConversationId, head: &Head, epochs: &Epochs) -> Result<()> {
        self.weather
            .call("heads.turn", || {
                if let Some(item) = self.state().heads.get_mut(conversation)
                    && (item.head.epochs.retention, item.head.epochs.since)
                        == (head.epochs.retention, head.epochs.since)
                {
                    item.head.epochs = epochs.clone();
                }
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Log for World {
    async fn put(&self, conversation: &ConversationId, slot: &Slot, removal: Option<u64>) -> Result<Option<Slot>> {
        let early = self.breaks(Mutation::RemovedTooEarly);
        let removal = removal.map(|at| if early { self.now_ms().midpoint(at) } else { at });
        match slot {
            Slot::Void(first) if self.breaks(Mutation::VoidsDescend) => self.put_descending(conversation, *first).await,
            _ => self.put_slot(conversation, slot, removal).await,
        }
    }

    async fn after(&self, conversation: &ConversationId, after: Seq, limit: u32) -> Result<Slots> {
        self.weather
            .call("log.after", || {
                let mut state = self.state();
                state.looks.push(limit);
                let log = state.log.get(conversation);
                Ok(run(log.into_iter().flat_map(|log| log.range(after.next()..).map(|(_, slot)| slot)), limit))
            })
            .await
    }

    async fn before(&self, conversation: &ConversationId, from: Seq, limit: u32) -> Result<Slots> {
        self.weather
            .call("log.before", || {
                let mut state = self.state();
                state.looks.push(limit);
                let log = state.log.get(conversation);
                Ok(run(log.into_iter().flat_map(|log| log.range(..=from).rev().map(|(_, slot)| slot)), limit))
            })
            .await
    }

    async fn register(&self, conversation: &ConversationId, cell: Seq, index: usize, edit: Seq) -> Result<Registered> {
        self.weather
            .call("log.register", || {
                let mut state = self.state();
                let Some(message) = message_in(&mut state, conversation, cell, index) else {
                    return Ok(Registered::Gone);
                };
                let deleted = message.deleted && !self.breaks(Mutation::EditsAfterDeletes);
                if !self.breaks(Mutation::EditsUnregistered) {
                    state.edits.entry((conversation.clone(), cell, index)).or_default().insert(edit);
                }
                Ok(if deleted { Registered::Redacted } else { Registered::Intact })
            })
            .await
    }

    async fn redact(&self, conversation: &ConversationId, cell: Seq, index: usize) -> Result<Vec<Seq>> {
        self.weather
            .call("log.redact", || {
                let mut state = self.state();
                let Some(message) = message_in(&mut state, conversation, cell, index) else { return Ok(Vec::new()) };
                if !self.breaks(Mutation::DeletesKeepContent) {
                    *message = message.clone().redacted();
                }
                let edits = state.edits.get(&(conversation.clone(), cell, index));
                Ok(edits.into_iter().flatten().copied().collect())
            })
            .await
    }
}

/// A message of a cell that is there.
fn message_in<'a>(
    state: &'a mut State,
    conversation: &ConversationId,
    cell: Seq,
    index: usize,
) -> Option<&'a mut Message> {
    match state.log.get_mut(conversation)?.get_mut(&cell)? {
        Slot::Cell(cell) => cell.messages.get_mut(index),
        Slot::Void(_) => None,
    }
}

fn run<'a>(slots: impl Iterator<Item = &'a Slot>, limit: u32) -> Slots {
    let mut slots = slots.cloned();
    let taken: Vec<Slot> = slots.by_ref().take(limit as usize).collect();
    Slots { slots: taken, end: slots.next().is_none() }
}

#[async_trait]
impl Members for World {
    async fn member(&self, conversation: &ConversationId, user: &UserId) -> Result<Option<Member>> {
        self.weather
            .call("members.get", || {
                let lags = self.breaks(Mutation::MembershipLags);
                let found = if lags { self.lagging(conversation, user) } else { self.member_of(conversation, user) };
                Ok(found.map(|member| self.told(member)))
            })
            .await
    }

    async fn members(&self, conversation: &ConversationId) -> Result<Roster> {
        self.weather
            .call("members.query", || {
                let state = self.state();
                let members = state.members.get(conversation).into_iter().flatten();
                let members = members.map(|(user, member)| (user.clone(), self.told(member.clone()))).collect();
                let applied = state.groups.get(conversation).map_or(Seq::ZERO, |group| group.applied);
                Ok(Roster { applied, members })
            })
            .await
    }

    async fn slice(&self, conversation: &ConversationId, after: Option<&UserId>, limit: u32) -> Result<MembersSlice> {
        self.weather
            .call("members.slice", || {
                let state = self.state();
                let members = state.members.get(conversation).into_iter().flatten();
                let mut all = members.filter(|(user, _)| after.is_none_or(|after| *user > after));
                let members = all.by_ref().take(limit as usize).map(|(user, m)| (user.clone(), m.clone())).collect();
                Ok(MembersSlice { members, more: all.next().is_some() })
            })
            .await
    }

    async fn several(&self, keys: &[(ConversationId, UserId)]) -> Result<Vec<(ConversationId, UserId, Member)>> {
        self.weather
            .call("members.several", || {
                let of = |(id, user): &(ConversationId, UserId)| {
                    Some((id.clone(), user.clone(), self.told(self.member_of(id, user)?)))
                };
                Ok(keys.iter().filter_map(of).collect())
            })
            .await
    }

    async fn groups(&self, conversations: &[ConversationId]) -> Result<Vec<(ConversationId, Group)>> {
        self.weather
            .call("groups.get", || {
                let state = self.state();
                let of = |id: &ConversationId| Some((id.clone(), state.groups.get(id)?.clone()));
                Ok(conversations.iter().filter_map(of).collect())
            })
            .await
    }

    async fn enter(&self, conversation: &ConversationId, user: &UserId, member: &Member) -> Result<()> {
        self.weather
            .call("conversations.enter", || {
                let mut state = self.state();
                let mirror = state.conversations.entry(user.clone()).or_default();
                mirror.entry(conversation.clone()).or_insert(None);
                Ok(())
            })
            .await?;
        self.weather
            .call("members.enter", || {
                let now = self.right_now_ms();
                let mut state = self.state();
                let members = state.members.entry(conversation.clone()).or_default();
                let known = members.get(user).cloned();
                if known.as_ref().is_some_and(|known| known.version >= member.version)
                    && !self.breaks(Mutation::EventsUnguarded)
                {
                    return Ok(());
                }
                members.insert(user.clone(), member.clone());
                state.past.entry((conversation.clone(), user.clone())).or_default().push((now, known));
                Ok(())
            })
            .await
    }

    async fn settle(&self, conversation: &ConversationId, group: &Group) -> Result<()> {
        self.weather
            .call("groups.settle", || {
                let mut state = self.state();
                let known = state.groups.entry(conversation.clone()).or_default();
                if known.applied < group.applied {
                    *known = group.clone();
                }
                Ok(())
            })
            .await
    }

    async fn found_direct(&self, conversation: &ConversationId, a: &UserId, b: &UserId) -> Result<()> {
        if self.breaks(Mutation::HeadBeforeMembers) {
            self.create(conversation, Retention::FOREVER, self.now_ms()).await?;
        }
        for (user, peer) in [(a, b), (b, a)] {
            self.weather
                .call("members.found", || {
                    let mut state = self.state();
                    let members = state.members.entry(conversation.clone()).or_default();
                    members.entry(user.clone()).or_insert_with(|| Member::plain(Membership::from_the_start()));
                    let mirror = state.conversations.entry(user.clone()).or_default();
                    mirror.entry(conversation.clone()).or_insert_with(|| Some(peer.clone()));
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }

    async fn set_receipts(&self, user: &UserId, on: bool, at_ms: u64) -> Result<bool> {
        self.weather
            .call("receipts.set", || {
                let mut state = self.state();
                let set = state.receipts.entry(user.clone()).or_insert((at_ms, on));
                if set.0 <= at_ms {
                    *set = (at_ms, on);
                }
                Ok(set.1)
            })
            .await
    }

    async fn without_receipts(&self, users: &[UserId]) -> Result<Vec<UserId>> {
        self.weather
            .call("receipts.get", || {
                let state = self.state();
                let never = self.breaks(Mutation::ReceiptsNeverOff);
                let off = |user: &&UserId| !never && state.receipts.get(user).is_some_and(|(_, on)| !on);
                Ok(users.iter().filter(off).cloned().collect())
            })
            .await
    }

    async fn conversations(&self, user: &UserId, after: Option<&ConversationId>, limit: u32) -> Result<Belongings> {
        self.weather
            .call("conversations.query", || {
                let state = self.state();
                let mut all = state
                    .conversations
                    .get(user)
                    .into_iter()
                    .flatten()
                    .filter(|(id, _)| after.is_none_or(|after| *id > after))
                    .map(|(id, peer)| Belonging { conversation: id.clone(), peer: peer.clone() });
                let conversations = all.by_ref().take(limit as usize).collect();
                Ok(Belongings { conversations, more: all.next().is_some() })
            })
            .await
    }
}

#[async_trait]
impl Marks for World {
    async fn advance(&self, author: &Author, mark: &Mark, receipts: bool) -> Result<Advance> {
        self.weather
            .call("marks.advance", || {
                let mut state = self.state();
                let key = (mark.conversation.clone(), author.user.clone());
                let before = marks_of(&state, &key, &author.device);
                let own = state.delivered.entry(key.clone()).or_default().entry(author.device.clone());
                let own = own.or_insert(Seq::ZERO);
                let mut repeat = mark.delivered.is_none_or(|delivered| delivered == *own);
                *own = match mark.delivered {
                    Some(delivered) if self.breaks(Mutation::MarksGoBack) => delivered,
                    delivered => (*own).max(delivered.unwrap_or(Seq::ZERO)),
                };
                let own = *own;
                let receipts = receipts || self.breaks(Mutation::ReceiptsGivenUnasked);
                let read = if receipts { &mut state.read } else { &mut state.kept };
                let read = read.entry(key.clone()).or_insert(Seq::ZERO);
                repeat &= mark.read.is_none_or(|to| to == *read);
                *read = match mark.read {
                    Some(to) if self.breaks(Mutation::ReadMarksGoBack) => to,
                    to => (*read).max(to.unwrap_or(Seq::ZERO)),
                };
                let after = marks_of(&state, &key, &author.device);
                state.marked.push((mark.conversation.clone(), after.own(), own));
                state.waking.marked(self.right_now_ms(), &mark.conversation, &after.own());
                Ok(Advance { before, after, repeat })
            })
            .await
    }

    async fn of(&self, keys: &[(ConversationId, UserId)]) -> Result<Vec<(ConversationId, UserMarks)>> {
        self.weather
            .call("marks.get", || {
                let state = self.state();
                let keys = if self.breaks(Mutation::PushesWhatIsMarked) { &[] } else { keys };
                let found = keys.iter().filter_map(|key| {
                    let (device, _) = state.delivered.get(key)?.iter().max_by_key(|(_, seq)| **seq)?;
                    Some((key.0.clone(), marks_of(&state, key, device)))
                });
                Ok(found.collect())
            })
            .await
    }

    async fn slice(&self, conversation: &ConversationId, after: Option<&UserId>, limit: u32) -> Result<MarksSlice> {
        self.weather
            .call("marks.slice", || {
                let state = self.state();
                let of = |(id, user): &&(ConversationId, UserId)| {
                    id == conversation && after.is_none_or(|after| user > after)
                };
                let mut marks = state.delivered.iter().filter(|(key, _)| of(key)).filter_map(|(key, devices)| {
                    let (device, _) = devices.iter().max_by_key(|(_, seq)| **seq)?;
                    Some(marks_of(&state, key, device))
                });
                let slice = marks.by_ref().take(limit as usize).collect();
                Ok(MarksSlice { marks: slice, more: marks.next().is_some() })
            })
            .await
    }
}

fn marks_of(state: &State, key: &(ConversationId, UserId), device: &DeviceId) -> UserMarks {
    let of = |read: &BTreeMap<_, Seq>| read.get(key).copied().unwrap_or(Seq::ZERO);
    let (read, kept) = (of(&state.read), of(&state.kept));
    let furthest = state.delivered.get(key).and_then(|devices| devices.values().max().copied());
    let delivered = furthest.unwrap_or(Seq::ZERO).max(read);
    let told = MemberMark { user: key.1.clone(), device: device.clone(), delivered, read };
    let devices = state.delivered.get(key).cloned().unwrap_or_default();
    UserMarks { told, read: read.max(kept), devices }
}

#[async_trait]
impl Connections for World {
    async fn register(&self, author: &Author, connection: &Connection) -> Result<Registration> {
        self.weather
            .call("connections.register", || {
                let key = (author.user.clone(), author.device.clone());
                let mut state = self.state();
                let newer = |known: &Connection| known.since_ms > connection.since_ms;
                if state.connections.get(&key).is_some_and(newer) && !self.breaks(Mutation::OlderConnectionsRegister) {
                    return Ok(Registration::Superseded);
                }
                let before = state.connections.insert(key, connection.clone());
                if before.as_ref().is_some_and(newer) {
                    state.displaced.push(format!("{}'s {}", author.user, author.device));
                }
                Ok(Registration::Registered { replaced: before.filter(|older| older.id != connection.id) })
            })
            .await
    }

    async fn remove(&self, author: &Author, connection_id: &str) -> Result<()> {
        self.weather
            .call("connections.remove", || {
                let key = (author.user.clone(), author.device.clone());
                let mut state = self.state();
                if state.connections.get(&key).is_some_and(|connection| connection.id == connection_id) {
                    state.connections.remove(&key);
                }
                Ok(())
            })
            .await
    }

    async fn of(&self, users: &[UserId]) -> Result<Vec<(UserId, DeviceId, Connection)>> {
        self.weather
            .call("connections.get", || {
                let state = self.state();
                let of = state.connections.iter().filter(|((user, _), _)| users.contains(user));
                Ok(of.map(|((user, device), c)| (user.clone(), device.clone(), c.clone())).collect())
            })
            .await
    }
}

#[async_trait]
impl Presence for World {
    async fn renew(&self, author: &Author, until_ms: u64, now_ms: u64) -> Result<Standing> {
        self.weather
            .call("presence.renew", || {
                let mut state = self.state();
                let standing = state.presence.entry(author.user.clone()).or_default();
                let before = standing.clone();
                standing.leases.insert(author.device.clone(), until_ms);
                standing.seen_ms = now_ms;
                Ok(before)
            })
            .await
    }

    async fn leave(&self, author: &Author, now_ms: u64) -> Result<Standing> {
        self.weather
            .call("presence.leave", || {
                let mut state = self.state();
                let Some(standing) = state.presence.get_mut(&author.user) else { return Ok(Standing::default()) };
                let before = standing.clone();
                if standing.leases.remove(&author.device).is_none() {
                    return Ok(Standing::default());
                }
                standing.seen_ms = now_ms;
                Ok(before)
            })
            .await
    }

    async fn tell(&self, user: &UserId, told: Told, pause_ms: u64, forget: &[DeviceId]) -> Result<bool> {
        self.weather
            .call("presence.tell", || {
                let mut state = self.state();
                let standing = state.presence.entry(user.clone()).or_default();
                let recent = |last: Told| last != told && last.at_ms > told.at_ms.saturating_sub(pause_ms);
                if standing.told.is_some_and(recent) {
                    return Ok(false);
                }
                standing.told = Some(told);
                standing.leases.retain(|device, _| !forget.contains(device));
                Ok(true)
            })
            .await
    }

    async fn watch(&self, user: &UserId, watcher: &Author, until_ms: u64, others: &[Author]) -> Result<Standing> {
        self.weather
            .call("presence.watch", || {
                let mut state = self.state();
                let standing = state.presence.entry(user.clone()).or_default();
                standing.watchers.retain(|known, _| !others.contains(known));
                standing.watchers.insert(watcher.clone(), until_ms);
                Ok(standing.clone())
            })
            .await
    }

    async fn of(&self, users: &[UserId]) -> Result<Vec<(UserId, Standing)>> {
        self.weather
            .call("presence.get", || {
                let state = self.state();
                let known = users.iter().filter_map(|user| Some((user.clone(), state.presence.get(user)?.clone())));
                Ok(known.collect())
            })
            .await
    }
}

#[async_trait]
impl Courier for World {
    async fn publish(&self, parcel: &Parcel) -> Result<()> {
        let published = self
            .weather
            .call("queue.publish", || {
                let roster = if self.breaks(Mutation::DeliveredToWhoWasIn) { Seq::ZERO } else { parcel.roster };
                let mut state = self.state();
                if let News::Cell(cell) = &parcel.news {
                    state.queued.insert(cell.envelope);
                }
                state.queue.push(Parcel { roster, ..parcel.clone() });
                Ok(())
            })
            .await;
        if self.breaks(Mutation::AcknowledgeBeforePublish) { Ok(()) } else { published }
    }
}

#[async_trait]
impl Callback for World {
    async fn post(&self, connection_id: &str, frame: &str) -> Result<Posted> {
        self.weather
            .call("callback.post", || {
                let now_ms = self.now_ms();
                let mut state = self.state();
                let Some(socket) = state.sockets.get(connection_id) else { return Ok(Posted::Gone) };
                let _ = socket.send(frame.to_owned());
                self.chronicle.note(|| format!("posted on {connection_id}: {frame}"));
                let premature = not_stored(&state, frame);
                state.premature.extend(premature);
                state.posts.push((connection_id.to_owned(), frame.to_owned(), now_ms));
                Ok(Posted::Taken)
            })
            .await
    }

    async fn close(&self, connection_id: &str) -> Result<()> {
        self.weather
            .call("callback.close", || {
                self.state().sockets.remove(connection_id);
                Ok(())
            })
            .await
    }
}

pub(crate) fn cell_of(slot: &Slot) -> Option<&Cell> {
    match slot {
        Slot::Cell(cell) => Some(cell),
        Slot::Void(_) => None,
    }
}

/// Whether a slot holds this cell, of which it may have lost content since.
pub(crate) fn holds(slot: &Slot, cell: &Cell) -> bool {
    let Slot::Cell(stored) = slot else { return false };
    let messages = stored.messages.iter().zip(&cell.messages);
    let same = |(stored, message): (&Message, &Message)| stored == message || *stored == message.clone().redacted();
    let bare = |cell: &Cell| Cell { messages: Vec::new(), ..cell.clone() };
    stored.messages.len() == cell.messages.len() && messages.into_iter().all(same) && bare(stored) == bare(cell)
}

/// The cells of a delivery that are not in the log.
fn not_stored(state: &State, frame: &str) -> Vec<String> {
    let Ok(FromServer::Delivery(delivery)) = serde_json::from_str(frame) else { return Vec::new() };
    let cells = delivery.items.into_iter().flat_map(|item| {
        let parts = [state.log.get(&item.conversation), state.removed.get(&item.conversation)];
        item.cells.into_iter().filter_map(move |cell| {
            let stored = parts.iter().flatten().any(|part| part.get(&cell.seq).is_some_and(|slot| holds(slot, &cell)));
            (!stored).then(|| format!("{} of {}", cell.seq, item.conversation))
        })
    });
    cells.collect()
}
