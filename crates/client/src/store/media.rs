//! Files: own ones on their way to the object store, and the cache of those that were downloaded.

use poste_protocol::{Attachment, ConversationId, Digest, MediaId, MessageId, MessagePlace};
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::Tx;
use super::columns::{int, optional_json, optional_seq, optional_uint, text, uint};
use crate::{Failure, StoreError};

/// An own file that is to be uploaded, as it was found when its message was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where the person has it.
    pub path: String,
    /// When it was last changed, in Unix milliseconds, where the system says so.
    pub modified: Option<u64>,
    /// The checksum of each part.
    pub parts: Vec<Digest>,
}

/// How an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadState {
    /// It waits, or is under way.
    Waiting,
    /// The file is stored as a whole.
    Complete,
    /// It has failed, and waits for a person.
    Failed,
    /// Its message was dropped: the server has to be told.
    Unwanted,
}

/// An own file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Which.
    pub media: MediaId,
    /// Its message's local number, unless that was dropped.
    pub message: Option<i64>,
    /// Where it goes.
    pub conversation: ConversationId,
    /// Where the person has it.
    pub path: String,
    /// When it was last changed there.
    pub modified: Option<u64>,
    /// Bytes that the store is known to have.
    pub sent: u64,
    /// How it stands.
    pub state: UploadState,
    /// How often the server refused the message because it has no such file.
    pub refused: u32,
}

/// A file of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// Its message's local number.
    pub message: i64,
    /// In the cache's folder.
    pub name: String,
    /// Whether it is there as a whole.
    pub here: bool,
}

/// A message with a file, as a download needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its local number.
    pub local: i64,
    /// Its id, and its place once it has one.
    pub place: Option<MessagePlace>,
    /// Its file, unless it has none.
    pub file: Option<Attachment>,
}

const COLUMNS: &str = "media, message, conversation, path, modified, sent, state, refused";

fn upload(row: &rusqlite::Row<'_>) -> rusqlite::Result<Upload> {
    Ok(Upload {
        media: MediaId(row.get::<_, Uuid>("media")?),
        message: row.get("message")?,
        conversation: text(row, "conversation")?,
        path: row.get("path")?,
        modified: optional_uint(row, "modified")?,
        sent: uint(row, "sent")?,
        state: match row.get::<_, i64>("state")? {
            0 => UploadState::Waiting,
            1 => UploadState::Complete,
            2 => UploadState::Failed,
            3 => UploadState::Unwanted,
            other => return Err(rusqlite::Error::IntegralValueOutOfRange(0, other)),
        },
        refused: u32::try_from(uint(row, "refused")?).unwrap_or(u32::MAX),
    })
}

fn cached(row: &rusqlite::Row<'_>) -> rusqlite::Result<Cached> {
    Ok(Cached { message: row.get("message")?, name: row.get("name")?, here: row.get::<_, i64>("state")? == 1 })
}

