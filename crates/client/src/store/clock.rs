//! The last reading of the device's clocks.

use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::Tx;
use super::columns::{int, uint};
use crate::StoreError;

/// What the device's own time was when its clocks said so and so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The device's own time, in milliseconds.
    pub time: u64,
    /// Which start of the device.
    pub boot: Uuid,
    /// Milliseconds since then, sleep included.
    pub since_boot: u64,
    /// Unix milliseconds as the device believed them.
    pub wall: u64,
}

pub(super) fn reading(row: &rusqlite::Row<'_>) -> rusqlite::Result<Reading> {
    Ok(Reading {
        time: uint(row, "time")?,
        boot: row.get("boot")?,
        since_boot: uint(row, "since_boot")?,
        wall: uint(row, "wall")?,
    })
}

impl Tx<'_> {
    /// The last reading that was noted.
    pub fn clock(&self) -> Result<Option<Reading>, StoreError> {
        let mut found = self.sql.prepare_cached("SELECT time, boot, since_boot, wall FROM clock")?;
        Ok(found.query_row([], reading).optional()?)
    }

    /// Notes a reading, in the place of the one before.
    pub fn note_clock(&self, reading: &Reading) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("INSERT OR REPLACE INTO clock (one, time, boot, since_boot, wall) VALUES (1, ?, ?, ?, ?)")?
            .execute(params![int(reading.time), reading.boot, int(reading.since_boot), int(reading.wall)])?;
        Ok(())
    }
}
