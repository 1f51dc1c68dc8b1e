//! Whether the user gives and gets read receipts.

use rusqlite::{OptionalExtension, params};

use super::Tx;
use crate::StoreError;

/// Whether the user gives and gets read receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipts {
    /// They do, as this device knows it.
    pub on: bool,
    /// The server is still to be told so.
    pub waits: bool,
}

impl Default for Receipts {
    fn default() -> Self {
        Self { on: true, waits: false }
    }
}

pub(super) fn receipts(row: &rusqlite::Row<'_>) -> rusqlite::Result<Receipts> {
    Ok(Receipts { on: row.get("wanted")?, waits: row.get("waits")? })
}

impl Tx<'_> {
    /// Whether the user gives and gets read receipts.
    pub fn receipts(&self) -> Result<Receipts, StoreError> {
        let mut found = self.sql.prepare_cached("SELECT wanted, waits FROM receipts")?;
        Ok(found.query_row([], receipts).optional()?.unwrap_or_default())
    }

    /// Notes it.
    pub fn set_receipts(&self, to: Receipts) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("INSERT OR REPLACE INTO receipts (one, wanted, waits) VALUES (1, ?, ?)")?
            .execute(params![to.on, to.waits])?;
        Ok(())
    }
}
