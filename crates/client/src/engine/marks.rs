//! Watermarks: this device's own, coalesced and repeated until confirmed; and those of others, which raise the states
//! of own messages.

use poste_protocol::{ConversationId, MarkFrame, Marked, MemberMark, Refusal, Request, limits};

use super::Rules;
use super::session::Question;
use super::turn::Turn;
use crate::StoreError;
use crate::store::MarkToSend;

impl Rules {
    /// Tells the server how far this device is: at most one frame under way, and one in an interval.
    pub(super) fn pump_marks(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let interval = self.tuning.mark_interval;
        let Some(session) = self.session_mut() else { return Ok(()) };
        if session.marking.in_flight || session.marking.not_before > now {
            return Ok(());
        }
        let marks = turn.tx.marks_to_send(limits::MARKS)?;
        if marks.is_empty() {
            return Ok(());
        }
        session.marking.in_flight = true;
        session.marking.not_before = now + interval;
        let on_the_wire = marks.iter().map(MarkToSend::on_the_wire).collect();
        self.ask(turn, Question::Mark(marks), |reference| Request::Mark(MarkFrame { reference, marks: on_the_wire }));
        Ok(())
    }

    pub(super) fn on_marked(
        &mut self,
        turn: &mut Turn<'_>,
        marked: &Marked,
        asked: &[MarkToSend],
    ) -> Result<(), StoreError> {
        let mut again = None;
        for mark in asked {
            let result = marked.results.iter().find(|result| result.conversation == mark.conversation);
            match result.map(|result| &result.error) {
                Some(None) => turn.tx.mark_told(mark)?,
                Some(Some(no)) if !no.may_pass() => {
                    tracing::warn!(code = ?no.code, conversation = %mark.conversation, "a mark was refused");
                    turn.tx.mark_told(mark)?;
                }
                Some(Some(no)) => again = Some(no.clone()),
                None => again = Some(Refusal::new(poste_protocol::Code::Unavailable, "no result")),
            }
        }
        match again {
            Some(no) => self.marks_later(turn, Some(&no)),
            None => {
                if let Some(session) = self.session_mut() {
                    session.marking.in_flight = false;
                    session.marking.failures = 0;
                }
            }
        }
        Ok(())
    }

    /// The marks were not taken: again, after a wait.
    pub(super) fn marks_later(&mut self, turn: &Turn<'_>, refusal: Option<&Refusal>) {
        let Some(session) = self.session_mut() else { return };
        session.marking.in_flight = false;
        session.marking.failures = session.marking.failures.saturating_add(1);
        let failures = session.marking.failures;
        let wait = self.wait(refusal.and_then(|no| no.retry_after_ms), failures);
        let not_before = turn.now.mono + wait.max(self.tuning.mark_interval);
        if let Some(session) = self.session_mut() {
            session.marking.not_before = not_before;
        }
    }

    pub(super) fn on_member_mark(
        &mut self,
        turn: &mut Turn<'_>,
        id: &ConversationId,
        mark: &MemberMark,
    ) -> Result<(), StoreError> {
        if mark.user == self.me.user {
            if turn.tx.raise_read(id, mark.read, true)? {
                turn.conversation_changed(id);
            }
        } else if turn.tx.raise_member_mark(id, mark)? {
            self.raise_own_states(turn, id)?;
        }
        Ok(())
    }

    /// Own messages that have their place are as far as the furthest of the others is.
    pub(super) fn raise_own_states(&mut self, turn: &mut Turn<'_>, id: &ConversationId) -> Result<(), StoreError> {
        let (delivered, read) = turn.tx.furthest_of_others(id, &self.me.user)?;
        let raised = turn.tx.raise_states(id, &self.me.user, delivered, read)?;
        turn.updated(raised);
        Ok(())
    }
}
