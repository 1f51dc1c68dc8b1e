//! Frames: requests of devices, answers to them, and what the server sends by itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Author, Away, Cell, Code, ConversationId, DeviceId, EnvelopeId, GroupSummary, InvalidId, Mark, MarksFrame,
    MarksPage, MediaAnswer, MediaFrame, MemberMark, MembersFrame, MembersPage, Message, MuteFrame, Muted, Page,
    PresenceNews, PushAnswer, PushFrame, PushStatus, ReceiptsFrame, ReceiptsSet, Refusal, Seq, Submission, Typing,
    TypingNews, UserId, Watch, Watching, WokenBy, limits,
};

/// What ties an answer to its request: 1 to 64 characters of the device's choice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference(String);

impl Reference {
    /// Checks the length.
    pub fn new(text: impl Into<String>) -> Result<Self, &'static str> {
        let text = text.into();
        if text.is_empty() || text.chars().count() > limits::REFERENCE {
            return Err("`ref` must be 1 to 64 characters");
        }
        Ok(Self(text))
    }

    /// The reference as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Reference {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::new(text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.0
    }
}

impl schemars::JsonSchema for Reference {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reference".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "minLength": 1, "maxLength": limits::REFERENCE })
    }
}

/// What a device asks. The field `action` chooses the route, and so the function that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Request {
    /// Is anybody there? Also keeps the connection from idling out. Answer: [`Welcome`].
    Hello(Hello),
    /// Stores envelopes. Answer: [`Sent`].
    Send(SendFrame),
    /// What comes after a cursor, or before a number, or last? Answer: [`Page`].
    Fetch(Fetch),
    /// What comes after these cursors? Answer: one or several [`Pages`].
    Sync(SyncFrame),
    /// Which conversations are there? Answer: one or several [`ListPage`]s.
    List(List),
    /// How far this device and its person are. Answer: [`Marked`].
    Mark(MarkFrame),
    /// The person is here, and these conversations are on the screen: who else is here? A lease: asked again before it
    /// ends. Answer: [`Watching`].
    Watch(Watch),
    /// The person is not here any more, and watches nobody. Not answered.
    Away(Away),
    /// The person is writing. Not answered.
    Typing(Typing),
    /// Who is in a group? Answer: [`MembersPage`].
    Members(MembersFrame),
    /// Where this device can be woken, or that it shall not be. Answer: [`PushAnswer`].
    Push(PushFrame),
    /// Wakes nobody of this user for a conversation, until a time. Answer: [`Muted`].
    Mute(MuteFrame),
    /// Who has stored and read a message? Answer: [`MarksPage`].
    Marks(MarksFrame),
    /// Does the user give and get read receipts? Answer: [`ReceiptsSet`].
    Receipts(ReceiptsFrame),
    /// How a file is uploaded, how far that is, or where it can be downloaded from. Answer: [`MediaAnswer`].
    Media(MediaFrame),
}

/// See [`Request::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hello {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// The device has registered a push token and asks how it stands. Also says that it is awake: pushes need not be
    /// held back for it any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub push: bool,
    /// The push that woke it, said once. Only counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub woken_by: Option<WokenBy>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

fn is_nothing<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

impl Hello {
    /// Only: is anybody there?
    pub fn new(reference: Reference) -> Self {
        Self { reference, push: false, woken_by: None }
    }
}

/// See [`Request::Send`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SendFrame {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// 1 to 16, each for a conversation of its own.
    pub submissions: Vec<Submission>,
    /// Marks that ride along, at most 50, as in a `mark` frame of their own. None of them fails an envelope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

/// See [`Request::Fetch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fetch {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// Whose log.
    pub conversation: ConversationId,
    /// What comes after this number: the device's cursor. Not together with `before`; without either it is the newest
    /// page that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// The page that ends right before this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Seq>,
    /// At most so many messages, about; a page ends at a cell's end and never holds more than 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// See [`Request::Sync`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncFrame {
    /// Comes back in the answers.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// 1 to 50, each of a conversation of its own; what is wanted first comes first.
    pub ranges: Vec<SyncRange>,
    /// So many frames at most, 1 to 16; 4 if left out. What does not fit is asked for again, when these are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u32>,
}

