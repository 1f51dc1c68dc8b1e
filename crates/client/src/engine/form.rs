//! Envelopes: formed once from the oldest pending messages, within the limits; and the frames that carry them.

use poste_protocol::{Envelope, EnvelopeId, Mark, Message, MessageId, Number, Reference, Resolved, UserId, limits};
use rand::Rng;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::{Builder, Uuid};

use super::Rules;
use super::turn::Turn;
use crate::store::{ConversationRow, OutboxRow};
use crate::{Error, StoreError};

/// The envelope of a direct conversation names the other user.
pub(super) fn addressee(row: &ConversationRow) -> Option<UserId> {
    row.peer.clone().filter(|_| row.id.is_direct())
}

/// The length of the message in the envelope's list, with the comma before it.
fn bytes_in_list(message: &Message) -> usize {
    serde_json::to_string(message).map_or(usize::MAX / 2, |json| json.len() + 1)
}

/// Takes as many of the oldest messages as an envelope carries.
pub(super) fn take_what_fits(mut envelope: Envelope, pending: Vec<Message>) -> Envelope {
    let mut bytes = envelope.bytes();
    for message in pending {
        bytes += bytes_in_list(&message);
        // An event is the only message of its envelope.
        let alone = message.event.is_some() || envelope.event().is_some();
        let full = alone || envelope.messages.len() == limits::ENVELOPE_MESSAGES || bytes > limits::ENVELOPE_BYTES;
        if full && !envelope.messages.is_empty() {
            break;
        }
        envelope.messages.push(message);
    }
    envelope
}

/// Refuses a message that no envelope could carry, while the person who wrote it is still there.
pub(super) fn check_message(row: &ConversationRow, message: &Message) -> Result<(), Error> {
    if message.body.is_empty() && message.event.is_none() && message.media.is_none() {
        return Err(Error::EmptyBody);
    }
    let largest = Number::new(limits::INTEGER).expect("the largest integer of the wire is a number");
    let probe = Envelope {
        id: EnvelopeId(Uuid::max()),
        conversation: row.id.clone(),
        to: addressee(row),
        number: largest,
        messages: vec![message.clone()],
    };
    let bytes = probe.bytes();
    if bytes > limits::ENVELOPE_BYTES {
        return Err(Error::BodyTooBig { bytes, limit: limits::ENVELOPE_BYTES });
    }
    if message.event.is_some() {
        probe.check().map_err(|refusal| Error::BadEvent(refusal.message))?;
    }
    if message.media.is_some() {
        probe.check().map_err(|refusal| Error::BadFile(refusal.message))?;
    }
    Ok(())
}

fn as_json(envelope: &Envelope) -> Result<String, StoreError> {
    serde_json::to_string(envelope).map_err(|wrong| StoreError::Damaged(wrong.to_string()))
}

impl Rules {
    pub(super) fn fresh_uuid(&mut self, turn: &Turn<'_>) -> Uuid {
        let mut random = [0_u8; 10];
        self.rng.fill_bytes(&mut random);
        Builder::from_unix_timestamp_millis(turn.now.wall, &random).into_uuid()
    }

    pub(super) fn fresh_message_id(&mut self, turn: &Turn<'_>) -> MessageId {
        MessageId(self.fresh_uuid(turn))
    }

    /// A message, or the content of a change, as it is written now.
    pub(super) fn fresh_message(&mut self, turn: &Turn<'_>, body: impl Into<String>) -> Message {
        Message { written_at: Some(turn.now.wall), ..Message::new(self.fresh_message_id(turn), body) }
    }

    /// Forms the conversation's next envelope from what is pending, and puts it under way.
    pub(super) fn form_envelope(
        &mut self,
        turn: &mut Turn<'_>,
        row: &ConversationRow,
    ) -> Result<Option<OutboxRow>, StoreError> {
        let pending = turn.tx.pending(&row.id, limits::ENVELOPE_MESSAGES)?;
        if pending.is_empty() {
            return Ok(None);
        }
        let empty = Envelope {
            id: EnvelopeId(self.fresh_uuid(turn)),
            conversation: row.id.clone(),
            to: addressee(row),
            number: row.next_number,
            messages: Vec::new(),
        };
        let envelope = take_what_fits(empty, pending);
        let json = as_json(&envelope)?;
        turn.tx.put_under_way(&envelope, &json)?;
        turn.tx.outbox(&row.id)
    }
}

/// The bytes of an envelope under another number.
pub(super) fn renumbered(json: &str, number: Number) -> Result<String, StoreError> {
    let mut envelope: Envelope = serde_json::from_str(json).map_err(|wrong| StoreError::Damaged(wrong.to_string()))?;
    envelope.number = number;
    as_json(&envelope)
}

/// An envelope as it stands in a `send` frame: its own bytes, untouched.
#[derive(Serialize)]
pub(super) struct Enclosed {
    pub(super) envelope: Box<RawValue>,
    pub(super) age_ms: u64,
    pub(super) attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resolved: Option<Resolved>,
}

impl Enclosed {
    pub(super) fn new(json: String, age_ms: u64, attempt: u32, resolved: Option<Resolved>) -> Result<Self, StoreError> {
        let envelope = RawValue::from_string(json).map_err(|wrong| StoreError::Damaged(wrong.to_string()))?;
        Ok(Self { envelope, age_ms, attempt, resolved })
    }
}

/// What an envelope takes in a frame beside its own bytes, with the longest numbers:
/// `{"envelope":,"age_ms":N,"attempt":N,"resolved":{"number":N,"seq":N,"through":N}},`.
const AROUND_ENVELOPE: usize = 160;

/// What a frame takes beside its submissions and marks, with the longest reference.
const AROUND_FRAME: usize = 72 + limits::REFERENCE;

/// How many bytes of a frame an envelope takes.
pub(super) fn share_of_frame(json: &str) -> usize {
    json.len() + AROUND_ENVELOPE
}

/// What a frame has for submissions.
pub(super) const FRAME_ROOM: usize = limits::FRAME_BYTES - AROUND_FRAME;

/// A `send` frame.
pub(super) fn send_frame(
    reference: Reference,
    submissions: &[Enclosed],
    marks: &[Mark],
) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Frame<'a> {
        action: &'static str,
        #[serde(rename = "ref")]
        reference: Reference,
        submissions: &'a [Enclosed],
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        marks: &'a [Mark],
    }
    serde_json::to_string(&Frame { action: "send", reference, submissions, marks })
}
