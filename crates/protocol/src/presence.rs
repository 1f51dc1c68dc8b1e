//! Presence and typing: ephemeral, never in the log. What is told is true until a time, unless it is told anew.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConversationId, Reference, UserId};

/// See [`Request::Watch`](crate::Request::Watch).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watch {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// At most 50. All that the device watches: what is left out is watched no longer than its lease lasts.
    pub conversations: Vec<ConversationId>,
}

/// See [`Request::Away`](crate::Request::Away).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Away {}

/// See [`Request::Typing`](crate::Request::Typing).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Typing {
    /// Where.
    pub conversation: ConversationId,
}

/// Whether a user is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserPresence {
    /// Who.
    pub user: UserId,
    /// There until then, in Unix milliseconds by the server's clock, unless it is told anew. Left out: not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// When the user was last known to be there, in Unix milliseconds; left out if that is not known, or long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
}

/// Answers `watch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watching {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// The server's clock, in Unix milliseconds.
    pub now: u64,
    /// After so long the device asks again, or its lease ends.
    pub renew_ms: u64,
    /// The others in the conversations that were named, each once.
    pub users: Vec<UserPresence>,
}

/// Somebody came, or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PresenceNews {
    /// The server's clock when it was so, in Unix milliseconds. Of two that say something of a user, the later counts.
    pub now: u64,
    /// Who.
    pub users: Vec<UserPresence>,
}

/// Somebody is writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TypingNews {
    /// The server's clock when it was so, in Unix milliseconds.
    pub now: u64,
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub user: UserId,
}
