//! A device: the real engine of the device library over its real store, in memory. It is switched off and on, loses
//! its connection, and is killed; only its store survives that.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use poste_client::{
    State, Target, Tuning,
    engine::{Engine, Input, Lost, Now, Output},
    store::Store,
};
use poste_domain::routes::Caller;
use poste_protocol::{Author, ConversationId, Event as GroupEvent, MessageId, Request, Role, UserId};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};
use uuid::Uuid;

use crate::{mutation::Mutation, network::Network};

/// Pages of history are small, so that there are many.
fn tuning() -> Tuning {
    Tuning { history_page: 6, ..Tuning::default() }
}

/// What happens to a device from outside.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// Somebody writes.
    Write(UserId, String),
    /// Somebody gives one of their messages, of whichever device, another text.
    Edit(usize, String),
    /// Somebody deletes one of their messages, or of those of a group.
    Delete(usize),
    /// Somebody begins a group.
    Create(Vec<UserId>),
    /// Somebody does something in one of the groups that the device knows: the one with this number.
    InGroup(usize, Deed),
    /// The network comes or goes.
    Network(bool),
    /// The connection breaks without a word to the device's application.
    Break,
    /// The process is killed and started again.
    Kill,
    /// Somebody makes a backup of the device.
    Backup,
    /// The device is put back to its backup, if there is one: what it has lived through since is gone.
    RollBack,
    /// The clock on the wall jumps, by so many milliseconds.
    Clock(i64),
    /// The person looks at older messages, everywhere.
    Older,
    /// The person takes the application before them, with all conversations in sight, or puts it away.
    Look(bool),
    /// The person begins to write to somebody.
    Type(UserId),
    /// The person sees that a message has failed, and has it sent again or drops it.
    Decide(MessageId),
}

/// What somebody does in a group.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    Say(String),
    Do(GroupEvent),
}

impl Deed {
    /// Something, as the dice say.
    pub(crate) fn any(number: usize, other: &UserId) -> Self {
        let users = vec![other.clone()];
        match number % 10 {
            0 | 1 => Self::Do(GroupEvent::Added { users }),
            2 => Self::Do(GroupEvent::Removed { users }),
            3 => Self::Do(GroupEvent::Left),
            4 | 5 => Self::Do(GroupEvent::Role { user: other.clone(), role: Role::Admin }),
            6 => Self::Do(GroupEvent::Titled { title: format!("title {number}") }),
            _ => Self::Say(format!("said {number}")),
        }
    }
}

/// What comes to the device's loop.
enum Event {
    Fate(Fate),
    /// The handshake number so and so has ended.
    Shaken(u64, Option<(Caller, UnboundedReceiver<String>)>),
    /// A frame on the connection number so and so; nothing: it is closed.
    Frame(u64, Option<String>),
}

/// A device from outside.
pub(crate) struct Device {
    pub(crate) me: Author,
    pub(crate) engine: Arc<Mutex<Option<Engine>>>,
    /// Every message that was written on it, in order.
    pub(crate) written: Arc<Mutex<Vec<Written>>>,
    events: UnboundedSender<Event>,
}

/// A message that was written on a device.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) conversation: ConversationId,
    pub(crate) id: MessageId,
    /// The device was rolled back to before it was written: it may have been stored, or be gone.
    pub(crate) forgotten: bool,
    /// It failed and was dropped. In another life of the device it may be sent all the same, at any time.
    pub(crate) dropped: bool,
}

impl Device {
    pub(crate) fn start(network: Arc<Network>, me: Author, seed: u64) -> Self {
        let store = Store::in_memory(&me.user, &me.device).and_then(Store::without_search).expect("a store in memory");
        let engine = Arc::new(Mutex::new(Some(Engine::new(store, me.clone(), tuning(), seed))));
        let written = Arc::new(Mutex::default());
        let (events, inbox) = unbounded_channel();
        let life = Life {
            network,
            me: me.clone(),
            engine: engine.clone(),
            written: written.clone(),
            events: events.clone(),
            began: Instant::now(),
            wall_offset: 0,
            seed,
            link: 0,
            caller: None,
            backup: None,
        };
        tokio::spawn(life.run(inbox));
        Self { me, engine, written, events }
    }

    pub(crate) fn befall(&self, fate: Fate) {
        // The loop only ends with the runtime.
        let _ = self.events.send(Event::Fate(fate));
    }
}

