//! The account of somebody who has been here for years: many messages in many conversations, one of them long.

use std::path::Path;

use anyhow::Context;
use poste_client::store::{MarkToSend, Store, Tx};
use poste_protocol::{
    Author, Cell, ConversationId, DeviceId, EnvelopeId, MemberMark, Message, MessageId, Number, Seq, UserId,
};

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    /// Messages.
    pub(crate) messages: u64,
    /// Conversations, at least two.
    pub(crate) conversations: u64,
    /// Messages of the first conversation. The others have the rest between them, in equal parts.
    pub(crate) longest: u64,
}

/// Every tenth conversation has so many messages that were not read yet.
const UNREAD: u64 = 10;
/// How a message reads that is neither short nor long: 100 bytes.
pub(crate) const WORDS: &str =
    "We meet at the station at six, under the clock. Bring the tickets, and something against the rain!!";

/// Whose account it is.
pub(crate) fn me() -> anyhow::Result<Author> {
    Ok(Author { user: UserId::new("alice")?, device: DeviceId::new("phone")? })
}

/// The other of conversation `n`.
pub(crate) fn peer(n: u64) -> anyhow::Result<UserId> {
    Ok(UserId::new(format!("peer-{n}"))?)
}

/// Conversation `n`.
pub(crate) fn conversation(n: u64) -> anyhow::Result<ConversationId> {
    Ok(ConversationId::direct(&me()?.user, &peer(n)?))
}

/// The text of message `n`.
pub(crate) fn body(n: u64) -> String {
    format!("{n}: {WORDS}")
}

/// A cell with these messages.
pub(crate) fn cell(first: Seq, by: Author, number: Number, messages: Vec<Message>) -> Cell {
    Cell { seq: first, envelope: EnvelopeId::fresh(), number, by, at: first.get(), messages }
}

/// A message as it comes from a device.
pub(crate) fn message(n: u64) -> Message {
    Message { written_at: Some(n), ..Message::new(MessageId::fresh(), body(n)) }
}

impl Account {
    /// Makes the account's file: what the library would have after years, all of it acknowledged and marked.
    pub(crate) fn make(&self, path: &Path) -> anyhow::Result<()> {
        let me = me()?;
        let mut store = Store::open(path, &me.user, &me.device)?;
        let each = (self.messages - self.longest) / (self.conversations - 1);
        for n in 0..self.conversations {
            let tx = store.begin()?;
            let length = if n == 0 { self.longest } else { each };
            fill(&tx, &me, n, length).with_context(|| format!("conversation {n}"))?;
            tx.commit()?;
        }
        Ok(())
    }
}

fn fill(tx: &Tx<'_>, me: &Author, n: u64, length: u64) -> anyhow::Result<()> {
    let (id, peer) = (conversation(n)?, peer(n)?);
    tx.know_conversation(&id, Some(&peer))?;
    let theirs = Author { user: peer.clone(), device: DeviceId::new("laptop")? };
    for place in 1..=length {
        // Now one and now the other.
        let by = if place % 2 == 0 { me } else { &theirs };
        let seq = Seq::new(place)?;
        let message = message(place);
        let cell = cell(seq, by.clone(), Number::new(place)?, vec![message.clone()]);
        tx.settle(&id, &me.user, &cell, &message, seq)?;
    }
    let end = Seq::new(length)?;
    let read = Seq::new(if n.is_multiple_of(10) { length.saturating_sub(2 * UNREAD) } else { length })?;
    tx.raise_cursor(&id, end)?;
    tx.raise_head(&id, end, n)?;
    tx.raise_next_number(&id, Number::new(length + 1)?)?;
    tx.raise_delivered(&id, end)?;
    tx.raise_read(&id, read, true)?;
    tx.mark_told(&MarkToSend { conversation: id.clone(), delivered: end, read })?;
    tx.raise_member_mark(&id, &MemberMark { user: peer, device: theirs.device, delivered: end, read: end })?;
    tx.raise_states(&id, &me.user, end, end)?;
    Ok(())
}
