//! What crosses the border: the library's values, with ids as strings and numbers as integers.

use poste_client as lib;
use poste_protocol::{self as wire, MessageId, Platform, ProviderToken, PushStyle, Seq, UserId};

use crate::PosteError;

/// What a client is opened with.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Config {
    /// The account's file. Its folder is made if it is missing.
    pub path: String,
    /// `ws://` or `wss://`, without the query.
    pub socket_url: String,
    /// Who the account belongs to.
    pub user: String,
    /// This installation.
    pub device: String,
    /// Whether to connect at once.
    #[uniffi(default = true)]
    pub network: bool,
    /// Whether a refused envelope holds back what was written after it in its conversation.
    #[uniffi(default = true)]
    pub hold_back: bool,
}

/// Whether somebody is here.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Seen {
    /// Who.
    pub user: String,
    /// They look at the application, on some device.
    pub online: bool,
    /// When they were last known to, in Unix milliseconds.
    pub last_seen: Option<u64>,
}

impl From<lib::Seen> for Seen {
    fn from(seen: lib::Seen) -> Self {
        Self { user: seen.user.to_string(), online: seen.online, last_seen: seen.last_seen }
    }
}

/// Whose notification service reaches the device.
#[derive(Debug, Clone, Copy, uniffi::Enum)]
pub enum PushPlatform {
    /// Apple's.
    Apns,
    /// Apple's, for applications under development.
    ApnsSandbox,
    /// Google's (Firebase).
    Fcm,
}

/// Where the device can be woken.
#[derive(Debug, Clone, uniffi::Record)]
pub struct PushToken {
    /// Whose service.
    pub platform: PushPlatform,
    /// What that service gave the application.
    pub token: String,
    /// The application is woken silently, instead of the person being told by the system.
    #[uniffi(default = false)]
    pub background: bool,
}

impl TryFrom<PushToken> for poste_protocol::PushToken {
    type Error = PosteError;

    fn try_from(given: PushToken) -> Result<Self, PosteError> {
        let platform = match given.platform {
            PushPlatform::Apns => Platform::Apns,
            PushPlatform::ApnsSandbox => Platform::ApnsSandbox,
            PushPlatform::Fcm => Platform::Fcm,
        };
        let token = ProviderToken::new(given.token).map_err(|wrong| PosteError::invalid("a push token", wrong))?;
        let style = if given.background { PushStyle::Background } else { PushStyle::Alert };
        Ok(Self { platform, token, style })
    }
}

/// Whether this device is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum PushStatus {
    /// Yes.
    Registered,
    /// No: nothing is registered, or another account has registered the token.
    None,
    /// No: the token is dead. A new one is wanted.
    Renew,
    /// No: the server wakes nobody on this platform.
    Off,
    /// A status of a later version.
    Unknown,
}

impl From<poste_protocol::PushStatus> for PushStatus {
    fn from(status: poste_protocol::PushStatus) -> Self {
        use poste_protocol::PushStatus as Said;
        match status {
            Said::Registered => Self::Registered,
            Said::None => Self::None,
            Said::Renew => Self::Renew,
            Said::Off => Self::Off,
            Said::Unknown => Self::Unknown,
        }
    }
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum State {
    /// On this device's disk, not yet acknowledged.
    Pending,
    /// Stored by the server.
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

impl From<lib::State> for State {
    fn from(state: lib::State) -> Self {
        match state {
            lib::State::Pending => Self::Pending,
            lib::State::Sent => Self::Sent,
            lib::State::Delivered => Self::Delivered,
            lib::State::Read => Self::Read,
            lib::State::Failed => Self::Failed,
            lib::State::Received => Self::Received,
        }
    }
}

/// Why the server refused an envelope.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Failure {
    /// For programs: the code as the wire has it, such as `not_member`.
    pub code: String,
    /// For people who read logs.
    pub message: String,
}

impl From<lib::Failure> for Failure {
    fn from(failure: lib::Failure) -> Self {
        let code = serde_json::to_value(failure.code).ok().and_then(|code| Some(code.as_str()?.to_owned()));
        Self { code: code.unwrap_or_default(), message: failure.message }
    }
}

/// What a member of a group may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum Role {
    /// Write, and leave.
    Member,
    /// Also give the group a title, add and remove users, and give roles.
    Admin,
}

