//! Connections come and go. A device has one; a newer one takes its place.
//!
//! Register first, then sync with consistent reads: what was written before the sync is in it, what comes after finds
//! the connection. There is no window between.

use std::sync::Arc;

use poste_protocol::{Hello, Welcome};

use crate::{
    Failure,
    ports::{Clock, Connection, Connections},
    routes::Caller,
};

/// The gateway closes every connection after two hours.
const LONGEST_MS: u64 = 2 * 3600 * 1000;

/// Registers connections.
pub struct Session {
    connections: Arc<dyn Connections>,
    clock: Arc<dyn Clock>,
}

impl Session {
    /// On these ports.
    pub fn new(connections: Arc<dyn Connections>, clock: Arc<dyn Clock>) -> Self {
        Self { connections, clock }
    }

    /// A device has connected. It counts as live until the gateway's limit or its token's end.
    ///
    /// `false` if the device has a newer connection already: this one was given up by its device while it was being
    /// made. Were it registered all the same, the device would hear nothing on the connection that it has.
    ///
    /// # Errors
    /// Trouble with a part: the connection must not open.
    pub async fn connect(&self, caller: &Caller) -> Result<bool, Failure> {
        let until_ms = caller.token_expires_at_ms.min(self.clock.now_ms() + LONGEST_MS);
        let connection = Connection { id: caller.connection.clone(), since_ms: caller.connected_at_ms, until_ms };
        Ok(self.connections.register(&caller.author, &connection).await?)
    }

    /// A connection has closed. Best effort, and may come after the device's next connection.
    ///
    /// # Errors
    /// Trouble with a part.
    pub async fn disconnect(&self, caller: &Caller) -> Result<(), Failure> {
        Ok(self.connections.remove(&caller.author, &caller.connection).await?)
    }

    /// Tells the device who it is taken for.
    pub fn hello(&self, caller: &Caller, hello: Hello) -> Welcome {
        Welcome {
            reference: hello.reference,
            user: caller.author.user.clone(),
            device: caller.author.device.clone(),
            now: self.clock.now_ms(),
        }
    }
}
