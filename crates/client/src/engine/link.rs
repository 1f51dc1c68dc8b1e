//! The connection: when to make it, when to give it up, when to renew it.

use poste_protocol::{Hello, Request};
use rand::RngExt;

use super::backoff::ceiling;
use super::session::{Question, Session};
use super::turn::Turn;
use super::{Lost, Output, Rules, STORE_RETRY};
use crate::{Connection, StoreError};

/// A server that wants connections to come back later than this, in milliseconds, is not listened to.
const LONGEST_SPREAD: u64 = 300_000;

#[derive(Debug)]
pub(super) enum Link {
    /// The network is cut.
    Off,
    Waiting {
        until: u64,
        fresh_token: bool,
        /// Another connection of this device has taken the place of the last one.
        replaced: bool,
    },
    Connecting {
        deadline: u64,
        fresh_token: bool,
    },
    Up(Box<Session>),
}

impl Rules {
    pub(super) fn session(&self) -> Option<&Session> {
        match &self.link {
            Link::Up(session) => Some(session),
            _ => None,
        }
    }

    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.link {
            Link::Up(session) => Some(session),
            _ => None,
        }
    }

    /// Whether the network is cut.
    pub(super) fn is_off(&self) -> bool {
        matches!(self.link, Link::Off)
    }

    pub(super) fn connection(&self) -> Connection {
        match &self.link {
            Link::Off => Connection::Off,
            Link::Up(_) => Connection::Online,
            _ if self.refused_tokens > 1 => Connection::SignInRefused,
            Link::Waiting { replaced: true, .. } => Connection::Replaced,
            Link::Waiting { .. } => Connection::Waiting,
            Link::Connecting { .. } => Connection::Connecting,
        }
    }

    pub(super) fn on_network(&mut self, turn: &mut Turn<'_>, on: bool) {
        if on {
            if matches!(self.link, Link::Off | Link::Waiting { .. }) {
                self.failures = 0;
                let fresh_token = matches!(self.link, Link::Waiting { fresh_token: true, .. });
                self.connect(turn, fresh_token);
            }
        } else {
            self.go_away(turn);
            self.hang_up(turn);
            self.stop_transfers(turn);
            self.link = Link::Off;
        }
    }

    /// A person looks at the application: nothing waits for its backoff, and a connection that may have died meanwhile,
    /// as it does when the device sleeps, is asked whether it lives.
    pub(super) fn on_foreground(&mut self, turn: &mut Turn<'_>) {
        self.replaced = 0;
        self.end_media_backoffs();
        match &mut self.link {
            Link::Waiting { .. } => self.on_network(turn, true),
            Link::Up(session) => {
                session.end_backoffs(turn.now.mono);
                if session.requests.is_empty() {
                    self.say_hello(turn);
                }
            }
            Link::Off | Link::Connecting { .. } => {}
        }
    }

    pub(super) fn on_connected(&mut self, turn: &mut Turn<'_>) {
        let Link::Connecting { fresh_token, .. } = self.link else { return };
        let now = turn.now.mono;
        let (soonest, latest) = self.tuning.renew_between;
        let renew_at = now + self.rng.random_range(soonest..=latest.max(soonest));
        self.forget_older_under_way();
        self.inquiries.forget_under_way();
        self.forget_media_asked();
        self.link = Link::Up(Box::new(Session::new(now, renew_at, fresh_token)));
        self.refused_tokens = 0;
        self.counters.connections += 1;
    }

    pub(super) fn on_disconnected(&mut self, turn: &mut Turn<'_>, lost: Lost) {
        let fresh_token = match &self.link {
            Link::Off | Link::Waiting { .. } => return,
            Link::Connecting { fresh_token, .. } => *fresh_token,
            Link::Up(_) => false,
        };
        match lost {
            Lost::Closed => self.wait_to_connect(turn, fresh_token),
            Lost::Unauthorized if !fresh_token => {
                self.refused_tokens = 1;
                self.connect(turn, true);
            }
            Lost::Unauthorized | Lost::SignIn => {
                self.refused_tokens = self.refused_tokens.max(1) + 1;
                self.wait_to_connect(turn, true);
            }
        }
    }

    /// The server says that the connection's token has run out. Nothing fails by that.
    pub(super) fn on_token_expired(&mut self, turn: &mut Turn<'_>) {
        let Some(session) = self.session() else { return };
        let useless = session.fresh_token && !session.answered;
        self.hang_up(turn);
        if useless {
            self.wait_to_connect(turn, true);
        } else {
            self.connect(turn, true);
        }
    }

    /// Closes the connection, and makes another after a backoff.
    pub(super) fn reconnect(&mut self, turn: &mut Turn<'_>) {
        self.hang_up(turn);
        self.wait_to_connect(turn, false);
    }

    /// A newer connection of this device has taken the place of this one: another process, or a copy of the device. If
    /// both came back at once, each would take the place of the other for ever. So this one waits, each time longer,
    /// unless a person looks at it.
    pub(super) fn on_replaced(&mut self, turn: &mut Turn<'_>) {
        if self.session().is_none() {
            return;
        }
        tracing::info!("another connection of this device has taken the place");
        self.hang_up(turn);
        self.replaced = self.replaced.saturating_add(1);
        let (base, cap) = self.tuning.replaced_wait;
        let ceiling = ceiling(base, cap, self.replaced);
        let wait = self.rng.random_range(ceiling / 2..=ceiling);
        self.link = Link::Waiting { until: turn.now.mono + wait, fresh_token: false, replaced: true };
    }

    /// After trouble with the store: what is known of the connection is worth nothing.
    pub(super) fn start_over(&mut self, turn: &mut Turn<'_>) {
        // Said in any case: the output that made the link what it is may have been lost with the failed turn.
        turn.outputs.push(Output::Disconnect);
        if !matches!(self.link, Link::Off) {
            // No failure of the network: soon, and without a backoff that grows.
            let until = turn.now.mono + STORE_RETRY;
            self.link = Link::Waiting { until, fresh_token: false, replaced: false };
        }
    }

    fn hang_up(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.link, Link::Connecting { .. } | Link::Up(_)) {
            turn.outputs.push(Output::Disconnect);
        }
    }

    fn connect(&mut self, turn: &mut Turn<'_>, fresh_token: bool) {
        self.link = Link::Connecting { deadline: turn.now.mono + self.tuning.connect_deadline, fresh_token };
        turn.outputs.push(Output::Connect { fresh_token });
    }

    fn wait_to_connect(&mut self, turn: &Turn<'_>, fresh_token: bool) {
        self.failures = self.failures.saturating_add(1);
        let mut wait = self.backoff(self.failures);
        // A connection that is lost may be one of many. Where a person looks nobody waits for the others.
        if self.session().is_some() && !self.presence.is_looked_at() {
            wait += self.rng.random_range(0..=self.spread.min(LONGEST_SPREAD));
        }
        self.link = Link::Waiting { until: turn.now.mono + wait, fresh_token, replaced: false };
    }

    pub(super) fn link_timers(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let now = turn.now.mono;
        self.give_up_what_may_fail(turn)?;
        match &self.link {
            Link::Off => {}
            Link::Waiting { until, fresh_token, .. } => {
                if now >= *until {
                    self.connect(turn, *fresh_token);
                }
            }
            Link::Connecting { deadline, .. } => {
                if now >= *deadline {
                    self.reconnect(turn);
                }
            }
            Link::Up(session) => {
                if session.requests.values().any(|asked| now >= asked.deadline) {
                    tracing::info!("a request was not answered in time");
                    self.reconnect(turn);
                } else if now >= session.renew_at {
                    self.hang_up(turn);
                    self.connect(turn, false);
                }
            }
        }
        Ok(())
    }

    /// Presence or media that is not answered says nothing of the connection: their functions are their own.
    fn give_up_what_may_fail(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let Some(session) = self.session_mut() else { return Ok(()) };
        let may_fail = |question: &Question| matches!(question, Question::Watch | Question::Media(_));
        let over = session.requests.extract_if(.., |_, asked| may_fail(&asked.question) && now >= asked.deadline);
        let over: Vec<Question> = over.map(|(_, asked)| asked.question).collect();
        over.into_iter().try_for_each(|question| self.ask_later(turn, question, None))
    }

    pub(super) fn pump_keep_alive(&mut self, turn: &mut Turn<'_>) {
        let idle = self.tuning.keep_alive;
        if self.session().is_some_and(|session| turn.now.mono >= session.active + idle) {
            self.say_hello(turn);
        }
    }

    fn say_hello(&mut self, turn: &mut Turn<'_>) {
        self.ask(turn, Question::Hello, |reference| Request::Hello(Hello::new(reference)));
    }

    /// The next moment at which something is due by itself.
    pub(super) fn find_wake(&self, turn: &Turn<'_>) -> Result<Option<u64>, StoreError> {
        let now = turn.now.mono;
        let session = match &self.link {
            Link::Off => return Ok(None),
            Link::Waiting { until, .. } => return Ok(Some(*until)),
            Link::Connecting { deadline, .. } => return Ok(Some(*deadline)),
            Link::Up(session) => session,
        };
        let mut wake = session.renew_at.min(session.active + self.tuning.keep_alive);
        let mut at = |time: u64| {
            // What was due has been done, or waits for an answer that has a deadline of its own.
            if time > now {
                wake = wake.min(time);
            }
        };
        session.requests.values().for_each(|asked| at(asked.deadline));
        session.telling.next_try().into_iter().for_each(&mut at);
        if !session.list.done {
            at(session.list.not_before);
        }
        session
            .sync
            .values()
            .filter(|sync| sync.wanted && sync.in_flight.is_none())
            .for_each(|sync| at(sync.not_before));
        session.members.values().filter(|asking| !asking.in_flight).for_each(|asking| at(asking.not_before));
        self.older.values().filter(|wish| !wish.in_flight).for_each(|wish| at(wish.not_before));
        for sending in session.sending.values().filter(|sending| sending.in_flight.is_none()) {
            match &sending.conflict {
                Some(conflict) => at(conflict.since + self.tuning.conflict_patience),
                None => at(sending.not_before),
            }
        }
        if session.setting.wake() > now && turn.tx.receipts()?.waits {
            at(session.setting.wake());
        }
        if let Some(alone_at) = session.marking.alone_at.filter(|_| !session.marking.tries.in_flight) {
            at(alone_at);
        }
        Ok(Some(wake))
    }
}
