//! Who is here, and who is writing: leases that end by themselves, told to those who watch.
//!
//! Nothing else depends on this, and nothing here is done twice: what is not told is told with the next renewal, or ends
//! with its lease. Watching takes a lease, so who sees is seen. The names of conversations are no capabilities: of whom
//! the caller shares no conversation with, nothing is said.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, future, stream};
use poste_protocol::{
    Author, ConversationId, DeviceId, FromServer, PresenceNews, Seq, TypingNews, UserId, UserPresence, Watch, Watching,
};

use crate::{
    Failure, Trouble,
    cache::Cache,
    ports::{Callback, Clock, Connections, Group, Members, Presence, Standing, Told},
    roster::Rosters,
};

/// A device's lease. Twice [`RENEW_MS`] and some: what a watcher is told, at its own renewals, must last until its next.
pub const LEASE_MS: u64 = 120_000;

/// How often a device renews its lease.
pub const RENEW_MS: u64 = 50_000;

/// How long a device watches a user after it has named the conversation. Longer than a lease, so that it is seldom
/// written: again when half of it is over. It also bounds how long one who left a conversation sees who is here.
pub const WATCH_MS: u64 = 360_000;

/// After others were told of a user, they are not told for so long that the user came, whatever the user's connections do.
/// That the user went again is told at once.
pub const PAUSE_MS: u64 = 5_000;

/// Devices that watch one user, at most: the latest.
pub const WATCHERS: usize = 200;

/// Members of a conversation in which presence and typing are told.
pub const CROWD: usize = 32;

/// Users that one device watches, at most.
const WATCHED_USERS: usize = 100;

/// How long it is told when a user was last here.
const SEEN_MS: u64 = 7 * 24 * 3_600_000;

/// A lease that has been over for so long is forgotten.
const STALE_MS: u64 = 24 * 3_600_000;

/// Of one device in one conversation, writing is told at most once in so long (by one instance of a function).
const TYPING_MS: u64 = 2_000;

/// Posts under way at once.
const POSTS_AT_ONCE: usize = 64;

/// Takes leases, and tells of them.
pub struct Presences {
    presence: Arc<dyn Presence>,
    members: Arc<dyn Members>,
    connections: Arc<dyn Connections>,
    callback: Arc<dyn Callback>,
    clock: Arc<dyn Clock>,
    rosters: Rosters,
    typed: Cache<(ConversationId, Author), ()>,
}

impl Presences {
    /// On these ports.
    pub fn new(
        presence: Arc<dyn Presence>,
        members: Arc<dyn Members>,
        connections: Arc<dyn Connections>,
        callback: Arc<dyn Callback>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let rosters = Rosters::new(members.clone(), clock.clone());
        Self { presence, members, connections, callback, clock, rosters, typed: Cache::new(10_000, TYPING_MS) }
    }

    /// The person is here, and looks at these conversations: takes a lease, and says who else is here.
    ///
    /// # Errors
    /// Trouble with a part: the same again is safe.
    pub async fn watch(&self, author: &Author, watch: &Watch) -> Result<Watching, Failure> {
        let others = self.others(author, &watch.conversations).await?;
        let now = self.clock.now_ms();
        let before = self.presence.renew(author, now + LEASE_MS, now).await?;
        let here = UserPresence { user: author.user.clone(), until: Some(now + LEASE_MS), seen: Some(now) };
        let (known, renew_ms) =
            future::join(self.look(author, others, now), self.publish(&before, now, here, due(&before, now))).await;
        let users = known?.into_iter().map(|(user, standing)| shown(user, &standing, now)).collect();
        Ok(Watching { reference: watch.reference.clone(), now, renew_ms: renew_ms.clamp(1_000, RENEW_MS), users })
    }

    /// The person is not here any more, on this device.
    pub async fn away(&self, author: &Author) {
        let now = self.clock.now_ms();
        let before = match self.presence.leave(author, now).await {
            Ok(before) => before,
            Err(trouble) => return tracing::warn!(%trouble, "a lease could not be ended"),
        };
        let still_here = before.leases.iter().any(|(device, until)| *device != author.device && *until > now);
        let told_here = before.told.is_some_and(|told| told.here);
        if before.leases.contains_key(&author.device) && !still_here && told_here {
            let gone = UserPresence { user: author.user.clone(), until: None, seen: Some(now) };
            self.publish(&before, now, gone, Due::Now).await;
        }
    }