impl From<wire::Role> for Role {
    fn from(role: wire::Role) -> Self {
        match role {
            wire::Role::Member => Self::Member,
            wire::Role::Admin => Self::Admin,
        }
    }
}

impl From<Role> for wire::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
        }
    }
}

/// A member of a group.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Member {
    /// Who.
    pub user: String,
    /// What they may do.
    pub role: Role,
}

impl From<lib::Member> for Member {
    fn from(member: lib::Member) -> Self {
        Self { user: member.user.to_string(), role: member.role.into() }
    }
}

/// Somebody who has a message.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Receipt {
    /// Who.
    pub user: String,
    /// `Delivered` or `Read`.
    pub state: State,
}

impl From<lib::Receipt> for Receipt {
    fn from(receipt: lib::Receipt) -> Self {
        Self { user: receipt.user.to_string(), state: receipt.state.into() }
    }
}

/// Something that happened to a group.
#[derive(Debug, Clone, uniffi::Enum)]
pub enum GroupEvent {
    /// It began.
    Created {
        /// Its title.
        title: String,
        /// Who was in, beside the author.
        members: Vec<String>,
    },
    /// It got another title.
    Titled {
        /// The title.
        title: String,
    },
    /// Users were added.
    Added {
        /// Who.
        users: Vec<String>,
    },
    /// Users were removed.
    Removed {
        /// Who.
        users: Vec<String>,
    },
    /// The author left.
    Left,
    /// A member got a role.
    RoleGiven {
        /// Who.
        user: String,
        /// Which.
        role: Role,
    },
    /// Something of a later version.
    Unknown,
}

impl From<wire::Event> for GroupEvent {
    fn from(event: wire::Event) -> Self {
        let names = |users: Vec<UserId>| users.into_iter().map(String::from).collect();
        match event {
            wire::Event::Created { title, members } => Self::Created { title, members: names(members) },
            wire::Event::Titled { title } => Self::Titled { title },
            wire::Event::Added { users } => Self::Added { users: names(users) },
            wire::Event::Removed { users } => Self::Removed { users: names(users) },
            wire::Event::Left => Self::Left,
            wire::Event::Role { user, role } => Self::RoleGiven { user: user.into(), role: role.into() },
            wire::Event::Unknown => Self::Unknown,
        }
    }
}

/// What is known of a group.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Group {
    /// Its title, where known.
    pub title: Option<String>,
    /// What the person may do in it; nothing while that is not known, and for who is not in.
    pub role: Option<Role>,
    /// The person is not in any more.
    pub left: bool,
    /// How many are in, while that is known.
    pub members: Option<u64>,
}

impl From<lib::GroupView> for Group {
    fn from(group: lib::GroupView) -> Self {
        let lib::GroupView { title, role, left, members } = group;
        Self { title, role: role.map(Into::into), left, members }
    }
}

/// A message, with its place in the list and how far it has come.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Message {
    /// Made when it was written.
    pub id: String,
    /// Where it belongs.
    pub conversation: String,
    /// Who wrote it.
    pub user: String,
    /// On which device.
    pub device: String,
    /// What was written. Empty where something happened to a group.
    pub body: String,
    /// What happened to the group, if this is such a message.
    pub event: Option<GroupEvent>,
    /// The file that belongs to it.
    pub file: Option<Attached>,
    /// What the author's clock said, in Unix milliseconds. For display only.
    pub written_at: Option<u64>,
    /// How far it has come.
    pub state: State,
    /// Its place in the log, once it has one.
    pub seq: Option<u64>,
    /// When the server stored it, in Unix milliseconds.
    pub at: Option<u64>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// When the text was written that `body` is now, in Unix milliseconds; nothing if it was never edited.
    pub edited_at: Option<u64>,
    /// It is deleted, for everyone: `body` is empty.
    pub deleted: bool,
    /// An own change of it without an acknowledgement.
    pub waiting: Option<WaitingChange>,
    /// It is no message but a change of one. Only in the outbox.
    pub change: Option<Change>,
}

