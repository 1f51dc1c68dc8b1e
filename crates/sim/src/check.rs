//! Holds a finished run against the invariants of `docs/SEMANTICS.md`.

use std::collections::{BTreeMap, BTreeSet};

use poste_client::{State, StoreError, engine::Engine, store::Tx};
use poste_domain::{
    Membership,
    ports::{Clock, Slot},
};
use poste_protocol::{
    Cell, ConversationId, EnvelopeId, Event, FromServer, Message, MessageId, MessagePlace, Role, Seq, UserId,
};

use crate::{
    device::{Device, Written},
    history::History,
    memory::holds,
    network::{LIFE, Network},
};

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// How it shows.
    pub what: String,
    /// What happened until then, if it was written down.
    pub told: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// Who gives and gets no read receipts.
pub(crate) const DISCREET: &str = "carol";

/// Who never comes, and is written to.
pub(crate) const AWAY: &str = "erin";

fn hold(holds: bool, invariant: &'static str, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, what: what(), told: Vec::new() }) }
}

/// What is left to do: an outbox that is not empty, a log that a device has not read to the end.
///
/// A device that stays connected hears of what others wrote and was acknowledged. What a device was rolled back from
/// may be in the log without an acknowledgement, and the device itself is not told of its own: that is found by who
/// connects anew.
pub(crate) fn unrest(network: &Network, devices: &[Device], connected_anew: bool) -> Option<String> {
    let acknowledged = network.acknowledged();
    let wakes = network.world.wakes().len();
    if wakes > 0 {
        return Some(format!("{wakes} wake-ups are waiting"));
    }
    devices.iter().find_map(|device| {
        let known = conversations(device);
        if let Some(waiting) = known.iter().find(|conversation| conversation.unsettled > 0) {
            return Some(format!("{} has {} messages unsettled in {}", name(device), waiting.unsettled, waiting.id));
        }
        let under_way = with_store(device, |tx| Ok(tx.outbox_rows()?.len()));
        if under_way > 0 {
            return Some(format!("{} has {under_way} envelopes under way", name(device)));
        }
        // A group whose creation was not acknowledged before its device was rolled back may be known to nobody.
        let known_of = |id: &ConversationId| !id.is_group() || network.world.noted(id).0.founded;
        all(network, devices).filter(known_of).find_map(|id| {
            let last = {
                let mut log = network.world.log_of(&id);
                let history = History::of(&log);
                log.retain(|slot| match slot {
                    Slot::Cell(cell) => {
                        connected_anew || acknowledged.contains_key(&cell.envelope) && cell.by != device.me
                    }
                    Slot::Void(_) => false,
                });
                visible(network, device, &id, &log, &history).last()?.0
            };
            let cursor = known.iter().find(|known| known.id == id).map_or(Seq::ZERO, |known| known.cursor);
            (last > cursor).then(|| format!("{} has read {id} up to {cursor} of {last}", name(device)))
        })
    })
}

/// What of a log a device's user may see.
fn visible(
    network: &Network,
    device: &Device,
    id: &ConversationId,
    log: &[Slot],
    history: &History,
) -> Vec<(Seq, MessageId)> {
    messages_of(&seen_by(network, device, id, log, history))
}

/// The slots of a log that a device's user may see.
fn seen_by(network: &Network, device: &Device, id: &ConversationId, log: &[Slot], history: &History) -> Vec<Slot> {
    let membership = times(network, id, &device.me.user, history);
    let seen = |slot: &&Slot| membership.as_ref().is_some_and(|membership| membership.sees(slot.seq()));
    log.iter().filter(seen).cloned().collect()
}

/// When a user was in: of a group as its log says, whatever is noted.
fn times(network: &Network, id: &ConversationId, user: &UserId, history: &History) -> Option<Membership> {
    if id.is_group() { history.times.get(user).cloned() } else { network.world.membership_of(id, user) }
}

fn name(device: &Device) -> String {
    format!("{}'s {}", device.me.user, device.me.device)
}