    /// The person is writing: the other members' devices that watch them are told.
    pub async fn typing(&self, author: &Author, conversation: &ConversationId) {
        let now = self.clock.now_ms();
        let key = (conversation.clone(), author.clone());
        if self.typed.get(&key, now).is_some() {
            return;
        }
        self.typed.put(key, (), now);
        if let Err(trouble) = self.tell_typing(author, conversation, now).await {
            tracing::warn!(%trouble, "nobody was told of somebody who writes");
        }
    }

    async fn tell_typing(&self, author: &Author, conversation: &ConversationId, now: u64) -> Result<(), Trouble> {
        let groups = self.groups(std::slice::from_ref(conversation)).await?;
        let members = self.members(&author.user, conversation, &groups).await?;
        if members.is_empty() {
            return Ok(());
        }
        let known = self.presence.of(std::slice::from_ref(&author.user)).await?;
        let Some((_, standing)) = known.into_iter().next() else { return Ok(()) };
        let watchers = watchers(&standing, now).into_iter().filter(|watcher| members.contains(&watcher.user)).collect();
        let (conversation, user) = (conversation.clone(), author.user.clone());
        self.post(watchers, &FromServer::Typing(TypingNews { now, conversation, user })).await;
        Ok(())
    }

    /// How the groups among these conversations are by now: who was removed is told nothing.
    async fn groups(&self, conversations: &[ConversationId]) -> Result<BTreeMap<ConversationId, Group>, Trouble> {
        let groups: BTreeSet<_> =
            conversations.iter().filter(|conversation| conversation.is_group()).cloned().collect();
        if groups.is_empty() {
            return Ok(BTreeMap::new());
        }
        Ok(self.members.groups(&groups.into_iter().collect::<Vec<_>>()).await?.into_iter().collect())
    }

    /// The other members of a conversation that the user is in. Nobody if the user is not in it, or it is a crowd.
    async fn members(
        &self,
        user: &UserId,
        conversation: &ConversationId,
        groups: &BTreeMap<ConversationId, Group>,
    ) -> Result<BTreeSet<UserId>, Trouble> {
        let applied = match groups.get(conversation) {
            Some(group) if group.members <= CROWD as u64 => group.applied,
            None if !conversation.is_group() => Seq::ZERO,
            _ => return Ok(BTreeSet::new()),
        };
        let roster = self.rosters.of(conversation, applied).await?;
        let inside = roster.members.iter().filter(|(_, member)| member.membership.is_open());
        let mut members: BTreeSet<UserId> = inside.map(|(user, _)| user.clone()).collect();
        let shared = members.len() <= CROWD && members.remove(user);
        Ok(if shared { members } else { BTreeSet::new() })
    }

    /// Everybody else in these conversations, as far as the caller is in them.
    async fn others(&self, author: &Author, conversations: &[ConversationId]) -> Result<Vec<UserId>, Trouble> {
        let groups = self.groups(conversations).await?;
        let asked = conversations.iter().map(|conversation| self.members(&author.user, conversation, &groups));
        let (mut others, mut listed) = (Vec::new(), BTreeSet::new());
        for user in future::try_join_all(asked).await?.into_iter().flatten() {
            if listed.insert(user.clone()) {
                others.push(user);
            }
        }
        // In the order of the conversations: what is first on the screen counts most.
        others.truncate(WATCHED_USERS);
        Ok(others)
    }

