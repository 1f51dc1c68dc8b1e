//! Watermarks: how far a device has stored, and how far a person has read. They only move forward.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConversationId, DeviceId, Seq, UserId};

/// What a device says about itself. `read` implies `delivered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mark {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Everything up to here is stored on this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Seq>,
    /// Everything up to here was opened by the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Seq>,
}

/// What others are told: how far a member is, over all devices of theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberMark {
    /// Whose mark.
    pub user: UserId,
    /// The device that moved it, so that it need not be told.
    pub device: DeviceId,
    /// The furthest that any device of the user has stored.
    pub delivered: Seq,
    /// How far the user has read; never beyond `delivered`.
    pub read: Seq,
}