/// What is wanted of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncRange {
    /// Whose log.
    pub conversation: ConversationId,
    /// Page after page of what comes after this number: the device's cursor. Without it, the newest page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// At most so many messages in a page, about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// See [`Request::List`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct List {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// `next` of the answer before; nothing for what is newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ListPlace>,
    /// So many frames at most, 1 to 16; 4 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u32>,
    /// The last message of so many conversations, the first ones of the answer; at most 50, and none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previews: Option<u32>,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListPlace {
    /// When somebody last wrote in the conversation that came last.
    pub active_at: u64,
    /// Which that was.
    pub conversation: ConversationId,
    /// Of a user with more than 2,000 conversations, who are listed in parts by their ids: the last id of the part
    /// before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<ConversationId>,
}

/// See [`Request::Mark`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MarkFrame {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// 1 to 50.
    pub marks: Vec<Mark>,
}

/// Everything that the server sends. `type` tells which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromServer {
    /// Answers `hello`.
    Welcome(Welcome),
    /// Answers `send`.
    Sent(Sent),
    /// Answers `fetch`.
    Page(Page),
    /// Answers `sync`.
    Pages(Pages),
    /// Answers `list`.
    List(ListPage),
    /// Answers `mark`.
    Marked(Marked),
    /// Answers `members`.
    Members(MembersPage),
    /// Answers `push`.
    Push(PushAnswer),
    /// Answers `mute`.
    Muted(Muted),
    /// Answers `marks`.
    Marks(MarksPage),
    /// Answers `receipts`.
    Receipts(ReceiptsSet),
    /// Answers `media`.
    Media(MediaAnswer),
    /// Not asked for: what others wrote, and how far they are.
    Delivery(Delivery),
    /// Answers `watch`.
    Watching(Watching),
    /// Not asked for: somebody whom the device watches came, or went.
    Presence(PresenceNews),
    /// Not asked for: somebody is writing, in a conversation that the device watches.
    Typing(TypingNews),
    /// Not asked for: a newer connection of the same device has taken the place of this one, which is closed now.
    Replaced(Replaced),
    /// Answers any request that was refused as a whole.
    Error(ErrorFrame),
    /// A type of a later version: ignore it.
    #[serde(other)]
    Unknown,
}

impl FromServer {
    /// The request that this answers, if it answers one.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Welcome(f) => Some(&f.reference),
            Self::Sent(f) => Some(&f.reference),
            Self::Page(f) => f.reference.as_ref(),
            Self::Pages(f) => Some(&f.reference),
            Self::List(f) => Some(&f.reference),
            Self::Marked(f) => Some(&f.reference),
            Self::Watching(f) => Some(&f.reference),
            Self::Members(f) => Some(&f.reference),
            Self::Push(f) => Some(&f.reference),
            Self::Muted(f) => Some(&f.reference),
            Self::Marks(f) => Some(&f.reference),
            Self::Receipts(f) => Some(&f.reference),
            Self::Media(f) => Some(&f.reference),
            Self::Error(f) => f.reference.as_ref(),
            Self::Delivery(_) | Self::Presence(_) | Self::Typing(_) | Self::Replaced(_) | Self::Unknown => None,
        }
    }
}

/// Who the server takes the device for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Welcome {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// From the token.
    pub user: UserId,
    /// From the token or the connection's address.
    pub device: DeviceId,
    /// The server's clock, in Unix milliseconds.
    pub now: u64,
    /// Whether the device is woken, if it asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushStatus>,
}

/// What became of each envelope of a `send`, in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// One per submission.
    pub verdicts: Vec<Verdict>,
    /// One per mark that rode along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<MarkResult>,
}

/// What became of one envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Which.
    pub envelope: EnvelopeId,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Stored, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Stored, and queued for delivery.
    Accepted {
        /// The number of the envelope's first message.
        seq: Seq,
        /// When it was stored, in Unix milliseconds.
        at: u64,
        /// It had been stored before. As good as the first time.
        repeat: bool,
    },
    /// Not stored.
    Refused {
        /// Why.
        error: Refusal,
    },
}

/// Pages of several conversations, as many as fit in a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pages {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// In the order of the request; of one conversation each goes on where the one before ends.
    pub pages: Vec<Page>,
    /// What of the request was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RangeRefused>,
    /// Another frame follows. Without it the request is answered; a range that is in none of its frames did not fit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
}

