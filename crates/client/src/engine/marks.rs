//! Watermarks: this device's own, coalesced and repeated until confirmed, along with what is sent where something is; and
//! those of others, which raise the states of own messages.

use poste_protocol::{ConversationId, MarkFrame, MarkResult, MemberMark, Refusal, Request, limits};

use super::Rules;
use super::session::Question;
use super::turn::Turn;
use crate::StoreError;
use crate::store::MarkToSend;

/// What a mark takes of a frame, at its longest: `{"conversation":"ID","delivered":N,"read":N},`.
const SHARE_OF_MARK: usize = 80 + limits::CONVERSATION_ID;

impl Rules {
    /// Tells the server how far this device is: at most one frame under way, and marks once in an interval. They wait
    /// a little for company: for what the person reads next, and for something that they may ride along with.
    pub(super) fn pump_marks(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let (interval, patience) = (self.tuning.mark_interval, self.tuning.mark_patience);
        let Some(session) = self.session_mut() else { return Ok(()) };
        let marks = turn.tx.marks_to_send(limits::MARKS)?;
        if marks.is_empty() {
            session.marking.alone_at = None;
            return Ok(());
        }
        let not_before = session.marking.tries.not_before;
        let alone_at = *session.marking.alone_at.get_or_insert(now.max(not_before) + patience);
        if session.marking.tries.in_flight || alone_at > now {
            return Ok(());
        }
        session.marking.put_out(now + interval);
        let on_the_wire = marks.iter().map(MarkToSend::on_the_wire).collect();
        self.ask(turn, Question::Mark(marks), |reference| Request::Mark(MarkFrame { reference, marks: on_the_wire }));
        Ok(())
    }

    /// Marks that wait, as many as there is room for, to go along with a `send` frame.
    pub(super) fn marks_to_ride(&mut self, turn: &Turn<'_>, room: usize) -> Result<Vec<MarkToSend>, StoreError> {
        let (now, interval) = (turn.now.mono, self.tuning.mark_interval);
        let Some(session) = self.session_mut() else { return Ok(Vec::new()) };
        let marking = &mut session.marking;
        if marking.alone || !marking.tries.is_due(now) {
            return Ok(Vec::new());
        }
        let marks = turn.tx.marks_to_send(limits::MARKS.min(room / SHARE_OF_MARK))?;
        if !marks.is_empty() {
            marking.put_out(now + interval);
        }
        Ok(marks)
    }

    /// What became of marks that rode along.
    pub(super) fn on_rode(
        &mut self,
        turn: &mut Turn<'_>,
        results: &[MarkResult],
        asked: &[MarkToSend],
    ) -> Result<(), StoreError> {
        match (asked.is_empty(), results.is_empty()) {
            (true, _) => Ok(()),
            (false, false) => self.on_marked(turn, results, asked),
            // A server of an earlier version has passed over them.
            (false, true) => {
                self.ride_no_more();
                Ok(())
            }
        }
    }

    /// Marks go in frames of their own on this connection, those that were under way, too.
    pub(super) fn ride_no_more(&mut self) {
        if let Some(session) = self.session_mut() {
            session.marking.tries.in_flight = false;
            session.marking.alone = true;
        }
    }

    pub(super) fn on_marked(
        &mut self,
        turn: &mut Turn<'_>,
        results: &[MarkResult],
        asked: &[MarkToSend],
    ) -> Result<(), StoreError> {
        let mut again = None;
        for mark in asked {
            let result = results.iter().find(|result| result.conversation == mark.conversation);
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
                    session.marking.tries.taken();
                }
            }
        }
        Ok(())
    }

    /// The marks were not taken: again, after a wait.
    pub(super) fn marks_later(&mut self, turn: &Turn<'_>, refusal: Option<&Refusal>) {
        if let Some(session) = self.session_mut() {
            session.marking.alone_at = None;
        }
        self.try_later(turn, refusal, self.tuning.mark_interval, |session| &mut session.marking.tries);
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
