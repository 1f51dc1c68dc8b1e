//! Who is in a conversation, as of which event.
//!
//! The events of a group are in one line: each was given its place under the condition that the head's roster was still
//! the event before it ([`Placement::roster`](crate::ports::Placement)), and before that the event before it was applied
//! to what is noted of the members. So at most the one that the head names is not applied yet. Whoever finds it so
//! applies it ([`Roll::settle`]), or decides that it was never written: a crash leaves nothing that the next to come
//! does not complete. What is noted of a user is guarded by the number of the event that changed it, so that who is slow
//! undoes nothing.
//!
//! A membership that was read when everything up to an event was applied is as of that event. It is good for every
//! number up to the next event, however long ago it was read, and whoever is given numbers, or reads a page, learns from
//! the head which event that must be.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use poste_protocol::{Cell, ConversationId, Event, Role, Seq, UserId};

use crate::{
    Failure, Farewell, Member, Membership, Retention,
    cache::Cache,
    membership::not_member,
    ports::{Clock, Group, Heads, Log, Members, Slot},
};

/// How long a function goes by what it has seen of a conversation without events, in milliseconds.
const CACHE_MS: u64 = 5_000;

/// Memberships that a function keeps at most, and groups.
const CACHE_ENTRIES: usize = 10_000;

/// An event that has its place and is not written yet is waited for: so often, so many milliseconds each time. Ten times
/// what a healthy write takes; then it is decided that it never will be there.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS_MS: u64 = 50;

/// Users whom an event concerns that are noted at once.
const ENTRIES_AT_ONCE: usize = 16;

/// A user's membership, as of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What is noted of the user.
    pub member: Member,
    /// Everything up to this event is in it.
    pub version: Seq,
}

/// Looks memberships up, keeps them, and applies events that are not applied yet.
pub struct Roll {
    heads: Arc<dyn Heads>,
    log: Arc<dyn Log>,
    members: Arc<dyn Members>,
    clock: Arc<dyn Clock>,
    retention: Retention,
    plain: Cache<(ConversationId, UserId), Known>,
    known: Cache<(ConversationId, UserId), Known>,
    groups: Cache<ConversationId, Group>,
}

impl Roll {
    /// On these ports.
    pub fn new(
        heads: Arc<dyn Heads>,
        log: Arc<dyn Log>,
        members: Arc<dyn Members>,
        clock: Arc<dyn Clock>,
        retention: Retention,
    ) -> Self {
        let plain = Cache::new(CACHE_ENTRIES, CACHE_MS);
        let (known, groups) = (Cache::new(CACHE_ENTRIES, u64::MAX), Cache::new(CACHE_ENTRIES, u64::MAX));
        Self { heads, log, members, clock, retention, plain, known, groups }
    }

    /// The user's membership, if the user is or was a member. In a group it may be as of an earlier event; that the user
    /// is not in is as of now.
    ///
    /// # Errors
    /// Trouble with a part.
    pub async fn find(&self, conversation: &ConversationId, user: &UserId) -> Result<Option<Known>, Failure> {
        let (key, now) = ((conversation.clone(), user.clone()), self.clock.now_ms());
        if !conversation.is_group() {
            if let Some(known) = self.plain.get(&key, now) {
                return Ok(Some(known));
            }
            let member = self.members.member(conversation, user).await?;
            let known = member.map(|member| Known { member, version: Seq::ZERO });
            if let Some(known) = &known {
                self.plain.put(key, known.clone(), now);
            }
            return Ok(known);
        }
        if let Some(known) = self.known.get(&key, now).filter(|known| known.member.membership.is_open()) {
            return Ok(Some(known));
        }
        let group = self.group(conversation).await?;
        self.look(conversation, user, group.applied).await
    }

    /// The user's membership, or `not_member`.
    ///
    /// # Errors
    /// That, and trouble with a part.
    pub async fn require(&self, conversation: &ConversationId, user: &UserId) -> Result<Known, Failure> {
        self.find(conversation, user).await?.ok_or_else(|| not_member().into())
    }