    /// What is known of these users. The caller's device watches them from here on, unless it does already.
    async fn look(&self, author: &Author, users: Vec<UserId>, now: u64) -> Result<BTreeMap<UserId, Standing>, Trouble> {
        let mut known: BTreeMap<UserId, Standing> =
            users.iter().map(|user| (user.clone(), Standing::default())).collect();
        if users.is_empty() {
            return Ok(known);
        }
        known.extend(self.presence.of(&users).await?);
        let unwatched = known
            .iter()
            .filter(|(_, standing)| standing.watchers.get(author).is_none_or(|until| *until < now + WATCH_MS / 2));
        let watching = unwatched.map(|(user, standing)| async move {
            let in_place_of = superfluous(standing, author, now);
            (user.clone(), self.presence.watch(user, author, now + WATCH_MS, &in_place_of).await)
        });
        // What is known then counts: who came between the look and the watch has told others, and not this one.
        for (user, watched) in future::join_all(watching).await {
            match watched {
                Ok(standing) => drop(known.insert(user, standing)),
                Err(trouble) => tracing::warn!(%trouble, "a user could not be watched"),
            }
        }
        Ok(known)
    }

    /// Tells those who watch, if it is due and nobody else does. Gives when the device is to renew its lease: soon, if
    /// there is something that could not be told yet.
    async fn publish(&self, before: &Standing, now: u64, news: UserPresence, due: Due) -> u64 {
        match due {
            Due::Never => return RENEW_MS,
            Due::In(wait) => return wait,
            Due::Now => {}
        }
        let here = news.until.is_some();
        let pause = if here { PAUSE_MS } else { 0 };
        match self.presence.tell(&news.user, Told { at_ms: now, here }, pause, &stale(before, now)).await {
            Ok(true) => {}
            Ok(false) => return PAUSE_MS,
            Err(trouble) => {
                tracing::warn!(%trouble, "nobody was told of somebody who came or went");
                return PAUSE_MS;
            }
        }
        let frame = FromServer::Presence(PresenceNews { now, users: vec![news] });
        self.post(watchers(before, now), &frame).await;
        RENEW_MS
    }

    /// Posts a frame to the live connections of these devices. What fails is counted, and that is all.
    async fn post(&self, devices: BTreeSet<Author>, frame: &FromServer) {
        if devices.is_empty() {
            return;
        }
        let users: BTreeSet<UserId> = devices.iter().map(|device| device.user.clone()).collect();
        let connections = match self.connections.of(&users.into_iter().collect::<Vec<_>>()).await {
            Ok(connections) => connections,
            Err(trouble) => return tracing::warn!(%trouble, lost = devices.len(), "nobody was told"),
        };
        let now = self.clock.now_ms();
        let frame = serde_json::to_string(frame).expect("a frame has only plain fields");
        let live = connections.into_iter().filter(|(user, device, connection)| {
            let author = Author { user: user.clone(), device: device.clone() };
            connection.until_ms > now && devices.contains(&author)
        });
        let lost = stream::iter(live)
            .map(|(_, _, connection)| {
                let frame = &frame;
                async move { self.callback.post(&connection.id, frame).await.is_err() }
            })
            .buffer_unordered(POSTS_AT_ONCE)
            .filter(|lost| future::ready(*lost))
            .count()
            .await;
        if lost > 0 {
            tracing::warn!(lost, "some were not told");
        }
    }
}

/// Whether others are to be told that a user came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// They know.
    Never,
    /// After so many milliseconds.
    In(u64),
    Now,
}

/// Whether others are to be told that a user is here, who has just taken or renewed a lease.
fn due(before: &Standing, now: u64) -> Due {
    let was_here = before.leases.values().any(|until| *until > now);
    match before.told {
        Some(Told { here: true, .. }) if was_here => Due::Never,
        Some(Told { at_ms, .. }) if now.saturating_sub(at_ms) < PAUSE_MS => Due::In(at_ms + PAUSE_MS - now),
        _ => Due::Now,
    }
}

/// What others see of a user.
fn shown(user: UserId, standing: &Standing, now: u64) -> UserPresence {
    let until = standing.leases.values().copied().max().filter(|until| *until > now);
    let recently = standing.seen_ms > 0 && now.saturating_sub(standing.seen_ms) < SEEN_MS;
    UserPresence { user, until, seen: recently.then_some(standing.seen_ms) }
}

/// Who watches, the latest first, as many as may.
fn latest(standing: &Standing, now: u64) -> Vec<&Author> {
    let mut live: Vec<_> = standing.watchers.iter().filter(|(_, until)| **until > now).collect();
    live.sort_by_key(|(watcher, until)| (std::cmp::Reverse(**until), *watcher));
    live.into_iter().map(|(watcher, _)| watcher).collect()
}

