//! What can still be read of a damaged file: everything that is nowhere else. The log is not: the server has it.
//!
//! Saved are own messages without a place, envelopes byte for byte, and how far the person has read. The number of the
//! next envelope is not, on purpose. Parts of a damaged file may be older than others, and a message that seems to wait
//! may have its place by now, in an envelope that the file has forgotten. A number that is too great would put it into
//! the log a second time. With one that is too small the server answers with a lane conflict, and the device first
//! finds out what it has written; that costs one round trip.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use poste_protocol::{
    Attachment, Author, ConversationId, DeviceId, Envelope, EnvelopeId, MediaId, Message, MessageId, Resolved, Seq,
    UserId, part_count,
};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row, params};
use uuid::Uuid;

use super::changes::{change_of, kind, kind_code};
use super::clock::{Reading, reading};
use super::columns::{int, optional_json, optional_seq, optional_text, optional_uint, seq, state_code, text, uint};
use super::receipts::{Receipts, receipts};
use super::{BUSY, Tx, refuse_newer};
use crate::{ChangeKind, Recovery, State, StoreError};

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    conversations: Vec<Known>,
    envelopes: Vec<Enclosing>,
    messages: Vec<Own>,
    uploads: Vec<Uploading>,
    /// By which the messages wait.
    clock: Option<Reading>,
    /// Whether the user gives and gets read receipts.
    receipts: Option<Receipts>,
    /// Something that may have mattered could not be read.
    incomplete: bool,
}

/// A conversation, and what the person and the server know of each other in it.
#[derive(Debug)]
struct Known {
    id: ConversationId,
    peer: Option<UserId>,
    active_at: u64,
    resolved: Option<Resolved>,
    delivered_told: Seq,
    read: Seq,
    read_told: Seq,
    muted_until: Option<u64>,
    mute_due: bool,
}

/// An envelope of the outbox.
#[derive(Debug)]
struct Enclosing {
    envelope: Envelope,
    json: String,
    attempt: u32,
    first_try: Option<u64>,
    failure: Option<String>,
    again: bool,
}

/// An own message without a place.
#[derive(Debug)]
struct Own {
    local: i64,
    conversation: ConversationId,
    id: MessageId,
    body: String,
    /// As JSON.
    event: Option<String>,
    /// Its file, as JSON.
    media: Option<String>,
    written_at: Option<u64>,
    queued_at: Option<u64>,
    change: Option<OwnChange>,
}

/// An own file, as it was found when its message was written. How far it is the server knows.
#[derive(Debug)]
struct Uploading {
    media: MediaId,
    path: String,
    modified: Option<u64>,
    parts: Vec<u8>,
    complete: bool,
}

/// What it changes, if it is a change.
#[derive(Debug, Clone, Copy)]
struct OwnChange {
    kind: ChangeKind,
    target: MessageId,
    place: Option<Seq>,
}

impl Own {
    fn of(envelope: &Envelope, message: &Message, queued_at: Option<u64>) -> Self {
        Self {
            local: 0,
            conversation: envelope.conversation.clone(),
            id: message.id,
            body: message.body.clone(),
            event: message.event.as_ref().and_then(|event| serde_json::to_string(event).ok()),
            media: message.media.as_ref().and_then(|media| serde_json::to_string(media).ok()),
            written_at: message.written_at,
            queued_at,
            change: change_of(message).map(|(kind, target)| OwnChange {
                kind,
                target: target.id,
                place: Some(target.seq),
            }),
        }
    }
}

impl Salvaged {
    /// Of a file of which nothing can be read.
    pub(super) fn nothing() -> Self {
        Self { incomplete: true, ..Self::default() }
    }