/// How a message is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum ChangeKind {
    /// It has another text.
    Edit,
    /// It is deleted, for everyone.
    Delete,
}

impl From<lib::ChangeKind> for ChangeKind {
    fn from(kind: lib::ChangeKind) -> Self {
        match kind {
            lib::ChangeKind::Edit => Self::Edit,
            lib::ChangeKind::Delete => Self::Delete,
        }
    }
}

/// What a change changes.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// Which message.
    pub message: String,
}

impl From<lib::Change> for Change {
    fn from(change: lib::Change) -> Self {
        Self { kind: change.kind.into(), message: change.message.to_string() }
    }
}

/// An own change of a message, on its way.
#[derive(Debug, Clone, uniffi::Record)]
pub struct WaitingChange {
    /// By which it can be retried or dropped.
    pub id: String,
    /// What it does.
    pub kind: ChangeKind,
    /// `Pending` or `Failed`.
    pub state: State,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

impl From<lib::WaitingChange> for WaitingChange {
    fn from(change: lib::WaitingChange) -> Self {
        let lib::WaitingChange { id, kind, state, failure } = change;
        Self { id: id.to_string(), kind: kind.into(), state: state.into(), failure: failure.map(Into::into) }
    }
}

impl From<lib::Message> for Message {
    fn from(message: lib::Message) -> Self {
        Self {
            id: message.id.to_string(),
            conversation: message.conversation.to_string(),
            user: message.user.to_string(),
            device: message.device.to_string(),
            body: message.body,
            event: message.event.map(Into::into),
            file: message.file.map(|file| (*file).into()),
            written_at: message.written_at,
            state: message.state.into(),
            seq: message.seq.map(Seq::get),
            at: message.at,
            failure: message.failure.map(Into::into),
            edited_at: message.edited_at,
            deleted: message.deleted,
            waiting: message.waiting.map(|change| (*change).into()),
            change: message.change.map(Into::into),
        }
    }
}

/// The file of a message, and where it is.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Attached {
    /// Its length in bytes.
    pub size: u64,
    /// What it is, as a media type.
    pub kind: String,
    /// What it was called where it was sent. Whoever saves a file under it makes it safe first.
    pub name: Option<String>,
    /// Of a picture: its width, in pixels.
    pub width: Option<u32>,
    /// Of a picture: its height.
    pub height: Option<u32>,
    /// Of a picture: a small JPEG, in base64.
    pub thumbnail: Option<String>,
    /// Of an own file that is not stored as a whole yet: how many bytes of it are.
    pub uploaded: Option<u64>,
    /// It is, or was, on this device: `download` says where.
    pub here: bool,
}

impl From<lib::Attached> for Attached {
    fn from(attached: lib::Attached) -> Self {
        let lib::Attached { file, uploaded, here } = attached;
        Self {
            size: file.size,
            kind: file.kind,
            name: file.name,
            width: file.pixels.map(|(width, _)| width),
            height: file.pixels.map(|(_, height)| height),
            thumbnail: file.thumbnail,
            uploaded,
            here,
        }
    }
}

/// Where a window of a conversation's list begins. The place itself is not in the window.
#[derive(Debug, Clone, uniffi::Enum)]
pub enum Start {
    /// At the end, going back.
    Newest,
    /// At a message, going back.
    Before {
        /// Its id.
        message: String,
    },
    /// At a message, going on.
    After {
        /// Its id.
        message: String,
    },
    /// At a number of the log, going back.
    BeforeSeq {
        /// The number.
        seq: u64,
    },
    /// At a number of the log, going on.
    AfterSeq {
        /// The number.
        seq: u64,
    },
}

