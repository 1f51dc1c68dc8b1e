//! Conversations at a glance.
//!
//! Of each conversation the head is read, by its key and with others in a batch, whatever its log holds: by the heads the
//! list is put into its order. What else is told of one is read when its turn has come, and in batches, too. Only the
//! last message, where it is asked for, is a short look into a log.
//!
//! Heads are read first. A group whose head names an event that is not applied has it applied then; and what is noted of
//! the user is read after that. So a user who was removed is told of nothing after it, and takes their place in the list
//! by when they were last in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use futures::{StreamExt, TryStreamExt, stream};
use poste_protocol::{Author, ConversationId, GroupSummary, ListPlace, MemberMark, Preview, Seq, Summary, limits};

use super::Read;
use crate::{
    Failure, Member, Membership,
    ports::{Belonging, Group, Head, Slot, UserMarks},
};

/// Groups whose last event is applied at once.
const SETTLED_AT_ONCE: usize = 8;

/// Keys that are read in one call, and calls at once.
const BATCH: usize = 100;
const BATCHES_AT_ONCE: usize = 4;

/// Logs that are looked into at once for their last messages.
const PREVIEWED_AT_ONCE: usize = 16;

/// Slots that are looked at for a last message: at first, and if it is not among these.
const LOOKS: [u32; 2] = [2, 8];

/// A user's conversations, in the order of the list.
pub(crate) struct Listing {
    pub(crate) listed: Vec<Listed>,
    pub(crate) receipts_off: bool,
    /// The part of the user's conversations that this is about begins after this one.
    part: Option<ConversationId>,
    /// The last of the part, if there are more after it.
    next_part: Option<ConversationId>,
}

/// A conversation that is to be told of.
pub(crate) struct Listed {
    belonging: Belonging,
    head: Head,
    group: Option<(Group, Member)>,
}

/// What is told of a conversation.
pub(crate) struct Told {
    pub(crate) summary: Summary,
    /// How many numbers the device has not marked as stored. Those that the user wrote themselves may be among them.
    pub(crate) behind: u64,
}

impl Listing {
    /// Where the list goes on after so many of these.
    pub(crate) fn next(&self, told: usize) -> Option<ListPlace> {
        if told < self.listed.len() {
            let last = self.listed.get(told.checked_sub(1)?)?;
            let (active_at, conversation) = (last.active_at(), last.belonging.conversation.clone());
            return Some(ListPlace { active_at, conversation, part: self.part.clone() });
        }
        let part = self.next_part.clone()?;
        Some(ListPlace { active_at: limits::INTEGER, conversation: part.clone(), part: Some(part) })
    }
}

impl Listed {
    /// When somebody last wrote, as far as the user may know.
    fn active_at(&self) -> u64 {
        match &self.group {
            Some((_, member)) if !member.membership.is_open() => member.left.as_ref().map_or(0, |left| left.at),
            _ => self.head.active_at,
        }
    }

    fn place(&self) -> (Reverse<u64>, &ConversationId) {
        (Reverse(self.active_at()), &self.belonging.conversation)
    }

    /// How many numbers the user sees after this one and after the floor.
    fn seen_after(&self, after: Seq, floor: Seq) -> u64 {
        let (after, head) = (after.max(floor), self.last_seen());
        match &self.group {
            Some((_, member)) => member.membership.seen_between(after, head),
            None => head.get().saturating_sub(after.get()),
        }
    }

    fn summary(&self, marks: Vec<MemberMark>, unread: u64, floor: Seq) -> Summary {
        let head = self.last_seen();
        Summary {
            conversation: self.belonging.conversation.clone(),
            peer: self.belonging.peer.clone(),
            group: self.group.as_ref().map(|(group, member)| of_group(group, member)),
            head,
            floor,
            active_at: self.active_at(),
            marks,
            unread,
            last: None,
        }
    }

    /// The last number that the user is told of.
    fn last_seen(&self) -> Seq {
        let end = self.group.as_ref().and_then(|(_, member)| member.membership.end());
        end.unwrap_or(self.head.head)
    }
}