    /// Reads what can be read. A file that cannot even be opened gives nothing.
    ///
    /// # Errors
    /// [`StoreError::Newer`] and [`StoreError::OtherAccount`], if the file can still say so: then it is not ours to
    /// replace.
    pub(super) fn read(path: &Path, me: &Author) -> Result<Self, StoreError> {
        match open(path) {
            Ok(sql) => Self::read_from(&sql, me),
            Err(_) => Ok(Self::nothing()),
        }
    }

    fn read_from(sql: &Connection, me: &Author) -> Result<Self, StoreError> {
        if let Err(newer @ StoreError::Newer { .. }) = refuse_newer(sql) {
            return Err(newer);
        }
        let (owners, _) = rows(sql, "SELECT user, device FROM account", &|row| Ok((row.get(0)?, row.get(1)?)));
        let owner: Option<(String, String)> = owners.into_iter().next();
        if let Some((user, device)) =
            owner.filter(|(user, device)| *user != me.user.as_str() || *device != me.device.as_str())
        {
            return Err(StoreError::OtherAccount { user, device });
        }
        let (conversations, all_conversations) = rows(sql, "SELECT * FROM conversations", &conversation);
        let (envelopes, all_envelopes) = rows(sql, "SELECT * FROM outbox", &enclosing);
        let (messages, all_messages) = own_messages(sql, me);
        let mut seen = BTreeSet::new();
        let conversations = conversations.into_iter().filter(|known| seen.insert(known.id.clone())).collect();
        let mut seen = BTreeSet::new();
        let envelopes = envelopes.into_iter().filter(|found| seen.insert(found.envelope.id.0)).collect();
        // A file of an earlier format has none.
        let (uploads, all_uploads) = if sql.prepare("SELECT 1 FROM uploads").is_ok() {
            rows(sql, "SELECT * FROM uploads WHERE message IS NOT NULL", &uploading)
        } else {
            (Vec::new(), true)
        };
        let incomplete = !(all_conversations && all_envelopes && all_messages && all_uploads);
        // A file from before there was one has none.
        let (clocks, _) = rows(sql, "SELECT * FROM clock", &reading);
        let (settings, _) = rows(sql, "SELECT * FROM receipts", &receipts);
        let (clock, receipts) = (clocks.into_iter().next(), settings.into_iter().next());
        Ok(Self { conversations, envelopes, messages, uploads, clock, receipts, incomplete })
    }