    /// The user's membership, as of now.
    ///
    /// # Errors
    /// Trouble with a part.
    pub async fn now(&self, conversation: &ConversationId, user: &UserId) -> Result<Option<Known>, Failure> {
        if !conversation.is_group() {
            return self.find(conversation, user).await;
        }
        match self.heads.head(conversation).await? {
            Some(head) => self.as_of(conversation, user, head.roster).await,
            None => Ok(None),
        }
    }

    /// The user's membership of a group, at least as of this event, which the head has named as its roster.
    ///
    /// # Errors
    /// Trouble with a part.
    pub async fn as_of(
        &self,
        conversation: &ConversationId,
        user: &UserId,
        roster: Seq,
    ) -> Result<Option<Known>, Failure> {
        let group = self.settle(conversation, roster).await?;
        let key = (conversation.clone(), user.clone());
        match self.known.get(&key, self.clock.now_ms()).filter(|known| known.version >= roster) {
            Some(known) => Ok(Some(known)),
            None => self.look(conversation, user, group.applied).await,
        }
    }

    /// The group, with all events up to this one applied, which the head has named as its roster.
    ///
    /// # Errors
    /// Trouble with a part.
    pub async fn settle(&self, conversation: &ConversationId, roster: Seq) -> Result<Group, Failure> {
        let group = self.group(conversation).await?;
        if group.applied >= roster {
            return Ok(group);
        }
        // Another function may have applied it.
        let group = self.read_group(conversation).await?;
        if group.applied >= roster {
            return Ok(group);
        }
        match self.event_at(conversation, roster).await? {
            Some(cell) => self.apply_to(conversation, &cell, group).await,
            None => self.note(conversation, Group { applied: roster, ..group }).await,
        }
    }

    /// Applies an event that has just been written.
    ///
    /// # Errors
    /// Trouble with a part.
    pub async fn apply(&self, conversation: &ConversationId, cell: &Cell) -> Result<Group, Failure> {
        let group = self.group(conversation).await?;
        if group.applied >= cell.seq {
            return Ok(group);
        }
        self.apply_to(conversation, cell, group).await
    }

    /// The group as it is known, perhaps as of an earlier event.
    async fn group(&self, conversation: &ConversationId) -> Result<Group, Failure> {
        match self.groups.get(conversation, self.clock.now_ms()) {
            Some(group) => Ok(group),
            None => self.read_group(conversation).await,
        }
    }

    async fn read_group(&self, conversation: &ConversationId) -> Result<Group, Failure> {
        let group = self.members.group(conversation).await?.unwrap_or_default();
        self.keep(conversation, &group);
        Ok(group)
    }

    /// Reads a membership. `applied` was known before, so it is at least as of then.
    async fn look(&self, conversation: &ConversationId, user: &UserId, applied: Seq) -> Result<Option<Known>, Failure> {
        let member = self.members.member(conversation, user).await?;
        let known = member.map(|member| Known { member, version: applied });
        if let Some(known) = &known {
            self.known.put((conversation.clone(), user.clone()), known.clone(), self.clock.now_ms());
        }
        Ok(known)
    }

    /// What is at the place of an event for ever. Nothing if it was never written, or is gone.
    async fn event_at(&self, conversation: &ConversationId, place: Seq) -> Result<Option<Cell>, Failure> {
        for look in 0..=LOOKS {
            let slot = self.log.before(conversation, place, 1).await?.slots.pop();
            match slot.filter(|slot| slot.seq() == place) {
                Some(Slot::Cell(cell)) => return Ok(Some(cell)),
                Some(Slot::Void(_)) => return Ok(None),
                None if look < LOOKS => self.clock.pause(BETWEEN_LOOKS_MS).await,
                None => {}
            }
        }
        let now = self.clock.now_ms();
        let head = self.heads.head(conversation).await?;
        if head.is_none_or(|head| place <= head.floor(now)) {
            return Ok(None);
        }
        match self.log.put(conversation, &Slot::Void(place), self.retention.removal(now)).await? {
            Some(Slot::Cell(cell)) => Ok(Some(cell)),
            Some(Slot::Void(_)) | None => Ok(None),
        }
    }