impl TryFrom<Start> for lib::Start {
    type Error = PosteError;

    fn try_from(start: Start) -> Result<Self, PosteError> {
        Ok(match start {
            Start::Newest => Self::Newest,
            Start::Before { message } => Self::Before(message_id(&message)?),
            Start::After { message } => Self::After(message_id(&message)?),
            Start::BeforeSeq { seq } => Self::BeforeSeq(number(seq)?),
            Start::AfterSeq { seq } => Self::AfterSeq(number(seq)?),
        })
    }
}

pub(crate) fn message_id(text: &str) -> Result<MessageId, PosteError> {
    text.parse().map(MessageId).map_err(|wrong: uuid::Error| PosteError::invalid("a message's id", wrong))
}

pub(crate) fn number(seq: u64) -> Result<Seq, PosteError> {
    Seq::new(seq).map_err(|wrong| PosteError::invalid("a number of the log", wrong))
}

/// A window of a conversation's list.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Window {
    /// In the list's order.
    pub messages: Vec<Message>,
    /// This device has older ones.
    pub older: bool,
    /// This device has no older ones, and the server has: `older` fetches the next page.
    pub older_on_server: bool,
    /// This device has newer ones.
    pub newer: bool,
}

impl From<lib::Window> for Window {
    fn from(window: lib::Window) -> Self {
        let lib::Window { messages, older, older_on_server, newer } = window;
        Self { messages: list(messages), older, older_on_server, newer }
    }
}

pub(crate) fn list<T, U: From<T>>(values: Vec<T>) -> Vec<U> {
    values.into_iter().map(Into::into).collect()
}

/// Where a search goes on.
#[derive(Debug, Clone, Copy, uniffi::Record)]
pub struct FoundPlace {
    /// When the server stored the last message that was found, or else when it was written.
    pub at: u64,
    /// Its place on this device.
    pub local: i64,
}

/// A part of a text.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Piece {
    /// The part.
    pub text: String,
    /// Whether it is what was searched for.
    pub hit: bool,
}

/// A message that was found.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Hit {
    /// As it is now.
    pub message: Message,
    /// A part of its body around what was found, piece by piece.
    pub snippet: Vec<Piece>,
}

/// What a search found.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Found {
    /// The newest first.
    pub hits: Vec<Hit>,
    /// Where to go on, if there is more.
    pub next: Option<FoundPlace>,
}

impl From<lib::Hit> for Hit {
    fn from(hit: lib::Hit) -> Self {
        let piece = |piece: lib::Piece| Piece { text: piece.text, hit: piece.hit };
        Self { message: hit.message.into(), snippet: hit.snippet.into_iter().map(piece).collect() }
    }
}

impl From<lib::Found> for Found {
    fn from(found: lib::Found) -> Self {
        let next = found.next.map(|place| FoundPlace { at: place.at, local: place.local });
        Self { hits: list(found.hits), next }
    }
}

/// The last message of a conversation as the server's list told it, while the message itself is not here yet.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Preview {
    /// Its place in the log.
    pub seq: u64,
    /// Who wrote it.
    pub user: String,
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

impl From<lib::Preview> for Preview {
    fn from(preview: lib::Preview) -> Self {
        let lib::Preview { seq, user, at, body, event, file, deleted } = preview;
        Self { seq: seq.get(), user: user.to_string(), at, body, event: event.map(Into::into), file, deleted }
    }
}

