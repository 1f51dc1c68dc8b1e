//! Who is or was in a conversation, kept for a few seconds.

use std::sync::Arc;

use poste_protocol::{ConversationId, UserId};

use crate::{
    Membership, Trouble,
    cache::Cache,
    ports::{Clock, Members},
};

/// Conversations whose members a function remembers, and for how long, in milliseconds.
const CACHE_ENTRIES: usize = 1_000;
const CACHE_MS: u64 = 5_000;

/// The members of a conversation, past and present.
pub(crate) type Roster = Arc<Vec<(UserId, Membership)>>;

/// Looks rosters up.
pub(crate) struct Rosters {
    members: Arc<dyn Members>,
    clock: Arc<dyn Clock>,
    known: Cache<ConversationId, Roster>,
}

impl Rosters {
    /// On these ports.
    pub(crate) fn new(members: Arc<dyn Members>, clock: Arc<dyn Clock>) -> Self {
        Self { members, clock, known: Cache::new(CACHE_ENTRIES, CACHE_MS) }
    }

    /// The roster of a conversation; empty if there is none.
    pub(crate) async fn of(&self, conversation: &ConversationId) -> Result<Roster, Trouble> {
        let now = self.clock.now_ms();
        if let Some(roster) = self.known.get(conversation, now) {
            return Ok(roster);
        }
        let roster = Arc::new(self.members.members(conversation).await?);
        if !roster.is_empty() {
            self.known.put(conversation.clone(), roster.clone(), now);
        }
        Ok(roster)
    }
}
