//! The account's file: `SQLite` in WAL mode, flushed to the disk at every commit.
//!
//! All changes go through a [`Tx`], which is committed or leaves nothing behind. What each table promises is written
//! in its file: [`conversations`](Tx::conversation), [`messages`](Tx::message), [`outbox`](Tx::outbox).

mod changes;
mod clock;
mod columns;
mod conversations;
mod groups;
mod media;
mod messages;
mod outbox;
mod receipts;
mod replace;
mod salvage;
mod search;
mod waking;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use poste_protocol::{DeviceId, UserId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};
use rusqlite_migration::{M, Migrations};

pub use clock::Reading;
pub use conversations::{MarkToSend, Row as ConversationRow};
pub use groups::{Group, Happened};
pub use media::{Cached, Holder, Source, Upload, UploadState};
pub use messages::Settled;
pub use outbox::Row as OutboxRow;
pub use receipts::Receipts;
pub use waking::Row as WakingRow;

use crate::{Recovery, StoreError};

/// One entry per format version; only ever added to.
const STEPS: &[M<'static>] = &[
    M::up(include_str!("schema_1.sql")),
    M::up(include_str!("schema_2.sql")),
    M::up(include_str!("schema_3.sql")),
    M::up(include_str!("schema_4.sql")).foreign_key_check(),
    M::up(include_str!("schema_5.sql")),
    M::up(include_str!("schema_6.sql")),
    M::up(include_str!("schema_7.sql")),
    M::up(include_str!("schema_8.sql")),
    M::up(include_str!("schema_9.sql")),
    M::up(include_str!("schema_10.sql")),
    M::up(include_str!("schema_11.sql")),
    M::up(include_str!("schema_12.sql")),
];

/// The format that this version writes: the number of migrations.
const FORMAT: usize = STEPS.len();

/// How long a statement waits for another process that reads or writes the file.
const BUSY: Duration = Duration::from_secs(5);

/// An account's file, open for writing by this store alone.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    /// Held while the store is open; the system lets go of it when the process ends, however it ends.
    lock: Option<File>,
}

impl Store {
    /// Opens the file, makes it if there is none, and brings its format up to date. A damaged file is moved aside, and
    /// a new one takes its place with what could be saved: see [`Tx::recovery`].
    ///
    /// # Errors
    /// Among others [`StoreError::AlreadyOpen`], [`StoreError::OtherAccount`] and [`StoreError::Newer`].
    pub fn open(path: &Path, user: &UserId, device: &DeviceId) -> Result<Self, StoreError> {
        Self::open_doubted(path, user, device, Doubt::None)
    }