/// A conversation at a glance.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Conversation {
    /// Which.
    pub id: String,
    /// The other user of a direct conversation, where known.
    pub peer: Option<String>,
    /// What is known of a group.
    pub group: Option<Group>,
    /// Everything up to here has been taken in.
    pub cursor: u64,
    /// As far back as here (exclusive). While it is greater than 0 there is older history on the server.
    pub oldest: u64,
    /// The highest number known to be reserved.
    pub head: u64,
    /// Everything up to here is gone from the log; what this device had fetched it keeps.
    pub floor: u64,
    /// Messages of others beyond what was read; while not all of them are here, about.
    pub unread: u64,
    /// How far the person has read.
    pub read: u64,
    /// Own messages without an acknowledgement.
    pub unsettled: u64,
    /// When somebody last wrote, in Unix milliseconds.
    pub active_at: u64,
    /// The last message, while it is known from the server's list only: it is in no history yet.
    pub preview: Option<Preview>,
    /// Until when nobody is woken for it, in Unix milliseconds, as it was said on this device.
    pub muted_until: Option<u64>,
}

impl From<lib::Conversation> for Conversation {
    fn from(conversation: lib::Conversation) -> Self {
        Self {
            id: conversation.id.to_string(),
            peer: conversation.peer.map(|peer| peer.to_string()),
            group: conversation.group.map(Into::into),
            cursor: conversation.cursor.get(),
            oldest: conversation.oldest.get(),
            head: conversation.head.get(),
            floor: conversation.floor.get(),
            unread: conversation.unread,
            read: conversation.read.get(),
            unsettled: conversation.unsettled,
            active_at: conversation.active_at,
            preview: conversation.preview.map(Into::into),
            muted_until: conversation.muted_until,
        }
    }
}

/// How far behind a device is, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct Backlog {
    /// Own messages and changes that wait for an acknowledgement.
    pub waiting: u64,
    /// For how long the oldest of them has waited, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// Own messages and changes that were refused, and wait for a person.
    pub failed: u64,
    /// Numbers that are known to be on the server, after what is here.
    pub behind: u64,
    /// Conversations in which there are such.
    pub behind_in: u64,
}

impl From<lib::Backlog> for Backlog {
    fn from(backlog: lib::Backlog) -> Self {
        let lib::Backlog { waiting, oldest_ms, failed, behind, behind_in } = backlog;
        Self { waiting, oldest_ms, failed, behind, behind_in }
    }
}

/// What an envelope of the outbox is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum OutboxState {
    /// Written, not yet in an envelope; or retried, and waiting for its turn.
    Queued,
    /// Sent until it is acknowledged or refused.
    UnderWay,
    /// Refused.
    Failed,
}

/// Messages of one conversation that wait together.
#[derive(Debug, Clone, uniffi::Record)]
pub struct OutboxEntry {
    /// Where they go.
    pub conversation: String,
    /// The other user of a direct conversation.
    pub peer: Option<String>,
    /// Their envelope, once they are in one.
    pub envelope: Option<String>,
    /// Its number.
    pub number: Option<u64>,
    /// How often it was sent.
    pub attempts: u32,
    /// When it was first sent, in Unix milliseconds by the device's clock.
    pub first_try: Option<u64>,
    /// When it is sent at the earliest, if it waits for a time.
    pub next_try: Option<u64>,
    /// What is being done with them.
    pub state: OutboxState,
    /// Why it was refused, if it was.
    pub failure: Option<Failure>,
    /// In the order in which they were written.
    pub messages: Vec<Message>,
}

impl From<lib::OutboxEntry> for OutboxEntry {
    fn from(entry: lib::OutboxEntry) -> Self {
        Self {
            conversation: entry.conversation.to_string(),
            peer: entry.peer.map(|peer| peer.to_string()),
            envelope: entry.envelope.map(|envelope| envelope.to_string()),
            number: entry.number.map(u64::from),
            attempts: entry.attempts,
            first_try: entry.first_try,
            next_try: entry.next_try,
            state: match entry.state {
                lib::OutboxState::Queued => OutboxState::Queued,
                lib::OutboxState::UnderWay => OutboxState::UnderWay,
                lib::OutboxState::Failed => OutboxState::Failed,
            },
            failure: entry.failure.map(Into::into),
            messages: list(entry.messages),
        }
    }
}

