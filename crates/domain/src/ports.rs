//! What the rules need of the world. Implemented on AWS in `poste-aws` and in memory in `poste-sim`.
//!
//! Every call may fail before or after its effect; the rules are built for that. Reads that make promises are
//! strongly consistent: a write that was answered before the read began is seen by it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use poste_protocol::{
    Author, Cell, ConversationId, DeviceId, Digest, EnvelopeId, Link, Mark, MediaFile, MemberMark, Platform,
    ProviderToken, PushId, PushStatus, PushStyle, Seq, UserId, discreet,
};
use serde::{Deserialize, Serialize};

use crate::{Claim, Epochs, Lane, LaneKey, Member, Membership, Pushes, Retention, TokenHash, Trouble, media::FileId};

/// What a call to a part comes to.
pub type Result<T> = std::result::Result<T, Trouble>;

/// Unix time in milliseconds, by the server's clock.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now.
    fn now_ms(&self) -> u64;

    /// Returns after so many milliseconds.
    async fn pause(&self, ms: u64);
}

/// The head of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The highest number reserved so far.
    pub head: Seq,
    /// When it was last moved.
    pub active_at: u64,
    /// The number of the last event of the group that was given a place; 0 if there is none.
    pub roster: Seq,
    /// The ages of its numbers.
    pub epochs: Epochs,
}

impl Head {
    /// Everything up to here is gone. What the store has removed is never above.
    pub fn floor(&self, now_ms: u64) -> Seq {
        self.epochs.floor(self.head, self.active_at, now_ms)
    }

    /// The epochs with a new one, in which numbers may be given.
    #[must_use]
    pub fn next_epochs(&self, retention: Retention, now_ms: u64) -> Epochs {
        self.epochs.next(retention, self.head, self.active_at, now_ms)
    }
}

/// A claim, on the way to a place in a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// Where.
    pub conversation: &'a ConversationId,
    /// The lane of the claim's device.
    pub lane: &'a LaneKey,
    /// What is to be placed.
    pub claim: Claim,
    /// What the lane must hold for it.
    pub terms: Terms,
    /// The time.
    pub now_ms: u64,
    /// How long the deployment keeps messages: the conversation's present epoch must
    /// [admit](crate::Epochs::admit) it.
    pub retention: Retention,
    /// For an event of a group: what the head's roster must be. It moves to the event's place in the same step.
    pub roster: Option<Seq>,
}

/// What a lane must hold for a claim to be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terms {
    /// Nothing, or an envelope with a smaller number and another id.
    Next,
    /// Exactly this, which has a smaller number and another id.
    Over(Lane),
    /// Exactly this, which is of the claim's own envelope: its place is lost.
    Anew(Lane),
}

impl Terms {
    /// Whether a claim may be placed where the lane holds this.
    pub fn allow(&self, claim: &Claim, lane: &Lane) -> bool {
        let newer = lane.number < claim.number && lane.id != claim.id;
        match self {
            Self::Next => newer,
            Self::Over(over) => newer && lane == over,
            Self::Anew(old) => lane == old && lane.number == claim.number && lane.id == claim.id,
        }
    }
}

/// What placing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placing {
    /// The claim has a place: the numbers from `first` on, as many as it asked for, are its own.
    Placed {
        /// The first of them.
        first: Seq,
        /// The head's roster after this step. No event has a place between it and `first`.
        roster: Seq,
    },
    /// The lane holds something else than the terms ask for; nothing was placed.
    Standing(Lane),
    /// The present epoch of the conversation has to be ended first, see [`Heads::turn`]; nothing was placed.
    EpochOver(Box<Head>),
    /// Another event was given a place meanwhile; nothing was placed.
    RosterMoved,
    /// There is no such conversation.
    NoConversation,
}

/// Heads and lanes: the counter of a conversation, and who was given which numbers.
#[async_trait]
pub trait Heads: Send + Sync {
    /// The heads of those conversations that exist, in no order. Consistent. At most 100.
    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<(ConversationId, Head)>>;

