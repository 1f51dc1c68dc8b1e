//! How far behind the device is, in both directions.

use super::{Engine, Now, clock};
use crate::store::Tx;
use crate::{Backlog, StoreError};

impl Engine {
    /// What waits to be sent, and what is known to be on the server and is not here.
    pub fn backlog(&mut self, now: Now) -> Result<Backlog, StoreError> {
        backlog(&self.store.read()?, now)
    }
}

/// The same of a store that is only read.
pub fn backlog(tx: &Tx<'_>, now: Now) -> Result<Backlog, StoreError> {
    let time = clock::time(tx.clock()?.as_ref(), now);
    let mut backlog = tx.backlog()?;
    backlog.oldest_ms = backlog.oldest_ms.map(|since| time.saturating_sub(since));
    Ok(backlog)
}
