//! The rules, without sockets, runtime or clock.
//!
//! Whoever drives the engine tells it the time and what happened; the engine changes the store in one transaction and
//! returns, after the commit, what is to be done: connect, disconnect, send a frame, tell the application. Between
//! calls it wants to be called with [`Input::Tick`] at [`Engine::next_wake`]. Given the same store, seed, times and
//! inputs it does the same.
//!
//! Everything that must survive is in the store. The rest ([`Session`](session::Session): what was asked and not yet
//! answered, cells that came too early) belongs to one connection and is forgotten with it, so that a kill and a lost
//! connection are the same thing: on the next connection what is under way is sent again, and what is missing is
//! fetched from the cursor.

mod answers;
mod backlog;
mod backoff;
mod changes;
mod clock;
mod commands;
mod conflict;
mod downloads;
mod form;
mod groups;
mod incoming;
mod link;
mod marks;
mod older;
mod presence;
mod receipts;
mod sends;
mod session;
mod sync;
mod transfers;
mod turn;
mod uploads;
mod waking;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;

use poste_protocol::{Author, ConversationId, UserId};
use rand::SeedableRng;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::store::{Store, Tx};
use crate::{Connection, Counters, Event, OutboxEntry, OutboxState, Receipt, Seen, StoreError, Tuning};
pub use backlog::backlog;
pub use downloads::{Place, Wanted};
use link::Link;
pub use transfers::{News, Transfer};
use turn::Turn;

/// What the clocks of a device say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Unix milliseconds as the device believes them. For display, and for how long the device was off.
    pub wall: u64,
    /// Milliseconds from any beginning, never going back. For waits and deadlines.
    pub mono: u64,
    /// Which start of the device this is: another id after every one.
    pub boot: Uuid,
    /// Milliseconds since then, sleep included. For the age of messages.
    pub since_boot: u64,
}

impl Now {
    /// What the clocks of this device say, `mono` from now on. For who looks at a store and drives no engine.
    pub fn here() -> Self {
        crate::clock::Clock::new().now()
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The handshake that [`Output::Connect`] asked for has succeeded.
    Connected,
    /// It has failed, or the connection is gone.
    Disconnected(Lost),
    /// A text frame came.
    Frame(String),
    /// Time has passed.
    Tick,
    /// The application cuts the network, or says that it is back.
    Network(bool),
    /// A person looks at the application.
    Foreground,
    /// Nobody looks at it any more.
    Background,
    /// Whether the person may be seen, and so sees others.
    Visible(bool),
    /// The person wants to see who is here in these conversations.
    Watch(Vec<ConversationId>),
    /// The person is writing.
    Typing(ConversationId),
    /// A person looks at this conversation, or at none any more.
    Open(Option<ConversationId>),
    /// What became of the transfer with this number.
    Transfer(u64, News),
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Nobody answered, or the connection was closed.
    Closed,
    /// The handshake was answered with 401 or 403.
    Unauthorized,
    /// The token provider says that the person must sign in again.
    SignIn,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Connect, and answer with [`Input::Connected`] or [`Input::Disconnected`].
    Connect {
        /// The token used last was refused or has run out.
        fresh_token: bool,
    },
    /// Close the connection, or give up the handshake. Nothing more of it is to be passed in.
    Disconnect,
    /// Send this text frame.
    Frame(String),
    /// Tell the application.
    Event(Event),
    /// Answer whoever asked who has a message: see [`Engine::ask_receipts`].
    Receipts {
        /// Which inquiry.
        inquiry: u64,
        /// Who has it; nothing if there was no answer.
        found: Option<Vec<Receipt>>,
    },
    /// Something about a file.
    Transfer(Transfer),
}

/// The rules over a store.
pub struct Engine {
    store: Store,
    rules: Rules,
}

/// Everything of the engine but the store.
struct Rules {
    me: Author,
    tuning: Tuning,
    rng: StdRng,
    link: Link,
    /// The conversation on the screen.
    open: Option<ConversationId>,
    /// Conversations of which the application wants a page of history.
    older: BTreeMap<ConversationId, older::Wish>,
    presence: presence::Presence,
    inquiries: receipts::Inquiries,
    transfers: transfers::Transfers,
    /// Failed connections in a row.
    failures: u32,
    /// For how long the server wants lost connections to come back, at random.
    spread: u64,
    /// Tokens refused in a row.
    refused_tokens: u32,
    /// Connections whose place another one took, since a person last looked.
    replaced: u32,
    /// The connection as the application was told.
    told: Connection,
    last_reference: u64,
    counters: Counters,
    wake: Option<u64>,
    /// The store failed in the middle of a turn: what is known of the connection cannot be trusted any more.
    store_failed: bool,
}

/// After trouble with the store, how soon it is tried again.
const STORE_RETRY: u64 = 1_000;

impl Engine {
    /// An engine whose network is cut until [`Input::Network`] says otherwise. `seed` feeds the jitter and the ids;
    /// no two engines of one account may get the same.
    pub fn new(store: Store, me: Author, tuning: Tuning, seed: u64) -> Self {
        let rules = Rules {
            me,
            tuning,
            rng: StdRng::seed_from_u64(seed),
            link: Link::Off,
            open: None,
            older: BTreeMap::new(),
            presence: presence::Presence::default(),
            inquiries: receipts::Inquiries::default(),
            transfers: transfers::Transfers::default(),
            failures: 0,
            spread: 0,
            refused_tokens: 0,
            replaced: 0,
            told: Connection::Off,
            last_reference: 0,
            counters: Counters::default(),
            wake: None,
            store_failed: false,
        };
        Self { store, rules }
    }