impl Read {
    /// The user's conversations after a place of the list, in its order. One query, and as many batched key reads as there
    /// are hundreds of conversations; of groups three times as many.
    ///
    /// # Errors
    /// Trouble with a part.
    pub(crate) async fn listing(&self, author: &Author, after: Option<&ListPlace>) -> Result<Listing, Failure> {
        let part = after.and_then(|place| place.part.clone());
        let most = u32::try_from(limits::LISTED).unwrap_or(u32::MAX);
        let mine = self.members.conversations(&author.user, part.as_ref(), most).await?;
        let next_part = mine.conversations.last().filter(|_| mine.more).map(|last| last.conversation.clone());
        let ids: Vec<_> = mine.conversations.iter().map(|b| b.conversation.clone()).collect();
        let me = std::slice::from_ref(&author.user);
        let heads = in_batches(&ids, |ids| async move { Ok(self.heads.heads(&ids).await?) });
        let without = async { Ok::<_, Failure>(self.members.without_receipts(me).await?) };
        let (heads, without) = futures::try_join!(heads, without)?;
        let mut heads: BTreeMap<_, _> = heads.into_iter().collect();
        // Without a head nothing was written yet: it is being founded, or its founding was cut short.
        heads.retain(|_, head| head.head > Seq::ZERO);
        let mut groups = self.groups(author, &heads).await?;
        let listed = mine.conversations.into_iter().filter_map(|belonging| {
            let head = heads.remove(&belonging.conversation)?;
            let group = groups.remove(&belonging.conversation);
            (group.is_some() || !belonging.conversation.is_group()).then_some(Listed { belonging, head, group })
        });
        let is_next = |listed: &Listed| {
            after.is_none_or(|after| listed.place() > (Reverse(after.active_at), &after.conversation))
        };
        let mut listed: Vec<_> = listed.filter(is_next).collect();
        listed.sort_by(|a, b| a.place().cmp(&b.place()));
        Ok(Listing { listed, receipts_off: !without.is_empty(), part, next_part })
    }

    /// What is told of some conversations of a list; with the last messages of the first of them. The marks are a batched
    /// key read, and each last message one or two short looks into the log.
    ///
    /// # Errors
    /// Trouble with a part. A last message that cannot be read is left out.
    pub(crate) async fn summaries(
        &self,
        author: &Author,
        listed: &[Listed],
        receipts_off: bool,
        previews: usize,
    ) -> Result<Vec<Told>, Failure> {
        let key = |listed: &Listed| {
            let Belonging { conversation, peer } = &listed.belonging;
            let users = std::iter::once(&author.user).chain(peer.as_ref().filter(|peer| **peer != author.user));
            users.map(|user| (conversation.clone(), user.clone())).collect::<Vec<_>>()
        };
        let keys: Vec<_> = listed.iter().flat_map(key).collect();
        let marks = async { Ok::<_, Failure>(self.marks.of(&keys).await?) };
        let first = &listed[..previews.min(listed.len())];
        let (marks, mut last) = futures::try_join!(marks, self.last_messages(author, first))?;
        let now_ms = self.clock.now_ms();
        let summary = |listed: &Listed| {
            let of = |(conversation, _): &&(ConversationId, UserMarks)| *conversation == listed.belonging.conversation;
            let marks: Vec<_> = marks.iter().filter(of).map(|(_, marks)| marks).collect();
            let own = marks.iter().find(|marks| marks.told.user == author.user);
            let told = |marks: &&UserMarks| match *marks {
                marks if marks.told.user == author.user => marks.own(),
                marks if receipts_off => marks.unread(),
                marks => marks.told.clone(),
            };
            let floor = listed.head.floor(now_ms).min(listed.last_seen());
            let stored = own.and_then(|own| own.devices.get(&author.device)).copied();
            let behind = listed.seen_after(stored.unwrap_or(Seq::ZERO), floor);
            let unread = listed.seen_after(own.map_or(Seq::ZERO, |own| own.read), floor);
            let summary = listed.summary(marks.iter().map(told).collect(), unread, floor);
            let last = last.remove(&summary.conversation).filter(|last| last.seq > floor);
            Told { summary: Summary { last, ..summary }, behind }
        };
        Ok(listed.iter().map(summary).collect())
    }