fn watchers(standing: &Standing, now: u64) -> BTreeSet<Author> {
    latest(standing, now).into_iter().take(WATCHERS).cloned().collect()
}

/// The watchers that have to go when another one comes: those that are over, and the oldest if there are too many.
fn superfluous(standing: &Standing, newcomer: &Author, now: u64) -> Vec<Author> {
    let kept: BTreeSet<&Author> = latest(standing, now).into_iter().take(WATCHERS - 1).collect();
    let others = standing.watchers.keys().filter(|watcher| *watcher != newcomer);
    others.filter(|watcher| !kept.contains(watcher)).cloned().collect()
}

/// The devices whose leases have been over for long.
fn stale(standing: &Standing, now: u64) -> Vec<DeviceId> {
    let over = standing.leases.iter().filter(|(_, until)| until.saturating_add(STALE_MS) < now);
    over.map(|(device, _)| device.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("valid")
    }

    fn device(name: &str) -> DeviceId {
        DeviceId::new(name).expect("valid")
    }

    fn watcher(n: usize) -> Author {
        Author { user: user(&format!("u{n}")), device: device("phone") }
    }

    fn standing(leases: &[(&str, u64)], told: Option<(u64, bool)>) -> Standing {
        Standing {
            leases: leases.iter().map(|(name, until)| (device(name), *until)).collect(),
            told: told.map(|(at_ms, here)| Told { at_ms, here }),
            ..Standing::default()
        }
    }

    #[test]
    fn others_are_told_when_a_user_comes_and_not_at_each_renewal() {
        let now = 1_000_000;
        assert_eq!(due(&Standing::default(), now), Due::Now);
        assert_eq!(due(&standing(&[("phone", now + 1)], Some((now - 60_000, true))), now), Due::Never);
        assert_eq!(due(&standing(&[("tablet", now + 1)], Some((now - 60_000, true))), now), Due::Never);
        assert_eq!(due(&standing(&[("phone", now)], Some((now - 200_000, true))), now), Due::Now, "the lease was over");
        assert_eq!(due(&standing(&[], Some((now - 60_000, false))), now), Due::Now);
    }

    #[test]
    fn others_are_told_at_most_once_in_a_while_and_what_was_held_back_comes() {
        let now = 1_000_000;
        let flapped = standing(&[], Some((now - 2_000, false)));
        assert_eq!(due(&flapped, now), Due::In(3_000));
        let renewed = standing(&[("phone", now + 100_000)], Some((now - 2_000, false)));
        assert_eq!(due(&renewed, now + 3_000), Due::Now, "the news that was held back");
    }

    #[test]
    fn a_user_is_here_while_any_device_has_a_lease() {
        let now = SEEN_MS * 2;
        let both = Standing { seen_ms: now - 9, ..standing(&[("phone", now), ("tablet", now + 7)], None) };
        assert_eq!(
            shown(user("bob"), &both, now),
            UserPresence { user: user("bob"), until: Some(now + 7), seen: Some(now - 9) }
        );
        let long_ago = Standing { seen_ms: now - SEEN_MS, ..Standing::default() };
        assert_eq!(shown(user("bob"), &long_ago, now), UserPresence { user: user("bob"), until: None, seen: None });
    }

    #[test]
    fn watchers_are_the_latest_and_bounded() {
        let now = 1_000;
        let until = |n: usize| now + u64::try_from(n).expect("small");
        let mut crowd = Standing::default();
        crowd.watchers.extend((0..250).map(|n| (watcher(n), until(n))));
        let told = watchers(&crowd, now);
        assert_eq!(told.len(), WATCHERS);
        assert!(!told.contains(&watcher(0)) && !told.contains(&watcher(49)) && told.contains(&watcher(50)));
        let gone = superfluous(&crowd, &watcher(999), now);
        assert_eq!(gone.len(), 51, "one more than too many: another one comes");
        assert!(superfluous(&Standing::default(), &watcher(1), now).is_empty());
    }
}
