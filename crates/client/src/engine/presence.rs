//! Who is here, and who is writing. In memory only: all of it is true until a time, and ends by itself.
//!
//! Times of the server are compared with an estimate of its clock: the furthest that any of its frames has told, and what
//! went by since on the device's own. It is never ahead, so nothing ends too soon, and a frame that came late says nothing
//! that is over.

use std::collections::BTreeMap;

use poste_protocol::{
    Away, ConversationId, Delivery, PresenceNews, Refusal, Request, Typing, TypingNews, UserId, UserPresence, Watch,
    Watching, limits,
};
use rand::RngExt;

use super::Rules;
use super::session::Question;
use super::turn::Turn;
use crate::{Event, Seen};

/// Between two renewals there is at most so long, whatever the server says.
const LATEST_RENEWAL: u64 = 600_000;

/// A renewal that was refused or not answered is not tried again sooner.
const RETRY: u64 = 5_000;

/// Writers that are remembered at most, and own writing: what is over goes first.
const WRITERS: usize = 256;

/// What the person wants, and what is known of others.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// The person does not want to be seen, and so sees nobody.
    hidden: bool,
    /// A person looks at the application.
    front: bool,
    watched: Vec<ConversationId>,
    others: BTreeMap<UserId, Other>,
    writers: BTreeMap<(ConversationId, UserId), Writer>,
    /// When it was last said that the person writes.
    said: BTreeMap<ConversationId, u64>,
    /// The server's clock less the monotonic one, at least.
    ahead: Option<i64>,
}

/// Somebody else, as the server told last.
#[derive(Debug)]
struct Other {
    /// The server's clock then.
    told_at: u64,
    until: Option<u64>,
    seen: Option<u64>,
    /// As the application was told.
    shown: bool,
}

/// Somebody who writes, or has just written.
#[derive(Debug)]
struct Writer {
    /// The server's clock when the last word of it was true.
    last: u64,
    shown: bool,
}

/// The device's own lease, on one connection.
#[derive(Debug, Default)]
pub(super) struct Lease {
    in_flight: bool,
    /// The server has been asked for one on this connection.
    taken: bool,
    renew_at: u64,
    /// Not before, so that what a person scrolls by is not asked for.
    not_before: u64,
    /// What is watched has changed while a request was under way.
    again: bool,
    failures: u32,
}

