//! One turn of the engine: the open transaction, the time, and what is to be told when it is committed.

use std::collections::{BTreeMap, BTreeSet};

use poste_protocol::{ConversationId, MessageId};

use super::{Now, Output, clock};
use crate::store::{Reading, Tx};
use crate::{Connection, Event, StoreError};

pub(super) struct Turn<'a> {
    pub(super) tx: Tx<'a>,
    pub(super) now: Now,
    /// The device's own time, by which messages wait.
    pub(super) time: u64,
    /// Connect, disconnect, frames: in the order in which they are to be done.
    pub(super) outputs: Vec<Output>,
    pub(super) connection: Option<Connection>,
    /// What was heard of presence and typing.
    pub(super) signs: Vec<Event>,
    /// Messages by local number; `true` for those that are new.
    messages: BTreeMap<i64, bool>,
    removed: Vec<(ConversationId, MessageId)>,
    conversations: BTreeSet<ConversationId>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(tx: Tx<'a>, now: Now) -> Result<Self, StoreError> {
        let last = tx.clock()?;
        let turn = Self {
            time: clock::time(last.as_ref(), now),
            tx,
            now,
            outputs: Vec::new(),
            connection: None,
            signs: Vec::new(),
            messages: BTreeMap::new(),
            removed: Vec::new(),
            conversations: BTreeSet::new(),
        };
        if clock::is_outdated(last.as_ref(), now) {
            turn.note_clock()?;
        }
        Ok(turn)
    }

    /// Notes what the clocks say, for the case that the device is switched off. Costs nothing where something is
    /// written anyway.
    pub(super) fn note_clock(&self) -> Result<(), StoreError> {
        let Now { wall, boot, since_boot, .. } = self.now;
        self.tx.note_clock(&Reading { time: self.time, boot, since_boot, wall })
    }

    pub(super) fn added(&mut self, local: i64) {
        self.messages.insert(local, true);
    }

    /// What was added is history, and no news: it is not told message by message.
    pub(super) fn forget_added(&mut self) {
        self.messages.retain(|_, new| !*new);
    }

    pub(super) fn updated(&mut self, locals: impl IntoIterator<Item = i64>) {
        for local in locals {
            self.messages.entry(local).or_insert(false);
        }
    }

    /// Tells of messages, once they are up to date with what changes them; and of what changes, of what it changes.
    pub(super) fn refresh(&mut self, locals: impl IntoIterator<Item = i64>) -> Result<(), StoreError> {
        for local in locals {
            self.updated([local]);
            let refreshed = self.tx.refresh(local)?;
            self.updated(refreshed);
        }
        Ok(())
    }

    pub(super) fn removed(&mut self, conversation: &ConversationId, id: MessageId) {
        self.removed.push((conversation.clone(), id));
    }

    pub(super) fn conversation_changed(&mut self, id: &ConversationId) {
        if !self.conversations.contains(id) {
            self.conversations.insert(id.clone());
        }
    }

    /// Commits, and only then lets anything out.
    pub(super) fn finish(mut self) -> Result<Vec<Output>, StoreError> {
        let mut events = Vec::new();
        if let Some(state) = self.connection {
            events.push(Event::Connection { state });
        }
        for (local, new) in &self.messages {
            // A change is told of by what it changes.
            if let Some(message) = self.tx.message(*local)?.filter(|message| message.change.is_none()) {
                events.push(if *new { Event::Added { message } } else { Event::Updated { message } });
            }
        }
        events.extend(self.removed.drain(..).map(|(conversation, id)| Event::Removed { conversation, id }));
        for id in &self.conversations {
            if let Some(conversation) = self.tx.conversation_view(id)? {
                events.push(Event::Conversation { conversation });
            }
        }
        events.append(&mut self.signs);
        self.tx.commit()?;
        self.outputs.extend(events.into_iter().map(Output::Event));
        Ok(self.outputs)
    }
}
