//! Watermarks: how far devices have stored and people have read. They only move forward, and never pass the head.
//!
//! A mark is relayed to every member of the conversation, unless it is a group with many: there as many marks as members
//! would come of each message, and each would go to all of them. Then it goes to the user's other devices only, and who
//! wants to know how far others are asks for it.

use std::{pin::pin, sync::Arc};

use futures::future::{self, Either};

use poste_protocol::{Author, Code, ConversationId, Mark, MarkResult, MemberMark, Refusal, Seq, limits};

use crate::{
    Failure, MEASURED, Trouble,
    cache::Cache,
    ports::{Advance, Audience, Clock, Courier, Heads, Marks, Members, News, Parcel},
    roll::Roll,
};

/// Heads that a function remembers. A head only grows, so an old one is a safe bound: it is good for ever.
const CACHE_ENTRIES: usize = 10_000;

/// Marks that ride along with envelopes do not hold up what was written for longer than this, in milliseconds: they take
/// as many calls one after the other as that, and so are ready when it is, unless one of them is slow.
const PATIENCE_MS: u64 = 100;

/// Takes marks.
pub struct Marking {
    heads: Arc<dyn Heads>,
    marks: Arc<dyn Marks>,
    members: Arc<dyn Members>,
    courier: Arc<dyn Courier>,
    roll: Roll,
    clock: Arc<dyn Clock>,
    /// Groups of more members have their marks relayed to nobody but the user's own devices.
    relayed: u64,
    /// Head and roster.
    known: Cache<ConversationId, (Seq, Seq)>,
}

impl Marking {
    /// On these ports. The roll may be shared with others.
    pub fn new(
        heads: Arc<dyn Heads>,
        marks: Arc<dyn Marks>,
        members: Arc<dyn Members>,
        courier: Arc<dyn Courier>,
        roll: Roll,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (relayed, known) = (limits::MARKS_RELAYED, Cache::new(CACHE_ENTRIES, u64::MAX));
        Self { heads, marks, members, courier, roll, clock, relayed, known }
    }

    /// Relays marks to the members of groups of at most so many, instead of [`limits::MARKS_RELAYED`].
    #[must_use]
    pub fn relaying_in_groups_of(self, members: u64) -> Self {
        Self { relayed: members, ..self }
    }

    /// Holds a mark against what is in the log and what its user may know of. Gives what it says in full, and the roster
    /// as of which it may.
    ///
    /// # Errors
    /// `not_member`; `bad_frame` for a mark beyond the head; trouble with a part: the same again is safe.
    async fn check(&self, author: &Author, mark: &Mark) -> Result<(Mark, Seq), Failure> {
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
        Ok((mark, roster))
    }

    /// Moves a device's marks forward. Gives what the others are to be told, if there is something to tell.
    ///
    /// # Errors
    /// Trouble with a part: the same again is safe.
    async fn advance(&self, author: &Author, mark: Mark, roster: Seq, receipts: bool) -> Result<Vec<Parcel>, Failure> {
        let advance = self.marks.advance(author, &mark, receipts).await?;
        let advanced = advance.after.own().delivered.get().saturating_sub(advance.before.own().delivered.get());
        tracing::info!(target: MEASURED, metric = "marks", taken = 1_u64, advanced);
        // A repeat is told again: the attempt before may have failed between the mark and the telling.
        if !advance.moved() && !advance.repeat {
            return Ok(Vec::new());
        }
        // Every event up to the mark is at or before that roster: whom one of them removed does not hear of it.
        let (roster, audience) = self.hearers(&mark.conversation, roster).await?;
        let parcel = |(audience, only_read, told)| Parcel {
            audience,
            only_read,
            ..Parcel::of(author, &mark.conversation, roster, News::Mark(told))
        };
        Ok(news(&advance, audience).into_iter().map(parcel).collect())
    }

    /// Notes whether a user gives and gets read receipts. Says what holds: who has decided later is heard.
    ///
    /// # Errors
    /// Trouble with a part: the same again is safe.
    pub async fn set_receipts(&self, author: &Author, on: bool) -> Result<bool, Failure> {
        Ok(self.members.set_receipts(&author.user, on, self.clock.now_ms()).await?)
    }

