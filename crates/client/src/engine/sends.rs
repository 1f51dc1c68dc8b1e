//! The outbox on its way: one envelope per conversation, several in a frame, again and again until a verdict.

use poste_protocol::{Code, ConversationId, EnvelopeId, Outcome, Refusal, Sent, Seq, Verdict, limits};

use super::Rules;
use super::form::{Enclosed, FRAME_ROOM, send_frame, share_of_frame};
use super::link::Link;
use super::session::{Conflict, Question};
use super::turn::Turn;
use crate::StoreError;
use crate::store::{MarkToSend, OutboxRow};

impl Rules {
    /// Sends whatever may be sent now.
    pub(super) fn pump_sends(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let mut frame = Vec::new();
        let mut room = FRAME_ROOM;
        for conversation in turn.tx.conversations_to_send(self.tuning.hold_back)? {
            if !self.may_send_frame() {
                return Ok(());
            }
            let now = turn.now.mono;
            let Some(session) = self.session() else { return Ok(()) };
            let mut alone = false;
            if let Some(sending) = session.sending.get(&conversation) {
                if sending.in_flight.is_some() || sending.conflict.is_some() || sending.not_before > now {
                    continue;
                }
                alone = sending.alone;
            }
            let Some(envelope) = self.envelope_to_send(turn, &conversation)? else { continue };
            let share = share_of_frame(&envelope.json);
            if !frame.is_empty() && (alone || share > room || frame.len() == limits::SUBMISSIONS) {
                self.send(turn, std::mem::take(&mut frame), room)?;
                room = FRAME_ROOM;
                if !self.may_send_frame() {
                    // Formed and on the disk; it goes when an answer makes room.
                    return Ok(());
                }
            }
            frame.push(envelope);
            room = room.saturating_sub(share);
            if alone {
                self.send(turn, std::mem::take(&mut frame), room)?;
                room = FRAME_ROOM;
            }
        }
        if !frame.is_empty() {
            self.send(turn, frame, room)?;
        }
        Ok(())
    }

    fn may_send_frame(&self) -> bool {
        let limit = self.tuning.send_frames;
        self.session()
            .is_some_and(|session| session.count_asked(|asked| matches!(asked, Question::Send { .. })) < limit)
    }

    fn envelope_to_send(
        &mut self,
        turn: &mut Turn<'_>,
        conversation: &ConversationId,
    ) -> Result<Option<OutboxRow>, StoreError> {
        if let Some(row) = turn.tx.outbox(conversation)? {
            return Ok(Some(row));
        }
        if let Some(row) = turn.tx.take_retried(conversation)? {
            return Ok(Some(row));
        }
        if self.tuning.hold_back && turn.tx.has_refused(conversation)? {
            return Ok(None);
        }
        match turn.tx.conversation(conversation)? {
            Some(row) => self.form_envelope(turn, &row),
            None => Ok(None),
        }
    }

    /// Puts out a frame that has room for so many bytes more.
    fn send(&mut self, turn: &mut Turn<'_>, envelopes: Vec<OutboxRow>, room: usize) -> Result<(), StoreError> {
        let mut enclosed = Vec::new();
        let mut asked = Vec::new();
        turn.note_clock()?;
        for row in envelopes {
            let attempt = turn.tx.count_attempt(row.envelope, turn.now.wall)?;
            let since = turn.tx.waiting_since(row.envelope)?.unwrap_or(turn.time);
            let age = turn.time.saturating_sub(since).min(limits::INTEGER);
            tracing::debug!(envelope = %row.envelope, conversation = %row.conversation, attempt, "an envelope goes out");
            let resolved = turn.tx.conversation(&row.conversation)?.and_then(|row| row.resolved);
            enclosed.push(Enclosed::new(row.json, age, attempt, resolved)?);
            self.counters.submissions += 1;
            self.counters.resubmissions += u64::from(attempt > 1);
            if let Some(session) = self.session_mut() {
                session.sending(&row.conversation).in_flight = Some(row.envelope);
            }
            asked.push((row.conversation, row.envelope));
        }
        let marks = self.marks_to_ride(turn, room)?;
        let riding: Vec<_> = marks.iter().map(MarkToSend::on_the_wire).collect();
        let question = Question::Send { envelopes: asked, marks };
        self.ask_in(turn, question, |reference| send_frame(reference, &enclosed, &riding));
        Ok(())
    }

    /// The answer to a `send`. A verdict counts whether or not its request is still waited for.
    pub(super) fn on_sent(
        &mut self,
        turn: &mut Turn<'_>,
        sent: Sent,
        asked: &[(ConversationId, EnvelopeId)],
    ) -> Result<(), StoreError> {
        for (conversation, envelope) in asked {
            self.landed(conversation, *envelope);
            if !sent.verdicts.iter().any(|verdict| verdict.envelope == *envelope) {
                self.send_later(turn, conversation, None);
            }
        }
        for verdict in sent.verdicts {
            self.on_verdict(turn, verdict)?;
        }
        Ok(())
    }

    /// An envelope is not in flight any more.
    pub(super) fn landed(&mut self, conversation: &ConversationId, envelope: EnvelopeId) {
        if let Some(session) = self.session_mut()
            && let Some(sending) = session.sending.get_mut(conversation)
            && sending.in_flight == Some(envelope)
        {
            sending.in_flight = None;
        }
    }

