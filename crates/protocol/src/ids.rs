//! Names of things. All are checked when they are made, so that code inside never checks again.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits;

/// Why a string or number is not the id that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct InvalidId {
    what: &'static str,
    rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $limit:expr, $rule:literal, $pattern:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks length and characters.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                let allowed: fn(u8) -> bool = $allowed;
                if text.is_empty() || text.len() > $limit || !text.bytes().all(allowed) {
                    return Err(InvalidId { what: $what, rule: $rule });
                }
                Ok(Self(text))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

                impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string", "minLength": 1, "maxLength": $limit, "pattern": $pattern, "description": $rule
                })
            }
        }
    };
}

text_id!(
    /// A person, as the token's `sub` names them.
    UserId,
    "a user id",
    limits::USER_ID,
    "1 to 128 of A-Z a-z 0-9 . _ @ : | + = -",
    "^[A-Za-z0-9._@:|+=-]+$",
    |b| b.is_ascii_alphanumeric() || b"._@:|+=-".contains(&b)
);

text_id!(
    /// One installation of a client. Unique among the devices of its user.
    DeviceId,
    "a device id",
    limits::DEVICE_ID,
    "1 to 64 of A-Z a-z 0-9 _ -",
    "^[A-Za-z0-9_-]+$",
    |b| b.is_ascii_alphanumeric() || b"_-".contains(&b)
);

text_id!(
    /// A conversation. That of two users follows from the users: [`ConversationId::direct`].
    ConversationId,
    "a conversation id",
    limits::CONVERSATION_ID,
    "1 to 64 of A-Z a-z 0-9 _ -",
    "^[A-Za-z0-9_-]+$",
    |b| b.is_ascii_alphanumeric() || b"_-".contains(&b)
);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id (`UUIDv7`).
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }

                impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": "uuid" })
            }
        }
    };
}

uuid_id!(
    /// An envelope, named by the device before it is first sent.
    EnvelopeId
);
uuid_id!(
    /// A message, named by the device when it is written.
    MessageId
);
uuid_id!(
    /// A file, named by the device before it is first uploaded. Unique among the files of its user.
    MediaId
);
uuid_id!(
    /// A push, named by the server when it is made.
    PushId
);

macro_rules! count {
    ($(#[$doc:meta])* $name:ident, $what:literal, $least:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name(u64);

        impl $name {
            /// Checks the range.
            pub fn new(value: u64) -> Result<Self, InvalidId> {
                if !($least..=limits::INTEGER).contains(&value) {
                    return Err(InvalidId {
                        what: $what,
                        rule: concat!("a whole number from ", stringify!($least), " to 2^53 - 1"),
                    });
                }
                Ok(Self(value))
            }

            /// The plain number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = InvalidId;
            fn try_from(value: u64) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> u64 {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

                impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "integer", "minimum": $least, "maximum": limits::INTEGER })
            }
        }
    };
}

count!(
    /// A place in a conversation's log. The first message has 1; 0 means "before everything".
    Seq,
    "a sequence number",
    0
);
count!(
    /// An envelope's number: 1, 2, 3 ... per device and conversation, kept by the device.
    Number,
    "an envelope's number",
    1
);

impl Seq {
    /// Before the first message.
    pub const ZERO: Self = Self(0);

    /// The furthest place that there can be.
    pub const LAST: Self = Self(crate::limits::INTEGER);

    /// Whether it is before the first message.
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// The place that is `count` further on; nothing is further than [`Self::LAST`].
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        let there = self.0.saturating_add(count);
        if there > limits::INTEGER { Self::LAST } else { Self(there) }
    }

    /// The next place.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The place before; nothing is before the beginning.
    #[must_use]
    pub const fn back(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Default for Seq {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Number {
    /// The number of a device's first envelope in a conversation.
    pub const FIRST: Self = Self(1);

    /// The number of the envelope after this one; after the greatest there is none.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.0 < limits::INTEGER { Self(self.0 + 1) } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_when_made() {
        assert!(UserId::new("alice@example.org").is_ok());
        assert!(UserId::new("auth0|5f7c8ec7c33c6c004bbafe82").is_ok());
        for bad in ["", " ", "a b", "a\u{0}b", "é", &"x".repeat(129)] {
            assert!(UserId::new(bad).is_err(), "{bad:?}");
        }
        assert!(DeviceId::new("phone-1").is_ok());
        assert!(DeviceId::new("phone/1").is_err());
        assert!(ConversationId::new("x".repeat(64)).is_ok());
        assert!(ConversationId::new("x".repeat(65)).is_err());
    }

    #[test]
    fn numbers_stay_exact_in_every_json_reader() {
        assert!(Seq::new(limits::INTEGER).is_ok());
        assert!(Seq::new(limits::INTEGER + 1).is_err());
        assert!(Number::new(0).is_err());
        // What is counted on from a number that somebody told is still one.
        assert_eq!((Seq::LAST.next(), Seq::ZERO.plus(u64::MAX)), (Seq::LAST, Seq::LAST));
        assert_eq!(Number(limits::INTEGER).next().get(), limits::INTEGER);
        assert!(serde_json::from_str::<Seq>("-1").is_err());
        assert!(serde_json::from_str::<Seq>("1.5").is_err());
    }
}