    /// The head of one conversation, if it exists. Consistent.
    async fn head(&self, conversation: &ConversationId) -> Result<Option<Head>> {
        Ok(self.heads(std::slice::from_ref(conversation)).await?.pop().map(|(_, head)| head))
    }

    /// Makes the head of a conversation, at 0, if there is none.
    async fn create(&self, conversation: &ConversationId, retention: Retention, now_ms: u64) -> Result<()>;

    /// The lane as it is. Consistent.
    async fn lane(&self, conversation: &ConversationId, lane: &LaneKey) -> Result<Option<Lane>>;

    /// Reserves numbers and records the claim in the lane, on its terms.
    ///
    /// A call that took effect though its answer was lost may show as [`Placing::Standing`] with the same claim.
    async fn place(&self, placement: &Placement<'_>) -> Result<Placing>;

    /// Puts other epochs in the place of those of `head`, if they are still what they are there.
    async fn turn(&self, conversation: &ConversationId, head: &Head, epochs: &Epochs) -> Result<()>;
}

/// One place of the log that is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// An envelope.
    Cell(Cell),
    /// A number that will never be used.
    Void(Seq),
}

impl Slot {
    /// Its number: of the first message, for a cell.
    pub fn seq(&self) -> Seq {
        match self {
            Self::Cell(cell) => cell.seq,
            Self::Void(seq) => *seq,
        }
    }

    /// The last number that it decides.
    pub fn last(&self) -> Seq {
        match self {
            Self::Cell(cell) => cell.last(),
            Self::Void(seq) => *seq,
        }
    }
}

/// A run of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// In the order that was asked for.
    pub slots: Vec<Slot>,
    /// There is nothing further in that direction.
    pub end: bool,
}

/// How an edit finds the message that it edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// As it was written. Whoever redacts it from now on is told of the edit.
    Intact,
    /// Redacted.
    Redacted,
    /// There is no such cell any more.
    Gone,
}

/// The log: write-once slots, of which single messages may be redacted.
#[async_trait]
pub trait Log: Send + Sync {
    /// Puts a slot where there is nothing. What was there already comes back instead, unchanged. From `removal` on
    /// (Unix milliseconds) the store may remove it, at any time or never.
    async fn put(&self, conversation: &ConversationId, slot: &Slot, removal: Option<u64>) -> Result<Option<Slot>>;

    /// Slots with a number greater than `after`, ascending, at most `limit`. Consistent.
    async fn after(&self, conversation: &ConversationId, after: Seq, limit: u32) -> Result<Slots>;

    /// Slots with a number of at most `from`, descending, at most `limit`. Consistent.
    async fn before(&self, conversation: &ConversationId, from: Seq, limit: u32) -> Result<Slots>;

    /// Notes at message `index` of the cell at `cell` that an edit of it has the place `edit`: the first number of the
    /// edit's cell, which need not be written yet. Again is as good as once.
    async fn register(&self, conversation: &ConversationId, cell: Seq, index: usize, edit: Seq) -> Result<Registered>;

    /// [Redacts](poste_protocol::Message::redacted) message `index` of the cell at `cell`, and tells the places of all
    /// edits of it that were registered before. Again is as good as once, and where there is no cell nothing happens.
    async fn redact(&self, conversation: &ConversationId, cell: Seq, index: usize) -> Result<Vec<Seq>>;
}

/// A user's conversation, from the user's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belonging {
    /// Which.
    pub conversation: ConversationId,
    /// The other user of a direct conversation.
    pub peer: Option<UserId>,
}

/// A page of a user's conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belongings {
    /// Ascending by id.
    pub conversations: Vec<Belonging>,
    /// There are more after the last.
    pub more: bool,
}

/// A group, as all its events up to `applied` have made it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// The last event that was applied: what is noted of its members is at least as of then.
    pub applied: Seq,
    /// It was created. Otherwise what has a place came to nothing.
    pub founded: bool,
    /// Its title.
    pub title: String,
    /// How many are in.
    pub members: u64,
    /// How many of them are admins.
    pub admins: u64,
}

discreet!(Group { applied, founded, members, admins } hides { title });

/// All who are or were in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// The members are at least as of this event.
    pub applied: Seq,
    /// In no order.
    pub members: Vec<(UserId, Member)>,
}

