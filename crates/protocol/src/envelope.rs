//! What a device sends. The unit of retry, of dedup and of acknowledgement.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Attachment, Code, ConversationId, EnvelopeId, Event, LanePlace, MessageId, Number, Refusal, Seq, UserId, discreet,
    limits,
};

/// What a person writes, or what they change of it. The server never reads `body`; end-to-end encrypted bodies are as
/// good as plain ones.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Made on the device when the message is written, and kept through every retry.
    pub id: MessageId,
    /// Opaque to the server. Empty where something is deleted or happens to a group, and where there is nothing to say
    /// of a file.
    pub body: String,
    /// Something that happens to the group. It is the only message of its envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// The file that belongs to it, which is uploaded before the message is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<Attachment>,
    /// What the device's clock said at the time of writing, in Unix milliseconds. For display only: it orders nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_at: Option<u64>,
    /// It is an edit: `body` is the new text of this message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edits: Option<MessagePlace>,
    /// It deletes this message, for everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletes: Option<MessagePlace>,
    /// Only from the server: it was deleted, or it edits what was. Its body is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

discreet!(Message { id, event, media, written_at, edits, deletes, deleted } hides { body });

/// A message that has its place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct MessagePlace {
    /// Its place.
    pub seq: Seq,
    /// Its id.
    pub id: MessageId,
}

impl Message {
    /// A message without more.
    pub fn new(id: MessageId, body: impl Into<String>) -> Self {
        Self {
            id,
            body: body.into(),
            event: None,
            media: None,
            written_at: None,
            edits: None,
            deletes: None,
            deleted: false,
        }
    }

    /// A message with a file.
    pub fn of_media(id: MessageId, body: impl Into<String>, media: Attachment) -> Self {
        Self { media: Some(media), ..Self::new(id, body) }
    }

    /// A message that says what happens to a group.
    pub fn of_event(id: MessageId, event: Event) -> Self {
        Self { event: Some(event), ..Self::new(id, "") }
    }

    /// What it changes: it is an edit or a delete, and nothing to show by itself.
    pub fn target(&self) -> Option<MessagePlace> {
        self.edits.or(self.deletes)
    }

    /// Whether it is what a person wrote, which can be edited and deleted.
    pub fn is_text(&self) -> bool {
        self.target().is_none() && self.event.is_none()
    }

    /// What is left of it when it, or what it edits, is deleted.
    #[must_use]
    pub fn redacted(self) -> Self {
        Self { body: String::new(), media: None, deleted: true, ..self }
    }

    /// Holds the message against the rules that need no look-up.
    fn check(&self) -> Result<(), Refusal> {
        let bad = |why: &str| Err(Refusal::new(Code::BadFrame, why));
        if self.edits.is_some() && self.deletes.is_some() {
            return bad("a message either edits or deletes");
        }
        if self.target().is_some_and(|target| target.seq.is_zero()) {
            return bad("what is changed has a place in the log");
        }
        if self.deleted {
            return bad("`deleted` is for the server to say");
        }
        if self.event.is_some() && self.target().is_some() {
            return bad("an event edits and deletes nothing");
        }
        if let Some(media) = &self.media {
            if self.event.is_some() || self.target().is_some() {
                return bad("only what is written anew has a file");
            }
            media.check()?;
        }
        match (self.body.is_empty(), self.deletes.is_some() || self.event.is_some()) {
            (true, false) if self.media.is_none() => bad("a message's body must not be empty"),
            (false, true) => bad("what deletes, or happens to a group, has no body"),
            _ if self.written_at > Some(limits::INTEGER) => bad("`written_at` is at most 2^53 - 1"),
            _ => Ok(()),
        }
    }
}

/// One to 25 messages of one device for one conversation. Once sent it is sent again as it was, byte for byte, until
/// it is acknowledged or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope {
    /// Made on the device. An envelope of a single message may use the message's id.
    pub id: EnvelopeId,
    /// Where it goes.
    pub conversation: ConversationId,
    /// For a direct conversation, the other user: the first envelope brings the conversation into being.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<UserId>,
    /// 1, 2, 3 ... per device and conversation. An envelope with a number that is not greater than the last one's is
    /// never stored a second time.
    pub number: Number,
    /// In the order in which they were written.
    pub messages: Vec<Message>,
}

impl Envelope {
    /// Holds the envelope against the limits and rules that need no look-up.
    ///
    /// # Errors
    /// `bad_frame`, `too_many` or `too_big`, as the wire says it.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.messages.is_empty() {
            return Err(Refusal::new(Code::BadFrame, "an envelope holds at least one message"));
        }
        if self.messages.len() > limits::ENVELOPE_MESSAGES {
            return Err(Refusal::new(Code::TooMany, "an envelope holds at most 25 messages"));
        }
        self.messages.iter().try_for_each(Message::check)?;
        if let Some(event) = self.messages.iter().find_map(|message| message.event.as_ref()) {
            self.check_event(event)?;
        }
        let ids: std::collections::HashSet<_> = self.messages.iter().map(|m| m.id).collect();
        if ids.len() != self.messages.len() {
            return Err(Refusal::new(Code::BadFrame, "two messages of the envelope have the same id"));
        }
        if self.bytes() > limits::ENVELOPE_BYTES {
            return Err(Refusal::new(Code::TooBig, "an envelope is at most 24 KiB of JSON"));
        }
        Ok(())
    }

    fn check_event(&self, event: &Event) -> Result<(), Refusal> {
        if self.messages.len() > 1 {
            return Err(Refusal::new(Code::BadFrame, "an event is the only message of its envelope"));
        }
        if !self.conversation.is_group() {
            return Err(Refusal::new(Code::BadFrame, "events are of groups"));
        }
        event.check()
    }

    /// What happens to the group by it.
    pub fn event(&self) -> Option<&Event> {
        self.messages.first().and_then(|message| message.event.as_ref())
    }

    /// How many numbers of the log it takes.
    pub fn count(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Its length as compact JSON.
    pub fn bytes(&self) -> usize {
        serde_json::to_string(self).map_or(usize::MAX, |json| json.len())
    }
}

/// An envelope on its way, with what may differ between its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Submission {
    /// The same bytes at every attempt.
    pub envelope: Envelope,
    /// How long its oldest message has waited on the device, in milliseconds, measured on the device's own clock.
    #[serde(default)]
    pub age_ms: u64,
    /// 1 for the first attempt.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
    /// After a `lane_conflict`: what the device goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
}

/// A device that was told of a lane conflict has found out what it had written, and goes on. It is given a place only
/// if its lane is still the one that it was told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resolved {
    /// The lane that it was told of.
    #[serde(flatten)]
    pub lane: LanePlace,
    /// How far it has read: its cursor.
    pub through: Seq,
}

fn first_attempt() -> u32 {
    1
}
