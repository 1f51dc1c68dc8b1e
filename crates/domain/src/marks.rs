//! Watermarks: how far devices have stored and people have read. They only move forward, and never pass the head.

use std::sync::Arc;

use poste_protocol::{Author, Code, ConversationId, Mark, Refusal, Seq};

use crate::{
    Failure,
    cache::Cache,
    ports::{Clock, Courier, Heads, Marks, News, Parcel},
    roll::Roll,
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
    /// Head and roster.
    known: Cache<ConversationId, (Seq, Seq)>,
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
        let known = self.roll.require(&mark.conversation, &author.user).await?;
        let furthest = mark.delivered.unwrap_or(Seq::ZERO);
        let (head, roster) = self.head(&mark.conversation, furthest).await?;
        // Who was in has a last number, as in pages. Every event up to the head is at or before the roster.
        let known = if mark.conversation.is_group() {
            self.roll.as_of(&mark.conversation, &author.user, roster).await?.unwrap_or(known)
        } else {
            known
        };
        if furthest > known.member.membership.end().unwrap_or(head).min(head) {
            return Err(Refusal::new(Code::BadFrame, "a mark beyond the last number").into());
        }
        let advance = self.marks.advance(author, &mark).await?;
        // A repeat is told again: the attempt before may have failed between the mark and the telling.
        if advance.moved || advance.repeat {
            // Every event up to the mark is at or before that roster: whom one of them removed does not hear of it.
            let roster = self.applied(&mark.conversation, roster).await?;
            let (conversation, from) = (mark.conversation, author.clone());
            let parcel = Parcel { conversation, roster, from, part: None, news: News::Mark(advance.mark) };
            self.courier.publish(&parcel).await?;
        }
        Ok(())
    }

    /// The head, at least as far as `needed` if it is that far, and its roster.
    async fn head(&self, conversation: &ConversationId, needed: Seq) -> Result<(Seq, Seq), Failure> {
        let now = self.clock.now_ms();
        if let Some(known) = self.known.get(conversation, now).filter(|(head, _)| *head >= needed) {
            return Ok(known);
        }
        let known = self.heads.head(conversation).await?.map_or_else(Default::default, |head| (head.head, head.roster));
        self.known.put(conversation.clone(), known, now);
        Ok(known)
    }

    /// The event that is applied by now, of a group.
    async fn applied(&self, conversation: &ConversationId, roster: Seq) -> Result<Seq, Failure> {
        if !conversation.is_group() {
            return Ok(Seq::ZERO);
        }
        Ok(self.roll.settle(conversation, roster).await?.applied)
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