/// A range that is not answered with pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RangeRefused {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Why.
    pub error: Refusal,
}

/// A user's conversations, as many as fit in a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListPage {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// The one in which somebody wrote last comes first.
    pub conversations: Vec<Summary>,
    /// So many frames of this answer were sent before this one.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub before: u32,
    /// Another frame follows. Without it this is the last one; the request is answered when all before it are here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
    /// In the last frame: what is after this did not fit, or there may be more; ask again with `after` set to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<ListPlace>,
    /// The user gives no read receipts and gets none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub receipts_off: bool,
    /// Should the connection be lost, and nobody look at the device, it waits at random for up to so many milliseconds
    /// before it connects again.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub spread_ms: u64,
}

/// A conversation at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Which.
    pub conversation: ConversationId,
    /// The other user of a direct conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<UserId>,
    /// What there is to know of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupSummary>,
    /// The highest number reserved so far; of a group that the user has left, the last one that they see.
    pub head: Seq,
    /// Everything up to here is gone by retention; 0 or absent if nothing is.
    #[serde(default, skip_serializing_if = "Seq::is_zero")]
    pub floor: Seq,
    /// When somebody last wrote, in Unix milliseconds; of a group that the user has left, when that was.
    pub active_at: u64,
    /// How far each member is, where known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<MemberMark>,
    /// How many numbers up to `head` the user sees and has not read. What they wrote themselves, changes, and numbers that
    /// hold nothing count, too: there are never more unread messages.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub unread: u64,
    /// The last message, if that was asked for, and was found in a short look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Preview>,
}

/// The last message of a conversation that a user sees, to show before there is a page. No promise about anything else:
/// no cursor moves by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Preview {
    /// Its place.
    pub seq: Seq,
    /// Who wrote it.
    pub by: Author,
    /// When it was stored, in Unix milliseconds.
    pub at: u64,
    /// As the log has it: as it was written, or deleted. Without the thumbnail of its file.
    pub message: Message,
}

/// What became of each mark, in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Marked {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// One per mark.
    pub results: Vec<MarkResult>,
}

/// What became of one mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MarkResult {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Nothing when it was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// What others wrote, and how far they are. May come twice, late, or not at all: the log is what counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Delivery {
    /// One per conversation.
    pub items: Vec<DeliveryItem>,
}

/// The news of one conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryItem {
    /// Which.
    pub conversation: ConversationId,
    /// Ascending. What lies between them and the cursor must be fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<Cell>,
    /// How far members are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<MemberMark>,
}

/// See [`FromServer::Replaced`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replaced {
    /// For people who read logs; may change.
    pub message: String,
}

/// A request was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorFrame {
    /// The request's, where it could be read.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Why.
    #[serde(flatten)]
    pub refusal: Refusal,
}

/// Characters that are told of why a frame cannot be read. The reader may quote what it found, which may be as long as a
/// frame, and the answer has to fit in one.
const WHY: usize = 200;

/// Reads a request's frame, or says what is wrong with it, with its `ref` if that could be read.
///
/// # Errors
/// `too_big` over [`limits::FRAME_BYTES`], otherwise `bad_frame`.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ErrorFrame> {
    #[derive(Deserialize)]
    struct Loose {
        #[serde(rename = "ref", default)]
        reference: Option<serde_json::Value>,
    }
    if text.len() > limits::FRAME_BYTES {
        return Err(ErrorFrame { reference: None, refusal: Refusal::new(Code::TooBig, "a frame is at most 32 KiB") });
    }
    if !text.trim_start().starts_with('{') {
        // A list would otherwise be read as an object without names.
        return Err(ErrorFrame { reference: None, refusal: Refusal::new(Code::BadFrame, "a frame is a JSON object") });
    }
    serde_json::from_str(text).map_err(|wrong| {
        let reference = serde_json::from_str::<Loose>(text)
            .ok()
            .and_then(|loose| loose.reference)
            .and_then(|value| serde_json::from_value(value).ok());
        let why: String = wrong.to_string().chars().take(WHY).collect();
        ErrorFrame { reference, refusal: Refusal::new(Code::BadFrame, why) }
    })
}

impl From<InvalidId> for Refusal {
    fn from(invalid: InvalidId) -> Self {
        Self::new(Code::BadFrame, invalid.to_string())
    }
}