struct Life {
    network: Arc<Network>,
    me: Author,
    engine: Arc<Mutex<Option<Engine>>>,
    written: Arc<Mutex<Vec<Written>>>,
    events: UnboundedSender<Event>,
    began: Instant,
    wall_offset: i64,
    seed: u64,
    /// Counts handshakes, so that what belongs to an earlier one is known as such.
    link: u64,
    caller: Option<Caller>,
    /// The store as it was, and how many messages had been written by then.
    backup: Option<(Store, usize)>,
}

/// What a device's clock says when its world begins, in Unix milliseconds: not what the server's says.
const WALL_MS: u64 = 1_780_000_000_000;

/// How long it takes until somebody does something about a failed message.
const ATTENTION: Duration = Duration::from_secs(3);

/// Messages of a conversation that a person looks at.
const SHOWN: usize = 40;

/// With nothing to wait for, the device still looks up now and then.
const IDLE: Duration = Duration::from_hours(1);

impl Life {
    fn now(&self) -> Now {
        let mono = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = (WALL_MS + mono).saturating_add_signed(self.wall_offset);
        Now { wall, mono, boot: Uuid::nil(), since_boot: mono }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = self.engine.lock().expect("no panic under the lock");
        act(engine.as_mut().expect("an engine, except while it is killed"))
    }

    async fn run(mut self, mut inbox: UnboundedReceiver<Event>) {
        self.handle(Input::Network(true));
        loop {
            let wake = self.with(|engine| engine.next_wake()).map(|at| self.began + Duration::from_millis(at));
            let wake = wake.unwrap_or_else(|| Instant::now() + IDLE);
            match tokio::time::timeout_at(wake, inbox.recv()).await {
                Ok(None) => return,
                Ok(Some(event)) => self.on(event),
                Err(_) => self.handle(Input::Tick),
            }
        }
    }

    fn on(&mut self, event: Event) {
        if let Event::Fate(fate) = &event {
            let me = &self.me;
            self.network.world.chronicle.note(|| format!("{}'s {}: {fate:?}", me.user, me.device));
        }
        match event {
            Event::Fate(Fate::Write(to, body)) => {
                let now = self.now();
                let (message, outputs) =
                    self.with(|engine| engine.send(now, Target::User(to.clone()), body)).expect("a store in memory");
                self.wrote(&message);
                self.carry_out(outputs);
            }
            Event::Fate(Fate::Edit(which, text)) => {
                let Some(id) = self.own(which) else { return };
                let now = self.now();
                // A failed one is retried or dropped first.
                if let Ok((_, outputs)) = self.with(|engine| engine.edit(now, id, text)) {
                    self.carry_out(outputs);
                }
            }
            Event::Fate(Fate::Delete(which)) => {
                let Some(id) = self.deletable(which) else { return };
                let now = self.now();
                // Who knows that they are not in the group any more cannot.
                let Ok(((), outputs)) = self.with(|engine| engine.delete(now, id)) else { return };
                let user = self.me.user.clone();
                let there = self.with(|engine| engine.read().and_then(|tx| tx.own(&user, id)));
                if there.expect("a store in memory").is_none() {
                    self.dropped(id);
                }
                self.carry_out(outputs);
            }
            Event::Fate(Fate::Create(members)) => {
                let now = self.now();
                let (group, outputs) = self
                    .with(|engine| engine.create_group(now, "a group".to_owned(), members))
                    .expect("a store in memory");
                let written = self.with(|engine| engine.read().and_then(|tx| tx.history(&group.id, None, 1)));
                written.expect("a store in memory").iter().for_each(|message| self.wrote(message));
                self.carry_out(outputs);
            }
            Event::Fate(Fate::InGroup(number, deed)) => self.does(number, deed),
            Event::Fate(Fate::Network(on)) => self.handle(Input::Network(on)),
            Event::Fate(Fate::Break) => {
                self.hang_up();
                self.handle(Input::Disconnected(Lost::Closed));
            }
            Event::Fate(Fate::Kill) => {
                let store = self.die();
                self.live(store);
            }
            Event::Fate(Fate::Backup) => {
                let count = self.written.lock().expect("no panic under the lock").len();
                self.backup = Some((self.with(|engine| engine.backup()).expect("a store in memory"), count));
            }
            Event::Fate(Fate::RollBack) => {
                if let Some((store, count)) = self.backup.take() {
                    self.die();
                    for message in &mut self.written.lock().expect("no panic under the lock")[count..] {
                        message.forgotten = true;
                    }
                    self.live(store);
                }
            }
            Event::Fate(Fate::Older) => {
                let now = self.now();
                let known = self.with(|engine| engine.read().and_then(|tx| tx.conversations()));
                for conversation in known.expect("a store in memory") {
                    let asked = self.with(|engine| engine.older(now, &conversation.id));
                    self.carry_out(asked.expect("it is known").1);
                }
            }
            Event::Fate(Fate::Look(true)) => {
                let known = self.with(|engine| engine.read().and_then(|tx| tx.conversations()));
                let known = known.expect("a store in memory");
                self.handle(Input::Watch(known.iter().map(|conversation| conversation.id.clone()).collect()));
                self.handle(Input::Foreground);
                // What is in sight is read.
                let now = self.now();
                for conversation in known {
                    let read = self.with(|engine| engine.mark_read(now, &conversation.id, conversation.cursor));
                    self.carry_out(read.expect("it is known").1);
                }
            }
            Event::Fate(Fate::Look(false)) => self.handle(Input::Background),
            Event::Fate(Fate::Type(to)) => {
                let conversation = ConversationId::direct(&self.me.user, &to);
                self.handle(Input::Typing(conversation));
            }
            Event::Fate(Fate::Decide(id)) => self.decide(id),
            Event::Fate(Fate::Clock(by)) => self.wall_offset = self.wall_offset.saturating_add(by),
            Event::Shaken(link, shaken) if link == self.link => match shaken {
                Some((caller, mut socket)) => {
                    self.caller = Some(caller);
                    let events = self.events.clone();
                    tokio::spawn(async move {
                        while let Some(frame) = socket.recv().await {
                            let _ = events.send(Event::Frame(link, Some(frame)));
                        }
                        let _ = events.send(Event::Frame(link, None));
                    });
                    self.handle(Input::Connected);
                }
                None => self.handle(Input::Disconnected(Lost::Closed)),
            },
            Event::Frame(link, frame) if link == self.link && self.caller.is_some() => {
                if let Some(frame) = frame {
                    self.handle(Input::Frame(frame));
                } else {
                    self.hang_up();
                    self.handle(Input::Disconnected(Lost::Closed));
                }
            }
            // Of a connection that is history.
            Event::Shaken(_, shaken) => {
                if let Some((caller, _)) = shaken {
                    self.close(caller);
                }
            }
            Event::Frame(..) => {}
        }
    }

