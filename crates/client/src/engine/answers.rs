//! What an answer means for the request that it answers.

use poste_protocol::{Code, ConversationId, EnvelopeId, ErrorFrame, FromServer, Refusal};

use super::Rules;
use super::session::{Asked, Question};
use super::turn::Turn;
use super::waking::Wish;
use crate::StoreError;

impl Rules {
    pub(super) fn on_answer(
        &mut self,
        turn: &mut Turn<'_>,
        frame: FromServer,
        asked: Option<Asked>,
    ) -> Result<(), StoreError> {
        let question = asked.map(|asked| asked.question);
        match (frame, question) {
            (FromServer::Sent(mut sent), Some(Question::Send { envelopes, marks })) => {
                let results = std::mem::take(&mut sent.marks);
                self.on_sent(turn, sent, &envelopes)?;
                self.on_rode(turn, &results, &marks)
            }
            // Late, after its request was given up: what it says of the envelopes is true all the same.
            (FromServer::Sent(sent), None) => self.on_sent(turn, sent, &[]),
            (FromServer::Pages(pages), Some(Question::Sync(asked))) => self.on_pages(turn, &pages, asked),
            (FromServer::Pages(pages), None) => pages.pages.iter().try_for_each(|page| self.on_page(turn, page, false)),
            (FromServer::Page(page), Some(Question::Older(id))) if page.conversation == id => {
                self.on_older_page(turn, &page)
            }
            (FromServer::Page(page), None) => self.on_page(turn, &page, false),
            (FromServer::List(page), Some(Question::List(asked))) => {
                self.on_receipts_listed(turn, !page.receipts_off)?;
                self.on_list(turn, page, asked)
            }
            // Late, after its request was given up: what it says is true all the same.
            (FromServer::List(page), None) => page.conversations.iter().try_for_each(|its| self.on_summary(turn, its)),
            (FromServer::Receipts(set), Some(Question::Receipts(asked))) => self.on_receipts_set(turn, asked, set.on),
            (FromServer::Members(page), Some(Question::Members(id))) if page.conversation == id => {
                self.on_members(turn, page)
            }
            (FromServer::Marks(page), Some(Question::Marks(number, id))) if page.conversation == id => {
                self.on_marks(turn, number, page)
            }
            (FromServer::Marked(marked), Some(Question::Mark(asked))) => self.on_marked(turn, &marked.results, &asked),
            (FromServer::Watching(watching), Some(Question::Watch)) => {
                self.on_watching(turn, watching);
                Ok(())
            }
            (FromServer::Presence(news), _) => {
                self.on_presence(turn, news);
                Ok(())
            }
            (FromServer::Typing(news), _) => {
                self.on_typing_news(turn, news);
                Ok(())
            }
            (FromServer::Delivery(delivery), _) => {
                self.has_written(turn, &delivery);
                delivery.items.into_iter().try_for_each(|item| self.on_delivery(turn, item))
            }
            (FromServer::Replaced(_), _) => {
                self.on_replaced(turn);
                Ok(())
            }
            (FromServer::Welcome(welcome), Some(Question::Wake(wish @ Wish::Awake(_)))) => {
                self.on_woken(turn, &wish, welcome.push)
            }
            (FromServer::Push(answer), Some(Question::Wake(wish @ Wish::Token(_)))) => {
                self.on_woken(turn, &wish, Some(answer.status))
            }
            (FromServer::Media(answer), Some(Question::Media(about))) => self.on_media(turn, about, answer),
            (FromServer::Media(answer), None) => Self::on_late_media(turn, &answer),
            (FromServer::Muted(_), Some(Question::Wake(wish @ Wish::Mute(..)))) => self.on_woken(turn, &wish, None),
            (FromServer::Error(error), question) => self.on_error(turn, &error, question),
            (FromServer::Welcome(_), Some(Question::Hello)) | (_, None) => Ok(()),
            (_, Some(question)) => {
                self.counters.bad_frames += 1;
                tracing::warn!("an answer does not go with its request");
                self.ask_later(turn, question, None)
            }
        }
    }

