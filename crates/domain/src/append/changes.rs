//! Edits and deletes: entries of the log that say which message they change.
//!
//! A delete takes content out of the log: that of its message, and of all edits of it. So that none is overlooked, an
//! edit is registered at its message before it is written, with the place where it will be; and a delete redacts the
//! message before it looks after the edits that are registered there. Both are one write of one item, so one of them is
//! first. If that is the edit, the delete finds it: written, it is redacted; not written yet, it finds a void at its
//! place, takes another one and registers there. If it is the delete, the edit is written without its text.
//!
//! Every step may be repeated, by anyone, at any time.

use std::collections::BTreeMap;

use futures::{TryStreamExt, stream};
use poste_protocol::{Cell, Code, ConversationId, Envelope, Message, MessagePlace, Refusal, Seq, UserId};

use super::{Append, Attempt, Decided};
use crate::{
    Failure, FileId, Membership, Trouble,
    ports::{Registered, Slot},
};

/// Edits of one message that are redacted at the same time.
const AT_ONCE: usize = 16;

/// What an envelope changes.
pub(super) struct Targets {
    /// Each change in it.
    changes: Vec<Change>,
    /// Where the messages are, as long as the store has them.
    there: BTreeMap<MessagePlace, Target>,
}

struct Target {
    cell: Seq,
    index: usize,
    /// The file that belongs to it.
    file: Option<FileId>,
}

struct Change {
    place: MessagePlace,
    deletes: bool,
    /// Whose message it changes, if it is there to be changed.
    author: Option<UserId>,
}

impl Targets {
    /// Whether a user may change all of it: it is there, and is their own. Somebody who may delete what others wrote, and
    /// is in at these times, may delete what they see.
    pub(super) fn are_open_to(&self, user: &UserId, moderator: Option<&Membership>) -> bool {
        self.changes.iter().all(|change| match &change.author {
            Some(author) if author == user => true,
            Some(_) => change.deletes && moderator.is_some_and(|membership| membership.sees(change.place.seq)),
            None => false,
        })
    }
}

impl Append {
    /// Looks for everything that an envelope changes.
    pub(super) async fn find_targets(&self, envelope: &Envelope) -> Result<Targets, Trouble> {
        let mut targets = Targets { changes: Vec::new(), there: BTreeMap::new() };
        for message in &envelope.messages {
            let Some(place) = message.target() else { continue };
            let found = self.find(&envelope.conversation, place).await?;
            let author = found.and_then(|(cell, index)| {
                let file = FileId::of(&envelope.conversation, &cell.by.user, &cell.messages[index]);
                targets.there.insert(place, Target { cell: cell.seq, index, file });
                let kept = self.settings.retention.keeps(cell.at, self.clock.now_ms());
                (kept && cell.messages[index].is_text()).then_some(cell.by.user)
            });
            targets.changes.push(Change { place, deletes: message.deletes.is_some(), author });
        }
        Ok(targets)
    }

    /// The cell that a message is in, and its position there.
    async fn find(&self, conversation: &ConversationId, place: MessagePlace) -> Result<Option<(Cell, usize)>, Trouble> {
        let Some(Slot::Cell(cell)) = self.log.before(conversation, place.seq, 1).await?.slots.pop() else {
            return Ok(None);
        };
        let index = place.seq.get().checked_sub(cell.seq.get()).and_then(|index| usize::try_from(index).ok());
        let index = index.filter(|index| cell.messages.get(*index).is_some_and(|message| message.id == place.id));
        Ok(index.map(|index| (cell, index)))
    }

    /// The messages of an envelope as they are to be written at a place. Every edit is registered there first; if what
    /// it edits is deleted, or is deleted by this very envelope, it comes without its text.
    pub(super) async fn register(&self, attempt: &Attempt<'_>, place: Seq) -> Result<Vec<Message>, Failure> {
        let Attempt { envelope, targets, .. } = attempt;
        let mut messages = envelope.messages.clone();
        for message in &mut messages {
            let Some(target) = message.edits else { continue };
            let registered = match targets.there.get(&target) {
                _ if envelope.messages.iter().any(|other| other.deletes == Some(target)) => Registered::Redacted,
                Some(Target { cell, index, .. }) => {
                    self.log.register(&envelope.conversation, *cell, *index, place).await?
                }
                None => Registered::Gone,
            };
            match registered {
                Registered::Intact => {}
                Registered::Redacted => *message = message.clone().redacted(),
                // It may have been deleted before it was gone: nobody can tell any more.
                Registered::Gone => return Err(no_target().into()),
            }
        }
        Ok(messages)
    }

    /// After this nothing of what a cell deletes is in the log, and nothing of it will come there.
    pub(super) async fn redact(&self, attempt: &Attempt<'_>, cell: &Cell) -> Result<(), Failure> {
        let conversation = &attempt.envelope.conversation;
        for target in cell.messages.iter().filter_map(|message| message.deletes) {
            let Some(Target { cell, index, file }) = attempt.targets.there.get(&target) else { continue };
            // First, as long as the message says which.
            if let Some(file) = file {
                self.files.remove(file).await?;
            }
            let edits = self.log.redact(conversation, *cell, *index).await?;
            stream::iter(edits.into_iter().map(Ok))
                .try_for_each_concurrent(AT_ONCE, |place| self.redact_edits(conversation, target, place))
                .await?;
        }
        Ok(())
    }

    /// Redacts the edits of a message that are at a place, or sees to it that nothing comes there.
    async fn redact_edits(
        &self,
        conversation: &ConversationId,
        target: MessagePlace,
        place: Seq,
    ) -> Result<(), Failure> {
        let Decided::Written(Slot::Cell(cell)) = self.decide(conversation, place).await? else { return Ok(()) };
        for (index, message) in cell.messages.iter().enumerate() {
            if message.edits == Some(target) && !message.deleted {
                self.log.redact(conversation, place, index).await?;
            }
        }
        Ok(())
    }
}

pub(super) fn no_target() -> Refusal {
    Refusal::new(Code::NoTarget, "there is no such message that this user may change")
}
