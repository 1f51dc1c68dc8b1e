//! A device with the real engine of the device library over its real store, in memory. What a kill leaves is the store.

use std::{collections::VecDeque, rc::Rc, time::Duration};

use poste_client::{
    Conversation, Message, Receipt, State, StoreError, Target, Tuning,
    engine::{Engine, Input, Now, Output},
    store::{Store, Tx},
};
use poste_domain::routes::Caller;
use poste_protocol::{Author, MessageId};
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use super::{Chat, Stage, millis, user_id};

/// What a phone's clock is behind the server's, in milliseconds. The two have nothing to do with each other.
const BEHIND_MS: u64 = 10_000_000_000;

/// Messages that a list shows.
const SHOWN: usize = 100;

/// Pages of history are small, so that a short conversation has several.
fn tuning() -> Tuning {
    Tuning { history_page: 2, ..Tuning::default() }
}

/// A device of the device library. It does what it has to do at once, and waits only when it is told to.
pub struct Phone {
    stage: Rc<Stage>,
    me: Author,
    /// Nothing only while it is killed.
    engine: Option<Engine>,
    line: Option<(Caller, UnboundedReceiver<String>)>,
    /// What it was told last of who has a message.
    told: Option<Vec<Receipt>>,
}

impl Phone {
    pub(super) fn new(stage: Rc<Stage>, me: Author) -> Self {
        let store = Store::in_memory(&me.user, &me.device).expect("a store in memory");
        let engine = Some(Engine::new(store, me.clone(), tuning(), 0));
        Self { stage, me, engine, line: None, told: None }
    }

    /// The person writes to somebody.
    pub fn writes(&mut self, to: &str, body: &str) {
        let (now, to) = (self.now(), Target::User(user_id(to)));
        let (_, outputs) = self.engine().send(now, to, body.to_owned()).expect("a store in memory");
        self.carries_out(outputs);
    }

    /// The person writes to a conversation that the phone knows.
    pub fn writes_in(&mut self, chat: &Chat, body: &str) {
        let (now, to) = (self.now(), Target::Conversation(chat.id.clone()));
        let (_, outputs) = self.engine().send(now, to, body.to_owned()).expect("a store in memory");
        self.carries_out(outputs);
    }

    /// The person gives the message with this text another one.
    pub fn edits(&mut self, shown: &str, body: &str) {
        let (now, id) = (self.now(), self.finds(shown));
        let (_, outputs) = self.engine().edit(now, id, body.to_owned()).expect("an own message");
        self.carries_out(outputs);
    }

    /// The person deletes the message with this text, for everyone.
    pub fn deletes(&mut self, shown: &str) {
        let (now, id) = (self.now(), self.finds(shown));
        let ((), outputs) = self.engine().delete(now, id).expect("an own message");
        self.carries_out(outputs);
    }

    fn finds(&mut self, shown: &str) -> MessageId {
        let found = self.reads(|store| store.search(shown, None, None, 1));
        found.hits.first().expect("it is on the screen").message.id
    }

    /// The network is there: the phone connects, sends and fetches.
    pub fn goes_online(&mut self) {
        self.happens(Input::Network(true));
    }

    /// The network is gone.
    pub fn goes_offline(&mut self) {
        self.happens(Input::Network(false));
    }

    /// Time passes, and the phone does what is due.
    pub fn waits(&mut self, time: Duration) {
        let until = self.now().mono + millis(time);
        loop {
            let next = self.engine().next_wake().unwrap_or(u64::MAX).min(until);
            let step = next.saturating_sub(self.now().mono);
            self.stage.runtime.block_on(tokio::time::advance(Duration::from_millis(step)));
            self.happens(Input::Tick);
            if next == until {
                return;
            }
        }
    }

    /// The process is killed and started again, without the network. Only the disk is as it was.
    pub fn is_killed(&mut self) {
        self.hangs_up();
        let store = self.engine.take().expect("an engine").into_store();
        self.engine = Some(Engine::new(store, self.me.clone(), tuning(), self.stage.next()));
    }

