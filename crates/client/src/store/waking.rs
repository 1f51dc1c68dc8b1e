//! Where the device can be woken, what woke it, and what nobody shall be woken for. Each until the server knows it.

use poste_protocol::{ConversationId, PushStatus, PushToken, WokenBy};
use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::Tx;
use super::columns::{int, optional_json, optional_uint, text};
use crate::StoreError;

/// What the application wants of waking, and what the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// By which the device can be woken. Nothing if it shall not be.
    pub token: Option<PushToken>,
    /// The server has not confirmed the token yet.
    pub due: bool,
    /// What the server said last.
    pub status: Option<PushStatus>,
    /// The push that woke the device, if the server was not told.
    pub woken_by: Option<WokenBy>,
}

impl Tx<'_> {
    /// How it stands.
    pub fn waking(&self) -> Result<Row, StoreError> {
        let mut found = self.sql.prepare_cached("SELECT push_token, push_due, push_status, woken_by FROM account")?;
        Ok(found.query_row([], |row| {
            Ok(Row {
                token: optional_json(row, "push_token")?,
                due: row.get("push_due")?,
                status: optional_json(row, "push_status")?,
                woken_by: optional_json(row, "woken_by")?,
            })
        })?)
    }

    /// Another token, or none, of which the server has to be told.
    pub fn set_push(&self, token: Option<&PushToken>) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE account SET push_token = ?, push_due = 1")?
            .execute([token.map(json).transpose()?])?;
        Ok(())
    }

    /// The server was told the token, or takes none; and how that stands.
    pub fn push_told(&self, status: PushStatus) -> Result<(), StoreError> {
        self.sql.prepare_cached("UPDATE account SET push_due = 0 WHERE push_due = 1")?.execute([])?;
        self.note_push_status(status)
    }

    /// How the registration stands.
    pub fn note_push_status(&self, status: PushStatus) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE account SET push_status = ?1 WHERE push_status IS NOT ?1")?
            .execute([json(&status)?])?;
        Ok(())
    }

    /// What woke the device; the latest counts. Nothing once the server was told.
    pub fn set_woken_by(&self, by: Option<&WokenBy>) -> Result<(), StoreError> {
        self.sql.prepare_cached("UPDATE account SET woken_by = ?")?.execute([by.map(json).transpose()?])?;
        Ok(())
    }

    /// Mutes a conversation until a time, or no longer. Says whether that is new.
    pub fn mute(&self, id: &ConversationId, until: Option<u64>) -> Result<bool, StoreError> {
        let changed = self
            .sql
            .prepare_cached(
                "UPDATE conversations SET muted_until = ?2, mute_due = 1 WHERE id = ?1 AND muted_until IS NOT ?2",
            )?
            .execute(params![id.as_str(), until.map(int)])?;
        Ok(changed > 0)
    }

    /// A mute of which the server has to be told. It cannot be, as long as the server does not know the conversation.
    pub fn mute_to_tell(&self) -> Result<Option<(ConversationId, Option<u64>)>, StoreError> {
        let mut found = self
            .sql
            .prepare_cached("SELECT id, muted_until FROM conversations WHERE mute_due = 1 AND head > 0 LIMIT 1")?;
        Ok(found.query_row([], |row| Ok((text(row, "id")?, optional_uint(row, "muted_until")?))).optional()?)
    }

    /// The server was told this mute. Another one has still to be told.
    pub fn mute_told(&self, id: &ConversationId, until: Option<u64>) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE conversations SET mute_due = 0 WHERE id = ?1 AND muted_until IS ?2")?
            .execute(params![id.as_str(), until.map(int)])?;
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|wrong| StoreError::Damaged(wrong.to_string()))
}