    fn wrote(&self, message: &poste_client::Message) {
        self.written.lock().expect("no panic under the lock").push(Written {
            conversation: message.conversation.clone(),
            id: message.id,
            forgotten: false,
            dropped: false,
        });
    }

    /// Does something in a group, if any is known. Who knows that they are not in cannot.
    fn does(&mut self, number: usize, deed: Deed) {
        let now = self.now();
        let known = self.with(|engine| engine.read().and_then(|tx| tx.conversations())).expect("a store in memory");
        let mut groups: Vec<_> = known.into_iter().map(|known| known.id).filter(ConversationId::is_group).collect();
        groups.sort();
        let Some(group) = groups.get(number % groups.len().max(1)).cloned() else { return };
        let done = self.with(|engine| match deed {
            Deed::Say(body) => engine.send(now, Target::Conversation(group), body),
            Deed::Do(event) => engine.group_event(now, &group, event),
        });
        if let Ok((message, outputs)) = done {
            self.wrote(&message);
            self.carry_out(outputs);
        }
    }

    /// Has a failed message sent again, or drops it. It may have come to something meanwhile.
    fn decide(&mut self, id: MessageId) {
        let now = self.now();
        let retried = self.network.forgives() && self.network.world.weather.chance(0.5);
        let done = self.with(|engine| if retried { engine.retry(now, id) } else { engine.drop_message(now, id) });
        if let Ok(((), outputs)) = done {
            if !retried {
                self.dropped(id);
            }
            self.carry_out(outputs);
        }
    }

    fn dropped(&self, id: MessageId) {
        let mut written = self.written.lock().expect("no panic under the lock");
        written.iter_mut().filter(|message| message.id == id).for_each(|message| message.dropped = true);
    }

    /// One of the user's messages that this device shows.
    fn own(&self, which: usize) -> Option<MessageId> {
        self.one_of(which, |message| message.user == self.me.user)
    }

    /// A message that is the device's user's own, or in a group.
    fn deletable(&self, which: usize) -> Option<MessageId> {
        self.one_of(which, |message| message.user == self.me.user || message.conversation.is_group())
    }

