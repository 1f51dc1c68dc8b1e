//! The ports of waking: devices, mutes, the push queue, and a provider that writes down what it is given.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use poste_domain::{
    Pushes, TokenHash,
    ports::{Address, Candidate, Devices, Mutes, Noted, Push, Pushed, Pusher, Result, Slot, Wake, Wakeable, Wakes},
};
use poste_protocol::{Author, ConversationId, DeviceId, MemberMark, Platform, ProviderToken, PushStatus, Seq, UserId};

use super::World;
use crate::{mutation::Mutation, network::LIFE};

/// A push that the provider took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// When.
    pub at_ms: u64,
    /// Whose token it went to.
    pub to: Author,
    /// What it said.
    pub push: Push,
}

#[derive(Default)]
pub(super) struct State {
    muted: BTreeMap<(ConversationId, UserId), u64>,
    registered: BTreeMap<(UserId, DeviceId), (Address, Pushes)>,
    buried: BTreeSet<(UserId, DeviceId)>,
    owners: BTreeMap<TokenHash, (UserId, DeviceId)>,
    /// What is in the push queue: when it comes out, and how often it has.
    queue: Vec<(u64, Wake, u32)>,
    /// How often a wake-up has come out at most.
    most_receives: u32,
    /// Whose token an address is for, and whether it is enabled.
    endpoints: BTreeMap<String, (Author, bool)>,
    pushes: Vec<Made>,
    /// From when on users had marked what.
    marked: BTreeMap<(ConversationId, UserId), Vec<(u64, Seq)>>,
    /// When slots were put.
    stored: BTreeMap<(ConversationId, Seq), u64>,
    /// What was pushed and should not have been.
    wrong: Vec<String>,
}

impl State {
    pub(super) fn stored(&mut self, now_ms: u64, conversation: &ConversationId, seq: Seq) {
        self.stored.insert((conversation.clone(), seq), now_ms);
    }

    pub(super) fn marked(&mut self, now_ms: u64, conversation: &ConversationId, mark: &MemberMark) {
        let key = (conversation.clone(), mark.user.clone());
        self.marked.entry(key).or_default().push((now_ms, mark.delivered));
    }
}

impl World {
    /// Takes one wake-up out of the push queue that is due, as `choose` says of how many there are. With it comes how
    /// often it has come out.
    pub fn take_wake(&self, choose: impl FnOnce(usize) -> usize) -> Option<(Wake, u32)> {
        let now = self.right_now_ms();
        let waking = &mut self.state().waking;
        let queue = &mut waking.queue;
        let due: Vec<usize> = (0..queue.len()).filter(|position| queue[*position].0 <= now).collect();
        let position = due.get(choose(due.len())).copied()?;
        let (_, wake, receives) = queue.remove(position);
        waking.most_receives = waking.most_receives.max(receives + 1);
        Some((wake, receives + 1))
    }

    /// Puts a wake-up back, to come out after a while.
    pub fn put_back(&self, wake: Wake, receives: u32, after_ms: u64) {
        let due = self.right_now_ms() + after_ms;
        self.state().waking.queue.push((due, wake, receives));
    }

    /// What is in the push queue.
    pub fn wakes(&self) -> Vec<Wake> {
        self.state().waking.queue.iter().map(|(_, wake, _)| wake.clone()).collect()
    }

    /// How often one wake-up has come out of the push queue at most.
    pub fn most_receives(&self) -> u32 {
        self.state().waking.most_receives
    }

    /// What the provider took.
    pub fn pushes(&self) -> Vec<Made> {
        self.state().waking.pushes.clone()
    }

    /// When a slot was put.
    pub(crate) fn stored_at(&self, conversation: &ConversationId, seq: Seq) -> Option<u64> {
        self.state().waking.stored.get(&(conversation.clone(), seq)).copied()
    }

    /// What was pushed and should not have been.
    pub fn wrong_pushes(&self) -> Vec<String> {
        self.state().waking.wrong.clone()
    }

    /// The provider finds that a device's token is dead.
    pub fn token_dies(&self, author: &Author) {
        for (owner, enabled) in self.state().waking.endpoints.values_mut() {
            *enabled &= owner != author;
        }
    }
}