    /// Opens a file of which it may be known that something is wrong with it.
    pub(crate) fn open_doubted(
        path: &Path,
        user: &UserId,
        device: &DeviceId,
        doubt: Doubt,
    ) -> Result<Self, StoreError> {
        let wrong = |path: &Path, source| StoreError::File { path: path.display().to_string(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|source| wrong(folder, source))?;
        }
        let lock_path = path.with_extension("lock");
        let lock = File::create(&lock_path).map_err(|source| wrong(&lock_path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::AlreadyOpen { path: path.display().to_string() });
            }
            Err(TryLockError::Error(source)) => return Err(wrong(&lock_path, source)),
        }
        replace::finish(path)?;
        let opened = if doubt == Doubt::Damaged || replace::is_beheaded(path) {
            Err(StoreError::Damaged("it was found to be damaged before".into()))
        } else {
            Connection::open(path).map_err(StoreError::from).and_then(|connection| {
                if doubt == Doubt::Suspected {
                    check(&connection)?;
                }
                Self::prepare(connection, user, device)
            })
        };
        let mut store = match opened {
            Err(damage) if damage.is_damage() => {
                tracing::error!(%damage, "the account's file is replaced by what can be saved of it");
                let saved = replace::replace(path, user, device)?;
                tracing::warn!(?saved, "the account's file was replaced");
                Self::prepare(Connection::open(path)?, user, device)?
            }
            opened => opened?,
        };
        store.lock = Some(lock);
        Ok(store)
    }

    /// Closes the file, with everything in the file itself and not beside it, and lets go of it: another process may
    /// open it.
    ///
    /// # Errors
    /// Trouble with the file. It is let go of all the same, and what was committed is in it.
    pub fn close(self) -> Result<(), StoreError> {
        let Self { connection, lock } = self;
        // A reader in another process may keep the log from being folded into the file: then it stays beside it.
        let folded = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        let closed = connection.close().map_err(|(_, wrong)| wrong);
        drop(lock);
        Ok(folded.and(closed)?)
    }

    /// Opens an existing file to read from, whoever else has it open. It must be of this version's format.
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(
            path,
            // Not read-only: the first reader of a WAL file may have to write its index.
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        set_up(&connection)?;
        refuse_newer(&connection)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(Self { connection, lock: None })
    }

    /// A store that lives as long as it is not dropped. For simulations.
    pub fn in_memory(user: &UserId, device: &DeviceId) -> Result<Self, StoreError> {
        Self::prepare(Connection::open_in_memory()?, user, device)
    }

    /// Indexes no more words: no rule asks for them, and they are a quarter of the work. For simulations.
    pub fn without_search(self) -> Result<Self, StoreError> {
        self.connection
            .execute_batch("DROP TRIGGER search_added; DROP TRIGGER search_removed; DROP TRIGGER search_changed;")?;
        Ok(self)
    }

    /// A copy of everything, in memory: the backup from which a device comes back. For simulations.
    pub fn copy(&self) -> Result<Self, StoreError> {
        let mut connection = Connection::open_in_memory()?;
        rusqlite::backup::Backup::new(&self.connection, &mut connection)?.step(-1)?;
        set_up(&connection)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(Self { connection, lock: None })
    }

    fn prepare(mut connection: Connection, user: &UserId, device: &DeviceId) -> Result<Self, StoreError> {
        set_up(&connection)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        refuse_newer(&connection)?;
        // A step that makes a table anew may not be hindered by what points to it.
        connection.pragma_update(None, "foreign_keys", false)?;
        Migrations::from_slice(STEPS).to_latest(&mut connection)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let mut store = Self { connection, lock: None };
        store.claim(user, device)?;
        Ok(store)
    }

    fn claim(&mut self, user: &UserId, device: &DeviceId) -> Result<(), StoreError> {
        let tx = self.begin()?;
        let owner: Option<(String, String)> = tx
            .sql
            .query_row("SELECT user, device FROM account", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match owner {
            None => {
                tx.sql.execute(
                    "INSERT INTO account (one, user, device) VALUES (1, ?, ?)",
                    params![user.as_str(), device.as_str()],
                )?;
            }
            Some((its_user, its_device)) if its_user == user.as_str() && its_device == device.as_str() => {}
            Some((user, device)) => return Err(StoreError::OtherAccount { user, device }),
        }
        tx.commit()
    }

    /// Begins a change. Dropped without a commit, it changes nothing.
    pub fn begin(&mut self) -> Result<Tx<'_>, StoreError> {
        let sql = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(Tx { sql })
    }

    /// Begins to read: everything that is read through it is of one moment.
    pub fn read(&mut self) -> Result<Tx<'_>, StoreError> {
        let sql = self.connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        Ok(Tx { sql })
    }

    /// Lets the file grow to so many pages and no further, as a full disk would. For tests.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: u32) {
        self.connection.pragma_update(None, "max_page_count", pages).expect("SQLite takes any limit");
    }

    /// What `SQLite` says of a setting. For tests.
    #[cfg(test)]
    pub(crate) fn pragma(&self, name: &str) -> String {
        self.connection
            .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
            .map(|value| match value {
                rusqlite::types::Value::Integer(number) => number.to_string(),
                rusqlite::types::Value::Text(text) => text,
                other => format!("{other:?}"),
            })
            .expect("SQLite knows the pragma")
    }
}

/// What is known of a file before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    None,
    /// `SQLite` has found it malformed once: it is read through, which takes time.
    Suspected,
    /// No doubt any more.
    Damaged,
}

/// What every connection wants, whatever it is for.
fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    // More than there are statements.
    connection.set_prepared_statement_cache_capacity(128);
    // A plan is made once and not anew for every `LIMIT` that is bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // What was deleted is not left in free pages either.
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(())
}

fn check(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged(verdict)) }
}

fn refuse_newer(connection: &Connection) -> Result<(), StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match usize::try_from(found) {
        Ok(found) if found > FORMAT => Err(StoreError::Newer { found, known: FORMAT }),
        _ => Ok(()),
    }
}

/// A change of the store, or a look at it.
pub struct Tx<'a> {
    sql: Transaction<'a>,
}

impl Tx<'_> {
    /// Puts the change on the disk: when this returns, it survives a kill and a power cut.
    pub fn commit(self) -> Result<(), StoreError> {
        Ok(self.sql.commit()?)
    }
}

impl Tx<'_> {
    /// What was saved when this file took the place of a damaged one, until [`Self::forget_recovery`].
    pub fn recovery(&self) -> Result<Option<Recovery>, StoreError> {
        let mut found = self.sql.prepare_cached("SELECT recovery FROM account")?;
        Ok(found.query_row([], |row| columns::optional_json(row, "recovery"))?)
    }

    /// The application has taken note of it.
    pub fn forget_recovery(&self) -> Result<(), StoreError> {
        self.sql.execute("UPDATE account SET recovery = NULL WHERE recovery IS NOT NULL", [])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