    /// Applies the event that comes next after what is applied. It may be applied in part already, by somebody who
    /// stopped or is still at it.
    async fn apply_to(&self, conversation: &ConversationId, cell: &Cell, group: Group) -> Result<Group, Failure> {
        let Some(event) = cell.event() else {
            return self.note(conversation, Group { applied: cell.seq, ..group }).await;
        };
        let concerned = event.concerns(&cell.by.user);
        let keys: Vec<_> = concerned.iter().map(|user| (conversation.clone(), user.clone())).collect();
        let known = if keys.is_empty() { Vec::new() } else { self.members.several(&keys).await? };
        let known: HashMap<UserId, Member> = known.into_iter().map(|(_, user, member)| (user, member)).collect();
        if known.values().any(|member| member.version > cell.seq) {
            // It was applied, and later ones, too.
            return self.read_group(conversation).await;
        }
        let (next, entries) = outcome(event, cell, &group, &concerned, &known);
        let entering: Vec<_> =
            entries.iter().map(|(user, member)| self.members.enter(conversation, user, member)).collect();
        stream::iter(entering).buffer_unordered(ENTRIES_AT_ONCE).try_collect::<Vec<()>>().await?;
        self.note(conversation, next).await
    }

    async fn note(&self, conversation: &ConversationId, group: Group) -> Result<Group, Failure> {
        self.members.settle(conversation, &group).await?;
        self.keep(conversation, &group);
        Ok(group)
    }

    /// Remembers a group, unless a later state of it is remembered.
    fn keep(&self, conversation: &ConversationId, group: &Group) {
        let later = |known: &Group| known.applied > group.applied;
        self.groups.put_unless(conversation.clone(), group.clone(), self.clock.now_ms(), later);
    }
}

/// What an event makes of a group, and whom it changes. Users whom it has changed already count as they were before.
fn outcome(
    event: &Event,
    cell: &Cell,
    group: &Group,
    concerned: &[UserId],
    known: &HashMap<UserId, Member>,
) -> (Group, Vec<(UserId, Member)>) {
    let mut next = Group {
        applied: cell.seq,
        founded: group.founded || matches!(event, Event::Created { .. }),
        title: event.title().unwrap_or(&group.title).to_owned(),
        ..*group
    };
    let mut entries = Vec::new();
    for user in concerned {
        let member = known.get(user);
        let (before, after) = match member {
            Some(member) if member.version == cell.seq => (before(event, member), member.role_now()),
            member => {
                let before = member.and_then(Member::role_now);
                (before, event.role_after(&cell.by.user, user, before))
            }
        };
        let admin = |role: Option<Role>| u64::from(role == Some(Role::Admin));
        next.members = (next.members + u64::from(after.is_some())).saturating_sub(u64::from(before.is_some()));
        next.admins = (next.admins + admin(after)).saturating_sub(admin(before));
        if before == after || member.is_some_and(|member| member.version == cell.seq) {
            continue;
        }
        let membership = member.map_or_else(|| Membership::new(Vec::new()), |member| member.membership.clone());
        let entry = Member {
            membership: match after {
                Some(_) => membership.opened(cell.seq),
                None => membership.closed(cell.seq),
            },
            role: after.or(before).unwrap_or_default(),
            version: cell.seq,
            left: after.is_none().then(|| Farewell { at: cell.at, title: group.title.clone() }),
        };
        entries.push((user.clone(), entry));
    }
    (next, entries)
}

/// The role before an event of a user whom it has changed.
fn before(event: &Event, member: &Member) -> Option<Role> {
    match event {
        Event::Removed { .. } | Event::Left => Some(member.role),
        Event::Role { role: Role::Admin, .. } => Some(Role::Member),
        Event::Role { role: Role::Member, .. } => Some(Role::Admin),
        Event::Created { .. } | Event::Added { .. } | Event::Titled { .. } | Event::Unknown => None,
    }
}
