//! Wake-ups: where a device can be woken, what woke it, and what shall not.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ConversationId, PushId, Reference, Seq, limits};

/// Whose notification service reaches the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Platform {
    /// Apple's.
    Apns,
    /// Apple's, for applications under development.
    ApnsSandbox,
    /// Google's (Firebase).
    Fcm,
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Apns, Self::ApnsSandbox, Self::Fcm];

    /// As the wire names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apns => "apns",
            Self::ApnsSandbox => "apns_sandbox",
            Self::Fcm => "fcm",
        }
    }
}

impl std::str::FromStr for Platform {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let known = Self::ALL.into_iter().find(|platform| platform.as_str() == text);
        known.ok_or("a platform is apns, apns_sandbox or fcm")
    }
}

/// How the device wants to be woken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PushStyle {
    /// The person is told, by the system.
    #[default]
    Alert,
    /// The application is woken, and tells the person itself if it likes.
    Background,
}

impl PushStyle {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_alert(&self) -> bool {
        *self == Self::Alert
    }

    /// As the wire names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Background => "background",
        }
    }
}

impl std::str::FromStr for PushStyle {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let known = [Self::Alert, Self::Background].into_iter().find(|style| style.as_str() == text);
        known.ok_or("a style is alert or background")
    }
}

/// What the platform's service knows the application on this device by: 1 to 4096 visible ASCII characters. It is not
/// shown in logs: who has it and the application's key can push to the device.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProviderToken(String);

impl ProviderToken {
    /// Checks length and characters.
    pub fn new(text: impl Into<String>) -> Result<Self, &'static str> {
        let text = text.into();
        if text.is_empty() || text.len() > limits::PUSH_TOKEN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("a push token must be 1 to 4096 visible ASCII characters");
        }
        Ok(Self(text))
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ProviderToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProviderToken({} characters)", self.0.len())
    }
}

impl TryFrom<String> for ProviderToken {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::new(text)
    }
}

impl From<ProviderToken> for String {
    fn from(token: ProviderToken) -> String {
        token.0
    }
}

impl JsonSchema for ProviderToken {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProviderToken".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "minLength": 1, "maxLength": limits::PUSH_TOKEN, "pattern": "^[!-~]+$"
        })
    }
}

/// Where a device can be woken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushToken {
    /// Whose service.
    pub platform: Platform,
    /// What that service gave the application.
    pub token: ProviderToken,
    /// How the device wants to be woken.
    #[serde(default, skip_serializing_if = "PushStyle::is_alert")]
    pub style: PushStyle,
}

/// See [`Request::Push`](crate::Request::Push).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushFrame {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// In place of what was registered for this device before. Without one it is not woken any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<PushToken>,
}

/// Whether a device is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PushStatus {
    /// Yes.
    Registered,
    /// No: nothing is registered, or what was registered is registered by another account now.
    None,
    /// No: the platform says that the token is dead. A new one is wanted.
    Renew,
    /// No: this deployment wakes nobody on that platform.
    Off,
    /// A status of a later version. Never sent.
    #[serde(other)]
    Unknown,
}

/// Whether this device is woken, after a `push`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushAnswer {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// How it stands now.
    pub status: PushStatus,
}

/// What a push that woke the device said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WokenBy {
    /// Where something was written.
    pub conversation: ConversationId,
    /// What was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// Which push it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushId>,
}

/// See [`Request::Mute`](crate::Request::Mute).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MuteFrame {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// Which conversation.
    pub conversation: ConversationId,
    /// Until when nobody of this user's devices is woken for it, in Unix milliseconds of the server's clock, at most
    /// 2^53 - 1. Without it, or in the past: not muted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// A conversation is muted, or is no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Muted {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// Which conversation.
    pub conversation: ConversationId,
}