    /// What was under way in a conversation is not any more: the next goes without a wait.
    pub(super) fn forget_sending(&mut self, conversation: &ConversationId) {
        if let Some(session) = self.session_mut() {
            session.sending.remove(conversation);
        }
    }

    /// When a conversation's next envelope is sent at the earliest, on the monotonic clock. Nothing if it does not wait
    /// for a time.
    pub(super) fn next_try(&self, conversation: &ConversationId) -> Option<u64> {
        match &self.link {
            Link::Off | Link::Connecting { .. } => None,
            Link::Waiting { until, .. } => Some(*until),
            Link::Up(session) => session
                .sending
                .get(conversation)
                .filter(|sending| sending.in_flight.is_none() && sending.conflict.is_none())
                .map(|sending| sending.not_before),
        }
    }

    /// The same again, after a wait.
    pub(super) fn send_later(&mut self, turn: &Turn<'_>, conversation: &ConversationId, told: Option<u64>) {
        let Some(session) = self.session_mut() else { return };
        let sending = session.sending(conversation);
        sending.failures = sending.failures.saturating_add(1);
        let failures = sending.failures;
        let not_before = turn.now.mono + self.wait(told, failures);
        if let Some(session) = self.session_mut() {
            let sending = session.sending(conversation);
            sending.not_before = not_before;
            sending.told = told.is_some();
        }
    }

    fn on_verdict(&mut self, turn: &mut Turn<'_>, verdict: Verdict) -> Result<(), StoreError> {
        let Some(row) = turn.tx.outbox_envelope(verdict.envelope)? else {
            // Freed before, by a page or by an earlier answer.
            return Ok(());
        };
        match verdict.outcome {
            Outcome::Accepted { seq, at, .. } => self.on_accepted(turn, &row, seq, at),
            Outcome::Refused { error } => self.on_refused(turn, &row, &error),
        }
    }

    fn on_accepted(&mut self, turn: &mut Turn<'_>, row: &OutboxRow, seq: Seq, at: u64) -> Result<(), StoreError> {
        let id = &row.conversation;
        tracing::debug!(envelope = %row.envelope, conversation = %id, %seq, "an envelope is accepted");
        let locals = turn.tx.settle_envelope(row.envelope, seq, at)?;
        let last = seq.plus((locals.len() as u64).saturating_sub(1));
        turn.tx.dissolve(row.envelope)?;
        turn.refresh(locals)?;
        if row.is_under_way() {
            turn.tx.set_resolved(id, None)?;
            self.forget_sending(id);
        }
        turn.tx.raise_head(id, last, at)?;
        self.raise_own_states(turn, id)?;
        turn.conversation_changed(id);
        self.own_place_known(turn, id, seq, last)
    }

    pub(super) fn on_refused(
        &mut self,
        turn: &mut Turn<'_>,
        row: &OutboxRow,
        refusal: &Refusal,
    ) -> Result<(), StoreError> {
        let id = &row.conversation;
        match (refusal.code, refusal.lane) {
            (Code::TokenExpired, _) => self.on_token_expired(turn),
            (Code::LaneConflict, Some(lane)) if row.is_under_way() => {
                let now = turn.now.mono;
                let again = self.session().and_then(|s| s.sending.get(id)).is_some_and(|sending| sending.failures > 0);
                // A second conflict for the same envelope is strange: then not at full speed.
                self.send_later(turn, id, (!again).then_some(0));
                let cursor = turn.tx.conversation(id)?.map_or(Seq::ZERO, |row| row.cursor);
                if let Some(session) = self.session_mut() {
                    session.sending(id).conflict = Some(Conflict { lane, since: now, unreadable: false });
                    if cursor < lane.seq {
                        session.sync(id).want(now);
                    }
                }
            }
            // Transient unless the server has judged this very envelope.
            (Code::LaneConflict | Code::UnknownAction, _) => self.send_later(turn, id, refusal.retry_after_ms),
            (Code::NoMedia, _) if !turn.tx.is_settled(row.envelope)? && Self::upload_again(turn, row)? => {
                turn.conversation_changed(id);
                if row.is_under_way() {
                    self.forget_sending(id);
                    // The refusal stands in the lane, and the next envelope goes on from there.
                    turn.tx.set_resolved(id, None)?;
                }
            }
            _ if refusal.may_pass() => self.send_later(turn, id, refusal.retry_after_ms),
            _ => {
                tracing::warn!(code = ?refusal.code, conversation = %id, "an envelope was refused");
                let locals = turn.tx.locals_of_envelope(row.envelope)?;
                if turn.tx.is_settled(row.envelope)? {
                    // It is in the log all the same: nothing failed, and nothing is to be held back.
                    turn.tx.dissolve(row.envelope)?;
                } else {
                    turn.tx.fail(row.envelope, refusal)?;
                }
                turn.refresh(locals)?;
                turn.conversation_changed(id);
                if row.is_under_way() {
                    self.forget_sending(id);
                    if refusal.code.is_for_good(id) {
                        // The refusal stands in the lane, and the next envelope goes on from there.
                        turn.tx.set_resolved(id, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}