/// The connection, as the application may show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum Connection {
    /// The network was cut, or the client is suspended or closed.
    Off,
    /// Waiting before the next attempt.
    Waiting,
    /// Shaking hands.
    Connecting,
    /// Connected.
    Online,
    /// A newer connection of the same device has taken the place of this one.
    Replaced,
    /// The server takes neither the token nor a fresh one.
    SignInRefused,
}

impl From<lib::Connection> for Connection {
    fn from(connection: lib::Connection) -> Self {
        match connection {
            lib::Connection::Off => Self::Off,
            lib::Connection::Waiting => Self::Waiting,
            lib::Connection::Connecting => Self::Connecting,
            lib::Connection::Online => Self::Online,
            lib::Connection::Replaced => Self::Replaced,
            lib::Connection::SignInRefused => Self::SignInRefused,
        }
    }
}

/// What was saved when the account's file was found damaged and a new one took its place.
#[derive(Debug, Clone, uniffi::Record)]
pub struct Recovery {
    /// Where the damaged file is kept.
    pub kept: String,
    /// Own messages without an acknowledgement that were saved.
    pub messages: u64,
    /// Something could not be read: messages that were not yet acknowledged may be lost.
    pub incomplete: bool,
}

impl From<lib::Recovery> for Recovery {
    fn from(recovery: lib::Recovery) -> Self {
        Self { kept: recovery.kept, messages: recovery.messages, incomplete: recovery.incomplete }
    }
}

/// What changed.
#[derive(Debug, Clone, uniffi::Enum)]
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
        conversation: String,
        /// Which.
        message: String,
    },
    /// A conversation is new, or its cursor, unread count or marks changed.
    Changed {
        /// As it is now.
        conversation: Conversation,
    },
    /// Somebody whom the device watches came, or went.
    Presence {
        /// Who.
        user: String,
        /// They look at the application, on some device.
        online: bool,
        /// When they were last known to, in Unix milliseconds.
        last_seen: Option<u64>,
    },
    /// Somebody else began to write in a conversation that the device watches, or stopped.
    Typing {
        /// Where.
        conversation: String,
        /// Who.
        user: String,
        /// Whether they are writing.
        typing: bool,
    },
    /// A file is on its way, and so far.
    Progress {
        /// Of which conversation.
        conversation: String,
        /// Of which message.
        message: String,
        /// Up to the server, or down from it.
        up: bool,
        /// Bytes that have gone.
        done: u64,
        /// Bytes of the whole file.
        size: u64,
    },
    /// The server has said whether this device is woken.
    Push {
        /// What the server says.
        status: PushStatus,
    },
    /// The connection changed.
    Connected {
        /// What it is now.
        state: Connection,
    },
    /// Read anew what is shown.
    Missed {
        /// How many events; 0 when it is not known what changed.
        count: u64,
    },
}

impl From<lib::Event> for Event {
    fn from(event: lib::Event) -> Self {
        match event {
            lib::Event::Added { message } => Self::Added { message: message.into() },
            lib::Event::Updated { message } => Self::Updated { message: message.into() },
            lib::Event::Removed { conversation, id } => {
                Self::Removed { conversation: conversation.to_string(), message: id.to_string() }
            }
            lib::Event::Conversation { conversation } => Self::Changed { conversation: conversation.into() },
            lib::Event::Presence { seen: lib::Seen { user, online, last_seen } } => {
                Self::Presence { user: user.to_string(), online, last_seen }
            }
            lib::Event::Typing { conversation, user, typing } => {
                Self::Typing { conversation: conversation.to_string(), user: user.to_string(), typing }
            }
            lib::Event::Progress { conversation, id, up, done, size } => {
                Self::Progress { conversation: conversation.to_string(), message: id.to_string(), up, done, size }
            }
            lib::Event::Push { status } => Self::Push { status: status.into() },
            lib::Event::Connection { state } => Self::Connected { state: state.into() },
            lib::Event::Missed { count } => Self::Missed { count },
        }
    }
}
