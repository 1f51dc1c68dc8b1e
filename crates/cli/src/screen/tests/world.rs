//! A client in memory that carries out what a screen wants, with the list's order as the store has it.

use std::collections::VecDeque;

use poste_client::{
    Connection, Conversation, Event, Failure, Message, OutboxEntry, OutboxState, State as MessageState,
};
use poste_protocol::{Code, ConversationId, DeviceId, EnvelopeId, MessageId, Seq, UserId};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;
use uuid::Uuid;

use crate::screen::draw;
use crate::screen::state::{Answer, Effect, Input, State};

/// Noon of 21 November 2026.
pub(super) const NOON: u64 = 1_795_262_400_000;

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

/// Messages in a page of history.
const HISTORY: u64 = 30;

/// What the client has of a conversation.
struct Log {
    id: ConversationId,
    peer: UserId,
    /// Those that have their place, then those that wait or failed.
    messages: Vec<Message>,
    head: Seq,
    /// As far back as here the store has it.
    oldest: Seq,
    read: Seq,
    active_at: u64,
}

impl Log {
    fn summary(&self) -> Conversation {
        let count = |which: &dyn Fn(&&Message) -> bool| self.messages.iter().filter(which).count() as u64;
        Conversation {
            id: self.id.clone(),
            peer: Some(self.peer.clone()),
            group: None,
            cursor: self.head,
            oldest: self.oldest,
            head: self.head,
            floor: Seq::ZERO,
            unread: count(&|message| message.state == MessageState::Received && message.seq > Some(self.read)),
            read: self.read,
            unsettled: count(&|message| message.seq.is_none()),
            active_at: self.active_at,
            preview: None,
            muted_until: None,
        }
    }
}

/// A screen and the client that it talks to.
pub(super) struct World {
    pub(super) state: State,
    logs: Vec<Log>,
    made: u128,
    /// What the screen asked for, and was not answered yet.
    asked: VecDeque<Effect>,
    pub(super) ended: bool,
    /// Every effect that is no reading.
    pub(super) done: Vec<Effect>,
}

impl World {
    pub(super) fn new(width: u16, height: u16) -> Self {
        let me = (user("alice"), DeviceId::new("terminal").expect("a valid name"));
        let state = State::new(me, Connection::Online, Vec::new(), Size { width, height }, NOON);
        Self { state, logs: Vec::new(), made: 0, asked: VecDeque::new(), ended: false, done: Vec::new() }
    }

    fn log(&mut self, peer: &str) -> &mut Log {
        let peer = user(peer);
        let id = ConversationId::direct(&user("alice"), &peer);
        let place = self.logs.iter().position(|log| log.id == id).unwrap_or_else(|| {
            let (messages, zero) = (Vec::new(), Seq::ZERO);
            self.logs.push(Log { id, peer, messages, head: zero, oldest: zero, read: zero, active_at: 0 });
            self.logs.len() - 1
        });
        &mut self.logs[place]
    }

    fn fresh(&mut self) -> MessageId {
        self.made += 1;
        MessageId(Uuid::from_u128(self.made))
    }

    /// Everything so far was read.
    pub(super) fn has_read(&mut self, peer: &str) {
        let log = self.log(peer);
        log.read = log.head;
    }

    /// The store has only the newest messages.
    pub(super) fn has_only(&mut self, peer: &str, count: u64) {
        let log = self.log(peer);
        log.oldest = Seq::ZERO.plus(log.head.get().saturating_sub(count));
    }

    /// A page of history comes from the server.
    pub(super) fn fetches_older(&mut self, id: &ConversationId) {
        let log = self.logs.iter_mut().find(|log| log.id == *id).expect("a known conversation");
        log.oldest = Seq::ZERO.plus(log.oldest.get().saturating_sub(HISTORY));
        let conversation = log.summary();
        self.give(Input::Told(Event::Conversation { conversation }));
    }