    /// What the list of a conversation shows, in its order.
    pub fn shows(&mut self, chat: &Chat) -> Vec<(String, State)> {
        let shown: Vec<Message> = self.reads(|store| store.history(&chat.id, None, SHOWN));
        shown.into_iter().map(|message| (message.body, message.state)).collect()
    }

    /// Up to where it has taken the conversation in.
    pub fn cursor(&mut self, chat: &Chat) -> u64 {
        let known: Option<Conversation> = self.reads(|store| store.conversation_view(&chat.id));
        known.map_or(0, |known| known.cursor.get())
    }

    /// As far back as where (exclusive) it has the conversation.
    pub fn oldest(&mut self, chat: &Chat) -> u64 {
        let known: Option<Conversation> = self.reads(|store| store.conversation_view(&chat.id));
        known.map_or(0, |known| known.oldest.get())
    }

    /// The person looks for older messages. Says whether there are any.
    pub fn looks_back(&mut self, chat: &Chat) -> bool {
        let now = self.now();
        let (any, outputs) = self.engine().older(now, &chat.id).expect("a conversation that it knows");
        self.carries_out(outputs);
        any
    }

    /// The person asks who has the message with this text. Nothing if there is no answer.
    pub fn asks_who_has(&mut self, shown: &str) -> Option<Vec<(String, State)>> {
        let (now, id) = (self.now(), self.finds(shown));
        self.told = None;
        let (_, outputs) = self.engine().ask_receipts(now, id).expect("an own message");
        self.carries_out(outputs);
        let told = self.told.take()?;
        Some(told.into_iter().map(|receipt| (receipt.user.to_string(), receipt.state)).collect())
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("an engine")
    }

    fn reads<T>(&mut self, look: impl FnOnce(&Tx<'_>) -> Result<T, StoreError>) -> T {
        self.engine().read().and_then(|store| look(&store)).expect("a store in memory")
    }

    fn now(&self) -> Now {
        let wall = self.stage.right_now_ms() - BEHIND_MS;
        Now { wall, mono: wall, boot: Uuid::nil(), since_boot: wall }
    }

    fn happens(&mut self, input: Input) {
        let now = self.now();
        let outputs = self.engine().handle(now, input).expect("a store in memory");
        self.carries_out(outputs);
    }

    /// Until there is nothing left to do.
    fn carries_out(&mut self, outputs: Vec<Output>) {
        let mut outputs = VecDeque::from(outputs);
        loop {
            let input = match outputs.pop_front() {
                Some(Output::Connect { .. }) => {
                    self.hangs_up();
                    self.line = Some(self.stage.connects(&self.me));
                    Some(Input::Connected)
                }
                Some(Output::Disconnect) => {
                    self.hangs_up();
                    None
                }
                Some(Output::Frame(text)) => self.is_answered(text),
                Some(Output::Event(_) | Output::Transfer(_)) => None,
                Some(Output::Receipts { found, .. }) => {
                    self.told = found;
                    None
                }
                None => match self.line.as_mut().and_then(|(_, frames)| frames.try_recv().ok()) {
                    Some(frame) => Some(Input::Frame(frame)),
                    None => return,
                },
            };
            if let Some(input) = input {
                let now = self.now();
                outputs.extend(self.engine().handle(now, input).expect("a store in memory"));
            }
        }
    }

    fn is_answered(&mut self, text: String) -> Option<Input> {
        let (caller, _) = self.line.as_ref()?;
        let answer = self.stage.runtime.block_on(self.stage.answers(caller.clone(), text));
        Some(Input::Frame(serde_json::to_string(&answer?).expect("a frame has only plain fields")))
    }

    fn hangs_up(&mut self) {
        if let Some((caller, _)) = self.line.take() {
            self.stage.world.close(&caller.connection);
        }
    }
}