/// Every direct conversation that there can be.
fn pairs(devices: &[Device]) -> impl Iterator<Item = ConversationId> {
    let away = UserId::new(AWAY).expect("a valid name");
    let users: BTreeSet<UserId> = devices.iter().map(|device| device.me.user.clone()).chain([away]).collect();
    let users: Vec<UserId> = users.into_iter().collect();
    let both = users.clone().into_iter().flat_map(move |a| users.clone().into_iter().map(move |b| (a.clone(), b)));
    both.filter(|(a, b)| a <= b).map(|(a, b)| ConversationId::direct(&a, &b))
}

/// Every conversation that there can be.
fn all(network: &Network, devices: &[Device]) -> impl Iterator<Item = ConversationId> {
    pairs(devices).chain(network.world.groups())
}

/// Looks into a device.
fn with_engine<T>(device: &Device, look: impl FnOnce(&mut Engine) -> T) -> T {
    let mut engine = device.engine.lock().expect("no panic under the lock");
    look(engine.as_mut().expect("an engine, except while it is killed"))
}

/// Looks into a device's store.
fn with_store<T>(device: &Device, look: impl FnOnce(&Tx<'_>) -> Result<T, StoreError>) -> T {
    with_engine(device, |engine| engine.read().and_then(|tx| look(&tx)).expect("a store in memory"))
}

#[expect(clippy::redundant_closure_for_method_calls, reason = "the method is for one lifetime, the closure for all")]
fn conversations(device: &Device) -> Vec<poste_client::Conversation> {
    with_store(device, |tx| tx.conversations())
}

/// What a device shows of a conversation, from the first message on.
fn shown(device: &Device, conversation: &ConversationId) -> Vec<poste_client::Message> {
    with_store(device, |tx| tx.history(conversation, None, 1_000_000))
}

/// A device's estimate of the server's clock is behind by what frames travel, at most.
const BEHIND_MS: u64 = 1_000;

/// D5: nobody is shown whose lease is over, or as writing who has stopped.
pub(crate) fn nobody_is_seen_who_is_gone(network: &Network, devices: &[Device]) -> Result<(), Violation> {
    let now = network.world.now_ms();
    for device in devices {
        let (seen, writing) = with_engine(device, |engine| (engine.seen(), engine.writing()));
        for seen in seen.into_iter().filter(|seen| seen.online) {
            let until = network.world.here_until(&seen.user);
            hold(until.is_some_and(|until| until + BEHIND_MS > now), "D5", || {
                format!("{} shows {}, whose lease was until {until:?}, at {now}", name(device), seen.user)
            })?;
        }
        hold(writing.is_empty(), "D5", || format!("{} shows {writing:?} as writing", name(device)))?;
    }
    Ok(())
}

/// D5: while everybody looks, everybody who is here is seen by those who share a conversation with them.
pub(crate) fn everybody_is_seen(network: &Network, devices: &[Device]) -> Result<(), Violation> {
    for device in devices {
        let seen = with_engine(device, |engine| engine.seen());
        for conversation in conversations(device) {
            let Some(peer) = conversation.peer.filter(|peer| *peer != device.me.user) else { continue };
            let shared = network.world.membership_of(&conversation.id, &device.me.user).is_some();
            let came = devices.iter().any(|device| device.me.user == peer);
            let is_seen = seen.iter().any(|seen| seen.user == peer && seen.online);
            hold(is_seen || !(shared && came), "D5", || format!("{} does not see {peer}", name(device)))?;
        }
    }
    Ok(())
}

/// Everything that must hold of a run that has come to rest.
pub(crate) fn check(network: &Network, devices: &[Device]) -> Result<(), Violation> {
    let logs: BTreeMap<ConversationId, Vec<Slot>> =
        all(network, devices).map(|id| (id.clone(), network.world.log_of(&id))).collect();
    let histories: BTreeMap<ConversationId, History> =
        logs.iter().map(|(id, log)| (id.clone(), History::of(log))).collect();
    let places = whole_logs(network, devices, &logs, &histories)?;
    for (envelope, acknowledged) in network.acknowledged() {
        hold(acknowledged.len() == 1, "I2", || format!("{envelope} was acknowledged at {acknowledged:?}"))?;
        let place = places.get(&envelope);
        hold(place.is_some_and(|place| acknowledged.contains(place)), "I1", || {
            format!("{envelope} was acknowledged at {acknowledged:?} and is at {place:?}")
        })?;
    }
    let displaced = network.world.displaced();
    hold(displaced.is_empty(), "D6", || format!("an older connection took the place of a newer one: {displaced:?}"))?;
    let unqueued = network.unqueued();
    hold(unqueued.is_empty(), "L3", || format!("acknowledged, and not queued for delivery: {unqueued:?}"))?;
    let leaks = network.leaks();
    hold(leaks.is_empty(), "L5", || format!("deleted, and stored: {leaks:?}"))?;
    only_authors_change(&logs)?;
    let trespasses = network.world.trespasses();
    hold(trespasses.is_empty(), "L8", || format!("written where something was removed: {trespasses:?}"))?;
    refused_is_refused(network, &logs)?;
    groups_are_as_their_logs_say(network, &histories)?;
    pages_keep_their_promise(network, &logs, &histories)?;
    for device in devices {
        all_that_was_written(device, &logs)?;
        one_order(network, device, devices, &logs, &histories)?;
        members_are_known(device, &histories)?;
    }
    marks_keep_their_rules(network)?;
    what_is_read_is_told_to_who_may_know(devices)?;
    who_is_away_is_woken(network, &logs)?;
    nothing_posted_that_is_not_stored(network, &logs, &histories)
}

/// Whether something that was stored at `at` is certainly to be seen still, `now`: a write may come as much later than
/// its placing, which counts, as a function lives.
fn kept(network: &Network, at: u64, now: u64) -> bool {
    network.retention().keeps(at, now + life_ms())
}

/// How long a function lives at most, in milliseconds.
fn life_ms() -> u64 {
    u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX)
}

