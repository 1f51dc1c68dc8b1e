//! Edits and deletes of own messages, and deletes of what others wrote in groups. Each is on the disk when the call returns, shows at once, and goes its way through
//! the outbox. What was never sent is changed in its place.

use poste_protocol::{ConversationId, Message as Written, MessageId, MessagePlace, Seq};

use super::commands::Done;
use super::form::check_message;
use super::turn::Turn;
use super::{Engine, Now, Rules};
use crate::{ChangeKind, Error, Message, State, StoreError};

impl Engine {
    /// Gives an own message another text. It is on the disk, and shown, when this returns.
    pub fn edit(&mut self, now: Now, id: MessageId, body: String) -> Done<Message> {
        self.command(now, |rules, turn| rules.edit(turn, id, body))
    }

    /// Deletes an own message for everyone, or as an admin of a group what somebody else wrote there. That is on the
    /// disk, and shown, when this returns.
    pub fn delete(&mut self, now: Now, id: MessageId) -> Done<()> {
        self.command(now, |rules, turn| rules.delete(turn, id))
    }
}

impl Rules {
    fn edit(&mut self, turn: &mut Turn<'_>, id: MessageId, body: String) -> Result<Result<Message, Error>, StoreError> {
        let refuse = |why| Ok(Err(Error::Message { id, why }));
        let Some((local, message, envelope)) = turn.tx.own(&self.me.user, id)? else {
            return refuse("is not one of your own");
        };
        match (message.state, envelope) {
            _ if message.change.is_some() => return refuse("is a change itself"),
            _ if message.event.is_some() => return refuse("is what happened to the group"),
            _ if message.deleted => return refuse("is deleted"),
            _ if message.body == body => return Ok(Ok(message)),
            (State::Failed, _) => return refuse("has failed: it is retried or dropped first"),
            _ => {}
        }
        let place = MessagePlace { seq: message.seq.unwrap_or(Seq::LAST), id };
        let change = Written { edits: Some(place), ..self.fresh_message(turn, body) };
        let Some(row) = turn.tx.conversation(&message.conversation)? else {
            return Ok(Err(Error::UnknownConversation));
        };
        if let Err(refused) = check_message(&row, &change) {
            return Ok(Err(refused));
        }
        if let Some(attached) = &message.file {
            // Written anew in its place, it goes with its file.
            let anew = Written::of_media(id, change.body.clone(), attached.file.clone());
            if let Err(refused) = check_message(&row, &anew) {
                return Ok(Err(refused));
            }
        }
        if message.state == State::Pending && envelope.is_none() {
            turn.tx.rewrite(local, &change.body)?;
        } else if let Some(waiting) = turn.tx.waiting_edit(&row.id, id)? {
            turn.tx.rewrite(waiting, &change.body)?;
        } else {
            let target = (id, message.seq);
            turn.tx.add_own_change(&row.id, &self.me, &change, ChangeKind::Edit, target, turn.time)?;
        }
        changed(turn, local, &message)?;
        turn.tx.message(local)?.map(Ok).ok_or_else(|| StoreError::Damaged("a message just edited is not there".into()))
    }

    /// What was written anew in its place was in the log already, with its first text: the other one is an edit.
    pub(super) fn edit_again(
        &mut self,
        turn: &mut Turn<'_>,
        conversation: &ConversationId,
        id: MessageId,
        seq: Seq,
        text: String,
    ) -> Result<(), StoreError> {
        let change = self.fresh_message(turn, text);
        let target = (id, Some(seq));
        turn.tx.add_own_change(conversation, &self.me, &change, ChangeKind::Edit, target, turn.time)?;
        Ok(())
    }

    fn delete(&mut self, turn: &mut Turn<'_>, id: MessageId) -> Result<Result<(), Error>, StoreError> {
        let refuse = |why| Ok(Err(Error::Message { id, why }));
        let own = turn.tx.own(&self.me.user, id)?;
        let of_another =
            || Ok::<_, StoreError>(turn.tx.received(id)?.filter(|(_, message)| message.conversation.is_group()));
        let (local, message, envelope) = match own {
            Some(own) => own,
            None => match of_another()? {
                Some((local, message)) => (local, message, None),
                None => return refuse("is not one of your own"),
            },
        };
        match (message.state, envelope) {
            _ if message.change.is_some() => return refuse("is a change itself"),
            _ if message.deleted => return Ok(Ok(())),
            (State::Pending, None) | (State::Failed, _) => return self.drop_message(turn, id),
            _ if message.event.is_some() => return refuse("is what happened to the group"),
            _ if message.conversation.is_group() && turn.tx.group(&message.conversation)?.role == Some(None) => {
                return Ok(Err(Error::NotInGroup));
            }
            _ => {}
        }
        turn.tx.drop_waiting_changes(&message.conversation, id, true)?;
        let change = self.fresh_message(turn, "");
        let target = (id, message.seq);
        turn.tx.add_own_change(&message.conversation, &self.me, &change, ChangeKind::Delete, target, turn.time)?;
        changed(turn, local, &message)?;
        Ok(Ok(()))
    }
}

/// A change of a message was written: it shows, and is told of.
fn changed(turn: &mut Turn<'_>, local: i64, message: &Message) -> Result<(), StoreError> {
    turn.note_clock()?;
    turn.tx.refresh(local)?;
    turn.updated([local]);
    turn.conversation_changed(&message.conversation);
    Ok(())
}
