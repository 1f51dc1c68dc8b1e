//! What applications see: owned values, without lifetimes or generics, fit to cross a language border.

use poste_protocol::{
    Attachment, Code, ConversationId, DeviceId, EnvelopeId, Event as GroupEvent, MessageId, Number, Preview as Told,
    PushStatus, Refusal, Role, Seq, UserId, discreet,
};
use serde::{Deserialize, Serialize};

/// How far a message has come. An own message goes from `Pending` to `Read` and never back; `Failed` is left by an
/// acknowledgement that came after all, by a retry or by dropping the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// On this device's disk, not yet acknowledged.
    Pending,
    /// Stored by the server, and queued for delivery.
    Sent,
    /// Stored by a device of somebody else.
    Delivered,
    /// Opened by somebody else.
    Read,
    /// Refused. It waits for a retry or to be dropped.
    Failed,
    /// Written by somebody else.
    Received,
}

/// Why the server refused an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people who read logs.
    pub message: String,
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Self {
        Self { code: refusal.code, message: refusal.message.clone() }
    }
}

/// The file of a message, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attached {
    /// What the message says of it.
    #[serde(flatten)]
    pub file: Attachment,
    /// Of an own file that is not stored as a whole yet: how many bytes of it are. While the message is
    /// [`State::Pending`] the rest follows by itself; if it is [`State::Failed`], the failure says why.
    pub uploaded: Option<u64>,
    /// It is, or was, on this device: [`Client::download`](crate::Client::download) says where.
    pub here: bool,
}

/// A message, with its place in the list and how far it has come.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Made when it was written.
    pub id: MessageId,
    /// Where it belongs.
    pub conversation: ConversationId,
    /// Who wrote it.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// What was written. Empty where something happened to a group.
    pub body: String,
    /// What happened to the group, if this is such a message.
    pub event: Option<GroupEvent>,
    /// The file that belongs to it.
    pub file: Option<Box<Attached>>,
    /// What the author's clock said, in Unix milliseconds. For display only.
    pub written_at: Option<u64>,
    /// How far it has come.
    pub state: State,
    /// Its place in the log, once it has one.
    pub seq: Option<Seq>,
    /// When the server stored it, in Unix milliseconds.
    pub at: Option<u64>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// When the text was written that `body` is now, in Unix milliseconds; nothing if it was never edited.
    pub edited_at: Option<u64>,
    /// It is deleted, for everyone: `body` is empty.
    pub deleted: bool,
    /// An own change of it without an acknowledgement. One that is pending shows already; one that failed does not.
    pub waiting: Option<Box<WaitingChange>>,
    /// It is no message but a change of one. Only in the outbox.
    pub change: Option<Change>,
}

discreet!(Message {
    id, conversation, user, device, event, file, written_at, state, seq, at, failure, edited_at, deleted, waiting, change
} hides { body });

/// How a message is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It has another text.
    Edit,
    /// It is deleted, for everyone.
    Delete,
}

/// What a change changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// Which message.
    pub message: MessageId,
}

/// An own change of a message, on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaitingChange {
    /// By which it can be retried or dropped.
    pub id: MessageId,
    /// What it does.
    pub kind: ChangeKind,
    /// `Pending` or `Failed`.
    pub state: State,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

/// Where a window of a conversation's list begins. The place itself is not in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the end, going back.
    Newest,
    /// At a message, going back. A message keeps its place in the list until it comes into the log.
    Before(MessageId),
    /// At a message, going on.
    After(MessageId),
    /// At a number of the log, going back.
    BeforeSeq(Seq),
    /// At a number of the log, going on.
    AfterSeq(Seq),
}

/// A window of a conversation's list: the log's up to the cursor, then own messages that are not in it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// In the list's order.
    pub messages: Vec<Message>,
    /// This device has older ones.
    pub older: bool,
    /// This device has no older ones, and the server has: [`Client::older`](crate::Client::older) fetches the next page.
    pub older_on_server: bool,
    /// This device has newer ones.
    pub newer: bool,
}

/// Where a search goes on: after this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FoundPlace {
    /// When the server stored it, or else when it was written, in Unix milliseconds.
    pub at: u64,
    /// Its place on this device.
    pub local: i64,
}

/// A part of a text.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// The part.
    pub text: String,
    /// Whether it is what was searched for.
    pub hit: bool,
}

discreet!(Piece { hit } hides { text });

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// As it is now.
    pub message: Message,
    /// A part of its body around what was found, piece by piece; `…` stands where something is left out.
    pub snippet: Vec<Piece>,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The newest first, by the server's time where it is known.
    pub hits: Vec<Hit>,
    /// Where to go on, if there is more.
    pub next: Option<FoundPlace>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
}

