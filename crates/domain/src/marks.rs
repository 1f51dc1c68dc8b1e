//! Watermarks: how far devices have stored and people have read. They only move forward, and never pass the head.

use std::sync::Arc;

use poste_protocol::{Author, Code, ConversationId, Mark, Refusal, Seq};

use crate::{
    Failure,
    cache::Cache,
    membership::Roll,
    ports::{Clock, Courier, Heads, Marks, News, Parcel},
};

/// Heads that a function remembers. A head only grows, so an old one is a safe bound: it is good for ever.
const CACHE_ENTRIES: usize = 10_000;

/// Takes marks.
pub struct Marking {
    heads: Arc<dyn Heads>,
    marks: Arc<dyn Marks>,
    courier: Arc<dyn Courier>,
    roll: Roll,
    clock: Arc<dyn Clock>,
    known: Cache<ConversationId, Seq>,
}

impl Marking {
    /// On these ports. The roll may be shared with others.
    pub fn new(
        heads: Arc<dyn Heads>,
        marks: Arc<dyn Marks>,
        courier: Arc<dyn Courier>,
        roll: Roll,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { heads, marks, courier, roll, clock, known: Cache::new(CACHE_ENTRIES, u64::MAX) }
    }

    /// Moves a device's marks forward and tells the others, if there is something to tell.
    ///
    /// # Errors
    /// `not_member`; `bad_frame` for a mark beyond the head; trouble with a part: the same again is safe.
    pub async fn mark(&self, author: &Author, mark: &Mark) -> Result<(), Failure> {
        let mark = checked(mark)?;
        self.roll.require(&mark.conversation, &author.user).await?;
        let furthest = mark.delivered.unwrap_or(Seq::ZERO);
        if furthest > self.head(&mark.conversation, furthest).await? {
            return Err(Refusal::new(Code::BadFrame, "a mark beyond the last number").into());
        }
        let advance = self.marks.advance(author, &mark).await?;
        // A repeat is told again: the attempt before may have failed between the mark and the telling.
        if advance.moved || advance.repeat {
            let parcel =
                Parcel { conversation: mark.conversation, from: author.clone(), news: News::Mark(advance.mark) };
            self.courier.publish(&parcel).await?;
        }
        Ok(())
    }

    /// The head, at least as far as `needed` if it is that far.
    async fn head(&self, conversation: &ConversationId, needed: Seq) -> Result<Seq, Failure> {
        let now = self.clock.now_ms();
        if let Some(known) = self.known.get(conversation, now).filter(|known| *known >= needed) {
            return Ok(known);
        }
        let head = self.heads.head(conversation).await?.map_or(Seq::ZERO, |head| head.head);
        self.known.put(conversation.clone(), head, now);
        Ok(head)
    }
}

/// A mark that says something, with what it implies: what was read was delivered.
fn checked(mark: &Mark) -> Result<Mark, Refusal> {
    let delivered = mark.delivered.max(mark.read);
    if delivered.is_none() {
        return Err(Refusal::new(Code::BadFrame, "a mark needs `delivered` or `read`"));
    }
    Ok(Mark { delivered, ..mark.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_was_delivered() {
        let mark = |delivered: Option<u64>, read: Option<u64>| {
            let seq = |n| Seq::ZERO.plus(n);
            let conversation = ConversationId::new("c").expect("valid");
            checked(&Mark { conversation, delivered: delivered.map(seq), read: read.map(seq) })
                .map(|m| (m.delivered.map(Seq::get), m.read.map(Seq::get)))
                .ok()
        };
        assert_eq!(mark(Some(3), None), Some((Some(3), None)));
        assert_eq!(mark(None, Some(4)), Some((Some(4), Some(4))));
        assert_eq!(mark(Some(3), Some(4)), Some((Some(4), Some(4))));
        assert_eq!(mark(Some(9), Some(4)), Some((Some(9), Some(4))));
        assert_eq!(mark(None, None), None);
    }
}
