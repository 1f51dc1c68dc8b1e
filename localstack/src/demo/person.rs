//! Somebody with a device: a client of the library, and what it has told so far.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use async_trait::async_trait;
use poste_client::{
    Client, ClientConfig, Connection, Event, Events, Message, State, Target, TokenError, TokenProvider,
};
use poste_protocol::{ConversationId, DeviceId, MessageId, UserId};
use tokio::sync::Notify;

use super::PATIENCE;
use crate::stack::Stack;

/// More than the demonstration writes.
const ALL: usize = 10_000;

pub(super) struct Person {
    pub(super) name: String,
    pub(super) client: Client,
    user: UserId,
    with: UserId,
    conversation: ConversationId,
    seen: Arc<Seen>,
}

/// What the client's events told, with the times at which they came.
#[derive(Default)]
struct Seen {
    told: Mutex<Told>,
    more: Notify,
}

#[derive(Default)]
struct Told {
    messages: HashMap<MessageId, Vec<(State, Instant)>>,
    received: Vec<Instant>,
    connection: Vec<(Connection, Instant)>,
    missed: bool,
}

/// How far a state is on an own message's way; what was received is there at once.
fn rank(state: State) -> u8 {
    match state {
        State::Failed => 0,
        State::Pending => 1,
        State::Sent => 2,
        State::Delivered => 3,
        State::Read => 4,
        State::Received => 5,
    }
}

impl Person {
    /// A device with a fresh file, its network cut.
    pub(super) async fn open(
        stack: &Stack,
        folder: &Path,
        name: &str,
        device: &str,
        with: &str,
    ) -> anyhow::Result<Self> {
        let (user, with) = (UserId::new(name)?, UserId::new(with)?);
        let device = DeviceId::new(device)?;
        let tokens = Issuer {
            http: reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?,
            address: format!("{}/token", stack.issuer),
            who: serde_json::json!({"user": user, "device": device, "expires_in": 3600}),
        };
        let path = folder.join(format!("{name}.db"));
        let mut config = ClientConfig::new(path, &stack.socket_url, user.clone(), device, Arc::new(tokens));
        config.network = false;
        let client = Client::open(config).await.with_context(|| format!("{name}'s device"))?;
        let seen = Arc::new(Seen::default());
        tokio::spawn(collect(client.events(), Arc::clone(&seen)));
        let conversation = ConversationId::direct(&user, &with);
        Ok(Self { name: name.to_owned(), client, user, with, conversation, seen })
    }

    pub(super) async fn close(&self) {
        self.client.close().await;
    }

    pub(super) async fn write(&self, body: &str) -> anyhow::Result<Message> {
        Ok(self.client.send(Target::User(self.with.clone()), body).await?)
    }

    pub(super) async fn list(&self) -> anyhow::Result<Vec<Message>> {
        Ok(self.client.history(self.conversation.clone(), None, ALL).await?)
    }

    /// How often a message is in the list.
    pub(super) async fn knows(&self, message: &Message) -> anyhow::Result<usize> {
        Ok(self.list().await?.iter().filter(|known| known.id == message.id).count())
    }

    pub(super) async fn read_all(&self) -> anyhow::Result<()> {
        let known = self.client.conversation(self.conversation.clone()).await?;
        let known = known.with_context(|| format!("{} does not know the conversation", self.name))?;
        Ok(self.client.mark_read(self.conversation.clone(), known.cursor).await?)
    }

    /// When the connection came up after `began`.
    pub(super) async fn connected_since(&self, began: Instant) -> anyhow::Result<Instant> {
        let name = &self.name;
        self.wait(format!("{name} connects"), |told| {
            told.connection.iter().find(|(c, at)| *c == Connection::Online && *at >= began).map(|(_, at)| *at)
        })
        .await
    }

    pub(super) async fn is(&self, wanted: Connection) -> anyhow::Result<Instant> {
        let name = &self.name;
        self.wait(format!("{name}'s connection is {wanted:?}"), |told| {
            told.connection.last().filter(|(connection, _)| *connection == wanted).map(|(_, at)| *at)
        })
        .await
    }

    /// When a message came as far as a state.
    pub(super) async fn reached(&self, message: &Message, wanted: State) -> anyhow::Result<Instant> {
        let body: String = message.body.chars().take(30).collect();
        self.wait(format!("{} sees \"{body}\" {wanted:?}", self.name), |told| {
            let states = told.messages.get(&message.id)?;
            states.iter().find(|(state, _)| rank(*state) >= rank(wanted)).map(|(_, at)| *at)
        })
        .await
    }

    /// When so many messages of the other had come.
    pub(super) async fn received(&self, count: usize) -> anyhow::Result<Instant> {
        self.wait(format!("{} has {count} messages of {}", self.name, self.with), |told| {
            told.received.get(count - 1).copied()
        })
        .await
    }

    /// When the last of the own messages was delivered.
    pub(super) async fn settled(&self) -> anyhow::Result<Instant> {
        let mut last = None;
        for message in self.list().await?.iter().filter(|message| message.user == self.user) {
            last = last.max(Some(self.reached(message, State::Delivered).await?));
        }
        last.with_context(|| format!("{} has written nothing", self.name))
    }

    async fn wait(&self, what: String, done: impl Fn(&Told) -> Option<Instant>) -> anyhow::Result<Instant> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let more = self.seen.more.notified();
            tokio::pin!(more);
            // From here on no event is overlooked.
            more.as_mut().enable();
            {
                let told = self.seen.told.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(at) = done(&told) {
                    return Ok(at);
                }
                if told.missed {
                    bail!("events of {}'s device were missed", self.name);
                }
            }
            if tokio::time::timeout_at(until, more).await.is_err() {
                let connection = self.client.connection().await?;
                let counters = self.client.counters().await?;
                bail!(
                    "waited {} s in vain for: {what} ({}'s connection: {connection:?}; {counters:?})",
                    PATIENCE.as_secs(),
                    self.name
                );
            }
        }
    }
}

async fn collect(mut events: Events, seen: Arc<Seen>) {
    while let Some(event) = events.next().await {
        let now = Instant::now();
        let mut told = seen.told.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Added { message } => {
                if message.state == State::Received {
                    told.received.push(now);
                }
                told.messages.entry(message.id).or_default().push((message.state, now));
            }
            Event::Updated { message } => told.messages.entry(message.id).or_default().push((message.state, now)),
            Event::Connection { state } => told.connection.push((state, now)),
            Event::Missed { .. } => told.missed = true,
            Event::Removed { .. }
            | Event::Conversation { .. }
            | Event::Presence { .. }
            | Event::Typing { .. }
            | Event::Progress { .. }
            | Event::Push { .. } => {}
        }
        drop(told);
        seen.more.notify_waiters();
    }
}

/// Tokens from the stack's issuer.
struct Issuer {
    http: reqwest::Client,
    address: String,
    who: serde_json::Value,
}

#[derive(serde::Deserialize)]
struct Issued {
    token: String,
}

#[async_trait]
impl TokenProvider for Issuer {
    async fn token(&self, _fresh: bool) -> Result<String, TokenError> {
        let unavailable = |wrong: reqwest::Error| TokenError::Unavailable(wrong.to_string());
        let answer = self.http.post(&self.address).json(&self.who).send().await.map_err(unavailable)?;
        let issued: Issued = answer.error_for_status().map_err(unavailable)?.json().await.map_err(unavailable)?;
        Ok(issued.token)
    }
}