/// Somebody who has a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Who.
    pub user: UserId,
    /// [`State::Delivered`] or [`State::Read`].
    pub state: State,
}

/// A group, as its log has made it up to the cursor, or as this device has created it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct GroupView {
    /// Its title, where known.
    pub title: Option<String>,
    /// What the person may do in it; nothing while that is not known, and for who is not in.
    pub role: Option<Role>,
    /// The person is not in any more. What they saw stays here; nothing can be sent.
    pub left: bool,
    /// How many are in, while that is known.
    pub members: Option<u64>,
}

discreet!(GroupView { role, left, members } hides { title });

/// The last message of a conversation as the server's list told it, while the message itself is not here yet. It is in no
/// history and no window.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Its place in the log.
    pub seq: Seq,
    /// Who wrote it.
    pub user: UserId,
    /// When the server stored it, in Unix milliseconds.
    pub at: u64,
    /// As it was first written. Empty where something happened to a group, and if it is deleted.
    pub body: String,
    /// What happened to the group, if this is such a message.
    pub event: Option<GroupEvent>,
    /// What its file is called, or what it is, if it has one.
    pub file: Option<String>,
    /// It is deleted, for everyone.
    pub deleted: bool,
}

discreet!(Preview { seq, user, at, event, deleted } hides { body, file });

impl From<Told> for Preview {
    fn from(told: Told) -> Self {
        let Told { seq, by, at, message } = told;
        let file = message.media.map(|file| file.name.unwrap_or(file.kind));
        Self { seq, user: by.user, at, body: message.body, event: message.event, file, deleted: message.deleted }
    }
}

/// A conversation at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conversation {
    /// Which.
    pub id: ConversationId,
    /// The other user of a direct conversation, where known.
    pub peer: Option<UserId>,
    /// What is known of a group.
    pub group: Option<GroupView>,
    /// Everything up to here has been taken in.
    pub cursor: Seq,
    /// As far back as here (exclusive). While it is greater than 0 there is older history on the server:
    /// [`Client::older`](crate::Client::older) fetches the next page of it. While `cursor` is 0, the newest page has not
    /// come yet.
    pub oldest: Seq,
    /// The highest number known to be reserved.
    pub head: Seq,
    /// Everything up to here is gone from the log. What this device had fetched it keeps; the rest it will not get.
    pub floor: Seq,
    /// Messages of others beyond what was read. Exact when all of them are here; while `read` is less than `oldest`, or
    /// `cursor` less than `head`, what the server's list said is counted in, which may be too much: numbers, not messages.
    pub unread: u64,
    /// How far the person has read.
    pub read: Seq,
    /// Own messages and changes without an acknowledgement: pending and failed ones.
    pub unsettled: u64,
    /// When somebody last wrote, in Unix milliseconds, as far as this device knows.
    pub active_at: u64,
    /// The last message, while it is known from the list only.
    pub preview: Option<Preview>,
    /// Until when nobody is woken for it, in Unix milliseconds, as it was said on this device. Nothing if it was not, or
    /// was taken back.
    pub muted_until: Option<u64>,
}

/// What an envelope of the outbox is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    /// Written, not yet in an envelope; or retried, and waiting for its turn.
    Queued,
    /// In an envelope that is sent until it is acknowledged or refused.
    UnderWay,
    /// Refused; it holds back what was written after it in its conversation, unless the tuning says otherwise.
    Failed,
}

/// Messages of one conversation that wait together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboxEntry {
    /// Where they go.
    pub conversation: ConversationId,
    /// The other user of a direct conversation.
    pub peer: Option<UserId>,
    /// Their envelope, once they are in one.
    pub envelope: Option<EnvelopeId>,
    /// Its number.
    pub number: Option<Number>,
    /// How often it was sent.
    pub attempts: u32,
    /// When it was first sent, in Unix milliseconds by the device's clock.
    pub first_try: Option<u64>,
    /// When it is sent at the earliest, in Unix milliseconds by the device's clock. Nothing while it does not wait for
    /// a time, but for an answer, a connection, the network, a person, or what is before it.
    pub next_try: Option<u64>,
    /// What is being done with them.
    pub state: OutboxState,
    /// Why it was refused, if it was.
    pub failure: Option<Failure>,
    /// In the order in which they were written.
    pub messages: Vec<Message>,
}

impl OutboxEntry {
    /// It changes a message: refused, it holds nothing back.
    pub fn is_change(&self) -> bool {
        self.messages.iter().all(|message| message.change.is_some())
    }
}