fn key(author: &Author) -> (UserId, DeviceId) {
    (author.user.clone(), author.device.clone())
}

#[async_trait]
impl Devices for World {
    async fn register(&self, author: &Author, registration: &Address) -> Result<Option<Address>> {
        self.weather
            .call("devices.register", || {
                let state = &mut self.state().waking;
                let key = key(author);
                let before = state.owners.insert(registration.token.clone(), key.clone());
                state.buried.remove(&key);
                let pushes = state.registered.get(&key).map(|(_, pushes)| pushes.clone()).unwrap_or_default();
                let old = state.registered.insert(key.clone(), (registration.clone(), pushes));
                if let Some(before) = before.filter(|before| *before != key)
                    && state.registered.get(&before).is_some_and(|(old, _)| old.token == registration.token)
                {
                    state.registered.remove(&before);
                }
                let old = old.map(|(old, _)| old).filter(|old| old.token != registration.token);
                Ok(old.filter(|old| state.owners.get(&old.token) == Some(&key)).inspect(|old| {
                    state.owners.remove(&old.token);
                }))
            })
            .await
    }

    async fn unregister(&self, author: &Author) -> Result<Option<Address>> {
        self.weather
            .call("devices.unregister", || {
                let state = &mut self.state().waking;
                let key = key(author);
                state.buried.remove(&key);
                let old = state.registered.remove(&key).map(|(old, _)| old);
                Ok(old.filter(|old| state.owners.get(&old.token) == Some(&key)).inspect(|old| {
                    state.owners.remove(&old.token);
                }))
            })
            .await
    }

    async fn bury(&self, author: &Author, registration: &Address) -> Result<()> {
        self.weather
            .call("devices.bury", || {
                let state = &mut self.state().waking;
                let key = key(author);
                if state.registered.get(&key).is_some_and(|(now, _)| now == registration) {
                    state.registered.remove(&key);
                    state.owners.remove(&registration.token);
                    state.buried.insert(key);
                }
                Ok(())
            })
            .await
    }

    async fn awake(&self, author: &Author, now_ms: u64) -> Result<PushStatus> {
        self.weather
            .call("devices.awake", || {
                let state = &mut self.state().waking;
                let key = key(author);
                if state.buried.contains(&key) {
                    return Ok(PushStatus::Renew);
                }
                Ok(match state.registered.get_mut(&key) {
                    Some((registration, pushes)) if state.owners.get(&registration.token) == Some(&key) => {
                        pushes.awake_ms = now_ms;
                        PushStatus::Registered
                    }
                    _ => PushStatus::None,
                })
            })
            .await
    }

    async fn wakeable(&self, user: &UserId) -> Result<Vec<Wakeable>> {
        self.weather
            .call("devices.query", || {
                let state = &self.state().waking;
                let own = state.registered.iter().filter(|((owner, _), _)| owner == user);
                let own = own.filter(|(key, (registration, _))| state.owners.get(&registration.token) == Some(*key));
                let wakeable = own.map(|((_, device), (registration, pushes))| Wakeable {
                    device: device.clone(),
                    registration: registration.clone(),
                    pushes: pushes.clone(),
                });
                Ok(wakeable.collect())
            })
            .await
    }

    async fn note(&self, author: &Author, token: &TokenHash, pushes: &Pushes) -> Result<Noted> {
        self.weather
            .call("devices.note", || {
                let state = &mut self.state().waking;
                let known = match state.registered.get_mut(&key(author)) {
                    Some((registration, known)) if registration.token == *token => known,
                    _ => return Ok(Noted::Gone),
                };
                if known.revision + 1 != pushes.revision {
                    return Ok(Noted::Behind(Box::new(known.clone())));
                }
                let awake_ms = known.awake_ms;
                known.clone_from(pushes);
                known.awake_ms = awake_ms;
                Ok(Noted::Done)
            })
            .await
    }
}

#[async_trait]
impl Mutes for World {
    async fn mute(&self, conversation: &ConversationId, user: &UserId, until_ms: u64) -> Result<bool> {
        self.weather
            .call("members.mute", || {
                let member = self.membership_of(conversation, user).is_some();
                if member {
                    self.state().waking.muted.insert((conversation.clone(), user.clone()), until_ms);
                }
                Ok(member)
            })
            .await
    }

