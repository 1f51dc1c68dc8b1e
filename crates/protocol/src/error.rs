//! Refusals: the closed list of what the server says no with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConversationId, Number, Seq};

/// Why something was refused. Closed: a new code is a new version of the protocol's document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Not JSON, a field missing, of the wrong type or not well formed.
    BadFrame,
    /// A frame or envelope over its limit of bytes.
    TooBig,
    /// More items than the limit.
    TooMany,
    /// No such action.
    UnknownAction,
    /// The user is no member of the conversation, or there is none: the two look alike.
    NotMember,
    /// The user is a member, and may not do that.
    NotAllowed,
    /// The envelope's number does not go with the device's lane: the device's state was rolled back, or is used twice.
    LaneConflict,
    /// The envelope waited longer than the acceptance window.
    Expired,
    /// What the envelope edits or deletes is not there, or not for its author to change.
    NoTarget,
    /// What the message refers to is not stored as a whole, is not its author's or was uploaded for another conversation.
    NoMedia,
    /// The file's id is in use for a file of another size, type or checksum, or its bytes are not what was announced.
    MediaConflict,
    /// The user has uploaded too much: come back after `retry_after_ms`.
    OverQuota,
    /// More than the deployment takes of a device, or of a user, in a minute. The same again, after `retry_after_ms`.
    TooFast,
    /// The connection's token has run out: connect again with a fresh one.
    TokenExpired,
    /// Too much at once: come back after `retry_after_ms`.
    Busy,
    /// A part did not answer: the same again is safe.
    Unavailable,
    /// A code of a later version. Never sent.
    #[serde(other)]
    Unknown,
}

impl Code {
    /// Whether the same again may succeed without the device changing anything.
    pub fn retryable(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable | Self::TokenExpired | Self::OverQuota | Self::TooFast)
    }

    /// Whether the server never takes the envelope that it refused with this in the conversation: what is in it may go
    /// in another one.
    pub fn is_for_good(self, conversation: &ConversationId) -> bool {
        match self {
            Self::Expired | Self::NoTarget | Self::NoMedia => true,
            Self::NotMember | Self::NotAllowed | Self::TooMany => conversation.is_group(),
            _ => false,
        }
    }
}

/// A no, for a whole frame or for one item of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, JsonSchema)]
#[error("{code:?}: {message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people who read logs; may change.
    pub message: String,
    /// Whether the same again may succeed.
    pub retryable: bool,
    /// Not before so many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// With `lane_conflict`: where the device's lane stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<LanePlace>,
}

/// The last envelope that the server knows of a device in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LanePlace {
    /// Its number. The device's next envelope needs a greater one.
    pub number: Number,
    /// Its place in the log. A device that finds out what it has written reads through this number first.
    pub seq: Seq,
}

impl Refusal {
    /// A refusal with the code's own retryability.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: code.retryable(), retry_after_ms: None, lane: None }
    }

    /// Whether the same again may succeed, by the server's word or by what its code is known to mean.
    pub fn may_pass(&self) -> bool {
        self.retryable || self.code.retryable()
    }

    /// Says when to come back.
    #[must_use]
    pub fn after_ms(mut self, wait: u64) -> Self {
        self.retry_after_ms = Some(wait);
        self
    }
}