    /// Writes it into a new file, and says what it was.
    pub(super) fn write(&self, tx: &Tx<'_>, me: &Author, kept: String) -> Result<Recovery, StoreError> {
        if let Some(reading) = &self.clock {
            tx.note_clock(reading)?;
        }
        for known in &self.conversations {
            tx.sql
                .prepare_cached(
                    "INSERT INTO conversations
                     (id, peer, resolved, active_at, delivered, delivered_told, read, read_told, muted_until, mute_due)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?9)",
                )?
                .execute(params![
                    known.id.as_str(),
                    known.peer.as_ref().map(UserId::as_str),
                    self.resolved(known).map(|resolved| serde_json::to_string(&resolved)).transpose().ok().flatten(),
                    int(known.active_at),
                    int(known.delivered_told.get()),
                    int(known.read.get()),
                    int(known.read_told.get()),
                    known.muted_until.map(int),
                    known.mute_due
                ])?;
        }
        let mut waiting: BTreeMap<_, &Own> =
            self.messages.iter().map(|own| ((&own.conversation, own.id), own)).collect();
        let (mut saved, mut envelopes) = (0, 0);
        let mut busy = BTreeSet::new();
        for found in &self.envelopes {
            let envelope = &found.envelope;
            tx.know_conversation(&envelope.conversation, envelope.to.as_ref())?;
            if found.failure.is_none() && !found.again && !busy.insert(&envelope.conversation) {
                // More than this library writes: then only its messages count, and the log says what became of them.
                for message in &envelope.messages {
                    saved += add(tx, me, &Own::of(envelope, message, None), None)?;
                    waiting.remove(&(&envelope.conversation, message.id));
                }
                continue;
            }
            envelopes += 1;
            tx.sql
                .prepare_cached(
                    "INSERT INTO outbox (conversation, envelope, number, json, attempt, first_try, failure, again)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    envelope.conversation.as_str(),
                    envelope.id.0,
                    int(envelope.number.get()),
                    found.json,
                    found.attempt,
                    found.first_try.map(int),
                    found.failure,
                    found.again
                ])?;
            // The envelope has its messages, whatever became of their rows; and their order is the envelope's.
            let since =
                envelope.messages.iter().filter_map(|m| waiting.get(&(&envelope.conversation, m.id))?.queued_at).min();
            for message in &envelope.messages {
                waiting.remove(&(&envelope.conversation, message.id));
                let own = Own::of(envelope, message, since);
                saved += add(tx, me, &own, Some((envelope.id, found.failure.is_some())))?;
            }
        }
        let loose = self.messages.iter().map(|own| (&own.conversation, own.id));
        let enclosed = self.envelopes.iter().map(|found| &found.envelope);
        let enclosed = enclosed.flat_map(|envelope| envelope.messages.iter().map(|m| (&envelope.conversation, m.id)));
        let saved_ids: BTreeSet<_> = loose.chain(enclosed).collect();
        let mut rest: Vec<_> = waiting.into_values().collect();
        rest.sort_by_key(|own| own.local);
        for own in rest {
            // What changes a message that was never sent and is lost would wait for ever.
            let lost =
                |change: OwnChange| change.place.is_none() && !saved_ids.contains(&(&own.conversation, change.target));
            if own.change.is_some_and(lost) {
                continue;
            }
            tx.know_conversation(&own.conversation, None)?;
            saved += add(tx, me, own, None)?;
        }
        self.write_uploads(tx)?;
        let mut changes = tx.sql.prepare_cached("SELECT local FROM messages WHERE change IS NOT NULL")?;
        for change in changes.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()? {
            tx.refresh(change)?;
        }
        if let Some(receipts) = self.receipts {
            tx.set_receipts(receipts)?;
        }
        let recovery = Recovery {
            kept,
            messages: saved,
            envelopes,
            conversations: self.conversations.len() as u64,
            incomplete: self.incomplete,
        };
        let json = serde_json::to_string(&recovery).map_err(|wrong| StoreError::Damaged(wrong.to_string()))?;
        tx.sql.execute("UPDATE account SET recovery = ?", [json])?;
        Ok(recovery)
    }

    /// The uploads of the messages that were saved. A file that has none any more is not sent: its message is refused,
    /// and failed visibly.
    fn write_uploads(&self, tx: &Tx<'_>) -> Result<(), StoreError> {
        let mut of =
            tx.sql.prepare_cached("SELECT local, conversation, media FROM messages WHERE media IS NOT NULL")?;
        let saved = of.query_map([], |row| {
            let file: Option<Attachment> = optional_json(row, "media")?;
            Ok((file, row.get::<_, i64>("local")?, row.get::<_, String>("conversation")?))
        })?;
        for message in saved {
            let (Some(file), local, conversation) = message? else { continue };
            let whole = 32 * part_count(file.size) as usize;
            let is_its = |found: &&Uploading| found.media == file.id && found.parts.len() == whole;
            let Some(found) = self.uploads.iter().find(is_its) else { continue };
            tx.sql
                .prepare_cached(
                    "INSERT INTO uploads (media, message, conversation, path, modified, parts, state)
                     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                )?
                .execute(params![
                    found.media.0,
                    local,
                    conversation,
                    found.path,
                    found.modified.map(int),
                    found.parts,
                    i64::from(found.complete)
                ])?;
        }
        Ok(())
    }

    /// What an envelope goes on from after a conflict belongs to that envelope.
    fn resolved(&self, known: &Known) -> Option<Resolved> {
        known.resolved.filter(|_| {
            self.envelopes.iter().any(|found| found.envelope.conversation == known.id && found.failure.is_none())
        })
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let sql = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    sql.busy_timeout(BUSY)?;
    // It is kept as it was found.
    sql.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    sql.pragma_update(None, "query_only", true)?;
    sql.pragma_update(None, "cell_size_check", true)?;
    Ok(sql)
}

