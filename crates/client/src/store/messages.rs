//! Messages: own ones, pending or with their place, and those of others. A message is known by its conversation, its
//! author's user and its id, so that nobody can take the place of somebody else's message.

use poste_protocol::{Author, Cell, ConversationId, EnvelopeId, Message as Written, MessageId, Seq, UserId};
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::Tx;
use super::changes::{change_of, kind, kind_code, on_the_wire};
use super::columns::{int, json, optional_json, optional_seq, optional_uint, seq, state, state_code, text};
use crate::{Attached, Change, Failure, Message, Start, State, StoreError, WaitingChange, Window};

/// What became of a message of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It was not known.
    Added(i64),
    /// It was known, and has its place, or another state, now.
    Updated(i64),
    /// It was thought to wait, and was written anew here with this text, when the log had it already: the device was
    /// rolled back.
    Rewritten(i64, String),
    /// It was known, with its place.
    Known,
}

/// A place in a conversation's list.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the log, up to the cursor.
    Log(Seq),
    /// Not in it yet: by its local number.
    Tail(i64),
}

impl Place {
    fn of(cursor: Seq, local: i64, seq: Option<Seq>) -> Self {
        seq.filter(|seq| *seq <= cursor).map_or(Self::Tail(local), Self::Log)
    }
}

const COLUMNS: &str = "m.local, m.conversation, m.user, m.device, m.id, m.body, m.event, m.written_at, m.state, m.seq,
    m.at, m.edited_at, m.deleted, m.change, m.target, m.media,
    iif(m.media IS NULL, NULL, (SELECT u.sent FROM uploads u WHERE u.message = m.local AND u.state <> 1)) AS uploaded,
    m.media IS NOT NULL AND (EXISTS (SELECT 1 FROM uploads u WHERE u.message = m.local)
        OR EXISTS (SELECT 1 FROM downloads d WHERE d.message = m.local AND d.state = 1)) AS here,
    coalesce((SELECT failure FROM outbox o WHERE o.envelope = m.envelope),
        iif(m.media IS NULL, NULL, (SELECT failure FROM uploads u WHERE u.message = m.local))) AS failure,
    w.id AS waiting, w.change AS waiting_change, w.state AS waiting_state,
    (SELECT failure FROM outbox o WHERE o.envelope = w.envelope) AS waiting_failure";

/// A message, and the last own change of it that waits.
const FROM: &str = "messages m LEFT JOIN messages w ON w.local = (
    SELECT max(c.local) FROM messages c
    WHERE c.target = m.id AND c.conversation = m.conversation AND c.seq IS NULL
        AND (c.user = m.user OR c.target_seq = m.seq))";

fn view(row: &rusqlite::Row<'_>) -> rusqlite::Result<Message> {
    let state = state(row, "state")?;
    let failure = |column: &str, state| -> rusqlite::Result<Option<Failure>> {
        let json = row.get::<_, Option<String>>(column)?.filter(|_| state == State::Failed);
        Ok(json.and_then(|json| serde_json::from_str::<Failure>(&json).ok()))
    };
    let waiting = match (row.get::<_, Option<Uuid>>("waiting")?, kind(row, "waiting_change")?) {
        (Some(id), Some(kind)) => {
            let state = self::state(row, "waiting_state")?;
            let failure = failure("waiting_failure", state)?;
            Some(Box::new(WaitingChange { id: MessageId(id), kind, state, failure }))
        }
        _ => None,
    };
    let change = match (kind(row, "change")?, row.get::<_, Option<Uuid>>("target")?) {
        (Some(kind), Some(message)) => Some(Change { kind, message: MessageId(message) }),
        _ => None,
    };
    let deleted = change.is_none() && row.get::<_, i64>("deleted")? != 0;
    let file = optional_json(row, "media")?.filter(|_| !deleted);
    let (uploaded, here) = (optional_uint(row, "uploaded")?, row.get("here")?);
    Ok(Message {
        id: MessageId(row.get::<_, Uuid>("id")?),
        conversation: text(row, "conversation")?,
        user: text(row, "user")?,
        device: text(row, "device")?,
        body: row.get("body")?,
        event: optional_json(row, "event")?,
        file: file.map(|file| Box::new(Attached { file, uploaded, here })),
        written_at: optional_uint(row, "written_at")?,
        state,
        seq: optional_seq(row, "seq")?,
        at: optional_uint(row, "at")?,
        failure: failure("failure", state)?,
        edited_at: optional_uint(row, "edited_at")?,
        deleted,
        waiting,
        change,
    })
}

