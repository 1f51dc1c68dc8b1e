//! Who is or was in a conversation, kept for a few seconds.

use std::sync::Arc;

use poste_protocol::{ConversationId, Seq};

use crate::{
    Class, Trouble,
    cache::Cache,
    ports::{Clock, Members, Roster},
};

/// Conversations whose members a function remembers, and for how long, in milliseconds.
const CACHE_ENTRIES: usize = 1_000;
const CACHE_MS: u64 = 5_000;

/// Looks rosters up.
pub(crate) struct Rosters {
    members: Arc<dyn Members>,
    clock: Arc<dyn Clock>,
    known: Cache<ConversationId, Arc<Roster>>,
}

impl Rosters {
    /// On these ports.
    pub(crate) fn new(members: Arc<dyn Members>, clock: Arc<dyn Clock>) -> Self {
        Self { members, clock, known: Cache::new(CACHE_ENTRIES, CACHE_MS) }
    }

    /// The roster of a conversation, of a group at least as of this event, which is applied; empty if there is none.
    pub(crate) async fn of(&self, conversation: &ConversationId, applied: Seq) -> Result<Arc<Roster>, Trouble> {
        let now = self.clock.now_ms();
        let new_enough = |roster: &Arc<Roster>| roster.applied >= applied;
        if let Some(roster) = self.known.get(conversation, now).filter(new_enough) {
            return Ok(roster);
        }
        let roster = Arc::new(self.members.members(conversation).await?);
        if !new_enough(&roster) {
            return Err(Trouble::new("members.query", Class::Transient, "an event that is applied is not there"));
        }
        if !roster.members.is_empty() {
            self.known.put(conversation.clone(), roster.clone(), now);
        }
        Ok(roster)
    }
}