/// What was refused as expired is not stored, nor was it, unless so long before that nobody can tell.
fn refused_is_refused(network: &Network, logs: &BTreeMap<ConversationId, Vec<Slot>>) -> Result<(), Violation> {
    let expired = network.expired();
    for cell in cells(logs.values().flatten()) {
        let refused_at = expired.get(&cell.envelope);
        hold(refused_at.is_none_or(|at| !kept(network, cell.at, *at)), "L6", || {
            format!("{} was refused as expired, and is stored at {}", cell.envelope, cell.seq)
        })?;
    }
    Ok(())
}

/// A page holds everything of its range that its reader may see, then and for ever, and nothing whose time is up.
fn pages_keep_their_promise(
    network: &Network,
    logs: &BTreeMap<ConversationId, Vec<Slot>>,
    histories: &BTreeMap<ConversationId, History>,
) -> Result<(), Violation> {
    for (user, page, answered_at) in network.pages() {
        let id = &page.conversation;
        let what = || format!("the page of {id} for {user} from {} to {}", page.after, page.through);
        let membership = histories.get(id).and_then(|history| times(network, id, &user, history));
        let outside = page.cells.iter().find(|cell| !membership.as_ref().is_some_and(|times| times.sees(cell.seq)));
        hold(outside.is_none(), "I6", || format!("{} has {:?}", what(), outside.map(|cell| cell.seq)))?;
        let log = logs.get(id).map(Vec::as_slice).unwrap_or_default();
        let range = cells(log).filter(|cell| cell.seq > page.after && cell.seq <= page.through);
        for cell in range.filter(|cell| membership.as_ref().is_some_and(|membership| membership.sees(cell.seq))) {
            let there = page.cells.iter().any(|other| other.seq == cell.seq);
            hold(there || !kept(network, cell.at, answered_at), "O4", || format!("{} lacks {}", what(), cell.seq))?;
        }
        let stale = page.cells.iter().find(|cell| !network.retention().keeps(cell.at, answered_at - life_ms()));
        hold(stale.is_none(), "L8", || format!("{} has {:?}, which is gone", what(), stale.map(|cell| cell.seq)))?;
    }
    Ok(())
}