    /// A message is in the store; the screen is not told.
    pub(super) fn write(&mut self, peer: &str, own: bool, body: &str, state: MessageState) -> Message {
        let id = self.fresh();
        let at = NOON + u64::try_from(self.made).expect("few messages") * 60_000;
        let log = self.log(peer);
        log.active_at = at;
        let placed = !matches!(state, MessageState::Pending | MessageState::Failed);
        if placed {
            log.head = log.head.next();
        }
        let refused = Failure { code: Code::NotMember, message: "you are no member".into() };
        let message = Message {
            id,
            conversation: log.id.clone(),
            user: if own { user("alice") } else { log.peer.clone() },
            device: DeviceId::new("phone").expect("a valid name"),
            body: body.into(),
            event: None,
            file: None,
            written_at: Some(at),
            state,
            seq: placed.then_some(log.head),
            at: placed.then_some(at),
            failure: (state == MessageState::Failed).then_some(refused),
            edited_at: None,
            deleted: false,
            waiting: None,
            change: None,
        };
        let place =
            if placed { log.messages.iter().take_while(|m| m.seq.is_some()).count() } else { log.messages.len() };
        log.messages.insert(place, message.clone());
        message
    }

    /// A message comes in, and the screen is told.
    pub(super) fn arrives(&mut self, peer: &str, body: &str) {
        let message = self.write(peer, false, body, MessageState::Received);
        let conversation = self.log(peer).summary();
        self.give(Input::Told(Event::Added { message }));
        self.give(Input::Told(Event::Conversation { conversation }));
    }

    /// Everything that waits is acknowledged.
    pub(super) fn settles(&mut self, peer: &str, to: MessageState) {
        let log = self.log(peer);
        let mut events = Vec::new();
        for place in 0..log.messages.len() {
            if log.messages[place].seq.is_none() {
                log.head = log.head.next();
                let message = &mut log.messages[place];
                (message.seq, message.at, message.state) = (Some(log.head), message.written_at, to);
                events.push(Event::Updated { message: message.clone() });
            }
        }
        events.push(Event::Conversation { conversation: self.log(peer).summary() });
        for event in events {
            self.give(Input::Told(event));
        }
    }

    fn list(&self) -> Vec<Conversation> {
        let mut list: Vec<_> = self.logs.iter().map(Log::summary).collect();
        list.sort_by(|a, b| (b.active_at, &a.id).cmp(&(a.active_at, &b.id)));
        list
    }

    fn outbox(&self) -> Vec<OutboxEntry> {
        let waiting =
            self.logs.iter().flat_map(|log| log.messages.iter().filter(|m| m.seq.is_none()).map(move |m| (log, m)));
        let entry = |(log, message): (&Log, &Message)| {
            let failed = message.state == MessageState::Failed;
            OutboxEntry {
                conversation: log.id.clone(),
                peer: Some(log.peer.clone()),
                envelope: failed.then_some(EnvelopeId(Uuid::from_u128(1))),
                number: None,
                attempts: if failed { 2 } else { 0 },
                first_try: None,
                next_try: None,
                state: if failed { OutboxState::Failed } else { OutboxState::Queued },
                failure: message.failure.clone(),
                messages: vec![message.clone()],
            }
        };
        waiting.map(entry).collect()
    }

    /// The store's `history`.
    pub(super) fn history(&self, id: &ConversationId, before: Option<Seq>, limit: usize) -> Vec<Message> {
        let Some(log) = self.logs.iter().find(|log| log.id == *id) else { return Vec::new() };
        let fits = |message: &&Message| match before {
            None => message.seq.is_none_or(|seq| seq > log.oldest),
            Some(before) => message.seq.is_some_and(|seq| seq < before && seq > log.oldest),
        };
        let list: Vec<_> = log.messages.iter().filter(fits).cloned().collect();
        list[list.len().saturating_sub(limit)..].to_vec()
    }

    pub(super) fn give(&mut self, input: Input) {
        for effect in self.state.update(input) {
            self.asked.push_back(effect);
        }
    }