/// A page of those who are or were in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersSlice {
    /// Ascending by user.
    pub members: Vec<(UserId, Member)>,
    /// There are more after the last.
    pub more: bool,
}

/// Who is in a conversation, and the mirror: what a user is in. All reads are consistent.
#[async_trait]
pub trait Members: Send + Sync {
    /// A user's membership, past or present.
    async fn member(&self, conversation: &ConversationId, user: &UserId) -> Result<Option<Member>>;

    /// All who are or were members. They are read after what they are said to be as of.
    async fn members(&self, conversation: &ConversationId) -> Result<Roster>;

    /// Those of them that come after `after`, at most `limit`.
    async fn slice(&self, conversation: &ConversationId, after: Option<&UserId>, limit: u32) -> Result<MembersSlice>;

    /// Memberships of users in conversations, where there are any, in no order.
    async fn several(&self, keys: &[(ConversationId, UserId)]) -> Result<Vec<(ConversationId, UserId, Member)>>;

    /// How far events are applied, where any is; in no order.
    async fn groups(&self, conversations: &[ConversationId]) -> Result<Vec<(ConversationId, Group)>>;

    /// How far a group's events are applied.
    async fn group(&self, conversation: &ConversationId) -> Result<Option<Group>> {
        Ok(self.groups(std::slice::from_ref(conversation)).await?.pop().map(|(_, group)| group))
    }

    /// Notes what an event, `member.version`, has made of a user, and lists the conversation for them. Changes nothing
    /// where the same event or a later one is noted. Several writes: the same again completes them.
    async fn enter(&self, conversation: &ConversationId, user: &UserId, member: &Member) -> Result<()>;

    /// Notes that a group's events are applied up to `group.applied`, unless they are noted to be so far already.
    async fn settle(&self, conversation: &ConversationId, group: &Group) -> Result<()>;

    /// Makes both users members from the first message on, and lists the conversation for both. Several writes, of
    /// which some may happen and others not: the same again completes them. Leaves what is there as it is.
    async fn found_direct(&self, conversation: &ConversationId, a: &UserId, b: &UserId) -> Result<()>;

    /// Notes whether a user gives and gets read receipts, unless that was decided later than `at_ms`. Says what holds.
    async fn set_receipts(&self, user: &UserId, on: bool, at_ms: u64) -> Result<bool>;

    /// Those of these users who give and get no read receipts.
    async fn without_receipts(&self, users: &[UserId]) -> Result<Vec<UserId>>;

    /// A user's conversations after `after`, at most `limit`.
    async fn conversations(&self, user: &UserId, after: Option<&ConversationId>, limit: u32) -> Result<Belongings>;
}

/// How far a user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserMarks {
    /// As others are told.
    pub told: MemberMark,
    /// How far the user has read; further than others are told, if that was while the user gave no read receipts.
    pub read: Seq,
    /// How far each device has stored.
    pub devices: BTreeMap<DeviceId, Seq>,
}

impl UserMarks {
    /// As the user's own devices are told.
    #[must_use]
    pub fn own(&self) -> MemberMark {
        MemberMark { delivered: self.told.delivered.max(self.read), read: self.read, ..self.told.clone() }
    }

    /// As somebody else is told who gets no read receipts.
    #[must_use]
    pub fn unread(&self) -> MemberMark {
        MemberMark { read: Seq::ZERO, ..self.told.clone() }
    }
}

/// What a mark did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// The user's marks before.
    pub before: UserMarks,
    /// The user's marks now.
    pub after: UserMarks,
    /// The device had said exactly this before, and nothing further since.
    pub repeat: bool,
}

impl Advance {
    /// The user's own `delivered` or `read` moved (not only that of one device among several).
    pub fn moved(&self) -> bool {
        let (before, after) = (self.before.own(), self.after.own());
        after.delivered > before.delivered || after.read > before.read
    }
}

/// A page of the marks of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarksSlice {
    /// Ascending by user.
    pub marks: Vec<UserMarks>,
    /// There are more after the last.
    pub more: bool,
}