/// Whoever did something was in, and might; what is noted is what the log says.
fn groups_are_as_their_logs_say(
    network: &Network,
    histories: &BTreeMap<ConversationId, History>,
) -> Result<(), Violation> {
    for (id, history) in histories.iter().filter(|(id, _)| id.is_group()) {
        hold(history.wrongs.is_empty(), "L5", || format!("{id}: {:?}", history.wrongs))?;
        let (group, noted) = network.world.noted(id);
        if group.applied < history.last {
            // Nobody has looked since.
            continue;
        }
        let noted_times = noted.iter().map(|(user, member)| (user.clone(), member.membership.clone())).collect();
        hold(history.times == noted_times, "I6", || {
            format!("{id}: noted is {noted_times:?}, and the log says {:?}", history.times)
        })?;
        let roles: BTreeMap<_, _> =
            noted.iter().filter_map(|(user, member)| Some((user.clone(), member.role_now()?))).collect();
        hold(history.roles == roles, "L5", || format!("{id}: noted is {roles:?}, the log says {:?}", history.roles))?;
        let admins = roles.values().filter(|role| **role == Role::Admin).count();
        hold((group.members, group.admins) == (roles.len() as u64, admins as u64), "L5", || {
            format!("{id}: counted are {} and {} of {roles:?}", group.members, group.admins)
        })?;
    }
    Ok(())
}

/// Who is in a group and knows who else is, knows it as the log says.
fn members_are_known(device: &Device, histories: &BTreeMap<ConversationId, History>) -> Result<(), Violation> {
    for (id, history) in histories.iter().filter(|(id, _)| id.is_group()) {
        let (known, members) = with_store(device, |tx| Ok((tx.group(id)?, tx.members(id)?)));
        if known.roster.is_none() || !history.roles.contains_key(&device.me.user) {
            continue;
        }
        let members: BTreeMap<_, _> = members.into_iter().map(|member| (member.user, member.role)).collect();
        hold(members == history.roles, "L5", || {
            format!(
                "{} has {members:?} in {id} as of {:?}, the log says {:?}",
                name(device),
                known.roster,
                history.roles
            )
        })?;
    }
    Ok(())
}

fn cells<'a>(slots: impl IntoIterator<Item = &'a Slot>) -> impl Iterator<Item = &'a Cell> {
    slots.into_iter().filter_map(|slot| match slot {
        Slot::Cell(cell) => Some(cell),
        Slot::Void(_) => None,
    })
}

/// Marks never go back, never pass the head, and what was read was delivered.
fn marks_keep_their_rules(network: &Network) -> Result<(), Violation> {
    let mut own: BTreeMap<_, Seq> = BTreeMap::new();
    let mut read: BTreeMap<_, Seq> = BTreeMap::new();
    for (conversation, mark, delivered) in network.world.marked() {
        let whose = || format!("{}'s {} in {conversation}", mark.user, mark.device);
        hold(mark.read <= mark.delivered, "I8", || format!("{} read more than was delivered", whose()))?;
        let head = network.world.head_of(&conversation);
        hold(mark.delivered <= head, "I8", || format!("{} is at {} of {head}", whose(), mark.delivered))?;
        let before = own.insert((conversation.clone(), mark.user.clone(), mark.device.clone()), delivered);
        hold(before <= Some(delivered), "I8", || format!("{} went from {before:?} to {delivered}", whose()))?;
        let before = read.insert((conversation.clone(), mark.user.clone()), mark.read);
        hold(before <= Some(mark.read), "I8", || format!("{} had read {before:?}, and then {}", whose(), mark.read))?;
    }
    Ok(())
}

