//! Connections come and go. A device has one; a newer one takes its place, and the older one is told and closed.
//!
//! Register first, then sync with consistent reads: what was written before the sync is in it, what comes after finds
//! the connection. There is no window between.

use std::sync::Arc;

use poste_protocol::{FromServer, Hello, PushStatus, Replaced, Welcome};

use crate::{
    Failure, MEASURED, Trouble,
    ports::{Callback, Clock, Connection, Connections, Posted, Registration},
    routes::Caller,
};

/// The gateway closes every connection after two hours.
const LONGEST_MS: u64 = 2 * 3600 * 1000;

/// Registers connections.
pub struct Session {
    connections: Arc<dyn Connections>,
    callback: Arc<dyn Callback>,
    clock: Arc<dyn Clock>,
}

impl Session {
    /// On these ports.
    pub fn new(connections: Arc<dyn Connections>, callback: Arc<dyn Callback>, clock: Arc<dyn Clock>) -> Self {
        Self { connections, callback, clock }
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
        match self.connections.register(&caller.author, &connection).await? {
            Registration::Superseded => Ok(false),
            Registration::Registered { replaced } => {
                tracing::info!(target: MEASURED, metric = "connect", opened = 1_u64, replaced = u64::from(replaced.is_some()));
                if let Some(older) = replaced
                    && let Err(trouble) = self.dismiss(&older).await
                {
                    // It hears nothing more in any case, and ends with the gateway's two hours.
                    tracing::warn!(%trouble, "cannot close the older connection of a device");
                }
                Ok(true)
            }
        }
    }

    /// Tells a connection that another one has its place, and closes it. Most of them are dead already.
    async fn dismiss(&self, older: &Connection) -> Result<(), Trouble> {
        let frame = FromServer::Replaced(Replaced { message: "a newer connection of this device".to_owned() });
        let frame = serde_json::to_string(&frame).expect("a frame has only plain fields");
        match self.callback.post(&older.id, &frame).await? {
            Posted::Gone => Ok(()),
            Posted::Taken => self.callback.close(&older.id).await,
        }
    }

    /// A connection has closed. Best effort, and may come after the device's next connection.
    ///
    /// # Errors
    /// Trouble with a part.
    pub async fn disconnect(&self, caller: &Caller) -> Result<(), Failure> {
        Ok(self.connections.remove(&caller.author, &caller.connection).await?)
    }

    /// Tells the device who it is taken for, and whether it is woken if it asked.
    pub fn hello(&self, caller: &Caller, hello: Hello, push: Option<PushStatus>) -> Welcome {
        Welcome {
            reference: hello.reference,
            user: caller.author.user.clone(),
            device: caller.author.device.clone(),
            now: self.clock.now_ms(),
            push,
        }
    }
}
