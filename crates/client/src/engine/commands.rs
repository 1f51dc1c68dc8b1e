//! What the application asks for. Each is one transaction, and on the disk when it returns.

use poste_protocol::{Attachment, Code, ConversationId, Message as Written, MessageId, Seq};

use super::turn::Turn;
use super::{Engine, Now, Output, Rules};
use crate::{Error, Message, State, StoreError, Target};

/// What a call returns: its result, and what is to be done besides.
pub(super) type Done<T> = Result<(T, Vec<Output>), Error>;

impl Engine {
    /// Writes a message. It is on the disk, pending, when this returns, and is sent as soon as it can be.
    pub fn send(&mut self, now: Now, to: Target, body: String) -> Done<Message> {
        self.command(now, |rules, turn| rules.write(turn, to, body, None))
    }

    /// Sends a failed message again, with everything that was refused in the same envelope.
    pub fn retry(&mut self, now: Now, id: MessageId) -> Done<()> {
        self.command(now, |rules, turn| rules.retry(turn, id))
    }

    /// Drops an own message that failed, or that is pending and in no envelope yet.
    pub fn drop_message(&mut self, now: Now, id: MessageId) -> Done<()> {
        self.command(now, |rules, turn| rules.drop_message(turn, id))
    }

    /// The person has read a conversation up to a number.
    pub fn mark_read(&mut self, now: Now, conversation: &ConversationId, upto: Seq) -> Done<()> {
        self.command(now, |_, turn| {
            let Some(row) = turn.tx.conversation(conversation)? else { return Ok(Err(Error::UnknownConversation)) };
            if turn.tx.raise_read(conversation, upto.min(row.cursor), false)? {
                turn.conversation_changed(conversation);
            }
            Ok(Ok(()))
        })
    }

    /// The application wants the next page of history. Says whether there is any.
    pub fn older(&mut self, now: Now, conversation: &ConversationId) -> Done<bool> {
        self.command(now, |rules, turn| {
            let Some(row) = turn.tx.conversation(conversation)? else { return Ok(Err(Error::UnknownConversation)) };
            let any = row.oldest.is_some_and(|oldest| oldest > Seq::ZERO);
            if any {
                rules.want_older(turn, conversation);
            }
            Ok(Ok(any))
        })
    }

    /// The application has taken note of what became of a damaged file.
    pub fn forget_recovery(&mut self, now: Now) -> Done<()> {
        self.command(now, |_, turn| Ok(Ok(turn.tx.forget_recovery()?)))
    }

    pub(super) fn command<T>(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut Rules, &mut Turn<'_>) -> Result<Result<T, Error>, StoreError>,
    ) -> Done<T> {
        self.turn_unless_refused(now, act)?
    }
}

impl Rules {
    pub(super) fn write(
        &mut self,
        turn: &mut Turn<'_>,
        to: Target,
        body: String,
        media: Option<Attachment>,
    ) -> Result<Result<Message, Error>, StoreError> {
        let id = match to {
            Target::User(user) => {
                let id = ConversationId::direct(&self.me.user, &user);
                if turn.tx.know_conversation(&id, Some(&user))? {
                    turn.conversation_changed(&id);
                }
                id
            }
            Target::Conversation(id) => id,
        };
        let message = Written { media, ..self.fresh_message(turn, body) };
        self.write_message(turn, &id, &message)
    }

    fn retry(&mut self, turn: &mut Turn<'_>, id: MessageId) -> Result<Result<(), Error>, StoreError> {
        let refuse = |why| Ok(Err(Error::Message { id, why }));
        let Some((local, message, envelope)) = turn.tx.own(&self.me.user, id)? else { return refuse("is not known") };
        if message.state == State::Failed && envelope.is_none() {
            self.retry_upload(turn, local, &message)?;
            return Ok(Ok(()));
        }
        let (State::Failed, Some(envelope)) = (message.state, envelope) else { return refuse("has not failed") };
        turn.tx.put_under_way_again(envelope, turn.time)?;
        let locals = turn.tx.locals_of_envelope(envelope)?;
        if is_for_good(&message) {
            // The server remembers the refusal and will never take this envelope. Its messages go in another.
            turn.tx.dissolve(envelope)?;
        }
        if message.failure.as_ref().is_some_and(|failure| failure.code == Code::NoMedia) {
            for local in &locals {
                if let Some(upload) = turn.tx.upload_of(*local)? {
                    turn.tx.upload_again(upload.media, 0)?;
                }
            }
        }
        turn.refresh(locals)?;
        turn.conversation_changed(&message.conversation);
        Ok(Ok(()))
    }

    pub(super) fn drop_message(&mut self, turn: &mut Turn<'_>, id: MessageId) -> Result<Result<(), Error>, StoreError> {
        let refuse = |why| Ok(Err(Error::Message { id, why }));
        let Some((local, message, envelope)) = turn.tx.own(&self.me.user, id)? else { return refuse("is not known") };
        let about = turn.tx.about(local)?;
        match (message.state, envelope) {
            // A failed message without an envelope is one whose upload has failed.
            (State::Pending | State::Failed, None) => {}
            // Each of what has waited too long is decided by itself: the others may be as unwelcome now.
            (State::Failed, Some(envelope)) if is_for_good(&message) => {
                turn.tx.take_out(id)?;
                if turn.tx.is_settled(envelope)? {
                    turn.tx.dissolve(envelope)?;
                }
            }
            (State::Failed, Some(envelope)) => {
                // The others of the refused envelope go into a new one.
                let locals = turn.tx.locals_of_envelope(envelope)?;
                turn.tx.dissolve(envelope)?;
                turn.refresh(locals)?;
            }
            (State::Pending, Some(_)) => return refuse("is on its way and cannot be dropped any more"),
            _ => return refuse("has its place in the log"),
        }
        if turn.tx.delete_waiting(&message.conversation, id)? {
            if message.change.is_none() {
                turn.tx.drop_waiting_changes(&message.conversation, id, false)?;
                turn.removed(&message.conversation, id);
            }
            turn.refresh(about)?;
        }
        turn.conversation_changed(&message.conversation);
        Ok(Ok(()))
    }
}

/// Whether the server never takes the message's envelope.
fn is_for_good(message: &Message) -> bool {
    message.failure.as_ref().is_some_and(|failure| failure.code.is_for_good(&message.conversation))
}