impl Tx<'_> {
    /// The file of an own message that was just written is to be uploaded.
    pub fn add_upload(
        &self,
        message: i64,
        media: MediaId,
        conversation: &ConversationId,
        source: &Source,
    ) -> Result<(), StoreError> {
        let parts: Vec<u8> = source.parts.iter().flat_map(Digest::as_bytes).copied().collect();
        self.sql
            .prepare_cached(
                "INSERT INTO uploads (media, message, conversation, path, modified, parts) VALUES (?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![media.0, message, conversation.as_str(), source.path, source.modified.map(int), parts])?;
        Ok(())
    }

    /// What there is to do: uploads that wait, the oldest first, and before them those that are not wanted any more.
    pub fn uploads_to_do(&self, limit: usize) -> Result<Vec<Upload>, StoreError> {
        let mut found = self.sql.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM uploads INDEXED BY uploads_to_do WHERE state IN (0, 3) ORDER BY message LIMIT ?"
        ))?;
        Ok(found.query_map([int(limit as u64)], upload)?.collect::<rusqlite::Result<_>>()?)
    }

    /// An upload, by its file.
    pub fn upload(&self, media: MediaId) -> Result<Option<Upload>, StoreError> {
        let mut found = self.sql.prepare_cached(&format!("SELECT {COLUMNS} FROM uploads WHERE media = ?"))?;
        Ok(found.query_row([media.0], upload).optional()?)
    }

    /// The upload of a message's file.
    pub fn upload_of(&self, message: i64) -> Result<Option<Upload>, StoreError> {
        let mut found = self.sql.prepare_cached(&format!("SELECT {COLUMNS} FROM uploads WHERE message = ?"))?;
        Ok(found.query_row([message], upload).optional()?)
    }

    /// What a message says of its file.
    pub fn attachment(&self, message: i64) -> Result<Option<Attachment>, StoreError> {
        let mut found = self.sql.prepare_cached("SELECT media FROM messages WHERE local = ?")?;
        Ok(found.query_row([message], |row| optional_json(row, "media")).optional()?.flatten())
    }

    /// The checksum of a part of an own file, from 1 on.
    pub fn checksum_of_part(&self, media: MediaId, part: u32) -> Result<Digest, StoreError> {
        let mut found = self.sql.prepare_cached("SELECT substr(parts, ?2, 32) FROM uploads WHERE media = ?1")?;
        let first = i64::from(part.saturating_sub(1)) * 32 + 1;
        let bytes: Vec<u8> = found.query_row(params![media.0, first], |row| row.get(0))?;
        let bytes = bytes.try_into().map_err(|_| StoreError::Damaged("an upload without its checksums".into()))?;
        Ok(Digest::from_bytes(bytes))
    }

    /// The store is known to have so many bytes of it.
    pub fn note_sent(&self, media: MediaId, sent: u64) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE uploads SET sent = ?2 WHERE media = ?1 AND sent <> ?2")?
            .execute(params![media.0, int(sent)])?;
        Ok(())
    }

    /// It is stored as a whole. Says whether that is news.
    pub fn complete_upload(&self, media: MediaId) -> Result<bool, StoreError> {
        let changed = self
            .sql
            .prepare_cached("UPDATE uploads SET state = 1 WHERE media = ? AND state = 0")?
            .execute([media.0])?;
        Ok(changed > 0)
    }

    /// It has failed, and so has its message.
    pub fn fail_upload(&self, media: MediaId, failure: &Failure) -> Result<(), StoreError> {
        let json = serde_json::to_string(failure).map_err(|wrong| StoreError::Damaged(wrong.to_string()))?;
        self.sql
            .prepare_cached("UPDATE uploads SET state = 2, failure = ?2 WHERE media = ?1")?
            .execute(params![media.0, json])?;
        self.sql
            .prepare_cached(
                "UPDATE messages SET state = 0 WHERE local = (SELECT message FROM uploads WHERE media = ?)
                    AND seq IS NULL AND envelope IS NULL",
            )?
            .execute([media.0])?;
        Ok(())
    }

    /// It is begun again. `refused` counts that the server has refused the message for want of it.
    pub fn upload_again(&self, media: MediaId, refused: u32) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE uploads SET state = 0, failure = NULL, sent = 0, refused = ?2 WHERE media = ?1")?
            .execute(params![media.0, refused])?;
        Ok(())
    }

    /// A failed upload, and its message, wait again, by `time` of the device's own; under another name, if so asked.
    pub fn retry_upload(&self, message: i64, file: &Attachment, time: u64) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "UPDATE uploads SET media = ?2, state = 0, failure = NULL, sent = 0, refused = 0
                 WHERE message = ?1 AND state = 2",
            )?
            .execute(params![message, file.id.0])?;
        let json = serde_json::to_string(file).map_err(|wrong| StoreError::Damaged(wrong.to_string()))?;
        self.sql
            .prepare_cached(
                "UPDATE messages SET state = 1, media = ?2, queued_at = ?3
                 WHERE local = ?1 AND seq IS NULL AND envelope IS NULL",
            )?
            .execute(params![message, json, int(time)])?;
        Ok(())
    }

    /// The server knows that it is not wanted any more.
    pub fn forget_upload(&self, media: MediaId) -> Result<(), StoreError> {
        self.sql.prepare_cached("DELETE FROM uploads WHERE media = ? AND state = 3")?.execute([media.0])?;
        Ok(())
    }

    /// A message as a download needs it.
    pub fn holder(&self, conversation: &ConversationId, id: MessageId) -> Result<Option<Holder>, StoreError> {
        let mut found = self.sql.prepare_cached(
            "SELECT local, seq, iif(deleted = 0, media, NULL) AS media FROM messages
             WHERE conversation = ? AND id = ? AND change IS NULL ORDER BY local LIMIT 1",
        )?;
        let row = found.query_row(params![conversation.as_str(), id.0], |row| {
            let place = optional_seq(row, "seq")?.map(|seq| MessagePlace { seq, id });
            Ok(Holder { local: row.get("local")?, place, file: optional_json(row, "media")? })
        });
        Ok(row.optional()?)
    }

    /// The file of a message in the cache, whole or in part.
    pub fn cached(&self, message: i64) -> Result<Option<Cached>, StoreError> {
        let mut found = self
            .sql
            .prepare_cached("SELECT message, name, state FROM downloads WHERE message = ? AND state IN (0, 1)")?;
        Ok(found.query_row([message], cached).optional()?)
    }

    /// A file is being downloaded: its name in the cache.
    pub fn begin_download(&self, message: i64, file: &Attachment, time: u64) -> Result<String, StoreError> {
        let name = format!("{}-{message}", file.id);
        self.sql
            .prepare_cached(
                "INSERT INTO downloads (message, name, size, state, used_at) VALUES (?1, ?2, ?3, 0, ?4)
                 ON CONFLICT (message) DO UPDATE SET name = ?2, size = ?3, state = 0, used_at = ?4",
            )?
            .execute(params![message, name, int(file.size), int(time)])?;
        Ok(name)
    }

    /// It is here as a whole.
    pub fn downloaded(&self, message: i64) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE downloads SET state = 1 WHERE message = ? AND state = 0")?
            .execute([message])?;
        Ok(())
    }

    /// Somebody looks at it.
    pub fn used(&self, message: i64, time: u64) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE downloads SET used_at = ?2 WHERE message = ?1")?
            .execute(params![message, int(time)])?;
        Ok(())
    }

    /// It is not there any more, or is not wanted: to be removed.
    pub fn drop_download(&self, message: i64) -> Result<(), StoreError> {
        self.sql.prepare_cached("UPDATE downloads SET state = 2 WHERE message = ?")?.execute([message])?;
        Ok(())
    }

    /// Marks what was used least recently, until the cache has at most so many bytes; but for these messages' files.
    pub fn bound_cache(&self, most: u64, but: &[i64]) -> Result<(), StoreError> {
        let mut sum = self.sql.prepare_cached("SELECT coalesce(sum(size), 0) AS sum FROM downloads WHERE state < 2")?;
        let mut sum = sum.query_row([], |row| uint(row, "sum"))?;
        if sum <= most {
            return Ok(());
        }
        let mut found =
            self.sql.prepare_cached("SELECT message, size FROM downloads WHERE state < 2 ORDER BY used_at, message")?;
        let all: Vec<(i64, u64)> = found
            .query_map([], |row| Ok((row.get("message")?, uint(row, "size")?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (message, size) in all.into_iter().filter(|(message, _)| !but.contains(message)) {
            if sum <= most {
                break;
            }
            self.drop_download(message)?;
            sum = sum.saturating_sub(size);
        }
        Ok(())
    }

    /// Takes what is to be removed out of the books: the messages' local numbers, and the names in the cache's folder.
    pub fn take_removed(&self) -> Result<Vec<(i64, String)>, StoreError> {
        if !self
            .sql
            .prepare_cached("SELECT 1 FROM downloads INDEXED BY downloads_to_remove WHERE state = 2")?
            .exists([])?
        {
            return Ok(Vec::new());
        }
        let mut gone = self.sql.prepare_cached("DELETE FROM downloads WHERE state = 2 RETURNING message, name")?;
        Ok(gone.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?)
    }

    /// The names of everything that belongs into the cache's folder.
    pub fn cached_names(&self) -> Result<Vec<String>, StoreError> {
        let mut found = self.sql.prepare_cached("SELECT name FROM downloads WHERE state < 2")?;
        Ok(found.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }
}