    /// One of the messages that are shown and are such.
    fn one_of(&self, which: usize, such: impl Fn(&poste_client::Message) -> bool) -> Option<MessageId> {
        let shown = self.with(|engine| {
            let tx = engine.read()?;
            let mut shown = Vec::new();
            for conversation in tx.conversations()? {
                shown.extend(tx.history(&conversation.id, None, SHOWN)?);
            }
            Ok::<_, poste_client::StoreError>(shown)
        });
        let mut shown = shown.expect("a store in memory");
        shown.retain(|message| !message.deleted && message.event.is_none() && such(message));
        Some(shown.get(which.checked_rem(shown.len())?)?.id)
    }

    /// The person will see what has failed.
    fn show(&self, message: &poste_client::Message) {
        let change = message.waiting.as_ref().filter(|change| change.state == State::Failed).map(|change| change.id);
        if let Some(id) = change.or_else(|| (message.state == State::Failed).then_some(message.id)) {
            let events = self.events.clone();
            tokio::spawn(async move {
                tokio::time::sleep(ATTENTION).await;
                let _ = events.send(Event::Fate(Fate::Decide(id)));
            });
        }
    }

    /// The process ends; what is on the disk is left.
    fn die(&mut self) -> Store {
        self.hang_up();
        let mut engine = self.engine.lock().expect("no panic under the lock");
        engine.take().expect("an engine, except while it is killed").into_store()
    }

    /// The process starts on a disk.
    fn live(&mut self, store: Store) {
        self.seed += 1_000_003;
        let engine = Engine::new(store, self.me.clone(), tuning(), self.seed);
        *self.engine.lock().expect("no panic under the lock") = Some(engine);
        let waiting = self.with(|engine| engine.read().and_then(|tx| tx.outbox_entries())).expect("a store in memory");
        waiting.iter().flat_map(|entry| &entry.messages).for_each(|message| self.show(message));
        self.handle(Input::Network(true));
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        let outputs = self.with(|engine| engine.handle(now, input)).expect("a store in memory");
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Connect { .. } => {
                    self.hang_up();
                    let (network, me, events, link) =
                        (self.network.clone(), self.me.clone(), self.events.clone(), self.link);
                    tokio::spawn(async move {
                        let shaken = network.connect(&me).await;
                        let _ = events.send(Event::Shaken(link, shaken));
                    });
                }
                Output::Disconnect => self.hang_up(),
                Output::Frame(text) => {
                    if let Some(caller) = &self.caller {
                        let text =
                            if self.network.world.breaks(Mutation::OutboxRegroups) { regrouped(text) } else { text };
                        self.network.carry(caller, &text);
                        if self.network.world.breaks(Mutation::OutboxFreesWhenSent) {
                            self.free_what_is_sent();
                        }
                    }
                }
                Output::Event(poste_client::Event::Updated { message }) => self.show(&message),
                Output::Event(_) | Output::Receipts { .. } | Output::Transfer(_) => {}
            }
        }
    }

    /// Takes out of the outbox whatever messages are under way. Changes that went again and again would be looked for
    /// again and again by every delete.
    fn free_what_is_sent(&self) {
        let free = |engine: &mut Engine| {
            let tx = engine.read()?;
            for row in tx.outbox_rows()? {
                let change = [r#""edits":{"#, r#""deletes":{"#].iter().any(|key| row.json.contains(key));
                if !change {
                    tx.dissolve(row.envelope)?;
                }
            }
            tx.commit()
        };
        self.with(free).expect("a store in memory");
    }

    /// Ends the connection, or the handshake, that is under way.
    fn hang_up(&mut self) {
        self.link += 1;
        if let Some(caller) = self.caller.take() {
            self.close(caller);
        }
    }

    fn close(&self, caller: Caller) {
        let network = self.network.clone();
        tokio::spawn(async move { network.disconnect(&caller).await });
    }
}

/// A `send` frame in which what is sent again has another id and number.
fn regrouped(text: String) -> String {
    let Ok(Request::Send(mut frame)) = serde_json::from_str(&text) else { return text };
    for submission in frame.submissions.iter_mut().filter(|submission| submission.attempt > 1) {
        submission.envelope.id.0 = Uuid::from_u128(submission.envelope.id.0.as_u128() ^ 1);
        submission.envelope.number = submission.envelope.number.next();
    }
    serde_json::to_string(&Request::Send(frame)).unwrap_or(text)
}
