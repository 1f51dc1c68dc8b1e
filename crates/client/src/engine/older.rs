//! History: entering a conversation at its end, and going back from there as the application asks.
//!
//! What is here is everything in (oldest, cursor], of one piece. Why a conversation in which something was written here
//! is not entered at its end is in `docs/adr/0013-history-backwards.md`.

use poste_protocol::{ConversationId, Fetch, Page, Refusal, Request, Seq};

use super::Rules;
use super::backoff::told;
use super::session::Question;
use super::sync::is_sound;
use super::turn::Turn;
use crate::StoreError;

/// The application wants a page of a conversation's history.
#[derive(Debug, Default)]
pub(super) struct Wish {
    pub(super) in_flight: bool,
    pub(super) not_before: u64,
    failures: u32,
}

impl Rules {
    pub(super) fn want_older(&mut self, turn: &Turn<'_>, id: &ConversationId) {
        let now = turn.now.mono;
        self.older.entry(id.clone()).or_insert_with(|| Wish { not_before: now, ..Wish::default() });
    }

    /// Whether a conversation is to be entered at its end, when its newest page comes.
    pub(super) fn is_to_enter(&self, turn: &Turn<'_>, id: &ConversationId) -> Result<bool, StoreError> {
        Ok(self.tuning.lazy_history && turn.tx.is_untouched(id)?)
    }

    /// A new connection: nothing is under way on it.
    pub(super) fn forget_older_under_way(&mut self) {
        for wish in self.older.values_mut() {
            wish.in_flight = false;
            wish.not_before = 0;
        }
    }

    /// Asks for the pages of history that are wanted, a few at a time.
    pub(super) fn pump_older(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let under_way = self.older.values().filter(|wish| wish.in_flight).count();
        let due = self.older.iter().filter(|(_, wish)| !wish.in_flight && wish.not_before <= now);
        let due: Vec<_> = due.map(|(id, _)| id.clone()).take(self.tuning.fetches.saturating_sub(under_way)).collect();
        for conversation in due {
            let oldest = turn.tx.conversation(&conversation)?.and_then(|row| row.oldest).unwrap_or(Seq::ZERO);
            if oldest.is_zero() {
                self.older.remove(&conversation);
                continue;
            }
            if let Some(wish) = self.older.get_mut(&conversation) {
                wish.in_flight = true;
            }
            let (before, limit) = (Some(oldest.next()), Some(self.tuning.history_page));
            self.ask(turn, Question::Older(conversation.clone()), |reference| {
                Request::Fetch(Fetch { reference, conversation, after: None, before, limit })
            });
        }
        Ok(())
    }

    /// The newest page of a conversation. By now something of it may be here: then it is read on from there.
    pub(super) fn on_newest_page(&mut self, turn: &mut Turn<'_>, page: &Page) -> Result<(), StoreError> {
        let id = &page.conversation;
        if !is_sound(page) || page.after.is_zero() || !turn.tx.is_untouched(id)? {
            // From the beginning on it is a page like any other.
            self.on_page(turn, page, true)?;
            if page.head > page.through
                && page.retry_after_ms.is_none()
                && let Some(session) = self.session_mut()
            {
                session.sync(id).want(turn.now.mono);
            }
            return Ok(());
        }
        self.counters.pages += 1;
        for cell in &page.cells {
            self.take_cell(turn, id, cell)?;
        }
        turn.tx.enter(id, page.after, page.through)?;
        // Its end is marked as delivered, whoever wrote what is in the page: what others wrote may be before it.
        let cursor = self.advance(turn, id, page.through, true)?;
        turn.tx.raise_floor(id, page.floor)?;
        turn.tx.raise_head(id, page.head, page.cells.iter().map(|cell| cell.at).max().unwrap_or(0))?;
        let now = turn.now.mono;
        if let Some(session) = self.session_mut() {
            let sync = session.sync(id);
            sync.wanted = false;
            sync.idle = 0;
            // What came meanwhile, or is still being written, is after it.
            if std::mem::take(&mut sync.again) || page.head.max(sync.written) > cursor {
                sync.want(now + page.retry_after_ms.map_or(0, told));
            }
        }
        Ok(())
    }

    /// Takes in a page of history, if it ends where what is here begins.
    pub(super) fn on_older_page(&mut self, turn: &mut Turn<'_>, page: &Page) -> Result<(), StoreError> {
        let id = &page.conversation;
        let oldest = turn.tx.conversation(id)?.and_then(|row| row.oldest);
        if !is_sound(page) || oldest != Some(page.through) {
            self.counters.bad_frames += 1;
            tracing::warn!(conversation = %id, "a page of history does not fit on to what is here");
            self.older_refused(turn, id, None);
            return Ok(());
        }
        self.counters.pages += 1;
        for cell in &page.cells {
            self.take_cell(turn, id, cell)?;
        }
        turn.forget_added();
        turn.tx.lower_oldest(id, page.after)?;
        turn.tx.raise_floor(id, page.floor)?;
        turn.conversation_changed(id);
        match page.retry_after_ms {
            Some(wait) if page.after == page.through => self.older_later(id, turn.now.mono + told(wait)),
            // Nothing came, only holes were decided.
            None if page.after == page.through => self.older_refused(turn, id, None),
            // Something came: it is for the application to ask for more. Without anything to see it would wait for ever.
            _ if page.cells.is_empty() && !page.after.is_zero() => self.older_later(id, turn.now.mono),
            _ => drop(self.older.remove(id)),
        }
        Ok(())
    }

    fn older_later(&mut self, id: &ConversationId, at: u64) {
        if let Some(wish) = self.older.get_mut(id) {
            wish.in_flight = false;
            wish.not_before = at;
        }
    }

    /// A page of history was not to be had: again later, unless the server will never give it.
    pub(super) fn older_refused(&mut self, turn: &mut Turn<'_>, id: &ConversationId, refusal: Option<&Refusal>) {
        if refusal.is_some_and(|no| !no.may_pass()) {
            // Whoever waits for it is told that `oldest` has stayed where it was.
            self.older.remove(id);
            turn.conversation_changed(id);
            return;
        }
        let Some(wish) = self.older.get_mut(id) else { return };
        wish.failures = wish.failures.saturating_add(1);
        let failures = wish.failures;
        let wait = self.wait(refusal.and_then(|no| no.retry_after_ms), failures);
        self.older_later(id, turn.now.mono + wait.max(1));
    }
}