fn signed(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

impl Presence {
    /// A person looks at the application.
    pub(super) fn is_looked_at(&self) -> bool {
        self.front
    }

    fn wanted(&self) -> bool {
        self.front && !self.hidden
    }

    fn note_clock(&mut self, server: u64, mono: u64) {
        let ahead = signed(server).saturating_sub(signed(mono));
        self.ahead = Some(self.ahead.map_or(ahead, |known| known.max(ahead)));
    }

    /// When the server's clock shows a time, on the monotonic one.
    fn on_mono(&self, server: u64) -> u64 {
        u64::try_from(signed(server).saturating_sub(self.ahead.unwrap_or_default())).unwrap_or_default()
    }

    /// When the next sign on the screen ends by itself.
    fn next_end(&self, typing_shown: u64) -> Option<u64> {
        let others = self.others.values().filter(|other| other.shown).filter_map(|other| other.until);
        let writers =
            self.writers.values().filter(|writer| writer.shown).map(|writer| writer.last.saturating_add(typing_shown));
        others.chain(writers).map(|at| self.on_mono(at)).min()
    }
}

impl Rules {
    /// Who is here, as far as the device was told.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let seen =
            |(user, other): (&UserId, &Other)| Seen { user: user.clone(), online: other.shown, last_seen: other.seen };
        self.presence.others.iter().map(seen).collect()
    }

    /// Who is writing.
    pub(super) fn writing(&self) -> Vec<(ConversationId, UserId)> {
        self.presence.writers.iter().filter(|(_, writer)| writer.shown).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn on_front(&mut self, turn: &mut Turn<'_>, front: bool) {
        self.presence.front = front;
        self.presence_wanted(turn);
    }

    pub(super) fn on_visible(&mut self, turn: &mut Turn<'_>, visible: bool) {
        self.presence.hidden = !visible;
        self.presence_wanted(turn);
    }

    /// Wanted: asked for at once. Not wanted: given up, and nothing of it is shown or waited for any more.
    fn presence_wanted(&mut self, turn: &mut Turn<'_>) {
        if self.presence.wanted() {
            if let Some(session) = self.session_mut() {
                session.lease.renew_at = turn.now.mono;
            }
            return;
        }
        self.go_away(turn);
        self.forget_others(turn, |_| false);
        for (conversation, user) in self.writing() {
            turn.signs.push(Event::Typing { conversation, user, typing: false });
        }
        self.presence.writers.clear();
        self.presence.said.clear();
    }

    /// Says that the person is not here any more, if it was said that they are.
    pub(super) fn go_away(&mut self, turn: &mut Turn<'_>) {
        if let Some(session) = self.session_mut()
            && std::mem::take(&mut session.lease).taken
        {
            self.say(turn, &Request::Away(Away {}));
        }
    }

    pub(super) fn on_watch(&mut self, turn: &Turn<'_>, mut conversations: Vec<ConversationId>) {
        conversations.truncate(limits::WATCHED);
        if self.presence.watched == conversations {
            return;
        }
        self.presence.watched = conversations;
        if let Some(session) = self.session_mut() {
            session.lease.renew_at = turn.now.mono;
            session.lease.again = session.lease.in_flight;
        }
    }

    /// The person is writing. Told now and then, and only where somebody may see it.
    pub(super) fn on_typing(&mut self, turn: &mut Turn<'_>, conversation: ConversationId) {
        let (now, interval) = (turn.now.mono, self.tuning.typing_interval);
        if !self.presence.wanted() || self.session().is_none() {
            return;
        }
        self.presence.said.retain(|_, at| now < at.saturating_add(interval));
        if self.presence.said.len() < WRITERS && !self.presence.said.contains_key(&conversation) {
            self.presence.said.insert(conversation.clone(), now);
            self.say(turn, &Request::Typing(Typing { conversation }));
        }
    }

    /// Takes or renews the lease, after everything that matters more.
    pub(super) fn pump_presence(&mut self, turn: &mut Turn<'_>) {
        let (now, interval) = (turn.now.mono, self.tuning.watch_interval);
        if !self.presence.wanted() {
            return;
        }
        let Some(session) = self.session_mut() else { return };
        if !session.list.done || session.lease.in_flight || now < session.lease.due() {
            return;
        }
        session.lease = Lease {
            in_flight: true,
            taken: true,
            renew_at: now,
            not_before: now + interval,
            again: false,
            failures: session.lease.failures,
        };
        let conversations = self.presence.watched.clone();
        self.ask(turn, Question::Watch, |reference| Request::Watch(Watch { reference, conversations }));
    }

    pub(super) fn on_watching(&mut self, turn: &mut Turn<'_>, watching: Watching) {
        let now = turn.now.mono;
        let wait = watching.renew_ms.clamp(1, LATEST_RENEWAL);
        let wait = wait - self.rng.random_range(0..=wait / 10);
        let Some(session) = self.session_mut() else { return };
        let lease = &mut session.lease;
        lease.in_flight = false;
        lease.failures = 0;
        lease.renew_at = if std::mem::take(&mut lease.again) { now } else { now + wait };
        if !self.presence.wanted() {
            return;
        }
        self.presence.note_clock(watching.now, now);
        self.forget_others(turn, |user| watching.users.iter().any(|told| told.user == *user));
        for told in watching.users {
            self.hear_of(turn, watching.now, told);
        }
    }

    /// Nobody was told, and no other request is the worse for it.
    pub(super) fn watch_later(&mut self, turn: &Turn<'_>, refusal: Option<&Refusal>) {
        let Some(session) = self.session_mut() else { return };
        session.lease.in_flight = false;
        session.lease.failures = session.lease.failures.saturating_add(1);
        let failures = session.lease.failures;
        // A server that does not know of presence, or of what is asked for, does not learn it on this connection.
        let never = refusal.is_some_and(|no| !no.may_pass());
        let wait = self.wait(refusal.and_then(|no| no.retry_after_ms), failures).max(RETRY);
        if let Some(session) = self.session_mut() {
            session.lease.renew_at = if never { u64::MAX } else { turn.now.mono + wait };
        }
    }

    pub(super) fn on_presence(&mut self, turn: &mut Turn<'_>, news: PresenceNews) {
        if !self.presence.wanted() {
            return;
        }
        self.presence.note_clock(news.now, turn.now.mono);
        for told in news.users {
            self.hear_of(turn, news.now, told);
        }
    }

    fn hear_of(&mut self, turn: &mut Turn<'_>, told_at: u64, told: UserPresence) {
        if told.user == self.me.user {
            return;
        }
        let before = self.presence.others.get(&told.user);
        if before.is_some_and(|before| before.told_at > told_at) {
            return;
        }
        let online = told.until.is_some_and(|until| self.presence.on_mono(until) > turn.now.mono);
        let changed = before.is_none_or(|before| before.shown != online || !online && before.seen != told.seen);
        if changed {
            turn.signs.push(Event::Presence { seen: Seen { user: told.user.clone(), online, last_seen: told.seen } });
        }
        let other = Other { told_at, until: told.until, seen: told.seen, shown: online };
        self.presence.others.insert(told.user, other);
    }

    fn forget_others(&mut self, turn: &mut Turn<'_>, kept: impl Fn(&UserId) -> bool) {
        self.presence.others.retain(|user, other| {
            let keep = kept(user);
            if !keep && other.shown {
                let seen = Seen { user: user.clone(), online: false, last_seen: other.seen };
                turn.signs.push(Event::Presence { seen });
            }
            keep
        });
    }

    pub(super) fn on_typing_news(&mut self, turn: &mut Turn<'_>, news: TypingNews) {
        if !self.presence.wanted() || news.user == self.me.user {
            return;
        }
        let now = turn.now.mono;
        self.presence.note_clock(news.now, now);
        let over = self.presence.on_mono(news.now.saturating_add(self.tuning.typing_shown)) <= now;
        let key = (news.conversation, news.user);
        // What was true before their last message is over with it.
        let known = self.presence.writers.get(&key);
        let full = known.is_none() && self.presence.writers.len() >= WRITERS;
        if over || full || known.is_some_and(|known| known.last >= news.now) {
            return;
        }
        let shown = known.is_some_and(|known| known.shown);
        self.presence.writers.insert(key.clone(), Writer { last: news.now, shown: true });
        if !shown {
            let (conversation, user) = key;
            turn.signs.push(Event::Typing { conversation, user, typing: true });
        }
    }

    /// Who has written writes no more.
    pub(super) fn has_written(&mut self, turn: &mut Turn<'_>, delivery: &Delivery) {
        if !self.presence.wanted() {
            return;
        }
        for item in &delivery.items {
            for cell in item.cells.iter().filter(|cell| cell.by.user != self.me.user) {
                self.presence.note_clock(cell.at, turn.now.mono);
                let key = (item.conversation.clone(), cell.by.user.clone());
                let before = self.presence.writers.insert(key.clone(), Writer { last: cell.at, shown: false });
                if before.is_some_and(|before| before.shown) {
                    let (conversation, user) = key;
                    turn.signs.push(Event::Typing { conversation, user, typing: false });
                }
            }
        }
    }

    /// Ends what is over.
    pub(super) fn end_signs(&mut self, turn: &mut Turn<'_>) {
        let (now, shown) = (turn.now.mono, self.tuning.typing_shown);
        let ahead = self.presence.ahead.unwrap_or_default();
        let is_over = |server: u64| signed(server).saturating_sub(ahead) <= signed(now);
        for (user, other) in &mut self.presence.others {
            if other.shown && other.until.is_none_or(is_over) {
                other.shown = false;
                let seen = Seen { user: user.clone(), online: false, last_seen: other.seen };
                turn.signs.push(Event::Presence { seen });
            }
        }
        self.presence.writers.retain(|(conversation, user), writer| {
            let over = is_over(writer.last.saturating_add(shown));
            if over && writer.shown {
                let (conversation, user) = (conversation.clone(), user.clone());
                turn.signs.push(Event::Typing { conversation, user, typing: false });
            }
            !over
        });
    }

    /// When something of presence is due by itself. Never while nobody looks at the application.
    pub(super) fn presence_wake(&self, now: u64) -> Option<u64> {
        let renewal = self
            .session()
            .filter(|session| self.presence.wanted() && session.list.done && !session.lease.in_flight)
            .map(|session| session.lease.due())
            .filter(|at| *at > now && *at != u64::MAX);
        let end = self.presence.next_end(self.tuning.typing_shown).map(|at| at.max(now + 1));
        renewal.into_iter().chain(end).min()
    }
}

impl Lease {
    fn due(&self) -> u64 {
        self.renew_at.max(self.not_before)
    }
}