/// Watermarks.
#[async_trait]
pub trait Marks: Send + Sync {
    /// Moves a device's marks forward; never back. `receipts` says whether others are told what was read.
    async fn advance(&self, author: &Author, mark: &Mark, receipts: bool) -> Result<Advance>;

    /// The marks of these users in these conversations, where there are any, in no order.
    async fn of(&self, keys: &[(ConversationId, UserId)]) -> Result<Vec<(ConversationId, UserMarks)>>;

    /// The marks of a conversation of users after `after`, at most `limit`. One query. Consistent.
    async fn slice(&self, conversation: &ConversationId, after: Option<&UserId>, limit: u32) -> Result<MarksSlice>;
}

/// A live connection of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// As the gateway names it.
    pub id: String,
    /// When the gateway accepted it, by the gateway's clock.
    pub since_ms: u64,
    /// Not live after this, whatever else is known.
    pub until_ms: u64,
}

/// What registering a connection came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registration {
    /// It is the device's connection now.
    Registered {
        /// The other one whose place it took. Best effort: a call whose answer was lost and that was made again does not
        /// know it any more.
        replaced: Option<Connection>,
    },
    /// The device has a newer one; nothing was changed.
    Superseded,
}

/// Which devices are connected.
#[async_trait]
pub trait Connections: Send + Sync {
    /// Registers a device's connection in place of an older one, unless the registered one is newer.
    async fn register(&self, author: &Author, connection: &Connection) -> Result<Registration>;

    /// Removes a connection, if it is still the one registered for the device.
    async fn remove(&self, author: &Author, connection_id: &str) -> Result<()>;

    /// The connections of these users.
    async fn of(&self, users: &[UserId]) -> Result<Vec<(UserId, DeviceId, Connection)>>;
}

/// What goes through the delivery queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// Whose news.
    pub conversation: ConversationId,
    /// Of a group: the event that its members must at least be as of, for whoever decides who hears. It is applied.
    #[serde(default, skip_serializing_if = "Seq::is_zero")]
    pub roster: Seq,
    /// The device that it comes from, which need not hear of it.
    pub from: Author,
    /// Who hears of it, of those who may.
    #[serde(default, skip_serializing_if = "Audience::is_everyone")]
    pub audience: Audience,
    /// A mark of which nothing has moved but `read`: no news for who gets no read receipts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_read: bool,
    /// What happened.
    #[serde(flatten)]
    pub news: News,
    /// Marks of the same conversation that ride along with a cell. Everybody who is in hears of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<MemberMark>,
}

/// Who hears of a parcel, of those who may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Every member.
    #[default]
    Everyone,
    /// These of the members.
    Part(Part),
    /// The user that it comes from, on their other devices.
    Own,
    /// Everybody but that user.
    Others,
}

impl Audience {
    fn is_everyone(&self) -> bool {
        *self == Self::Everyone
    }
}

/// The members of a large group that one parcel is for: those whose ids are in a range. So everybody is in exactly one
/// part, whoever comes or goes meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// After this id; from the first on without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<UserId>,
    /// Up to this id; to the last without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upto: Option<UserId>,
}

impl Part {
    /// Parts of so many of these, which ascend.
    pub(crate) fn of(users: &[UserId], size: usize) -> Vec<Self> {
        let mut after = None;
        let mut parts = Vec::new();
        for users in users.chunks(size) {
            let upto = users.last().cloned();
            parts.push(Self { after: std::mem::replace(&mut after, upto.clone()), upto });
        }
        if let Some(last) = parts.last_mut() {
            last.upto = None;
        }
        parts
    }

    /// Whether somebody is in it.
    pub(crate) fn holds(&self, user: &UserId) -> bool {
        self.after.as_ref().is_none_or(|after| user > after) && self.upto.as_ref().is_none_or(|upto| user <= upto)
    }
}

impl Parcel {
    /// Of something that everybody may hear who is in.
    pub fn of(from: &Author, conversation: &ConversationId, roster: Seq, news: News) -> Self {
        let (conversation, from) = (conversation.clone(), from.clone());
        Self { conversation, roster, from, audience: Audience::Everyone, only_read: false, news, marks: Vec::new() }
    }