    async fn candidates(&self, conversation: &ConversationId, users: &[UserId]) -> Result<Vec<Candidate>> {
        self.weather
            .call("members.candidates", || {
                let found = users.iter().filter_map(|user| {
                    let membership = self.told(self.member_of(conversation, user)?).membership;
                    let muted = self.state().waking.muted.get(&(conversation.clone(), user.clone())).copied();
                    Some(Candidate { user: user.clone(), membership, muted_until_ms: muted.unwrap_or(0) })
                });
                Ok(found.collect())
            })
            .await
    }
}

#[async_trait]
impl Wakes for World {
    async fn queue(&self, wakes: &[(Wake, u64)]) -> Vec<Result<()>> {
        let mut outcomes = Vec::new();
        for (wake, delay_ms) in wakes {
            let outcome = self.weather.call("wakes.queue", || {
                let mut wake = wake.clone();
                let mut state = self.state();
                if self.breaks(Mutation::PushesToTheWriter)
                    && let Some(Slot::Cell(cell)) = state.log.get(&wake.conversation).and_then(|log| log.get(&wake.seq))
                {
                    wake.users.push(cell.by.user.clone());
                }
                state.waking.queue.push((self.right_now_ms() + delay_ms, wake, 0));
                Ok(())
            });
            outcomes.push(outcome.await);
        }
        outcomes
    }
}

#[async_trait]
impl Pusher for World {
    fn reaches(&self, _: Platform) -> bool {
        true
    }

    async fn endpoint(&self, platform: Platform, token: &ProviderToken, owner: &Author) -> Result<Option<String>> {
        self.weather
            .call("push.endpoint", || {
                let endpoint = format!("endpoint/{}/{}", platform.as_str(), token.as_str());
                self.state().waking.endpoints.insert(endpoint.clone(), (owner.clone(), true));
                Ok(Some(endpoint))
            })
            .await
    }

    async fn push(&self, registration: &Address, push: &Push) -> Result<Pushed> {
        self.weather
            .call("push.push", || {
                let mut state = self.state();
                let Some((to, true)) = state.waking.endpoints.get(&registration.endpoint).cloned() else {
                    return Ok(Pushed::Gone);
                };
                let now = self.right_now_ms();
                let log = [&state.log, &state.removed].into_iter().filter_map(|part| part.get(&push.conversation));
                let member = state.members.get(&push.conversation).and_then(|members| members.get(&to.user));
                let sees = member.is_some_and(|member| member.membership.sees(push.seq));
                let cell = log.filter_map(|log| log.get(&push.seq)).find_map(|slot| match slot {
                    Slot::Cell(cell) => Some(cell.clone()),
                    Slot::Void(_) => None,
                });
                let what = format!("{} of {} was pushed to {}", push.seq, push.conversation, to.user);
                let wrong = match &cell {
                    None => Some(format!("{what} and is not stored")),
                    Some(cell) if cell.by.user == to.user => Some(format!("{what}, who wrote it")),
                    Some(_) if !sees => Some(format!("{what}, who does not see it")),
                    Some(cell) => {
                        // Who looked before the mark was there has ended by now.
                        let life = u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX);
                        let marks = state.waking.marked.get(&(push.conversation.clone(), to.user.clone()));
                        let before = |(at, mark): &&(u64, Seq)| *mark >= cell.last() && at + life < now;
                        let marked = marks.into_iter().flatten().find(before);
                        marked.map(|(at, mark)| format!("{what}, who had marked {mark} {} ms before", now - at))
                    }
                };
                self.chronicle.note(|| format!("{what}, badge {}", push.badge));
                state.waking.wrong.extend(wrong);
                state.waking.pushes.push(Made { at_ms: now, to, push: push.clone() });
                Ok(Pushed::Taken)
            })
            .await
    }

    async fn remove(&self, endpoint: &str) -> Result<()> {
        self.weather
            .call("push.remove", || {
                self.state().waking.endpoints.remove(endpoint);
                Ok(())
            })
            .await
    }
}