/// Reads from both ends of a table towards the damage. Says whether everything was read. A row may come twice.
fn rows<T>(sql: &Connection, query: &str, read: &dyn Fn(&Row<'_>) -> rusqlite::Result<T>) -> (Vec<T>, bool) {
    let (mut found, complete) = rows_one_way(sql, query, false, read);
    if complete != Reach::All {
        found.extend(rows_one_way(sql, query, true, read).0);
    }
    (found, complete == Reach::All)
}

/// How far a table could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    All,
    /// All rows, of which some are not what this library writes.
    AllButSome,
    /// Up to the damage.
    Part,
}

fn rows_one_way<T>(
    sql: &Connection,
    query: &str,
    backwards: bool,
    read: &dyn Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> (Vec<T>, Reach) {
    let mut found = Vec::new();
    let mut reach = Reach::All;
    let mut walk = || -> rusqlite::Result<()> {
        // Without an order that would have to be made first: a sorter that meets the damage gives nothing.
        sql.pragma_update(None, "reverse_unordered_selects", backwards)?;
        let mut statement = sql.prepare(query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match read(row) {
                Ok(value) => found.push(value),
                Err(_) => reach = Reach::AllButSome,
            }
        }
        Ok(())
    };
    let walked = walk();
    if walked.is_err() {
        reach = Reach::Part;
    }
    (found, reach)
}

fn conversation(row: &Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known {
        id: text(row, "id")?,
        peer: optional_text(row, "peer")?,
        active_at: uint(row, "active_at")?,
        resolved: optional_json(row, "resolved")?,
        delivered_told: seq(row, "delivered_told")?,
        read: seq(row, "read")?,
        read_told: seq(row, "read_told")?,
        // Not in older formats.
        muted_until: optional_uint(row, "muted_until").unwrap_or_default(),
        mute_due: row.get("mute_due").unwrap_or_default(),
    })
}

fn wrong(why: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, why.into())
}

fn enclosing(row: &Row<'_>) -> rusqlite::Result<Enclosing> {
    let json: String = row.get("json")?;
    let envelope: Envelope = serde_json::from_str(&json).map_err(|_| wrong("not an envelope"))?;
    let same = envelope.id.0 == row.get::<_, Uuid>("envelope")?
        && envelope.number == super::columns::number(row, "number")?
        && envelope.conversation == text(row, "conversation")?;
    if !same || envelope.check().is_err() {
        return Err(wrong("not this envelope"));
    }
    Ok(Enclosing {
        envelope,
        json,
        attempt: u32::try_from(uint(row, "attempt")?).unwrap_or(u32::MAX),
        // Not in the oldest formats.
        first_try: optional_uint(row, "first_try").unwrap_or_default(),
        failure: row.get("failure")?,
        again: row.get("again").unwrap_or_default(),
    })
}

fn uploading(row: &Row<'_>) -> rusqlite::Result<Uploading> {
    Ok(Uploading {
        media: MediaId(row.get::<_, Uuid>("media")?),
        path: row.get("path")?,
        modified: optional_uint(row, "modified")?,
        parts: row.get("parts")?,
        complete: row.get::<_, i64>("state")? == 1,
    })
}