    async fn last_messages(
        &self,
        author: &Author,
        listed: &[Listed],
    ) -> Result<HashMap<ConversationId, Preview>, Failure> {
        let plain = listed.iter().filter(|listed| listed.group.is_none());
        let keys: Vec<_> = plain.map(|listed| (listed.belonging.conversation.clone(), author.user.clone())).collect();
        let members = if keys.is_empty() { Vec::new() } else { self.members.several(&keys).await? };
        let members: HashMap<_, _> = members.into_iter().map(|(id, _, member)| (id, member)).collect();
        let looks: Vec<_> = listed
            .iter()
            .filter_map(|listed| {
                let id = &listed.belonging.conversation;
                let member = listed.group.as_ref().map(|(_, member)| member).or_else(|| members.get(id))?;
                Some(self.last_message(id, &member.membership, listed.last_seen()))
            })
            .collect();
        Ok(stream::iter(looks).buffer_unordered(PREVIEWED_AT_ONCE).filter_map(std::future::ready).collect().await)
    }

    /// The last message up to a number that a user sees, if it is among the next few slots. Changes are none, and a long
    /// one is not shown.
    async fn last_message(
        &self,
        id: &ConversationId,
        membership: &Membership,
        upto: Seq,
    ) -> Option<(ConversationId, Preview)> {
        let mut from = membership.last_seen(upto)?;
        for look in LOOKS {
            let found = match self.log.before(id, from, look).await {
                Ok(found) => found,
                Err(trouble) => {
                    tracing::warn!(%trouble, "a last message is left out of a list");
                    return None;
                }
            };
            let now_ms = self.clock.now_ms();
            for slot in &found.slots {
                from = slot.seq().back();
                let Slot::Cell(cell) = slot else { continue };
                if !membership.sees(cell.seq) {
                    continue;
                }
                if !self.retention.keeps(cell.at, now_ms) {
                    return None;
                }
                let messages = cell.numbered().filter(|(_, message)| message.edits.or(message.deletes).is_none());
                if let Some((seq, message)) = messages.last() {
                    let (by, at, mut message) = (cell.by.clone(), cell.at, message.clone());
                    // A glance needs no picture.
                    message.media.iter_mut().for_each(|media| media.thumbnail = None);
                    let bytes = serde_json::to_string(&message).map_or(usize::MAX, |json| json.len());
                    let fits = bytes <= limits::PREVIEW_BYTES;
                    return fits.then(|| (id.clone(), Preview { seq, by, at, message }));
                }
            }
            if found.end {
                return None;
            }
        }
        None
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
        let groups = in_batches(&ids, |ids| async move { Ok(self.members.groups(&ids).await?) }).await?;
        let mut groups: BTreeMap<_, _> = groups.into_iter().collect();
        let behind = ids.iter().filter_map(|id| {
            let applied = groups.get(id).map_or(Seq::ZERO, |group: &Group| group.applied);
            heads.get(id).map(|head| head.roster).filter(|roster| applied < *roster).map(|roster| (id, roster))
        });
        let settling: Vec<_> = behind.map(|(id, roster)| self.settled(id, roster)).collect();
        let settled: Vec<_> = stream::iter(settling).buffer_unordered(SETTLED_AT_ONCE).try_collect().await?;
        groups.extend(settled);
        let keys: Vec<_> = ids.into_iter().map(|id| (id, author.user.clone())).collect();
        let members = in_batches(&keys, |keys| async move { Ok(self.members.several(&keys).await?) }).await?;
        Ok(members
            .into_iter()
            .filter_map(|(id, _, member)| Some((id.clone(), (groups.remove(&id)?, member))))
            .collect())
    }

    async fn settled(&self, id: &ConversationId, roster: Seq) -> Result<(ConversationId, Group), Failure> {
        Ok((id.clone(), self.roll.settle(id, roster).await?))
    }
}

/// Reads what belongs to keys, a hundred in a call, a few calls at once.
async fn in_batches<K: Clone, V, F>(keys: &[K], read: impl Fn(Vec<K>) -> F) -> Result<Vec<V>, Failure>
where
    F: Future<Output = Result<Vec<V>, Failure>>,
{
    let batches: Vec<_> = keys.chunks(BATCH).map(|batch| read(batch.to_vec())).collect();
    let read: Vec<Vec<V>> = stream::iter(batches).buffer_unordered(BATCHES_AT_ONCE).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

/// What is told of a group: nothing of after the user was last in.
fn of_group(group: &Group, member: &Member) -> GroupSummary {
    let role = member.role;
    let Some(end) = member.membership.end() else {
        let (title, members, roster) = (group.title.clone(), group.members, group.applied);
        return GroupSummary { title, role, left: false, members, roster };
    };
    let title = member.left.as_ref().map(|farewell| farewell.title.clone()).unwrap_or_default();
    GroupSummary { title, role, left: true, members: 0, roster: end }
}