    /// Whether others are told what the user has read by these marks. Never remembered: what was switched off is off from
    /// the moment at which that was confirmed.
    async fn receipts(&self, author: &Author, marks: &[Mark]) -> Result<bool, Trouble> {
        if marks.iter().all(|mark| mark.read.is_none()) {
            return Ok(true);
        }
        Ok(self.members.without_receipts(std::slice::from_ref(&author.user)).await?.is_empty())
    }

    /// Takes several marks, each with a result of its own, and tells the others.
    pub async fn all(&self, author: &Author, marks: &[Mark]) -> Vec<MarkResult> {
        let taken = self.take(author, marks).await;
        future::join_all(taken.into_iter().map(|taken| self.tell(taken))).await
    }

    /// Takes several marks. What the others are to be told of each is left to the caller.
    async fn take(&self, author: &Author, marks: &[Mark]) -> Vec<Taken> {
        let checks = future::join_all(marks.iter().map(|mark| self.check(author, mark)));
        let (receipts, checked) = future::join(self.receipts(author, marks), checks).await;
        let taken = marks.iter().zip(checked).map(|(mark, checked)| async {
            let news = match (checked, &receipts) {
                (Ok((mark, roster)), Ok(receipts)) => self.advance(author, mark, roster, *receipts).await,
                (Err(failure), _) => Err(failure),
                (_, Err(trouble)) => Err(trouble.clone().into()),
            };
            Taken { conversation: mark.conversation.clone(), news: news.map_err(Failure::into_refusal) }
        });
        future::join_all(taken).await
    }

    /// Tells the others of a mark that was taken.
    pub(crate) async fn tell(&self, taken: Taken) -> MarkResult {
        let Taken { conversation, news } = taken;
        let told = async {
            for parcel in news? {
                self.courier.publish(&parcel).await.map_err(|trouble| Failure::from(trouble).into_refusal())?;
            }
            Ok(())
        };
        MarkResult { conversation, error: told.await.err() }
    }

    /// Takes marks that ride along with other work. They do not hold it up for long: those that are not taken soon after
    /// it is done are told to be tried again.
    pub async fn beside<T>(&self, author: &Author, marks: &[Mark], work: impl Future<Output = T>) -> (T, Vec<Taken>) {
        if marks.is_empty() {
            return (work.await, Vec::new());
        }
        match future::select(pin!(work), pin!(self.take(author, marks))).await {
            Either::Right((taken, work)) => (work.await, taken),
            Either::Left((done, taken)) => match future::select(taken, self.clock.pause(PATIENCE_MS)).await {
                Either::Left((taken, _)) => (done, taken),
                Either::Right(_) => (done, marks.iter().map(not_in_time).collect()),
            },
        }
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

    /// Who hears of marks, and as of which event that is applied by now.
    async fn hearers(&self, conversation: &ConversationId, roster: Seq) -> Result<(Seq, Audience), Failure> {
        if !conversation.is_group() {
            return Ok((Seq::ZERO, Audience::Everyone));
        }
        let group = self.roll.settle(conversation, roster).await?;
        let audience = if group.members > self.relayed { Audience::Own } else { Audience::Everyone };
        Ok((group.applied, audience))
    }
}

/// Who hears what of an advance. While the user gives no read receipts, others hear less than their own devices, and
/// nothing at all if nothing else has moved.
fn news(advance: &Advance, audience: Audience) -> Vec<(Audience, bool, MemberMark)> {
    let Advance { before, after, repeat } = advance;
    let delivered_moved = after.told.delivered > before.told.delivered;
    let told_moved = delivered_moved || after.told.read > before.told.read;
    let only_read = !delivered_moved && !repeat;
    if after.own() == after.told {
        return vec![(audience, only_read, after.told.clone())];
    }
    let mut news = vec![(Audience::Own, false, after.own())];
    if audience == Audience::Everyone && (told_moved || *repeat) {
        news.push((Audience::Others, only_read, after.told.clone()));
    }
    news
}

/// What became of a mark.
#[derive(Debug)]
pub struct Taken {
    /// Where.
    pub conversation: ConversationId,
    /// What the others are to be told. Its device may be told that it was taken when that is queued, and not before.
    pub news: Result<Vec<Parcel>, Refusal>,
}

fn not_in_time(mark: &Mark) -> Taken {
    let no = Refusal::new(Code::Unavailable, "it took too long");
    Taken { conversation: mark.conversation.clone(), news: Err(no) }
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