/// The connection, as the application may show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// The network was cut with `set_network(false)`, or the client is closed.
    Off,
    /// Waiting before the next attempt.
    Waiting,
    /// Shaking hands.
    Connecting,
    /// Connected.
    Online,
    /// The account is in use somewhere else under the id of this device: a newer connection has taken the place of this
    /// one. Tried again after a long wait, or at once by [`Client::foreground`](crate::Client::foreground).
    Replaced,
    /// The server takes neither the token nor a fresh one. Tried again, at intervals; no message fails by it.
    SignInRefused,
}

/// Whether somebody is here, as far as this device was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Who.
    pub user: UserId,
    /// They look at the application, on some device.
    pub online: bool,
    /// When they were last known to, in Unix milliseconds by the server's clock; nothing if that was long ago.
    pub last_seen: Option<u64>,
}

/// What changed. Changes of the store are told after they are on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A message came into the list.
    Added {
        /// As it is now.
        message: Message,
    },
    /// A message changed: its state, or its place.
    Updated {
        /// As it is now.
        message: Message,
    },
    /// A message was dropped.
    Removed {
        /// From where.
        conversation: ConversationId,
        /// Which.
        id: MessageId,
    },
    /// A conversation is new, or its cursor, unread count or marks changed.
    Conversation {
        /// As it is now.
        conversation: Conversation,
    },
    /// Somebody whom the device watches came, or went. Ephemeral: nothing of it is stored.
    Presence {
        /// As it is now.
        #[serde(flatten)]
        seen: Seen,
    },
    /// Somebody else began to write in a conversation that the device watches, or stopped. Ephemeral.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// Whether they are writing.
        typing: bool,
    },
    /// A file is on its way, and so far. Told some times a second at most; what is stored is in the message.
    Progress {
        /// Of which conversation.
        conversation: ConversationId,
        /// Of which message.
        id: MessageId,
        /// Up to the server, or down from it.
        up: bool,
        /// Bytes that have gone.
        done: u64,
        /// Bytes of the whole file.
        size: u64,
    },
    /// The server has said whether this device is woken. [`PushStatus::Renew`] asks for a new token.
    Push {
        /// What the server says.
        status: PushStatus,
    },
    /// The connection changed.
    Connection {
        /// What it is now.
        state: Connection,
    },
    /// Read anew what is shown: the listener was too slow and events are missing, or the file was let go of and opened
    /// again.
    Missed {
        /// How many events; 0 when it is not known what changed.
        count: u64,
    },
}

/// What was saved when the account's file was found damaged and a new one took its place. The log is fetched anew from
/// the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Where the damaged file is kept. The last two are.
    pub kept: String,
    /// Own messages without an acknowledgement that were saved, pending and failed ones.
    pub messages: u64,
    /// Envelopes that were saved, byte for byte.
    pub envelopes: u64,
    /// Conversations of which was saved how far the person has read.
    pub conversations: u64,
    /// Something could not be read: messages that were written and not yet acknowledged may be lost.
    pub incomplete: bool,
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To a person: the direct conversation with them, which comes into being by this.
    User(UserId),
    /// To a conversation that this device knows.
    Conversation(ConversationId),
}

/// How far behind a device is, in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Own messages and changes that wait for an acknowledgement.
    pub waiting: u64,
    /// For how long the oldest of them has waited, in milliseconds by the device's own time, which no setting of a clock
    /// changes.
    pub oldest_ms: Option<u64>,
    /// Own messages and changes that were refused, and wait for a person.
    pub failed: u64,
    /// Numbers that are known to be on the server, after what is here. As of the last connection; there may be more.
    pub behind: u64,
    /// Conversations in which there are such.
    pub behind_in: u64,
}

/// What the engine has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Frames sent.
    pub frames_sent: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Envelopes sent, repeats included.
    pub submissions: u64,
    /// Envelopes sent for a second or later time.
    pub resubmissions: u64,
    /// Pages taken in.
    pub pages: u64,
    /// Cells that came by realtime delivery and were taken in at once.
    pub cells_delivered: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Frames that could not be read, or broke the protocol.
    pub bad_frames: u64,
    /// Errors that came, of the server or of the gateway: requests that were refused as a whole.
    pub refused: u64,
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, more: Self) {
        self.frames_sent += more.frames_sent;
        self.frames_received += more.frames_received;
        self.submissions += more.submissions;
        self.resubmissions += more.resubmissions;
        self.pages += more.pages;
        self.cells_delivered += more.cells_delivered;
        self.connections += more.connections;
        self.bad_frames += more.bad_frames;
        self.refused += more.refused;
    }
}