/// Nobody but their own devices knows how far somebody has read who gives no read receipts; nor does who gives none know
/// it of others.
fn what_is_read_is_told_to_who_may_know(devices: &[Device]) -> Result<(), Violation> {
    for device in devices {
        let me = &device.me.user;
        for known in conversations(device) {
            let of_discreet = known.peer.as_ref().is_some_and(|peer| peer.as_str() == DISCREET);
            if of_discreet || me.as_str() == DISCREET {
                let (_, read) = with_store(device, |tx| tx.furthest_of_others(&known.id, me));
                hold(read.is_zero() || known.peer.as_ref() == Some(me), "I8", || {
                    format!("{} knows that others have read {} up to {read}", name(device), known.id)
                })?;
            }
        }
    }
    Ok(())
}

/// Logs have no holes and no overlaps, and hold each envelope and message once. Returns where each envelope is. A hole
/// that was gone before anybody came to it stays one, and one that is after everything that any device may read: in a
/// group in which nobody of them is any more.
fn whole_logs(
    network: &Network,
    devices: &[Device],
    logs: &BTreeMap<ConversationId, Vec<Slot>>,
    histories: &BTreeMap<ConversationId, History>,
) -> Result<BTreeMap<EnvelopeId, Seq>, Violation> {
    let mut places = BTreeMap::new();
    let mut messages: BTreeSet<MessageId> = BTreeSet::new();
    for (conversation, log) in logs {
        let mut through = Seq::ZERO;
        let floor = network.world.floor_of(conversation);
        let reads = |device: &Device, seq: Seq| {
            let history = histories.get(conversation);
            let times = history.and_then(|history| times(network, conversation, &device.me.user, history));
            times.is_some_and(|times| times.end().is_none_or(|end| end >= seq))
        };
        for slot in log {
            let follows = slot.seq() == through.next();
            let gone = slot.seq() <= floor.next();
            let unread = || conversation.is_group() && !devices.iter().any(|device| reads(device, slot.seq()));
            hold(follows || slot.seq() > through && (gone || unread()), "contiguous", || {
                format!("{conversation}: after {through} comes {}", slot.seq())
            })?;
            through = slot.last();
            if let Slot::Cell(cell) = slot {
                let before = places.insert(cell.envelope, cell.seq);
                hold(before.is_none(), "I2", || format!("{} is at {} and at {before:?}", cell.envelope, cell.seq))?;
                for message in &cell.messages {
                    hold(messages.insert(message.id), "L2", || format!("message {} is stored twice", message.id))?;
                }
            }
        }
    }
    Ok(places)
}

fn messages_of(log: &[Slot]) -> Vec<(Seq, MessageId)> {
    cells(log).flat_map(Cell::numbered).map(|(seq, message)| (seq, message.id)).collect()
}

/// Everything that was written on a device is in the log, once, in the order in which it was written.
fn all_that_was_written(device: &Device, logs: &BTreeMap<ConversationId, Vec<Slot>>) -> Result<(), Violation> {
    let written = device.written.lock().expect("no panic under the lock").clone();
    let mut by_conversation: BTreeMap<ConversationId, Vec<Written>> = BTreeMap::new();
    for message in written {
        by_conversation.entry(message.conversation.clone()).or_default().push(message);
    }
    for (conversation, written) in by_conversation {
        let log = logs.get(&conversation).map(|log| messages_of(log)).unwrap_or_default();
        let written: Vec<Written> = written.into_iter().filter(|message| !message.dropped).collect();
        let mine: BTreeSet<MessageId> = written.iter().map(|message| message.id).collect();
        let stored: Vec<MessageId> = log.iter().map(|(_, id)| *id).filter(|id| mine.contains(id)).collect();
        let lost = written.iter().filter(|message| !message.forgotten && !stored.contains(&message.id)).count();
        hold(lost == 0, "I9", || {
            format!("of {} messages of {} in {conversation} {lost} are not stored", written.len(), name(device))
        })?;
        // Of what a roll-back forgot, some was stored before it; the rest never comes.
        let order: Vec<MessageId> = written.iter().map(|message| message.id).filter(|id| stored.contains(id)).collect();
        hold(stored == order, "I5", || format!("{} in {conversation}: another order than written", name(device)))?;
    }
    Ok(())
}

