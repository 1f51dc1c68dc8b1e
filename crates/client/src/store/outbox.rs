//! The outbox: envelopes, their bytes fixed; of each conversation at most one under way, beside those that were refused.
//! A row leaves it only with the new state of all its messages, in the same transaction.

use poste_protocol::{ConversationId, Envelope, EnvelopeId, MessageId, Number, Refusal};
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::Tx;
use super::columns::{int, number, optional_uint, text, uint};
use crate::{Backlog, Message, OutboxEntry, OutboxState, State, StoreError};

/// An envelope of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it goes.
    pub conversation: ConversationId,
    /// Its id.
    pub envelope: EnvelopeId,
    /// Its number.
    pub number: Number,
    /// What is sent at every attempt.
    pub json: String,
    /// How often it was sent.
    pub attempt: u32,
    /// When it was first sent, in Unix milliseconds by the device's clock, where known.
    pub first_try: Option<u64>,
    /// Why it was refused. Nothing while it is under way.
    pub failure: Option<Refusal>,
    /// It was retried, and waits until the envelope under way has its verdict.
    pub again: bool,
}

impl Row {
    /// Whether it is the one that is being sent.
    pub fn is_under_way(&self) -> bool {
        self.failure.is_none() && !self.again
    }
}

const COLUMNS: &str = "conversation, envelope, number, json, attempt, first_try, failure, again";

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let failure: Option<String> = row.get("failure")?;
    Ok(Row {
        conversation: text(row, "conversation")?,
        envelope: EnvelopeId(row.get::<_, Uuid>("envelope")?),
        number: number(row, "number")?,
        json: row.get("json")?,
        attempt: u32::try_from(uint(row, "attempt")?).unwrap_or(u32::MAX),
        first_try: optional_uint(row, "first_try")?,
        failure: failure.and_then(|json| serde_json::from_str(&json).ok()),
        again: row.get("again")?,
    })
}