    /// Takes in what happened.
    ///
    /// # Errors
    /// Trouble with the store: nothing was changed, and the connection will be made anew.
    pub fn handle(&mut self, now: Now, input: Input) -> Result<Vec<Output>, StoreError> {
        let ((), outputs) = self.turn(now, |rules, turn| rules.input(turn, input))?;
        Ok(outputs)
    }

    /// When the engine wants to be ticked, on the monotonic clock. Nothing when it only waits for inputs.
    pub fn next_wake(&self) -> Option<u64> {
        self.rules.wake
    }

    /// The connection as it is now.
    pub fn connection(&self) -> Connection {
        self.rules.connection()
    }

    /// Who is here, of those whom the device watches.
    pub fn seen(&self) -> Vec<Seen> {
        self.rules.seen()
    }

    /// Who is writing, and where.
    pub fn writing(&self) -> Vec<(ConversationId, UserId)> {
        self.rules.writing()
    }

    /// What was counted since the engine was made.
    pub fn counters(&self) -> Counters {
        self.rules.counters
    }

    /// The outbox as applications see it, with when something is sent next.
    pub fn outbox(&mut self, now: Now) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut entries = self.store.read()?.outbox_entries()?;
        let mut before: Option<ConversationId> = None;
        for entry in &mut entries {
            // Of each conversation one is next; what was refused waits for a person, and perhaps what is behind it: not
            // behind a change, which needs no order.
            let refused = entry.state == OutboxState::Failed;
            let behind = before.as_ref() == Some(&entry.conversation);
            if !refused && !behind {
                let now_or_later = |at: u64| now.wall.saturating_add(at.saturating_sub(now.mono));
                entry.next_try = self.rules.next_try(&entry.conversation).map(now_or_later);
            }
            if !refused || self.rules.tuning.hold_back && !entry.is_change() {
                before = Some(entry.conversation.clone());
            }
        }
        Ok(entries)
    }

    /// Reads from the store; everything that is read through it is of one moment.
    pub fn read(&mut self) -> Result<Tx<'_>, StoreError> {
        self.store.read()
    }

    /// A copy of the store as it is now, in memory. For simulations.
    pub fn backup(&self) -> Result<Store, StoreError> {
        self.store.copy()
    }

    /// Ends the engine as a kill would: only the store is left.
    pub fn into_store(self) -> Store {
        self.store
    }

    /// Lets the file grow to so many pages and no further, as a full disk would. For tests.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: u32) {
        self.store.limit_pages(pages);
    }

    /// One transaction: what happened, then everything that is due.
    fn turn<T>(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut Rules, &mut Turn<'_>) -> Result<T, StoreError>,
    ) -> Result<(T, Vec<Output>), StoreError> {
        self.turn_unless_refused(now, |rules, turn| act(rules, turn).map(Ok::<T, Infallible>)).map(|done| match done {
            Ok(done) => done,
            Err(never) => match never {},
        })
    }

    /// As [`Self::turn`], but what is refused leaves nothing behind. Whoever refuses must not have changed the rules'
    /// own state.
    fn turn_unless_refused<T, R>(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut Rules, &mut Turn<'_>) -> Result<Result<T, R>, StoreError>,
    ) -> Result<Result<(T, Vec<Output>), R>, StoreError> {
        let Self { store, rules } = self;
        let run = || {
            let mut turn = Turn::new(store.begin()?, now)?;
            let result = match act(rules, &mut turn)? {
                Ok(result) => result,
                Err(refused) => return Ok(Err(refused)),
            };
            if rules.store_failed {
                rules.start_over(&mut turn);
            }
            rules.do_what_is_due(&mut turn)?;
            let outputs = turn.finish()?;
            rules.store_failed = false;
            Ok(Ok((result, outputs)))
        };
        let done = run();
        if done.is_err() {
            rules.store_failed = true;
            rules.wake = Some(now.mono + STORE_RETRY);
        }
        done
    }
}

impl Rules {
    fn input(&mut self, turn: &mut Turn<'_>, input: Input) -> Result<(), StoreError> {
        match input {
            Input::Connected => self.on_connected(turn),
            Input::Disconnected(lost) => self.on_disconnected(turn, lost),
            Input::Frame(text) => return self.on_frame(turn, &text),
            Input::Tick => {}
            Input::Network(on) => self.on_network(turn, on),
            Input::Foreground => {
                self.on_foreground(turn);
                self.on_front(turn, true);
            }
            Input::Background => self.on_front(turn, false),
            Input::Visible(visible) => self.on_visible(turn, visible),
            Input::Watch(conversations) => self.on_watch(turn, conversations),
            Input::Typing(conversation) => self.on_typing(turn, conversation),
            Input::Open(id) => self.open = id,
            Input::Transfer(number, news) => return self.on_transfer(turn, number, &news),
        }
        Ok(())
    }

    /// Does everything whose time has come, and notes when to look again.
    fn do_what_is_due(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        self.link_timers(turn)?;
        self.end_signs(turn);
        self.pump_inquiries(turn);
        self.pump_transfers(turn)?;
        if self.session().is_some() {
            self.pump_list(turn)?;
            self.pump_setting(turn)?;
            self.pump_conflicts(turn)?;
            self.pump_syncs(turn)?;
            self.pump_older(turn)?;
            self.pump_sends(turn)?;
            self.pump_members(turn)?;
            self.pump_marks(turn)?;
            self.pump_presence(turn);
            self.pump_waking(turn)?;
            self.pump_keep_alive(turn);
        }
        let connection = self.connection();
        if connection != self.told {
            self.told = connection;
            turn.connection = Some(connection);
        }
        let now = turn.now.mono;
        let others = self.presence_wake(now).into_iter().chain(self.inquiries.wake(now));
        let others = others.chain(self.transfers_wake(now));
        self.wake = self.find_wake(turn)?.into_iter().chain(others).min();
        Ok(())
    }
}