    /// What was written, and where, if the news is that.
    pub fn cell(&self) -> Option<(&ConversationId, &Cell)> {
        match &self.news {
            News::Cell(cell) => Some((&self.conversation, cell)),
            News::Mark(_) => None,
        }
    }

    /// Every mark in it: that which it is of, or those that ride along.
    pub fn marks_of_it(&self) -> impl Iterator<Item = &MemberMark> {
        let own = match &self.news {
            News::Mark(mark) => Some(mark),
            News::Cell(_) => None,
        };
        own.into_iter().chain(&self.marks)
    }
}

/// What happened in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// Something was written. It is in the log.
    Cell(Cell),
    /// Somebody is further on.
    Mark(MemberMark),
}

/// The delivery queue: at least once, in no order.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Returns once the parcel is durably queued.
    async fn publish(&self, parcel: &Parcel) -> Result<()>;
}

/// What a post came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// The gateway took it. Not a delivery: only the device's mark is.
    Taken,
    /// There is no such connection.
    Gone,
}

/// The way to a live connection.
#[async_trait]
pub trait Callback: Send + Sync {
    /// Posts a frame.
    async fn post(&self, connection_id: &str, frame: &str) -> Result<Posted>;

    /// Closes a connection, after what was posted before, as far as the gateway keeps that order. One that is gone is
    /// none the worse for it.
    async fn close(&self, connection_id: &str) -> Result<()>;
}

/// What is known of a user's presence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Until when each device has a lease, in Unix milliseconds. Some may be over.
    pub leases: BTreeMap<DeviceId, u64>,
    /// When a lease was last taken, renewed or given up, in Unix milliseconds; 0 if never.
    pub seen_ms: u64,
    /// What others were told last.
    pub told: Option<Told>,
    /// Which devices watch, and until when, in Unix milliseconds. Some may be over.
    pub watchers: BTreeMap<Author, u64>,
}

/// What those who watch a user were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// That the user came; otherwise, that they went.
    pub here: bool,
}

/// Who is here, and who watches them. Nothing else depends on it; what is lost is told anew or ends by itself.
#[async_trait]
pub trait Presence: Send + Sync {
    /// Takes or renews a device's lease. Gives what was known before.
    async fn renew(&self, author: &Author, until_ms: u64, now_ms: u64) -> Result<Standing>;

    /// Ends a device's lease. Gives what was known before.
    async fn leave(&self, author: &Author, now_ms: u64) -> Result<Standing>;

    /// Notes what others are about to be told of a user, unless they were told something less than `pause_ms` before:
    /// says so with `false`. Forgets the leases of these devices, which are over for long.
    async fn tell(&self, user: &UserId, told: Told, pause_ms: u64, forget: &[DeviceId]) -> Result<bool>;

    /// Makes a device a watcher of a user, in place of others. Gives what is known then.
    async fn watch(&self, user: &UserId, watcher: &Author, until_ms: u64, others: &[Author]) -> Result<Standing>;

    /// What is known of these users, where anything is, in no order.
    async fn of(&self, users: &[UserId]) -> Result<Vec<(UserId, Standing)>>;
}

/// Somebody may have to be woken: what goes through the push queue.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// What brought it, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<EnvelopeId>,
    /// Where something was written. It is in the log.
    pub conversation: ConversationId,
    /// Its first number.
    pub seq: Seq,
    /// Its last number.
    pub through: Seq,
    /// When this was queued, in Unix milliseconds.
    pub at_ms: u64,
    /// Who may have to be woken. Not the one who wrote it.
    pub users: Vec<UserId>,
    /// What was written, cut to a few words, if the deployment wants it in pushes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

discreet!(Wake { envelope, conversation, seq, through, at_ms, users } hides { content });

/// The push queue: at least once, in no order.
#[async_trait]
pub trait Wakes: Send + Sync {
    /// Queues wake-ups, each to come out after so many milliseconds, at most 15 minutes. One result for each.
    async fn queue(&self, wakes: &[(Wake, u64)]) -> Vec<Result<()>>;
}