    /// Carries out one effect. `false` if there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some(effect) = self.asked.pop_front() else { return false };
        let summary = |log: &Log| Input::Told(Event::Conversation { conversation: log.summary() });
        let inputs = match effect.clone() {
            Effect::ReadConversations => vec![Input::Answer(Answer::Conversations(self.list()))],
            Effect::ReadOutbox => vec![Input::Answer(Answer::Outbox(self.outbox()))],
            Effect::ReadCounters | Effect::Redraw | Effect::Look(_) | Effect::Watch(_) | Effect::Typing(_) => {
                Vec::new()
            }
            Effect::Read { conversation, read } => {
                let (before, limit) = read.arguments();
                let messages = self.history(&conversation, before, limit);
                vec![Input::Answer(Answer::Page { conversation, read, messages })]
            }
            Effect::Send { conversation, body, .. } if body.contains("too big") => {
                vec![Input::Answer(Answer::NotSent { conversation, body, why: "the message is too big".into() })]
            }
            Effect::Send { to, body, .. } => {
                let poste_client::Target::User(peer) = to else { panic!("all conversations here are direct") };
                let message = self.write(peer.as_str(), true, &body, MessageState::Pending);
                vec![Input::Told(Event::Added { message }), summary(self.log(peer.as_str()))]
            }
            Effect::MarkRead { conversation, upto } => {
                let log = self.logs.iter_mut().find(|log| log.id == conversation).expect("a known conversation");
                assert!(upto <= log.head, "read further than there is");
                assert!(upto > log.read, "told twice");
                log.read = upto;
                vec![summary(log)]
            }
            Effect::Older(id) => {
                if self.state.is_online() {
                    self.fetches_older(&id);
                }
                Vec::new()
            }
            Effect::Retry(id) => self.settle_failed(id, false),
            Effect::Drop(id) => self.settle_failed(id, true),
            Effect::Edit { id, body } => self.change(id, |message| {
                (message.body, message.edited_at) = (body, message.written_at);
            }),
            Effect::Delete(id) => self.change(id, |message| {
                (message.body, message.deleted) = (String::new(), true);
            }),
            Effect::Network(on) => {
                let state = if on { Connection::Online } else { Connection::Off };
                vec![Input::Told(Event::Connection { state })]
            }
            Effect::End => {
                self.ended = true;
                Vec::new()
            }
        };
        let is_reading = matches!(
            effect,
            Effect::Read { .. }
                | Effect::ReadConversations
                | Effect::ReadOutbox
                | Effect::ReadCounters
                | Effect::Look(_)
                | Effect::Watch(_)
                | Effect::Typing(_)
        );
        if !is_reading {
            self.done.push(effect);
        }
        for input in inputs {
            self.give(input);
        }
        true
    }

    fn change(&mut self, id: MessageId, change: impl FnOnce(&mut Message)) -> Vec<Input> {
        let messages = self.logs.iter_mut().flat_map(|log| &mut log.messages);
        let message = messages.into_iter().find(|message| message.id == id).expect("a message of the screen");
        change(message);
        vec![Input::Told(Event::Updated { message: message.clone() })]
    }

    fn settle_failed(&mut self, id: MessageId, drop: bool) -> Vec<Input> {
        let Some(log) = self.logs.iter_mut().find(|log| log.messages.iter().any(|m| m.id == id)) else {
            return vec![Input::Answer(Answer::NotDone("it is not known".into()))];
        };
        let place = log.messages.iter().position(|m| m.id == id).expect("just found");
        let event = if drop {
            log.messages.remove(place);
            Event::Removed { conversation: log.id.clone(), id }
        } else {
            let message = &mut log.messages[place];
            (message.state, message.failure) = (MessageState::Pending, None);
            Event::Updated { message: message.clone() }
        };
        vec![Input::Told(event), Input::Told(Event::Conversation { conversation: log.summary() })]
    }

    /// Carries out everything. Ends, or there is a loop of asking.
    pub(super) fn run(&mut self) {
        for _ in 0..10_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the screen asks without end");
    }

    pub(super) fn key(&mut self, code: KeyCode) {
        self.give(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)));
        self.run();
    }

    pub(super) fn control(&mut self, letter: char) {
        self.give(Input::Key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL)));
        self.run();
    }

    pub(super) fn types(&mut self, text: &str) {
        for c in text.chars() {
            self.key(KeyCode::Char(c));
        }
    }

    /// The screen opens, with somebody's conversation or the list.
    pub(super) fn opened(mut self, with: Option<&str>) -> Self {
        self.state.conversations = self.list();
        if let Some(with) = with {
            self.state.open_with(user(with));
        }
        self.ticks();
        self
    }

    /// A second passes.
    pub(super) fn ticks(&mut self) {
        let now = self.state.now + 1000;
        self.give(Input::Tick(now));
        self.run();
    }

    pub(super) fn draw(&self) -> Terminal<TestBackend> {
        let Size { width, height } = self.state.size;
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("no terminal is needed");
        terminal.draw(|frame| draw::screen(&self.state, frame)).expect("no terminal is needed");
        terminal
    }

    pub(super) fn picture(&self) -> String {
        self.draw().backend().to_string()
    }

    /// The messages in memory, by what they say.
    pub(super) fn window(&self) -> Vec<&str> {
        let open = self.state.open.as_ref().expect("a conversation is open");
        open.window.messages().iter().map(|message| message.body.as_str()).collect()
    }
}