/// Every change is by the author of what it changes, but deletes in groups, of which their history tells.
fn only_authors_change(logs: &BTreeMap<ConversationId, Vec<Slot>>) -> Result<(), Violation> {
    for (id, log) in logs {
        let authors: BTreeMap<MessagePlace, &UserId> = cells(log)
            .flat_map(|cell| cell.numbered().map(|(seq, m)| (MessagePlace { seq, id: m.id }, &cell.by.user)))
            .collect();
        for cell in cells(log) {
            let judged = cell.messages.iter().filter(|message| message.deletes.is_none() || !id.is_group());
            for target in judged.filter_map(Message::target) {
                let author = authors.get(&target).copied();
                hold(author == Some(&cell.by.user), "authorship", || {
                    format!("{} at {} changes what {author:?} wrote at {}", cell.by.user, cell.seq, target.seq)
                })?;
            }
        }
    }
    Ok(())
}

/// What each message of a log shows, as far as a reader sees it: its text, and whether it is deleted. Not of those of
/// which a change may have been gone before a device asked for it, or a delete is not for the reader to see.
fn replayed(log: &[Slot], floor: Seq) -> BTreeMap<MessageId, (String, bool)> {
    let mut shown = BTreeMap::new();
    let (mut unsure, mut told) = (BTreeSet::new(), BTreeSet::new());
    for cell in cells(log) {
        for (seq, message) in cell.numbered() {
            let id = message.target().map_or(message.id, |target| target.id);
            if message.deleted || message.target().is_some() && seq <= floor {
                unsure.insert(id);
            }
            if message.deletes.is_some() && seq > floor {
                told.insert(id);
            }
            if message.target().is_none() {
                shown.insert(id, (message.body.clone(), false));
            } else if let Some((text, deleted)) = shown.get_mut(&id) {
                *deleted |= message.deletes.is_some();
                message.body.clone_into(text);
            }
        }
    }
    for (text, deleted) in shown.values_mut() {
        if *deleted {
            text.clear();
        }
    }
    shown.retain(|id, _| told.contains(id) || !unsure.contains(id));
    shown
}

/// A device shows exactly the log, and knows of its own messages what became of them.
fn one_order(
    network: &Network,
    device: &Device,
    devices: &[Device],
    logs: &BTreeMap<ConversationId, Vec<Slot>>,
    histories: &BTreeMap<ConversationId, History>,
) -> Result<(), Violation> {
    let nobody = History::default();
    for conversation in conversations(device) {
        let shown = shown(device, &conversation.id);
        let log = logs.get(&conversation.id).map(Vec::as_slice).unwrap_or_default();
        let history = histories.get(&conversation.id).unwrap_or(&nobody);
        let replayed = replayed(&seen_by(network, device, &conversation.id, log, history), conversation.floor);
        for message in &shown {
            let Some((text, deleted)) = replayed.get(&message.id) else { continue };
            hold((&message.body, message.deleted) == (text, *deleted), "I4/L5", || {
                format!("{} shows {message:?}, and the log says {text:?}, deleted: {deleted}", name(device))
            })?;
        }
        let changes: BTreeSet<MessageId> =
            cells(log).flat_map(|cell| &cell.messages).filter(|m| m.target().is_some()).map(|m| m.id).collect();
        let mut log = visible(network, device, &conversation.id, log, history);
        log.retain(|(_, id)| !changes.contains(id));
        let seen: Vec<(Seq, MessageId)> = shown.iter().filter_map(|m| Some((m.seq?, m.id))).collect();
        hold(seen.len() == shown.len(), "I1", || format!("{} shows messages without a place", name(device)))?;
        // What was removed before the device asked for it, it was told of.
        let log: Vec<_> =
            log.into_iter().filter(|entry| entry.0 > conversation.floor || seen.contains(entry)).collect();
        // What is before the device's oldest it has not asked for; everything after that is of one piece.
        let log: Vec<_> = log.into_iter().filter(|entry| entry.0 > conversation.oldest).collect();
        hold(seen == log, "I3/I4/I6", || {
            let missing: Vec<_> = log.iter().filter(|entry| !seen.contains(entry)).collect();
            format!("{} shows {} of {} in {}; misses {missing:?}", name(device), seen.len(), log.len(), conversation.id)
        })?;
        let peer_has_devices = conversation
            .peer
            .as_ref()
            .is_some_and(|peer| *peer != device.me.user && devices.iter().any(|other| other.me.user == *peer));
        let settled = |m: &&poste_client::Message| m.seq.is_some_and(|seq| seq > conversation.floor);
        for message in shown.iter().filter(settled).filter(|m| m.user == device.me.user && peer_has_devices) {
            hold(matches!(message.state, State::Delivered | State::Read), "D2", || {
                format!(
                    "{}: {} at {:?} of {} is {:?}, and its reader has it",
                    name(device),
                    message.id,
                    message.seq,
                    conversation.id,
                    message.state
                )
            })?;
        }
    }
    Ok(())
}

