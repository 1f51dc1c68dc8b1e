//! Edits and deletes: rows of their own beside the messages that they change.
//!
//! What a message shows follows from the rows that are here, in whatever order they came ([`Tx::refresh`]): it is
//! deleted if the log says so anywhere; otherwise its text is that of its edit with the greatest place, own ones that
//! wait coming last. An edit that was refused does not count. A change whose message is not here yet waits for it.

use poste_protocol::{Author, ConversationId, Message as Written, MessageId, MessagePlace, Seq, UserId};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, params};
use uuid::Uuid;

use super::Tx;
use super::columns::{int, optional_json, optional_seq, optional_uint, text, uint};
use crate::{ChangeKind, StoreError};

/// How a change of a kind is stored: see `schema_7.sql`.
pub(super) fn kind_code(kind: ChangeKind) -> i64 {
    match kind {
        ChangeKind::Edit => 1,
        ChangeKind::Delete => 2,
    }
}

/// What a row changes, if it is a change.
pub(super) fn kind(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<ChangeKind>> {
    Ok(match row.get::<_, Option<i64>>(column)? {
        None => None,
        Some(1) => Some(ChangeKind::Edit),
        Some(2) => Some(ChangeKind::Delete),
        Some(other) => return Err(rusqlite::Error::IntegralValueOutOfRange(0, other)),
    })
}

/// What a message of the wire changes.
pub(super) fn change_of(message: &Written) -> Option<(ChangeKind, MessagePlace)> {
    let edit = message.edits.map(|target| (ChangeKind::Edit, target));
    edit.or_else(|| message.deletes.map(|target| (ChangeKind::Delete, target)))
}

/// A row as it goes over the wire. A change without the place of what it changes is none.
pub(super) fn on_the_wire(row: &Row<'_>) -> rusqlite::Result<Written> {
    let id = MessageId(row.get::<_, Uuid>("id")?);
    let written_at = optional_uint(row, "written_at")?;
    let (event, media) = (optional_json(row, "event")?, optional_json(row, "media")?);
    let message = Written { event, media, written_at, ..Written::new(id, row.get::<_, String>("body")?) };
    let Some(kind) = kind(row, "change")? else { return Ok(message) };
    let missing = || rusqlite::Error::InvalidColumnType(0, "target_seq".into(), Type::Null);
    let seq = optional_seq(row, "target_seq")?.ok_or_else(missing)?;
    let place = Some(MessagePlace { seq, id: MessageId(row.get::<_, Uuid>("target")?) });
    Ok(match kind {
        ChangeKind::Edit => Written { edits: place, ..message },
        ChangeKind::Delete => Written { deletes: place, ..message },
    })
}

/// A message, as far as changes are concerned.
struct Changed {
    local: i64,
    conversation: ConversationId,
    user: UserId,
    id: MessageId,
    seq: Option<Seq>,
    body: String,
    original: Option<String>,
    edited_at: Option<u64>,
    deleted: u64,
}

/// What it shows.
#[derive(PartialEq, Eq)]
struct Shown {
    body: String,
    original: Option<String>,
    edited_at: Option<u64>,
    deleted: u64,
}

/// A message's conversation and author; and, of a change, what it changes and the place of that.
type Aim = (ConversationId, UserId, Option<Uuid>, Option<Seq>);

const FOR_EVER: u64 = 1;
const WAITS: u64 = 2;

impl Tx<'_> {
    /// Writes an own change of a message, which begins to wait at `time` by the device's own time. The place of the
    /// message is found when there is one. Returns the change's local number.
    pub fn add_own_change(
        &self,
        conversation: &ConversationId,
        me: &Author,
        change: &Written,
        kind: ChangeKind,
        target: (MessageId, Option<Seq>),
        time: u64,
    ) -> Result<i64, StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO messages
                 (conversation, user, device, id, body, written_at, queued_at, state, change, target, target_seq)
                 VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?)",
            )?
            .execute(params![
                conversation.as_str(),
                me.user.as_str(),
                me.device.as_str(),
                change.id.0,
                change.body,
                change.written_at.map(int),
                int(time),
                kind_code(kind),
                target.0.0,
                target.1.map(|seq| int(seq.get()))
            ])?;
        Ok(self.sql.last_insert_rowid())
    }

    /// The own edit of a message that waits and is in no envelope.
    pub fn waiting_edit(&self, conversation: &ConversationId, target: MessageId) -> Result<Option<i64>, StoreError> {
        let mut found = self.sql.prepare_cached(
            "SELECT local FROM messages WHERE target = ?2 AND conversation = ?1 AND change = 1 AND seq IS NULL
                AND state = 1 AND envelope IS NULL ORDER BY local DESC LIMIT 1",
        )?;
        Ok(found.query_row(params![conversation.as_str(), target.0], |row| row.get(0)).optional()?)
    }

    /// Gives an own message or edit that is in no envelope another text.
    pub fn rewrite(&self, local: i64, body: &str) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE messages SET body = ?2 WHERE local = ?1 AND seq IS NULL AND envelope IS NULL")?
            .execute(params![local, body])?;
        Ok(())
    }

    /// Own changes of a message that wait and are in no envelope are not wanted any more; only the edits among them,
    /// if so asked.
    pub fn drop_waiting_changes(
        &self,
        conversation: &ConversationId,
        target: MessageId,
        only_edits: bool,
    ) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "DELETE FROM messages WHERE target = ?2 AND conversation = ?1 AND (change = 1 OR NOT ?3)
                    AND seq IS NULL AND envelope IS NULL",
            )?
            .execute(params![conversation.as_str(), target.0, only_edits])?;
        Ok(())
    }

    /// The messages that a change is about, of those that are here, by their local numbers.
    pub fn about(&self, change: i64) -> Result<Vec<i64>, StoreError> {
        match self.aim(change)? {
            Some((conversation, user, Some(target), place)) => {
                self.changed_by(&conversation, &user, MessageId(target), place)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// What a message is to change, and whose and where it is.
    fn aim(&self, local: i64) -> Result<Option<Aim>, StoreError> {
        Ok(self
            .sql
            .prepare_cached("SELECT conversation, user, target, target_seq FROM messages WHERE local = ?")?
            .query_row([local], |row| {
                let target = row.get::<_, Option<Uuid>>("target")?;
                Ok((text(row, "conversation")?, text(row, "user")?, target, optional_seq(row, "target_seq")?))
            })
            .optional()?)
    }

    /// Brings a message up to date with what changes it. Given a change, the messages that it is about. Returns the
    /// local numbers of those of which something is other than before, or of which a change is.
    pub fn refresh(&self, local: i64) -> Result<Vec<i64>, StoreError> {
        let Some((conversation, user, target, place)) = self.aim(local)? else { return Ok(Vec::new()) };
        let Some(target) = target else {
            return Ok(if self.refresh_message(local)? { vec![local] } else { Vec::new() });
        };
        // Also where the message itself is not here.
        self.sql
            .prepare_cached(
                "UPDATE messages SET body = '' WHERE target = ?2 AND conversation = ?1 AND change = 1 AND body <> ''
                    AND seq IS NOT NULL AND EXISTS (SELECT 1 FROM messages d WHERE d.target = ?2
                        AND d.conversation = ?1 AND d.change = 2 AND d.seq IS NOT NULL AND d.target_seq = messages.target_seq)",
            )?
            .execute(params![conversation.as_str(), target])?;
        let locals = self.changed_by(&conversation, &user, MessageId(target), place)?;
        for local in &locals {
            self.refresh_message(*local)?;
        }
        Ok(locals)
    }

    /// The messages that a change is about, of those that are here.
    fn changed_by(
        &self,
        conversation: &ConversationId,
        user: &UserId,
        target: MessageId,
        place: Option<Seq>,
    ) -> Result<Vec<i64>, StoreError> {
        let mut found = self.sql.prepare_cached(
            "SELECT local FROM messages
             WHERE conversation = ?1 AND id = ?2 AND change IS NULL AND (user = ?3 OR seq = ?4)",
        )?;
        let values = params![conversation.as_str(), target.0, user.as_str(), place.map(|seq| int(seq.get()))];
        Ok(found.query_map(values, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    fn refresh_message(&self, local: i64) -> Result<bool, StoreError> {
        let message = self
            .sql
            .prepare_cached(
                "SELECT local, conversation, user, id, seq, body, original, edited_at, deleted FROM messages m
                 WHERE local = ?1 AND change IS NULL AND (deleted <> 0 OR original IS NOT NULL
                    OR EXISTS (SELECT 1 FROM messages c WHERE c.target = m.id AND c.conversation = m.conversation))",
            )?
            .query_row([local], |row| {
                Ok(Changed {
                    local: row.get("local")?,
                    conversation: text(row, "conversation")?,
                    user: text(row, "user")?,
                    id: MessageId(row.get::<_, Uuid>("id")?),
                    seq: optional_seq(row, "seq")?,
                    body: row.get("body")?,
                    original: row.get("original")?,
                    edited_at: optional_uint(row, "edited_at")?,
                    deleted: uint(row, "deleted")?,
                })
            })
            .optional()?;
        let Some(message) = message else { return Ok(false) };
        if let Some(seq) = message.seq {
            self.sql
                .prepare_cached(
                    "UPDATE messages SET target_seq = ?4
                     WHERE target = ?3 AND conversation = ?1 AND user = ?2 AND target_seq IS NULL",
                )?
                .execute(params![message.conversation.as_str(), message.user.as_str(), message.id.0, int(seq.get())])?;
        }
        let shown = self.shown(&message)?;
        if shown.deleted == FOR_EVER {
            self.forget_texts(&message)?;
        }
        let Changed { body, original, edited_at, deleted, .. } = message;
        if shown == (Shown { body, original, edited_at, deleted }) {
            return Ok(false);
        }
        self.sql
            .prepare_cached(
                "UPDATE messages SET body = ?2, original = ?3, edited_at = ?4, deleted = ?5,
                    media = iif(?5 = 1, NULL, media) WHERE local = ?1",
            )?
            .execute(params![
                message.local,
                shown.body,
                shown.original,
                shown.edited_at.map(int),
                int(shown.deleted)
            ])?;
        Ok(true)
    }

    /// What a message shows, by everything that is here about it.
    fn shown(&self, message: &Changed) -> Result<Shown, StoreError> {
        let seq = message.seq.map(|seq| int(seq.get()));
        let about = params![message.conversation.as_str(), message.user.as_str(), message.id.0, seq];
        let deleted_in_log = "SELECT 1 FROM messages WHERE target = ?3 AND conversation = ?1 AND (
            change = 2 AND seq IS NOT NULL AND (user = ?2 OR target_seq = ?4)
            OR change = 1 AND deleted = 1 AND user = ?2) LIMIT 1";
        if message.deleted == FOR_EVER || self.sql.prepare_cached(deleted_in_log)?.exists(about)? {
            return Ok(Shown { body: String::new(), original: None, edited_at: None, deleted: FOR_EVER });
        }
        let edit = self
            .sql
            .prepare_cached(
                "SELECT body, coalesce(at, written_at, 0) AS at FROM messages
                 WHERE target = ?3 AND conversation = ?1 AND user = ?2 AND change = 1 AND state <> 0
                 ORDER BY seq IS NULL DESC, seq DESC, local DESC LIMIT 1",
            )?
            .query_row(params![message.conversation.as_str(), message.user.as_str(), message.id.0], |row| {
                Ok((row.get::<_, String>("body")?, uint(row, "at")?))
            })
            .optional()?;
        let waits = self
            .sql
            .prepare_cached(
                "SELECT 1 FROM messages WHERE target = ?3 AND conversation = ?1 AND change = 2 AND state = 1
                    AND (user = ?2 OR target_seq = ?4) LIMIT 1",
            )?
            .exists(about)?;
        let written = message.original.as_ref().unwrap_or(&message.body).clone();
        let original = (waits || edit.is_some()).then(|| written.clone());
        Ok(match edit {
            _ if waits => Shown { body: String::new(), original, edited_at: None, deleted: WAITS },
            Some((body, at)) => Shown { body, original, edited_at: Some(at), deleted: 0 },
            None => Shown { body: written, original, edited_at: None, deleted: 0 },
        })
    }

    /// Nothing is kept of the edits of what is deleted for ever, and none is sent that is in no envelope yet.
    fn forget_texts(&self, message: &Changed) -> Result<(), StoreError> {
        self.drop_waiting_changes(&message.conversation, message.id, true)?;
        self.sql
            .prepare_cached(
                "UPDATE messages SET body = '' WHERE target = ?2 AND conversation = ?1 AND change = 1 AND body <> ''
                    AND seq IS NOT NULL",
            )?
            .execute(params![message.conversation.as_str(), message.id.0])?;
        Ok(())
    }
}
