//! The log as devices see it: cells, and pages of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConversationId, DeviceId, EnvelopeId, Event, Message, Number, Reference, Seq, UserId};

/// Who wrote: a user, on one device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Author {
    /// The person.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
}

/// An envelope that has its place. Message `i` of the cell (from 0) has the number `seq + i`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The number of its first message.
    pub seq: Seq,
    /// The envelope's id, by which its author finds it again.
    pub envelope: EnvelopeId,
    /// The envelope's number.
    pub number: Number,
    /// Who wrote it.
    pub by: Author,
    /// When the server stored it, in Unix milliseconds. The authoritative time; it does not order.
    pub at: u64,
    /// What was written, in order.
    pub messages: Vec<Message>,
}

impl Cell {
    /// What happens to the group by it.
    pub fn event(&self) -> Option<&Event> {
        self.messages.first().and_then(|message| message.event.as_ref())
    }

    /// The number of its last message.
    pub fn last(&self) -> Seq {
        self.seq.plus((self.messages.len() as u64).saturating_sub(1))
    }

    /// Its messages with their numbers.
    pub fn numbered(&self) -> impl Iterator<Item = (Seq, &Message)> {
        (0..).zip(&self.messages).map(|(index, message)| (self.seq.plus(index), message))
    }
}

/// A promise about a range: everything that the user may see with `after < number <= through` is in `cells`.
/// Numbers of the range that are in no cell are none of the user's: nobody will ever use them, or they were written
/// while the user was no member, or retention has removed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// The request's; absent within `pages`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
    /// Whose log.
    pub conversation: ConversationId,
    /// Where the range begins (exclusive): the cursor that was asked from; backwards, where the next page ends, and 0
    /// when there is nothing further.
    pub after: Seq,
    /// Where the range ends (inclusive): the device's next cursor; backwards, right before what was asked. Never less
    /// than `after`.
    pub through: Seq,
    /// Ascending, without overlap.
    pub cells: Vec<Cell>,
    /// Everything up to here is gone by retention, as far as was seen while reading; 0 or absent if nothing is. What
    /// of it a device has not fetched it will not get.
    #[serde(default, skip_serializing_if = "Seq::is_zero")]
    pub floor: Seq,
    /// The highest number that was seen in the log while reading; at least `through`.
    pub head: Seq,
    /// The next page in the direction that was asked can be asked for at once.
    pub more: bool,
    /// A number after `through` is still being written, or, with `before`, the one at `after`: ask again after so many
    /// milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}