/// Where a device can be woken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Whose service.
    pub platform: Platform,
    /// How.
    pub style: PushStyle,
    /// Stands for the token, without telling it.
    pub token: TokenHash,
    /// The name that the provider gave to the token.
    pub endpoint: String,
}

/// A device that can be woken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wakeable {
    /// Which.
    pub device: DeviceId,
    /// Where.
    pub registration: Address,
    /// What was pushed to it.
    pub pushes: Pushes,
}

/// What noting pushes came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noted {
    /// They are noted.
    Done,
    /// Somebody else has noted something since. This is there now.
    Behind(Box<Pushes>),
    /// The device is not registered with this token any more.
    Gone,
}

/// Which devices can be woken. A token is its last registrar's: nobody else is woken by it.
#[async_trait]
pub trait Devices: Send + Sync {
    /// Registers a device in place of what was registered for it; its pushes stay as they are. The token is this
    /// device's from the first effect on. Returns the registration that it replaced, if that had another token which
    /// was still the device's own.
    async fn register(&self, author: &Author, registration: &Address) -> Result<Option<Address>>;

    /// Ends a device's registration. Returns it, if its token was still the device's own.
    async fn unregister(&self, author: &Author) -> Result<Option<Address>>;

    /// Notes that a registration is dead, if it is still the device's.
    async fn bury(&self, author: &Author, registration: &Address) -> Result<()>;

    /// Notes that a device that is registered is awake. Says how it stands.
    async fn awake(&self, author: &Author, now_ms: u64) -> Result<PushStatus>;

    /// The user's devices that can be woken. Consistent.
    async fn wakeable(&self, user: &UserId) -> Result<Vec<Wakeable>>;

    /// Puts `pushes` in the place of those of the revision before, if the device is still registered with this token.
    async fn note(&self, author: &Author, token: &TokenHash, pushes: &Pushes) -> Result<Noted>;
}

/// Who may have to be woken for a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub user: UserId,
    /// What they see.
    pub membership: Membership,
    /// Not to be woken before, in Unix milliseconds.
    pub muted_until_ms: u64,
}

/// Who does not want to be woken for what.
#[async_trait]
pub trait Mutes: Send + Sync {
    /// Mutes a conversation for a user until a time, in Unix milliseconds. `false` if the user was never a member.
    async fn mute(&self, conversation: &ConversationId, user: &UserId, until_ms: u64) -> Result<bool>;

    /// How these users stand to a conversation; those who were never members are left out. In no order.
    async fn candidates(&self, conversation: &ConversationId, users: &[UserId]) -> Result<Vec<Candidate>>;
}

/// A wake-up on its way to a device.
#[derive(Clone, PartialEq, Eq)]
pub struct Push {
    /// Names it.
    pub id: PushId,
    /// Where something was written. Of several pushes for one, the device shows the last.
    pub conversation: ConversationId,
    /// What was written.
    pub seq: Seq,
    /// Messages that are unread, as far as is known.
    pub badge: u64,
    /// For how long it is worth delivering, in seconds.
    pub ttl_s: u64,
    /// What was written, if the deployment wants it told.
    pub content: Option<String>,
}

discreet!(Push { id, conversation, seq, badge, ttl_s } hides { content });

/// What a push came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The provider took it. Not a delivery.
    Taken,
    /// The endpoint is disabled or does not exist: its token is dead.
    Gone,
}

/// The way to the platforms' notification services.
#[async_trait]
pub trait Pusher: Send + Sync {
    /// Whether the deployment pushes to a platform at all.
    fn reaches(&self, platform: Platform) -> bool;

    /// The endpoint of a token: made, or found and enabled. The same for the same token. Nothing if the provider says
    /// that it is no token.
    async fn endpoint(&self, platform: Platform, token: &ProviderToken, owner: &Author) -> Result<Option<String>>;

    /// Pushes.
    async fn push(&self, registration: &Address, push: &Push) -> Result<Pushed>;

    /// Removes an endpoint. One that is not there is none the worse for it.
    async fn remove(&self, endpoint: &str) -> Result<()>;
}

