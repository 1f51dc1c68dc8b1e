//! A rolled-back device: the server's lane is ahead of what this file remembers. The device first reads what it has
//! written, through the lane's place; only what is not in the log gets a new number.

use poste_protocol::{ConversationId, Resolved, Seq};

use super::Rules;
use super::form::renumbered;
use super::turn::Turn;
use crate::StoreError;

impl Rules {
    /// Settles the conflicts for which enough of the log has been read, and sees to it that the others read on.
    pub(super) fn pump_conflicts(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let patience = self.tuning.conflict_patience;
        let Some(session) = self.session_mut() else { return Ok(()) };
        let conflicts: Vec<_> = session
            .sending
            .iter()
            .filter_map(|(id, sending)| sending.conflict.as_ref().map(|conflict| (id.clone(), conflict)))
            .map(|(id, conflict)| {
                let at_end = session.sync.get(&id).is_some_and(|sync| sync.at_end);
                let nothing_more = conflict.unreadable || at_end && now >= conflict.since + patience;
                (id, conflict.lane, nothing_more)
            })
            .collect();
        for (id, lane, nothing_more) in conflicts {
            let Some(row) = turn.tx.conversation(&id)? else { continue };
            // The lane's last envelope may have been given its number and never been written: then the log ends before
            // it for as long as nobody writes, perhaps with numbers of others before it that were not written either.
            // All earlier ones of this device are read by then: each was written before the next was sent. Should the
            // last be written after all, the server says so and places nothing: it is told how far was read.
            if row.cursor >= lane.seq || nothing_more {
                self.settle_conflict(turn, &id, Resolved { lane, through: row.cursor })?;
            } else {
                self.read_on(turn, &id, row.cursor);
            }
        }
        Ok(())
    }

    fn read_on(&mut self, turn: &Turn<'_>, id: &ConversationId, cursor: Seq) {
        let Some(session) = self.session_mut() else { return };
        let sync = session.sync(id);
        if !sync.wanted && sync.in_flight.is_none() {
            sync.idle = sync.idle.saturating_add(1);
            let idle = sync.idle;
            let wait = self.tuning.gap_wait + self.backoff(idle);
            tracing::debug!(%cursor, "the lane's place is not in the log yet");
            if let Some(session) = self.session_mut() {
                session.sync(id).want(turn.now.mono + wait);
            }
        }
    }

    fn settle_conflict(
        &mut self,
        turn: &mut Turn<'_>,
        id: &ConversationId,
        resolved: Resolved,
    ) -> Result<(), StoreError> {
        let last = resolved.lane.number;
        if let Some(session) = self.session_mut() {
            session.sending(id).conflict = None;
        }
        let Some(row) = turn.tx.outbox(id)? else { return Ok(()) };
        turn.tx.raise_next_number(id, last.next())?;
        turn.tx.set_resolved(id, Some(resolved))?;
        let waiting = turn.tx.waiting(id)?.iter().filter(|(_, envelope)| *envelope == Some(row.envelope)).count();
        if waiting == turn.tx.locals_of_envelope(row.envelope)?.len() {
            let number = last.next().max(row.number);
            turn.tx.renumber(row.envelope, number, &renumbered(&row.json, number)?)?;
            turn.tx.raise_next_number(id, number.next())?;
        } else {
            // Some of it is in the log, in other envelopes: the rest goes in a new one.
            turn.tx.dissolve(row.envelope)?;
        }
        Ok(())
    }
}