impl Tx<'_> {
    /// Writes an own message, which begins to wait at `time` by the device's own time. Returns its local number.
    pub fn add_own(
        &self,
        conversation: &ConversationId,
        me: &Author,
        message: &Written,
        wall: u64,
        time: u64,
    ) -> Result<i64, StoreError> {
        self.sql
            .prepare_cached(
                "INSERT INTO messages (conversation, user, device, id, body, event, media, written_at, queued_at, state)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
            )?
            .execute(params![
                conversation.as_str(),
                me.user.as_str(),
                me.device.as_str(),
                message.id.0,
                message.body,
                json(message.event.as_ref())?,
                json(message.media.as_ref())?,
                message.written_at.map(int),
                int(time)
            ])?;
        self.sql
            .prepare_cached("UPDATE conversations SET active_at = max(active_at, ?2) WHERE id = ?1")?
            .execute(params![conversation.as_str(), int(wall)])?;
        Ok(self.sql.last_insert_rowid())
    }

    /// What goes into the next envelope: own messages that wait and are in none, oldest first, up to the next change; or
    /// one change, so that nothing else is refused with it. A change whose message has no place yet is waited for, unless
    /// that message has failed. A message whose file is not stored yet is waited for, and so is what is behind it. Messages
    /// go as they were written; what changes them comes after them.
    pub fn pending(&self, conversation: &ConversationId, limit: usize) -> Result<Vec<Written>, StoreError> {
        let mut found = self.sql.prepare_cached(
            "SELECT id, coalesce(original, body) AS body, event, media, written_at, change, target, target_seq,
                media IS NOT NULL AND EXISTS (SELECT 1 FROM uploads u WHERE u.message = m.local AND u.state <> 1)
                    AS uploading,
                (SELECT state FROM messages t WHERE t.conversation = m.conversation AND t.user = m.user
                    AND t.id = m.target) = 0 AS stuck
             FROM messages m
             WHERE conversation = ? AND seq IS NULL AND state = 1 AND envelope IS NULL ORDER BY local",
        )?;
        let mut rows = found.query([conversation.as_str()])?;
        let mut pending = Vec::new();
        while let Some(row) = rows.next()?.filter(|_| pending.len() < limit) {
            if row.get("uploading")? {
                break;
            }
            if kind(row, "change")?.is_none() {
                pending.push(on_the_wire(row)?);
            } else if optional_seq(row, "target_seq")?.is_some() {
                if pending.is_empty() {
                    pending.push(on_the_wire(row)?);
                }
                break;
            } else if row.get::<_, Option<bool>>("stuck")? != Some(true) {
                break;
            }
        }
        Ok(pending)
    }

    /// Takes in a message that the log has at `seq`. Idempotent: if the log should hold one id twice, the first place
    /// counts, on every device.
    pub fn settle(
        &self,
        conversation: &ConversationId,
        me: &UserId,
        cell: &Cell,
        message: &Written,
        place: Seq,
    ) -> Result<Settled, StoreError> {
        let known = self
            .sql
            .prepare_cached(
                "SELECT local, state, seq, coalesce(original, body) AS text FROM messages
                 WHERE conversation = ? AND user = ? AND id = ?",
            )?
            .query_row(params![conversation.as_str(), cell.by.user.as_str(), message.id.0], |row| {
                let text: String = row.get("text")?;
                Ok((row.get::<_, i64>("local")?, state(row, "state")?, optional_seq(row, "seq")?, text))
            })
            .optional()?;
        let change = change_of(message);
        let (change, target) = (change.map(|(kind, _)| kind_code(kind)), change.map(|(_, target)| target));
        match known {
            None => {
                let state = if &cell.by.user == me { State::Sent } else { State::Received };
                self.sql
                    .prepare_cached(
                        "INSERT INTO messages
                         (conversation, user, device, id, body, event, media, written_at, state, seq, at, change, target,
                          target_seq, deleted)
                         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    )?
                    .execute(params![
                        conversation.as_str(),
                        cell.by.user.as_str(),
                        cell.by.device.as_str(),
                        message.id.0,
                        message.body,
                        json(message.event.as_ref())?,
                        json(message.media.as_ref())?,
                        message.written_at.map(int),
                        state_code(state),
                        int(place.get()),
                        int(cell.at),
                        change,
                        target.map(|target| target.id.0),
                        target.map(|target| int(target.seq.get())),
                        message.deleted
                    ])?;
                Ok(Settled::Added(self.sql.last_insert_rowid()))
            }
            Some((local, _, Some(before), _)) if before <= place => {
                let redacted = self
                    .sql
                    .prepare_cached(
                        "UPDATE messages SET deleted = 1, media = NULL WHERE local = ?1 AND ?2 AND deleted <> 1",
                    )?
                    .execute(params![local, message.deleted])?;
                Ok(if redacted > 0 { Settled::Updated(local) } else { Settled::Known })
            }
            Some((local, before, _, text)) => {
                // The log's content is everybody's; if the id was used for something else here, the log counts.
                let state = if matches!(before, State::Pending | State::Failed) { State::Sent } else { before };
                self.sql
                    .prepare_cached(
                        "UPDATE messages SET seq = ?2, at = ?3, state = ?4, body = ?5, device = ?6, target_seq = ?7,
                            original = NULL, edited_at = NULL, deleted = max(?8, deleted % 2), event = ?9,
                            media = ?10
                         WHERE local = ?1",
                    )?
                    .execute(params![
                        local,
                        int(place.get()),
                        int(cell.at),
                        state_code(state),
                        message.body,
                        cell.by.device.as_str(),
                        target.map(|target| int(target.seq.get())),
                        message.deleted,
                        json(message.event.as_ref())?,
                        json(message.media.as_ref())?
                    ])?;
                // What the log has is stored.
                self.sql
                    .prepare_cached("UPDATE uploads SET state = 1 WHERE message = ? AND state IN (0, 2)")?
                    .execute([local])?;
                let waited = matches!(before, State::Pending | State::Failed);
                if waited && change.is_none() && !message.deleted && text != message.body {
                    return Ok(Settled::Rewritten(local, text));
                }
                Ok(Settled::Updated(local))
            }
        }
    }

    /// An envelope was acknowledged: its messages have their places. Returns their local numbers.
    pub fn settle_envelope(&self, envelope: EnvelopeId, first: Seq, at: u64) -> Result<Vec<i64>, StoreError> {
        let mut found = self.sql.prepare_cached("SELECT local FROM messages WHERE envelope = ? ORDER BY local")?;
        let locals =
            found.query_map([envelope.0], |row| row.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
        let mut update = self
            .sql
            .prepare_cached("UPDATE messages SET seq = ?2, at = ?3, state = 2 WHERE local = ?1 AND seq IS NULL")?;
        for (place, local) in (first.get()..).zip(&locals) {
            update.execute(params![local, int(place), int(at)])?;
        }
        Ok(locals)
    }

    /// Raises own messages that have their place to what others' marks say. Returns the local numbers of those that
    /// changed.
    pub fn raise_states(
        &self,
        conversation: &ConversationId,
        me: &UserId,
        delivered: Seq,
        read: Seq,
    ) -> Result<Vec<i64>, StoreError> {
        let mut changed = Vec::new();
        for (to, sql) in [
            (
                read,
                "UPDATE messages SET state = 4 WHERE conversation = ?1 AND user = ?2 AND seq <= ?3 AND state IN (2, 3)
                    AND change IS NULL RETURNING local",
            ),
            (
                delivered,
                "UPDATE messages SET state = 3 WHERE conversation = ?1 AND user = ?2 AND seq <= ?3 AND state = 2
                    AND change IS NULL RETURNING local",
            ),
        ] {
            let mut update = self.sql.prepare_cached(sql)?;
            let locals = update
                .query_map(params![conversation.as_str(), me.as_str(), int(to.get())], |row| row.get::<_, i64>(0))?;
            for local in locals {
                changed.push(local?);
            }
        }
        changed.sort_unstable();
        Ok(changed)
    }

    /// The local numbers of an envelope's messages.
    pub fn locals_of_envelope(&self, envelope: EnvelopeId) -> Result<Vec<i64>, StoreError> {
        let mut found = self.sql.prepare_cached("SELECT local FROM messages WHERE envelope = ? ORDER BY local")?;
        Ok(found.query_map([envelope.0], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
    }

    /// An own message by its id, with its local number and its envelope.
    pub fn own(&self, me: &UserId, id: MessageId) -> Result<Option<(i64, Message, Option<EnvelopeId>)>, StoreError> {
        let mut found = self
            .sql
            .prepare_cached(&format!("SELECT {COLUMNS}, m.envelope FROM {FROM} WHERE m.id = ? AND m.user = ?"))?;
        let row = found.query_row(params![id.0, me.as_str()], |row| {
            Ok((row.get("local")?, view(row)?, row.get::<_, Option<Uuid>>("envelope")?.map(EnvelopeId)))
        });
        Ok(row.optional()?)
    }

    /// A message of the log that somebody else wrote, by its id, with its local number.
    pub fn received(&self, id: MessageId) -> Result<Option<(i64, Message)>, StoreError> {
        let mut found = self.sql.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM {FROM} WHERE m.id = ? AND m.state = 9 AND m.seq IS NOT NULL AND m.change IS NULL"
        ))?;
        Ok(found.query_row([id.0], |row| Ok((row.get("local")?, view(row)?))).optional()?)
    }

    /// A message by its local number.
    pub fn message(&self, local: i64) -> Result<Option<Message>, StoreError> {
        let mut found = self.sql.prepare_cached(&format!("SELECT {COLUMNS} FROM {FROM} WHERE m.local = ?"))?;
        Ok(found.query_row([local], view).optional()?)
    }

    /// A window of the list, in its order: the log's up to the cursor, then own messages that are not in it yet, in
    /// local order. Without `before` the newest `limit`, with it those of the log below that number.
    pub fn history(
        &self,
        conversation: &ConversationId,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Message>, StoreError> {
        let (_, cursor) = self.bounds(conversation)?;
        let place = before.map_or(Place::Tail(i64::MAX), |before| Place::Log(before.min(cursor.next())));
        let newest_first = self.walk(conversation, cursor, place, true, limit)?;
        Ok(newest_first.into_iter().rev().map(|(_, message)| message).collect())
    }

    /// From where (exclusive) and up to where the log was taken in; nothing of a conversation that is not known.
    fn bounds(&self, conversation: &ConversationId) -> Result<(Seq, Seq), StoreError> {
        let mut found =
            self.sql.prepare_cached("SELECT coalesce(oldest, 0) AS oldest, cursor FROM conversations WHERE id = ?")?;
        let bounds = found.query_row([conversation.as_str()], |row| Ok((seq(row, "oldest")?, seq(row, "cursor")?)));
        Ok(bounds.optional()?.unwrap_or_default())
    }

    /// A window of the list, in its order, from a place in either direction. Nothing if this conversation has no such
    /// message.
    pub fn window(
        &self,
        conversation: &ConversationId,
        start: Start,
        limit: usize,
    ) -> Result<Option<Window>, StoreError> {
        let (oldest, cursor) = self.bounds(conversation)?;
        let (place, older) = match start {
            Start::Newest => (Place::Tail(i64::MAX), true),
            Start::BeforeSeq(seq) => (Place::Log(seq.min(cursor.next())), true),
            Start::AfterSeq(seq) => (Place::Log(seq), false),
            Start::Before(id) | Start::After(id) => {
                let found = self
                    .sql
                    .prepare_cached(
                        "SELECT local, seq FROM messages WHERE conversation = ? AND id = ? AND change IS NULL
                         ORDER BY local LIMIT 1",
                    )?
                    .query_row(params![conversation.as_str(), id.0], |row| {
                        Ok((row.get("local")?, optional_seq(row, "seq")?))
                    })
                    .optional()?;
                let Some((local, seq)) = found else { return Ok(None) };
                (Place::of(cursor, local, seq), matches!(start, Start::Before(_)))
            }
        };
        let mut found = self.walk(conversation, cursor, place, older, limit)?;
        if older {
            found.reverse();
        }
        let begin = found.first().map_or(place, |(place, _)| *place);
        let end = found.last().map_or(place, |(place, _)| *place);
        let has_older = !self.walk(conversation, cursor, begin, true, 1)?.is_empty();
        Ok(Some(Window {
            older: has_older,
            older_on_server: !has_older && !oldest.is_zero(),
            newer: !self.walk(conversation, cursor, end, false, 1)?.is_empty(),
            messages: found.into_iter().map(|(_, message)| message).collect(),
        }))
    }

    /// Walks the list from a place, which is not included: up to the cursor it is the log's, in its order; then comes
    /// what is not in it yet, in local order.
    fn walk(
        &self,
        conversation: &ConversationId,
        cursor: Seq,
        from: Place,
        older: bool,
        limit: usize,
    ) -> Result<Vec<(Place, Message)>, StoreError> {
        let mut walked = Vec::new();
        let mut part = |condition: &str, order: &str, from: i64| -> Result<(), StoreError> {
            let rest = limit - walked.len();
            if rest > 0 {
                let mut found = self.sql.prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM {FROM}
                     WHERE m.conversation = ?1 AND m.change IS NULL AND {condition} ORDER BY {order} LIMIT ?4"
                ))?;
                let values = params![conversation.as_str(), int(cursor.get()), from, int(rest as u64)];
                for found in found.query_map(values, |row| Ok((row.get("local")?, view(row)?)))? {
                    let (local, message) = found?;
                    walked.push((Place::of(cursor, local, message.seq), message));
                }
            }
            Ok(())
        };
        // By their indexes: a condition with OR would walk the whole conversation.
        let tail = "m.local IN (
            SELECT local FROM messages INDEXED BY messages_waiting WHERE conversation = ?1 AND seq IS NULL
            UNION ALL
            SELECT local FROM messages INDEXED BY messages_by_seq WHERE conversation = ?1 AND seq > ?2)";
        match (from, older) {
            (Place::Tail(local), true) => {
                part(&format!("{tail} AND m.local < ?3"), "m.local DESC", local)?;
                part("m.seq <= ?2 AND m.seq < ?3", "m.seq DESC", i64::MAX)?;
            }
            (Place::Tail(local), false) => part(&format!("{tail} AND m.local > ?3"), "m.local", local)?,
            (Place::Log(seq), true) => part("m.seq <= ?2 AND m.seq < ?3", "m.seq DESC", int(seq.get()))?,
            (Place::Log(seq), false) => {
                part("m.seq <= ?2 AND m.seq > ?3", "m.seq", int(seq.get()))?;
                part(&format!("{tail} AND m.local > ?3"), "m.local", 0)?;
            }
        }
        Ok(walked)
    }

    /// Own messages and changes that wait, of one conversation, in local order, with their envelopes.
    pub fn waiting(&self, conversation: &ConversationId) -> Result<Vec<(Message, Option<EnvelopeId>)>, StoreError> {
        let mut found = self.sql.prepare_cached(&format!(
            "SELECT {COLUMNS}, m.envelope FROM {FROM}
             WHERE m.conversation = ? AND m.seq IS NULL ORDER BY m.local"
        ))?;
        let rows = found.query_map([conversation.as_str()], |row| {
            Ok((view(row)?, row.get::<_, Option<Uuid>>("envelope")?.map(EnvelopeId)))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
