//! Watermarks: how far a device has stored, and how far a person has read. They only move forward.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConversationId, DeviceId, Reference, Seq, UserId};

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

/// See [`Request::Marks`](crate::Request::Marks).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MarksFrame {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// Of which conversation.
    pub conversation: ConversationId,
    /// The place of the message that the question is about. Only who sees it is answered.
    pub seq: Seq,
    /// `next` of the page before; nothing for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<UserId>,
}

/// How far those are who are in a conversation and see one place of its log, a page of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MarksPage {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// Of which conversation.
    pub conversation: ConversationId,
    /// The request's.
    pub seq: Seq,
    /// In the order of their ids. Who has no mark yet is left out.
    pub marks: Vec<UserMark>,
    /// Ask again with `after` set to this for the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UserId>,
}

/// How far a user is, over all devices of theirs, of what who asks sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserMark {
    /// Who.
    pub user: UserId,
    /// The furthest that any device of the user has stored.
    pub delivered: Seq,
    /// How far the user has read; never beyond `delivered`.
    pub read: Seq,
}

/// See [`Request::Receipts`](crate::Request::Receipts).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptsFrame {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// Whether the user gives and gets read receipts, on all their devices.
    pub on: bool,
}

/// Whether the user gives and gets read receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptsSet {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// What holds from now on.
    pub on: bool,
}