impl Tx<'_> {
    /// The conversation's envelope that is under way.
    pub fn outbox(&self, conversation: &ConversationId) -> Result<Option<Row>, StoreError> {
        let mut found = self.sql.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM outbox WHERE conversation = ? AND failure IS NULL AND again = 0"
        ))?;
        Ok(found.query_row([conversation.as_str()], row).optional()?)
    }

    /// All envelopes of a conversation, by their numbers.
    pub fn outbox_of(&self, conversation: &ConversationId) -> Result<Vec<Row>, StoreError> {
        let mut found = self.sql.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM outbox WHERE conversation = ? ORDER BY number, envelope"
        ))?;
        Ok(found.query_map([conversation.as_str()], row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// An envelope by its id.
    pub fn outbox_envelope(&self, envelope: EnvelopeId) -> Result<Option<Row>, StoreError> {
        let mut found = self.sql.prepare_cached(&format!("SELECT {COLUMNS} FROM outbox WHERE envelope = ?"))?;
        Ok(found.query_row([envelope.0], row).optional()?)
    }

    /// Every envelope, in the order of the conversations' ids.
    pub fn outbox_rows(&self) -> Result<Vec<Row>, StoreError> {
        let mut found = self
            .sql
            .prepare_cached(&format!("SELECT {COLUMNS} FROM outbox ORDER BY conversation, number, envelope"))?;
        Ok(found.query_map([], row)?.collect::<rusqlite::Result<_>>()?)
    }

    /// Conversations that have something to send: an envelope, or, unless a refused one holds them back, pending
    /// messages or changes. The one whose message has waited longest first. By name the index: without it all messages would be
    /// looked at.
    pub fn conversations_to_send(&self, hold_back: bool) -> Result<Vec<ConversationId>, StoreError> {
        let mut found = self.sql.prepare_cached(
            "SELECT conversation, min(oldest) AS oldest FROM (
                SELECT conversation, min(local) AS oldest FROM messages INDEXED BY messages_waiting
                WHERE seq IS NULL AND envelope IS NULL
                    AND NOT (?1 AND conversation IN (SELECT conversation FROM messages INDEXED BY messages_waiting
                        WHERE seq IS NULL AND state = 0 AND change IS NULL))
                GROUP BY conversation
                UNION ALL
                SELECT o.conversation, (SELECT min(local) FROM messages m WHERE m.envelope = o.envelope) FROM outbox o
                WHERE o.failure IS NULL
             ) GROUP BY conversation ORDER BY oldest",
        )?;
        Ok(found.query_map([hold_back], |row| text(row, "conversation"))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Whether a message of the conversation was refused. A change that was needs no order.
    pub fn has_refused(&self, conversation: &ConversationId) -> Result<bool, StoreError> {
        Ok(self
            .sql
            .prepare_cached(
                "SELECT 1 FROM messages INDEXED BY messages_waiting
                 WHERE conversation = ? AND seq IS NULL AND state = 0 AND change IS NULL LIMIT 1",
            )?
            .exists([conversation.as_str()])?)
    }

    /// Of what was retried in a conversation the one with the smallest number goes under way. None may be there.
    pub fn take_retried(&self, conversation: &ConversationId) -> Result<Option<Row>, StoreError> {
        let retried = self.outbox_of(conversation)?.into_iter().find(|row| row.again);
        let Some(retried) = retried else { return Ok(None) };
        self.sql.prepare_cached("UPDATE outbox SET again = 0 WHERE envelope = ?")?.execute([retried.envelope.0])?;
        self.outbox(conversation)
    }

    /// Puts a newly formed envelope under way; its messages belong to it from now on.
    pub fn put_under_way(&self, envelope: &Envelope, json: &str) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("INSERT INTO outbox (conversation, envelope, number, json) VALUES (?, ?, ?, ?)")?
            .execute(params![envelope.conversation.as_str(), envelope.id.0, int(envelope.number.get()), json])?;
        let mut bind = self.sql.prepare_cached(
            "UPDATE messages SET envelope = ?1 WHERE conversation = ?2 AND id = ?3 AND state = 1 AND envelope IS NULL",
        )?;
        for message in &envelope.messages {
            bind.execute(params![envelope.id.0, envelope.conversation.as_str(), message.id.0])?;
        }
        self.raise_next_number(&envelope.conversation, envelope.number.next())
    }

    /// Gives an envelope that is not in the log another number: its bytes change, its id does not.
    pub fn renumber(&self, envelope: EnvelopeId, number: Number, json: &str) -> Result<(), StoreError> {
        self.sql.prepare_cached("UPDATE outbox SET number = ?2, json = ?3 WHERE envelope = ?1")?.execute(params![
            envelope.0,
            int(number.get()),
            json
        ])?;
        Ok(())
    }

    /// Counts an attempt, at `wall` by the device's clock. Returns how many there have been.
    pub fn count_attempt(&self, envelope: EnvelopeId, wall: u64) -> Result<u32, StoreError> {
        let mut update = self.sql.prepare_cached(
            "UPDATE outbox SET attempt = attempt + 1, first_try = iif(attempt = 0, ?2, first_try) WHERE envelope = ?1
             RETURNING attempt",
        )?;
        let count = update.query_row(params![envelope.0, int(wall)], |row| uint(row, "attempt"))?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// The envelope was refused: it stays, with the reason, until a person decides; its messages are failed.
    pub fn fail(&self, envelope: EnvelopeId, refusal: &Refusal) -> Result<(), StoreError> {
        let json = serde_json::to_string(refusal).map_err(|wrong| StoreError::Damaged(wrong.to_string()))?;
        self.sql
            .prepare_cached("UPDATE outbox SET failure = ?2, again = 0 WHERE envelope = ?1")?
            .execute(params![envelope.0, json])?;
        self.sql
            .prepare_cached("UPDATE messages SET state = 0 WHERE envelope = ? AND seq IS NULL")?
            .execute([envelope.0])?;
        Ok(())
    }

    /// A refused envelope is to go its way again, with the same bytes, when it is its turn; its age counts from now, by
    /// the device's own time.
    pub fn put_under_way_again(&self, envelope: EnvelopeId, time: u64) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE outbox SET failure = NULL, again = 1 WHERE envelope = ?")?
            .execute([envelope.0])?;
        self.sql
            .prepare_cached("UPDATE messages SET state = 1, queued_at = ?2 WHERE envelope = ?1 AND seq IS NULL")?
            .execute(params![envelope.0, int(time)])?;
        Ok(())
    }

    /// Takes an envelope apart: what it held and is not in the log is pending again, in no envelope.
    pub fn dissolve(&self, envelope: EnvelopeId) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "UPDATE messages SET envelope = NULL, state = iif(seq IS NULL, 1, state) WHERE envelope = ?",
            )?
            .execute([envelope.0])?;
        self.sql.prepare_cached("DELETE FROM outbox WHERE envelope = ?")?.execute([envelope.0])?;
        Ok(())
    }

    /// Takes a message out of its envelope, which was refused; the envelope stays as it was refused.
    pub fn take_out(&self, id: MessageId) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE messages SET envelope = NULL, state = 1 WHERE id = ? AND state = 0")?
            .execute([id.0])?;
        Ok(())
    }

    /// Whether all messages of an envelope have their places.
    pub fn is_settled(&self, envelope: EnvelopeId) -> Result<bool, StoreError> {
        let mut waiting =
            self.sql.prepare_cached("SELECT 1 FROM messages WHERE envelope = ? AND seq IS NULL LIMIT 1")?;
        Ok(!waiting.exists([envelope.0])?)
    }

    /// Frees the conversation's envelopes of which no message waits any more, but for the one that wants a verdict.
    /// Returns what was freed.
    pub fn free_settled(&self, conversation: &ConversationId, wants: EnvelopeId) -> Result<Vec<Row>, StoreError> {
        let mut freed = Vec::new();
        for row in self.outbox_of(conversation)? {
            if row.envelope == wants && row.failure.is_none() {
                continue;
            }
            if self.is_settled(row.envelope)? {
                self.dissolve(row.envelope)?;
                freed.push(row);
            }
        }
        Ok(freed)
    }

    /// When the oldest message of an envelope began to wait, by the device's own time.
    pub fn waiting_since(&self, envelope: EnvelopeId) -> Result<Option<u64>, StoreError> {
        let mut found = self.sql.prepare_cached("SELECT min(queued_at) AS since FROM messages WHERE envelope = ?")?;
        Ok(found.query_row([envelope.0], |row| optional_uint(row, "since"))?)
    }

    /// Deletes an own message that waits. It must not be in an envelope.
    pub fn delete_waiting(&self, conversation: &ConversationId, id: MessageId) -> Result<bool, StoreError> {
        let deleted = self
            .sql
            .prepare_cached(
                "DELETE FROM messages WHERE conversation = ? AND id = ? AND seq IS NULL AND envelope IS NULL",
            )?
            .execute(params![conversation.as_str(), id.0])?;
        Ok(deleted > 0)
    }

    /// What waits, and since when by the device's own time ([`Backlog::oldest_ms`] is that, and no age); and what is not
    /// here. By name the index: without it all messages would be looked at.
    pub fn backlog(&self) -> Result<Backlog, StoreError> {
        let mut found = self.sql.prepare_cached(
            "SELECT waiting, oldest, failed, behind, behind_in FROM
                (SELECT count(*) FILTER (WHERE state = 1) AS waiting, min(queued_at) FILTER (WHERE state = 1) AS oldest,
                    count(*) FILTER (WHERE state = 0) AS failed
                 FROM messages INDEXED BY messages_waiting WHERE seq IS NULL),
                (SELECT coalesce(sum(head - cursor), 0) AS behind, count(*) AS behind_in
                 FROM conversations WHERE head > cursor)",
        )?;
        Ok(found.query_row([], |row| {
            Ok(Backlog {
                waiting: uint(row, "waiting")?,
                oldest_ms: optional_uint(row, "oldest")?,
                failed: uint(row, "failed")?,
                behind: uint(row, "behind")?,
                behind_in: uint(row, "behind_in")?,
            })
        })?)
    }

    /// The outbox as applications see it: per conversation the envelopes by their numbers, then what is in none yet.
    /// When something is sent next only the engine knows.
    pub fn outbox_entries(&self) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut entries = Vec::new();
        for conversation in self.conversations()?.into_iter().filter(|conversation| conversation.unsettled > 0) {
            let mut waiting = self.waiting(&conversation.id)?;
            let mut take = |envelope: Option<EnvelopeId>| {
                let (taken, rest) = std::mem::take(&mut waiting).into_iter().partition(|(_, its)| *its == envelope);
                waiting = rest;
                let taken: Vec<(Message, _)> = taken;
                taken.into_iter().map(|(message, _)| message).collect::<Vec<_>>()
            };
            for row in self.outbox_of(&conversation.id)? {
                entries.push(OutboxEntry {
                    conversation: conversation.id.clone(),
                    peer: conversation.peer.clone(),
                    envelope: Some(row.envelope),
                    number: Some(row.number),
                    attempts: row.attempt,
                    first_try: row.first_try,
                    next_try: None,
                    state: match (&row.failure, row.again) {
                        (Some(_), _) => OutboxState::Failed,
                        (None, true) => OutboxState::Queued,
                        (None, false) => OutboxState::UnderWay,
                    },
                    failure: row.failure.as_ref().map(Into::into),
                    messages: take(Some(row.envelope)),
                });
            }
            // In no envelope and failed is only what has a file that could not be uploaded.
            let (failed, queued): (Vec<_>, Vec<_>) =
                take(None).into_iter().partition(|message| message.state == State::Failed);
            let failed = failed.into_iter().map(|message| (OutboxState::Failed, vec![message]));
            let queued = (!queued.is_empty()).then_some((OutboxState::Queued, queued));
            for (state, messages) in failed.chain(queued) {
                entries.push(OutboxEntry {
                    conversation: conversation.id.clone(),
                    peer: conversation.peer.clone(),
                    envelope: None,
                    number: None,
                    attempts: 0,
                    first_try: None,
                    next_try: None,
                    state,
                    failure: messages.iter().find_map(|message| message.failure.clone()),
                    messages,
                });
            }
        }
        Ok(entries)
    }
}
