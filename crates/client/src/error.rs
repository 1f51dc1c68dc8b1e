//! What can go wrong for the caller.

use poste_protocol::MessageId;

/// Trouble with the file on disk. What had been promised before is still in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `SQLite` or the disk said no.
    #[error("the account's file: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The format could not be brought up to date.
    #[error("the account's file could not be brought up to date: {0}")]
    Migration(#[from] rusqlite_migration::Error),
    /// The file was written by a later version of the library.
    #[error("the account's file has format {found}; this version reads up to {known}: update the application")]
    Newer {
        /// The file's format.
        found: usize,
        /// The newest that this version reads.
        known: usize,
    },
    /// Another process, or another client of this one, has the account open.
    #[error("the account's file is open elsewhere: {path}")]
    AlreadyOpen {
        /// The file.
        path: String,
    },
    /// The file belongs to another user or device.
    #[error("the account's file belongs to {user} on {device}")]
    OtherAccount {
        /// Whose it is.
        user: String,
        /// On which device.
        device: String,
    },
    /// The folder or the lock file could not be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in the file is not what this library writes.
    #[error("the account's file holds what it should not: {0}")]
    Damaged(String),
}

impl StoreError {
    /// Whether the file itself is at fault: its pages are malformed, or it holds what this library does not write. A
    /// full disk, for one, is no damage.
    pub fn is_damage(&self) -> bool {
        use rusqlite::{Error as Sql, ErrorCode};
        let sql = match self {
            Self::Sqlite(sql) | Self::Migration(rusqlite_migration::Error::RusqliteError { err: sql, .. }) => sql,
            Self::Damaged(_) => return true,
            _ => return false,
        };
        matches!(sql.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            || matches!(
                sql,
                Sql::FromSqlConversionFailure(..)
                    | Sql::IntegralValueOutOfRange(..)
                    | Sql::InvalidColumnType(..)
                    | Sql::Utf8Error(..)
            )
    }
}

/// Why the file of a message cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFile {
    /// It is not there any more, or not for this person; or its message was never sent, and it was moved.
    #[error("the file is not there any more")]
    Gone,
    /// There was no connection, or no answer in time. What came of it is kept: the next call goes on from there.
    #[error("the file did not come in time; what came of it is kept")]
    NoAnswer,
    /// What came is not what the message says, twice.
    #[error("what came is not the file that the message says")]
    Wrong,
    /// The cache cannot be written.
    #[error("the cache cannot be written: {0}")]
    NoRoom(String),
    /// It was stopped.
    #[error("the download was stopped")]
    Stopped,
    /// Too many are wanted at once.
    #[error("too many files are wanted at once")]
    TooMany,
}

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Trouble with the file on disk: nothing was changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A message needs a body.
    #[error("a message's body must not be empty")]
    EmptyBody,
    /// The body alone is more than an envelope carries.
    #[error("the message is too big: {bytes} bytes as JSON in its envelope, at most {limit} fit")]
    BodyTooBig {
        /// What the envelope of this message alone would take.
        bytes: usize,
        /// What an envelope may take.
        limit: usize,
    },
    /// What was to happen to a group is more than an event holds: users named twice or too many, a title that is empty
    /// or too long.
    #[error("a group's event cannot be so: {0}")]
    BadEvent(String),
    /// A file cannot be sent.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: String,
        /// What is the matter with it.
        why: String,
    },
    /// What a message says of its file is more than the wire carries.
    #[error("the file cannot be sent so: {0}")]
    BadFile(String),
    /// The file of a message cannot be had.
    #[error(transparent)]
    NoFile(#[from] NoFile),
    /// The person is not in this group any more.
    #[error("not in this group any more")]
    NotInGroup,
    /// This device knows no such conversation.
    #[error("no such conversation on this device")]
    UnknownConversation,
    /// There is no own message with this id in that state.
    #[error("message {id} {why}")]
    Message {
        /// Which.
        id: MessageId,
        /// What is the matter with it.
        why: &'static str,
    },
    /// The server was to be asked, and there was no connection, or no answer in time.
    #[error("there was no answer from the server")]
    NoAnswer,
    /// The socket's address cannot be used.
    #[error("the socket's address cannot be used: {0}")]
    Address(String),
    /// The client is suspended: it has let go of the file until it is resumed. Nothing was changed.
    #[error("the client is suspended")]
    Suspended,
    /// The client has been closed.
    #[error("the client is closed")]
    Closed,
}