/// An upload that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// What was announced.
    pub file: MediaFile,
    /// The store's name for it, if it has several parts.
    pub name: Option<String>,
    /// When, in Unix milliseconds.
    pub begun_at: u64,
}

/// Which uploads were begun. Remembered for some days after, no longer than the store keeps what was not sent.
#[async_trait]
pub trait Uploads: Send + Sync {
    /// What is remembered. Consistent.
    async fn upload(&self, id: &FileId) -> Result<Option<Upload>>;

    /// Remembers an upload in the place of `before`, if that is still what is remembered. Says whether it does.
    async fn note(&self, id: &FileId, before: Option<&Upload>, upload: &Upload) -> Result<bool>;

    /// Forgets an upload.
    async fn forget(&self, id: &FileId) -> Result<()>;
}

/// A time in which something is counted: the `number`-th of so many seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    /// Its seconds.
    pub length_s: u64,
    /// Which.
    pub number: u64,
}

impl Period {
    /// The one at this time.
    pub fn at(length_s: u64, now_ms: u64) -> Self {
        Self { length_s, number: now_ms / 1_000 / length_s.max(1) }
    }

    /// When it is over, in Unix milliseconds.
    pub fn end_ms(&self) -> u64 {
        self.number.saturating_add(1).saturating_mul(self.length_s).saturating_mul(1_000)
    }
}

/// What somebody has used up in a period. All functions share it.
#[async_trait]
pub trait Quotas: Send + Sync {
    /// Adds an amount to what is counted under a name in a period, if that comes to `most` at most. Says whether it did.
    /// A call whose answer was lost may have counted.
    async fn take(&self, name: &str, period: Period, amount: u64, most: u64) -> Result<bool>;
}

/// A part that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// Which.
    pub part: u32,
    /// Its bytes.
    pub size: u64,
    /// Its checksum, which the store has checked; nothing if it came without one.
    pub sha256: Option<Digest>,
    /// The store's name for its content.
    pub tag: String,
}

/// A file that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Its bytes.
    pub size: u64,
    /// Its checksum.
    pub sha256: Digest,
    /// It is [kept](Attachments::keep).
    pub sent: bool,
}

/// Files as messages have them: what accepting a message asks of the object store.
#[async_trait]
pub trait Attachments: Send + Sync {
    /// The file is not removed for not being sent any more. Says whether it is there. Again is as good as once.
    async fn keep(&self, id: &FileId) -> Result<bool>;

    /// Removes a file. One that is not there is none the worse for it.
    async fn remove(&self, id: &FileId) -> Result<()>;
}

/// The object store. Nothing in it is ever half of a file.
///
/// Apart from [Attachments], so that the function `send` has no code for what only `media` does: that is much of it.
#[async_trait]
pub trait Files: Attachments {
    /// Begins an upload in parts, and names it.
    async fn begin(&self, id: &FileId, kind: &str) -> Result<String>;

    /// The parts of an upload that are there, in no order. Nothing if there is no such upload (any more). Consistent.
    async fn parts(&self, id: &FileId, upload: &str) -> Result<Option<Vec<StoredPart>>>;

    /// Makes a file of all parts of an upload, which come ascending. Says whether it did: there may be no such upload any
    /// more, or the file already.
    async fn join(&self, id: &FileId, upload: &str, parts: &[StoredPart]) -> Result<bool>;

    /// Ends an upload and removes its parts. One that is not there is none the worse for it.
    async fn end(&self, id: &FileId, upload: &str) -> Result<()>;

    /// The file, if it is there. Consistent.
    async fn look(&self, id: &FileId) -> Result<Option<StoredFile>>;

    /// Where a part goes, of so many bytes with this checksum, and nothing else.
    async fn part_link(&self, id: &FileId, upload: &str, part: u32, bytes: u64, sha256: &Digest) -> Result<Link>;

    /// Where a file of one part goes. It does not take the place of one that is there.
    async fn whole_link(&self, id: &FileId, file: &MediaFile) -> Result<Link>;

    /// Where a file can be downloaded from, as a file of this type and name.
    async fn get_link(&self, id: &FileId, kind: &str, name: Option<&str>) -> Result<Link>;
}
