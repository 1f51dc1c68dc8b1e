//! Why a call was refused.

use poste_client::Error;

/// Why a call was refused.
#[derive(Debug, thiserror::Error, uniffi::Error)]
pub enum PosteError {
    /// Trouble with the file on disk: nothing was changed.
    #[error("{reason}")]
    Store {
        /// For people who read logs.
        reason: String,
        /// Another process, or another client of this one, has the account open.
        open_elsewhere: bool,
        /// The file was written by a later version of the library.
        newer: bool,
    },
    /// Something that was passed in is not what it should be: an id, an address, an empty body, one that is too big.
    #[error("{reason}")]
    Invalid {
        /// For people who read logs.
        reason: String,
    },
    /// The person is not in this group any more.
    #[error("not in this group any more")]
    NotInGroup,
    /// This device knows no such conversation, or no own message with this id in that state.
    #[error("{reason}")]
    Unknown {
        /// For people who read logs.
        reason: String,
    },
    /// The file of a message cannot be had: it is not there any more, did not come in time, or was stopped.
    #[error("{reason}")]
    NoFile {
        /// For people who read logs.
        reason: String,
        /// The next call may go on from what came.
        again: bool,
    },
    /// The server was to be asked, and there was no connection, or no answer in time.
    #[error("there was no answer from the server")]
    NoAnswer,
    /// The client is suspended.
    #[error("the client is suspended")]
    Suspended,
    /// The client has been closed.
    #[error("the client is closed")]
    Closed,
}

impl PosteError {
    pub(crate) fn invalid(what: &str, wrong: impl std::fmt::Display) -> Self {
        Self::Invalid { reason: format!("{what}: {wrong}") }
    }
}

impl From<Error> for PosteError {
    fn from(error: Error) -> Self {
        use poste_client::{NoFile, StoreError};
        let reason = error.to_string();
        match error {
            Error::Store(wrong) => Self::Store {
                reason,
                open_elsewhere: matches!(wrong, StoreError::AlreadyOpen { .. }),
                newer: matches!(wrong, StoreError::Newer { .. }),
            },
            Error::EmptyBody
            | Error::BodyTooBig { .. }
            | Error::BadEvent(_)
            | Error::File { .. }
            | Error::BadFile(_)
            | Error::Address(_) => Self::Invalid { reason },
            Error::NoFile(why) => Self::NoFile { reason, again: !matches!(why, NoFile::Gone | NoFile::Wrong) },
            Error::NotInGroup => Self::NotInGroup,
            Error::NoAnswer => Self::NoAnswer,
            Error::UnknownConversation | Error::Message { .. } => Self::Unknown { reason },
            Error::Suspended => Self::Suspended,
            Error::Closed => Self::Closed,
        }
    }
}
