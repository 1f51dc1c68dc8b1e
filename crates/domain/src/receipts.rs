//! Who has stored and read a message, for who asks.
//!
//! A page is one query of the marks. Beside it only who is in is looked at, which is remembered for a few seconds.

use std::{collections::HashMap, sync::Arc};

use poste_protocol::{Author, ConversationId, MarksFrame, MarksPage, Seq, UserMark, limits};

use crate::{
    Failure, Membership, Retention,
    membership::not_member,
    ports::{Clock, Heads, Log, Marks, Members, UserMarks},
    roll::Roll,
    roster::Rosters,
};

/// Answers who asks.
pub struct Receipts {
    heads: Arc<dyn Heads>,
    marks: Arc<dyn Marks>,
    members: Arc<dyn Members>,
    rosters: Rosters,
    roll: Roll,
}

impl Receipts {
    /// On these ports.
    pub fn new(
        heads: Arc<dyn Heads>,
        log: Arc<dyn Log>,
        members: Arc<dyn Members>,
        marks: Arc<dyn Marks>,
        clock: Arc<dyn Clock>,
        retention: Retention,
    ) -> Self {
        let roll = Roll::new(heads.clone(), log, members.clone(), clock.clone(), retention);
        Self { heads, marks, rosters: Rosters::new(members.clone(), clock), members, roll }
    }

    /// How far those are who are in and see the place that is asked about, a page of them. Of each mark it is told up to
    /// where who asks sees the log; and nothing, where they do not see the place.
    ///
    /// # Errors
    /// `not_member` for whoever is not in; trouble with a part.
    pub async fn page(&self, author: &Author, frame: &MarksFrame) -> Result<MarksPage, Failure> {
        let MarksFrame { reference, conversation, seq, after } = frame;
        let (mine, applied) = self.asker(author, conversation).await?;
        let roster = self.rosters.of(conversation, applied).await?;
        let seeing: HashMap<_, _> = roster
            .members
            .iter()
            .map(|(user, member)| (user, &member.membership))
            .filter(|(_, membership)| membership.is_open() && membership.sees(*seq) && mine.sees(*seq))
            .collect();
        let most = u32::try_from(limits::MEMBERS).unwrap_or(u32::MAX);
        let slice = self.marks.slice(conversation, after.as_ref(), most).await?;
        let next = slice.more.then(|| slice.marks.last().map(|marks| marks.told.user.clone())).flatten();
        let gets = self.members.without_receipts(std::slice::from_ref(&author.user)).await?.is_empty();
        let told = |marks: UserMarks| match marks {
            marks if marks.told.user == author.user => marks.own(),
            marks if gets => marks.told,
            marks => marks.unread(),
        };
        let seen = |upto: Seq| mine.last_seen(upto).unwrap_or(Seq::ZERO);
        let marks = slice
            .marks
            .into_iter()
            .filter(|marks| seeing.contains_key(&marks.told.user))
            .map(told)
            .map(|mark| UserMark { user: mark.user, delivered: seen(mark.delivered), read: seen(mark.read) })
            .collect();
        Ok(MarksPage { reference: reference.clone(), conversation: conversation.clone(), seq: *seq, marks, next })
    }

    /// The membership of who asks, and the event that it is as of, which is applied.
    async fn asker(&self, author: &Author, conversation: &ConversationId) -> Result<(Membership, Seq), Failure> {
        let (known, applied) = if conversation.is_group() {
            let head = self.heads.head(conversation).await?.ok_or_else(not_member)?;
            let applied = self.roll.settle(conversation, head.roster).await?.applied;
            (self.roll.as_of(conversation, &author.user, head.roster).await?, applied)
        } else {
            (self.roll.find(conversation, &author.user).await?, Seq::ZERO)
        };
        let membership = known.map(|known| known.member.membership).filter(Membership::is_open);
        Ok((membership.ok_or_else(not_member)?, applied))
    }
}
