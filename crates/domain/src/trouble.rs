//! Errors are of two kinds: a verdict of the rules ([`Refusal`]) and trouble with a part ([`Trouble`]).

use std::fmt;

use poste_protocol::{Code, Refusal};

/// What a device is told to wait after `busy`, in milliseconds. The device adds jitter of its own.
const BUSY_RETRY_MS: u64 = 500;

/// How trouble with a part is to be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The part asks for less: try again later.
    Throttled,
    /// The part did not answer, or not well: try again.
    Transient,
    /// The same again fails again: a defect or a missing permission. Somebody must look.
    Permanent,
}

/// A part did not do what it was asked. Whether the effect happened is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {class:?}: {detail}")]
pub struct Trouble {
    /// Which call, for example `log.put`.
    pub part: &'static str,
    /// What to do.
    pub class: Class,
    /// For the log; holds no content of messages.
    pub detail: String,
}

impl Trouble {
    /// Trouble of a class.
    pub fn new(part: &'static str, class: Class, detail: impl fmt::Display) -> Self {
        Self { part, class, detail: detail.to_string() }
    }

    /// Something that the rules say cannot be.
    pub fn broken(part: &'static str, detail: impl fmt::Display) -> Self {
        Self::new(part, Class::Permanent, detail)
    }
}

/// A no of either kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A part is in trouble.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

impl Failure {
    /// What the device is told. Trouble is logged here, once.
    pub fn into_refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Trouble(trouble) => {
                let refusal = match trouble.class {
                    Class::Throttled => Refusal::new(Code::Busy, "too much at once").after_ms(BUSY_RETRY_MS),
                    Class::Transient | Class::Permanent => {
                        Refusal::new(Code::Unavailable, "a part of the service did not answer")
                    }
                };
                if trouble.class == Class::Permanent {
                    tracing::error!(%trouble, "cannot answer");
                } else {
                    tracing::warn!(%trouble, "cannot answer now");
                }
                refusal
            }
        }
    }
}