/// Pushes are for what is stored, for who did not write it and has not marked it. Whoever is away was pushed to after
/// everything that was written to them: that push tells their device to come.
fn who_is_away_is_woken(network: &Network, logs: &BTreeMap<ConversationId, Vec<Slot>>) -> Result<(), Violation> {
    let wrong = network.world.wrong_pushes();
    hold(wrong.is_empty(), "I7/P3", || wrong.join("; "))?;
    let pushes = network.world.pushes();
    let last = pushes.iter().filter(|made| made.to.user.as_str() == AWAY).map(|made| made.at_ms).max();
    for (id, log) in logs {
        let away = |user: &UserId| user.as_str() == AWAY;
        let seen = |cell: &&Cell| {
            let of_them = network.world.membership_of(id, &UserId::new(AWAY).expect("a valid name"));
            of_them.is_some_and(|membership| membership.sees(cell.seq)) && !away(&cell.by.user)
        };
        // What a roll-back made its device forget may be stored and never have been published.
        let acknowledged = network.acknowledged();
        let told = |cell: &&Cell| acknowledged.contains_key(&cell.envelope);
        let new = |cell: &&Cell| match cell.event() {
            Some(Event::Created { members: users, .. } | Event::Added { users }) => users.iter().any(away),
            Some(_) => false,
            None => cell.messages.iter().any(|message| message.target().is_none()),
        };
        for cell in cells(log).filter(seen).filter(told).filter(new) {
            let stored = network.world.stored_at(id, cell.seq);
            hold(last >= stored, "P3", || {
                format!("{} of {id} was stored at {stored:?}, and the last push was at {last:?}", cell.seq)
            })?;
        }
    }
    Ok(())
}

/// What reached a socket is in the log, as it was posted.
fn nothing_posted_that_is_not_stored(
    network: &Network,
    logs: &BTreeMap<ConversationId, Vec<Slot>>,
    histories: &BTreeMap<ConversationId, History>,
) -> Result<(), Violation> {
    let premature = network.world.premature();
    hold(premature.is_empty(), "I7", || format!("{premature:?} was posted before it was stored"))?;
    for (connection, frame, _) in network.world.posts() {
        let Ok(FromServer::Delivery(delivery)) = serde_json::from_str(&frame) else { continue };
        for item in delivery.items {
            let log = logs.get(&item.conversation).map(Vec::as_slice).unwrap_or_default();
            let history = histories.get(&item.conversation).filter(|_| item.conversation.is_group());
            for cell in item.cells {
                let seq = cell.seq;
                let hearer = network.hearer(&connection);
                let seen = history.is_none_or(|history| hearer.as_ref().is_some_and(|user| history.sees(user, seq)));
                hold(seen, "I6", || format!("{seq} of {} was posted to {hearer:?}", item.conversation))?;
                let stored = log.iter().any(|slot| holds(slot, &cell));
                hold(stored, "I7", || format!("{seq} of {} was posted and is not stored", item.conversation))?;
            }
        }
    }
    Ok(())
}