fn own(row: &Row<'_>, me: &Author) -> rusqlite::Result<Own> {
    // Nobody else's is without a place.
    if text::<UserId>(row, "user")? != me.user || text::<DeviceId>(row, "device")? != me.device {
        return Err(wrong("not an own message"));
    }
    Ok(Own {
        local: row.get("local")?,
        conversation: text(row, "conversation")?,
        id: MessageId(row.get::<_, Uuid>("id")?),
        // As it was written: what changes it is saved, too.
        body: row.get("original").unwrap_or(None).map_or_else(|| row.get("body"), Ok)?,
        // In a file of an earlier format there are none.
        event: row.get("event").unwrap_or_default(),
        media: row.get("media").unwrap_or_default(),
        written_at: optional_uint(row, "written_at")?,
        queued_at: optional_uint(row, "queued_at")?,
        change: change(row)?,
    })
}

/// What a row changes. A file from before there were changes has none.
fn change(row: &Row<'_>) -> rusqlite::Result<Option<OwnChange>> {
    if row.as_ref().column_index("change").is_err() {
        return Ok(None);
    }
    let target = row.get::<_, Option<Uuid>>("target")?.map(MessageId);
    let place = optional_seq(row, "target_seq")?;
    Ok(kind(row, "change")?.zip(target).map(|(kind, target)| OwnChange { kind, target, place }))
}

/// Own messages without a place: from the table, and one by one as the index names them. The two are held against each
/// other also when all of the table could be read: damage may make one row of another, with no mistake that would show.
fn own_messages(sql: &Connection, me: &Author) -> (Vec<Own>, bool) {
    let (found, _) = rows(sql, "SELECT * FROM messages NOT INDEXED WHERE seq IS NULL", &|row| own(row, me));
    let mut found: BTreeMap<i64, Own> = found.into_iter().map(|own| (own.local, own)).collect();
    let named = "SELECT local FROM messages INDEXED BY messages_waiting WHERE seq IS NULL";
    let (locals, mut complete) = rows(sql, named, &|row| row.get::<_, i64>(0));
    for local in locals {
        if found.contains_key(&local) {
            continue;
        }
        let query = "SELECT * FROM messages NOT INDEXED WHERE local = ? AND seq IS NULL";
        match sql.query_row(query, [local], |row| own(row, me)) {
            Ok(message) => drop(found.insert(local, message)),
            Err(_) => complete = false,
        }
    }
    (found.into_values().collect(), complete)
}

/// Writes an own message: in its envelope, failed or not, or waiting for the next one.
fn add(tx: &Tx<'_>, me: &Author, own: &Own, envelope: Option<(EnvelopeId, bool)>) -> Result<u64, StoreError> {
    let state = state_code(if envelope.is_some_and(|(_, failed)| failed) { State::Failed } else { State::Pending });
    let added = tx
        .sql
        .prepare_cached(
            "INSERT INTO messages
             (conversation, user, device, id, body, event, media, written_at, queued_at, state, envelope, change,
              target, target_seq)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            own.conversation.as_str(),
            me.user.as_str(),
            me.device.as_str(),
            own.id.0,
            own.body,
            own.event,
            own.media,
            own.written_at.map(int),
            own.queued_at.map(int),
            state,
            envelope.map(|(id, _)| id.0),
            own.change.map(|change| kind_code(change.kind)),
            own.change.map(|change| change.target.0),
            own.change.and_then(|change| change.place).map(|place| int(place.get()))
        ])?;
    Ok(added as u64)
}

#[cfg(test)]
impl super::Store {
    /// What would be left of this store if it were damaged, in memory; without its envelopes, if so asked. For tests.
    pub(crate) fn salvaged(&self, me: &Author, envelopes: bool) -> Self {
        let mut salvaged = Salvaged::read_from(&self.connection, me).expect("it is ours");
        self.connection.pragma_update(None, "reverse_unordered_selects", false).expect("SQLite takes it");
        if !envelopes {
            salvaged.envelopes.clear();
        }
        let mut store = Self::in_memory(&me.user, &me.device).expect("a store in memory");
        let tx = store.begin().expect("it is new");
        salvaged.write(&tx, me, String::new()).expect("what was saved can be written");
        tx.commit().expect("what was saved can be written");
        store
    }
}
