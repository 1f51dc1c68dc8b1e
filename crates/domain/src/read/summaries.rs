//! Conversations at a glance.
//!
//! Heads are read first. A group whose head names an event that is not applied has it applied then; and what is noted of
//! the user is read after that. So a user who was removed is told of nothing after it.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use poste_protocol::{Author, ConversationId, GroupSummary, List, ListPage, MemberMark, Seq, Summary, limits};

use super::Read;
use crate::{
    Failure, Member,
    ports::{Belonging, Group, Head, UserMarks},
};

/// Groups whose last event is applied at once.
const SETTLED_AT_ONCE: usize = 8;

impl Read {
    /// The user's conversations, a page of them.
    ///
    /// # Errors
    /// Trouble with a part.
    pub async fn list(&self, author: &Author, request: &List) -> Result<ListPage, Failure> {
        let most = u32::try_from(limits::LIST).unwrap_or(u32::MAX);
        let mine = self.members.conversations(&author.user, request.after.as_ref(), most).await?;
        let ids: Vec<_> = mine.conversations.iter().map(|b| b.conversation.clone()).collect();
        let keys: Vec<_> = mine
            .conversations
            .iter()
            .flat_map(|b| {
                let users = std::iter::once(&author.user).chain(b.peer.as_ref().filter(|peer| **peer != author.user));
                users.map(|user| (b.conversation.clone(), user.clone()))
            })
            .collect();
        let me = std::slice::from_ref(&author.user);
        let (heads, marks, without) =
            futures::try_join!(self.heads.heads(&ids), self.marks.of(&keys), self.members.without_receipts(me))?;
        let receipts_off = !without.is_empty();
        let heads: BTreeMap<_, _> = heads.into_iter().collect();
        let groups = self.groups(author, &heads).await?;
        let now = self.clock.now_ms();
        let next = mine.more.then(|| ids.last().cloned()).flatten();
        let conversations = mine
            .conversations
            .into_iter()
            .filter_map(|belonging| {
                // Without a head nothing was written yet: it is being founded, or its founding was cut short.
                let head = heads.get(&belonging.conversation).filter(|head| head.head > Seq::ZERO)?;
                let of = |(conversation, _): &&(ConversationId, UserMarks)| *conversation == belonging.conversation;
                let told = |marks: &UserMarks| match marks {
                    marks if marks.told.user == author.user => marks.own(),
                    marks if receipts_off => marks.unread(),
                    marks => marks.told.clone(),
                };
                let marks = marks.iter().filter(of).map(|(_, marks)| told(marks)).collect();
                if !belonging.conversation.is_group() {
                    return Some(summary(belonging, head, marks, now));
                }
                let (group, member) = groups.get(&belonging.conversation)?;
                Some(of_group(summary(belonging, head, marks, now), group, member))
            })
            .collect();
        Ok(ListPage { reference: request.reference.clone(), conversations, next, receipts_off })
    }

    /// The groups among these, and what is noted of the user, as of their heads.
    async fn groups(
        &self,
        author: &Author,
        heads: &BTreeMap<ConversationId, Head>,
    ) -> Result<BTreeMap<ConversationId, (Group, Member)>, Failure> {
        let ids: Vec<ConversationId> = heads.keys().filter(|id| id.is_group()).cloned().collect();
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut groups: BTreeMap<_, _> = self.members.groups(&ids).await?.into_iter().collect();
        let behind = ids.iter().filter_map(|id| {
            let applied = groups.get(id).map_or(Seq::ZERO, |group: &Group| group.applied);
            heads.get(id).map(|head| head.roster).filter(|roster| applied < *roster).map(|roster| (id, roster))
        });
        let settling: Vec<_> = behind.map(|(id, roster)| self.settled(id, roster)).collect();
        let settled: Vec<_> = stream::iter(settling).buffer_unordered(SETTLED_AT_ONCE).try_collect().await?;
        groups.extend(settled);
        let keys: Vec<_> = ids.into_iter().map(|id| (id, author.user.clone())).collect();
        let members = self.members.several(&keys).await?;
        Ok(members
            .into_iter()
            .filter_map(|(id, _, member)| Some((id.clone(), (groups.remove(&id)?, member))))
            .collect())
    }
}

impl Read {
    async fn settled(&self, id: &ConversationId, roster: Seq) -> Result<(ConversationId, Group), Failure> {
        Ok((id.clone(), self.roll.settle(id, roster).await?))
    }
}

fn summary(belonging: Belonging, head: &Head, marks: Vec<MemberMark>, now_ms: u64) -> Summary {
    Summary {
        conversation: belonging.conversation,
        peer: belonging.peer,
        group: None,
        head: head.head,
        floor: head.floor(now_ms),
        active_at: head.active_at,
        marks,
    }
}

/// A group's summary, with nothing in it of after the user was last in.
fn of_group(summary: Summary, group: &Group, member: &Member) -> Summary {
    let role = member.role;
    let Some(end) = member.membership.end() else {
        let (title, members, roster) = (group.title.clone(), group.members, group.applied);
        return Summary { group: Some(GroupSummary { title, role, left: false, members, roster }), ..summary };
    };
    let (title, at) = member.left.clone().map_or_else(Default::default, |farewell| (farewell.title, farewell.at));
    Summary {
        group: Some(GroupSummary { title, role, left: true, members: 0, roster: end }),
        head: end,
        floor: summary.floor.min(end),
        active_at: at,
        ..summary
    }
}