    fn on_error(
        &mut self,
        turn: &mut Turn<'_>,
        error: &ErrorFrame,
        question: Option<Question>,
    ) -> Result<(), StoreError> {
        let refusal = &error.refusal;
        self.counters.refused += 1;
        tracing::info!(code = ?refusal.code, "a request was refused");
        if refusal.code == Code::TokenExpired {
            self.on_token_expired(turn);
            return Ok(());
        }
        match question {
            Some(Question::Send { envelopes, marks }) if is_verdict(refusal) => {
                if marks.is_empty() {
                    return self.on_frame_refused(turn, &envelopes, refusal);
                }
                // No verdict on the envelopes: what is at fault may be a mark. The same again, without them.
                self.ride_no_more();
                for (conversation, envelope) in &envelopes {
                    self.landed(conversation, *envelope);
                }
                Ok(())
            }
            Some(Question::Wake(wish)) if !refusal.may_pass() => {
                tracing::warn!("the server will not take what it was told of waking");
                self.on_woken(turn, &wish, None)
            }
            Some(question) => self.ask_later(turn, question, Some(refusal)),
            None if error.reference.is_none() => self.on_nameless_error(turn),
            None => Ok(()),
        }
    }

    /// A `send` frame was refused for what is in it. Alone, the envelope is refused; joined with others, each is sent
    /// in a frame of its own, so that exactly the one that is at fault is refused.
    fn on_frame_refused(
        &mut self,
        turn: &mut Turn<'_>,
        envelopes: &[(ConversationId, EnvelopeId)],
        refusal: &Refusal,
    ) -> Result<(), StoreError> {
        for (conversation, envelope) in envelopes {
            self.landed(conversation, *envelope);
            if envelopes.len() > 1 {
                if let Some(session) = self.session_mut() {
                    session.sending(conversation).alone = true;
                }
            } else if let Some(row) = turn.tx.outbox_envelope(*envelope)? {
                self.on_refused(turn, &row, refusal)?;
            }
        }
        Ok(())
    }

    /// An error that does not say which request it means: everything that waits for an answer is asked again later.
    /// Should an answer come after all, it counts.
    ///
    /// Where something else was asked, too, it is probably that which was refused: in a storm reading is bounded, and
    /// sending is not. So what is sent does not wait longer each time.
    pub(super) fn on_nameless_error(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let Some(session) = self.session_mut() else { return Ok(()) };
        let requests = std::mem::take(&mut session.requests);
        let only_sends = requests.values().all(|asked| matches!(asked.question, Question::Send { .. }));
        for (_, asked) in requests {
            if let (false, Question::Send { envelopes, .. }) = (only_sends, &asked.question) {
                for (conversation, _) in envelopes {
                    if let Some(session) = self.session_mut() {
                        session.sending(conversation).failures = 0;
                    }
                }
            }
            self.ask_later(turn, asked.question, None)?;
        }
        Ok(())
    }

    pub(super) fn ask_later(
        &mut self,
        turn: &mut Turn<'_>,
        question: Question,
        refusal: Option<&Refusal>,
    ) -> Result<(), StoreError> {
        match question {
            Question::Hello => {}
            Question::Send { envelopes, marks } => {
                for (conversation, envelope) in envelopes {
                    self.landed(&conversation, envelope);
                    self.send_later(turn, &conversation, refusal.and_then(|no| no.retry_after_ms));
                }
                if !marks.is_empty() {
                    self.marks_later(turn, refusal);
                }
            }
            Question::Sync(asked) => self.sync_refused(turn, &asked, refusal),
            Question::Older(conversation) => self.older_refused(turn, &conversation, refusal),
            Question::List(_) => self.list_refused(turn, refusal),
            Question::Members(conversation) => self.members_refused(turn, &conversation, refusal),
            Question::Receipts(_) => self.setting_later(turn, refusal),
            Question::Marks(number, _) => self.marks_refused(turn, number, refusal),
            Question::Mark(_) => self.marks_later(turn, refusal),
            Question::Watch => self.watch_later(turn, refusal),
            Question::Wake(_) => self.wake_later(turn, refusal),
            Question::Media(about) => return self.media_refused(turn, about, refusal),
        }
        Ok(())
    }
}

/// Whether a refusal judges what is in the frame, rather than the moment.
fn is_verdict(refusal: &Refusal) -> bool {
    !refusal.retryable && matches!(refusal.code, Code::BadFrame | Code::TooBig | Code::TooMany | Code::NotMember)
}
