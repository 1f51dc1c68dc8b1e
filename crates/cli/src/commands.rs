//! What each command does.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use poste_client::{
    Backlog, Client, Connection, Counters, Error, Event, Events, Message, OutboxEntry, OutboxState, State, Target,
    TokenProvider, engine,
};
use poste_protocol::{ConversationId, DeviceId, MessageId, PushStyle, PushToken, Seq, UserId, limits};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use crate::account::{Account, Unavailable};
use crate::args::{Args, Command, Receipts, Which};
use crate::files::{self, Bar};
use crate::{groups, lines, print, screen, signals, time};

/// Not acknowledged in time; nothing is lost.
const NOT_YET: u8 = 3;

/// After so long without news, what was missed is taken to be there.
const QUIET: Duration = Duration::from_millis(500);

/// A command line that is well formed, and asks for what cannot be.
#[derive(Debug)]
pub(crate) struct Usage(&'static str);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Usage {}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { whose, json, command } = args;
    let mut account = Account::find(&whose)?;
    match command {
        Command::Login => login(&account, json).await?,
        Command::Send { to, wait, file, kind, text } => {
            let text = text.map(typed).transpose()?.unwrap_or_default();
            return send(&account, to, file, kind, text, wait, json).await;
        }
        Command::Download { wait, output, id } => {
            return files::download(&account, MessageId(id), output, wait, json).await;
        }
        Command::Edit { wait, id, text } => {
            let text = typed(text)?;
            return change(&account, MessageId(id), Some(text), wait, json).await;
        }
        Command::Delete { wait, id } => return change(&account, MessageId(id), None, wait, json).await,
        Command::Show { with, limit, before, older, wait } => {
            return show(&account, &with, before, limit, older.then_some(wait), json).await;
        }
        Command::Conversations => {
            if let Some(mut store) = account.read()? {
                print::list(&store.read()?.conversations()?, json, print::conversation)?;
            }
        }
        Command::Group { what } => return groups::run(&account, what, json).await,
        Command::Outbox => {
            if let Some(mut store) = account.read()? {
                print::list(&store.read()?.outbox_entries()?, json, print::outbox)?;
            }
        }
        Command::Read { which, upto } => read(&account, which, upto, json).await?,
        Command::Mute { which, hours, off } => mute(&account, which, hours, off, json).await?,
        Command::Push { token, platform, background, off, wait } => {
            let style = if background { PushStyle::Background } else { PushStyle::Alert };
            let token = token.zip(platform).map(|(token, platform)| PushToken { platform, token, style });
            return push(&account, token, off, wait, json).await;
        }
        Command::Receipts { what: Receipts::Of(id) } => receipts(&account, MessageId(id), json).await?,
        Command::Receipts { what: Receipts::Set(on) } => {
            let client = account.open(false).await?;
            let done = client.set_receipts(on).await;
            client.close().await;
            done?;
            print::one(&json!({"receipts": on}), json, |_| {
                let word = if on { "on" } else { "off" };
                format!("read receipts {word}, both ways; the server is told with the next connection (poste online)")
            })?;
        }
        Command::Status { connect, wait } => return status(&account, connect.then_some(wait), json).await,
        Command::Retry { id } => {
            let client = account.open(false).await?;
            let done = client.retry(MessageId(id)).await;
            client.close().await;
            done?;
            print::one(&json!({"id": id, "state": "pending"}), json, |_| {
                "pending again; it goes with the next connection (poste online)".to_owned()
            })?;
        }
        Command::Drop { id } => {
            let client = account.open(false).await?;
            let done = client.drop_message(MessageId(id)).await;
            client.close().await;
            done?;
            print::one(&json!({"id": id, "state": "dropped"}), json, |_| "dropped".to_owned())?;
        }
        Command::Watch { with } => watch(&account, &with, json).await?,
        Command::Offline => {
            account.settings.offline = true;
            account.save()?;
            print::one(&json!({"offline": true}), json, |_| {
                "offline until `poste online`; a chat that is open is told in the chat".to_owned()
            })?;
        }
        Command::Online { wait } => {
            account.settings.offline = false;
            account.save()?;
            return catch_up(&account, wait, json).await;
        }
        Command::Chat { with, plain } => {
            if plain || json || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
                let with = with.ok_or(Usage("line by line, a chat is with somebody: --with USER"))?;
                lines::run(&mut account, &with, json).await?;
            } else {
                screen::run(account, with).await?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn login(account: &Account, json: bool) -> anyhow::Result<()> {
    let settings = &account.settings;
    account.issuer()?.token(true).await.with_context(|| format!("the issuer at {}", settings.issuer))?;
    let said = json!({"user": settings.user, "device": settings.device, "socket": settings.socket});
    print::one(&said, json, |_| format!("{} on {}: ready", settings.user, settings.device))
}

/// What is to be said, or what the standard input says.
fn typed(text: String) -> anyhow::Result<String> {
    if text == "-" { std::io::read_to_string(std::io::stdin()).context("the standard input") } else { Ok(text) }
}

async fn send(
    account: &Account,
    to: UserId,
    file: Option<PathBuf>,
    kind: Option<String>,
    text: String,
    wait: u64,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let client = account.open(!account.settings.offline).await?;
    let events = client.events();
    let message = match files::write(&client, Target::User(to), file, kind, text).await {
        Ok(message) => message,
        Err(refused) => {
            client.close().await;
            return Err(refused.into());
        }
    };
    settle(account, client, events, message, wait, json).await
}

/// Waits until a message is acknowledged or refused, prints it, and says what that means.
pub(crate) async fn settle(
    account: &Account,
    client: Client,
    mut events: Events,
    mut message: Message,
    wait: u64,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let online = !account.settings.offline;
    let wait_for = Duration::from_secs(wait);
    let mut until = Instant::now() + wait_for;
    let mut bar = Bar::new(json);
    while online && message.state == State::Pending {
        match timeout_at(until, events.next()).await {
            Ok(Some(Event::Progress { conversation, id, up: true, done, size })) => {
                // Its own file, or one that it waits behind.
                if id == message.id {
                    bar.show(done, size);
                }
                if conversation == message.conversation {
                    until = Instant::now() + wait_for;
                }
            }
            Ok(Some(Event::Updated { message: new })) if new.id == message.id => message = new,
            Ok(Some(Event::Missed { .. })) => message = reread(&client, message).await?,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    bar.end();
    let pending = online && message.state == State::Pending;
    let held = pending && holds_back(&client.outbox().await?, &message.conversation);
    client.close().await;
    print::one(&message, json, |m| print::state(m.state))?;
    if held {
        print::note(json, "it waits behind a message that failed: retry or drop that one (poste outbox)");
        return Ok(ExitCode::from(NOT_YET));
    }
    Ok(done(message.state, online, wait, json))
}

/// Whether a message that failed holds back what comes after it.
fn holds_back(outbox: &[OutboxEntry], conversation: &ConversationId) -> bool {
    let failed = |entry: &&OutboxEntry| entry.conversation == *conversation && entry.state == OutboxState::Failed;
    outbox.iter().filter(failed).any(|entry| !entry.is_change())
}

/// How a command ends that has put something into the outbox.
fn done(state: State, online: bool, wait: u64, json: bool) -> ExitCode {
    match state {
        State::Failed => {
            print::note(json, "it was refused; see `poste outbox`");
            ExitCode::FAILURE
        }
        State::Pending if online => {
            let said =
                format!("not acknowledged within {wait} s; it is safe in the outbox and goes with the next connection");
            print::note(json, &said);
            ExitCode::from(NOT_YET)
        }
        State::Pending => {
            print::note(json, "you are offline; it is safe in the outbox and goes with `poste online`");
            ExitCode::SUCCESS
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Gives a message another text, or deletes it.
async fn change(
    account: &Account,
    id: MessageId,
    text: Option<String>,
    wait: u64,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let online = !account.settings.offline;
    let client = account.open(online).await?;
    let mut events = client.events();
    let deletes = text.is_none();
    let changed = match text {
        Some(text) => client.edit(id, text).await.map(drop),
        None => client.delete(id).await,
    };
    if let Err(refused) = changed {
        client.close().await;
        return Err(refused.into());
    }
    let until = Instant::now() + Duration::from_secs(wait);
    let state = loop {
        let state = unsettled(&client, id).await?.unwrap_or(State::Sent);
        let waits = online && state == State::Pending;
        if !waits || !matches!(timeout_at(until, events.next()).await, Ok(Some(_))) {
            break state;
        }
    };
    client.close().await;
    let word = if deletes { "deleted" } else { "edited" };
    let said = match state {
        State::Pending | State::Failed => print::word(state),
        _ => word,
    };
    print::one(&json!({"id": id, "state": said}), json, |_| format!("{} {word}", print::tick(state)))?;
    Ok(done(state, online, wait, json))
}

/// How far a message's last change is, or the message itself, while there is no acknowledgement.
async fn unsettled(client: &Client, id: MessageId) -> anyhow::Result<Option<State>> {
    let waiting = client.outbox().await?.into_iter().flat_map(|entry| entry.messages);
    let about = |message: &Message| message.id == id || message.change.is_some_and(|change| change.message == id);
    Ok(waiting.filter(about).map(|message| message.state).reduce(|_, last| last))
}

async fn reread(client: &Client, message: Message) -> anyhow::Result<Message> {
    let list = client.history(message.conversation.clone(), None, 1000).await?;
    Ok(list.into_iter().find(|m| m.id == message.id).unwrap_or(message))
}

async fn watch(account: &Account, with: &[UserId], json: bool) -> anyhow::Result<()> {
    let client = account.open(!account.settings.offline).await?;
    let mut events = client.events();
    let me = account.settings.user.clone();
    if !with.is_empty() {
        client.watch(with.iter().map(|user| ConversationId::direct(&me, user)).collect()).await?;
        client.foreground().await?;
    }
    let mut signals = std::pin::pin!(signals::ended());
    loop {
        let event = tokio::select! {
            event = events.next() => event.context("the client has ended")?,
            () = &mut signals => break,
        };
        if json {
            print::text(&print::as_json(&event)?)?;
            continue;
        }
        match event {
            Event::Added { message } | Event::Updated { message } => print::text(&print::message(&message, &me))?,
            Event::Removed { id, .. } => print::text(&format!("dropped {id}"))?,
            Event::Presence { seen } => print::text(&print::seen(&seen))?,
            Event::Typing { user, typing: true, .. } => print::text(&format!("{user} is writing"))?,
            Event::Connection { state } => eprintln!("-- {}", print::connection(state)),
            Event::Push { status } => eprintln!("-- {}", print::push(Some(status))),
            Event::Missed { count } => eprintln!("-- {count} changes went by too fast; see `poste show`"),
            Event::Conversation { .. } | Event::Typing { .. } | Event::Progress { .. } => {}
        }
    }
    client.close().await;
    Ok(())
}

/// Shows a part of a conversation; given a time, older messages are fetched first.
async fn show(
    account: &Account,
    with: &UserId,
    before: Option<Seq>,
    limit: usize,
    wait: Option<u64>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let me = &account.settings.user;
    let id = ConversationId::direct(me, with);
    let fetched = match wait {
        Some(wait) => fetch_older(account, &id, before, limit, Duration::from_secs(wait)).await?,
        None => Fetched::Enough,
    };
    let list = match account.read()? {
        Some(mut store) => store.read()?.history(&id, before, limit)?,
        None => Vec::new(),
    };
    if list.is_empty() && before.is_none() {
        print::note(json, "nothing on this device yet; `poste online` fetches what there is");
    }
    print::list(&list, json, |m| print::message(m, me))?;
    match fetched {
        Fetched::Enough => Ok(ExitCode::SUCCESS),
        Fetched::NotYet => {
            print::note(json, "there are older messages, which did not come in time; what came is kept");
            Ok(ExitCode::from(NOT_YET))
        }
        Fetched::NoConnection => {
            Err(Unavailable::NoConnection("no connection; there may be older messages".to_owned()).into())
        }
    }
}

/// What became of fetching older messages.
enum Fetched {
    /// As many are here as were wanted, or as there are.
    Enough,
    /// Not in time.
    NotYet,
    NoConnection,
}

/// Fetches history until `limit` messages before a number, or at the end, are here.
async fn fetch_older(
    account: &Account,
    id: &ConversationId,
    before: Option<Seq>,
    limit: usize,
    wait: Duration,
) -> anyhow::Result<Fetched> {
    if account.settings.offline {
        return Ok(Fetched::NoConnection);
    }
    let client = account.open(true).await?;
    let mut events = client.events();
    let all = timeout(wait, async {
        // A device that is new here learns first what there is.
        quiet(&client, &mut events, wait).await?;
        while client.history(id.clone(), before, limit).await?.len() < limit {
            let Some(known) = client.conversation(id.clone()).await? else { break };
            if !client.older(id.clone()).await? {
                break;
            }
            while client.conversation(id.clone()).await?.is_some_and(|now| now.oldest == known.oldest) {
                events.next().await.context("the client has ended")?;
            }
        }
        anyhow::Ok(())
    });
    let all = all.await;
    let connection = client.connection().await?;
    client.close().await;
    Ok(match all {
        Ok(done) => done.map(|()| Fetched::Enough)?,
        Err(_) if connection == Connection::Online => Fetched::NotYet,
        Err(_) => Fetched::NoConnection,
    })
}

/// Marks a conversation as read. The server is told with the next connection.
async fn read(account: &Account, which: Which, upto: Option<Seq>, json: bool) -> anyhow::Result<()> {
    with_conversation(account, which, json, async |client, id| {
        let known = client.conversation(id.clone()).await?.ok_or(Error::UnknownConversation)?;
        client.mark_read(id, upto.unwrap_or(known.cursor)).await
    })
    .await
}

/// Mutes a conversation. The server is told with the next connection.
async fn mute(account: &Account, which: Which, hours: Option<u32>, off: bool, json: bool) -> anyhow::Result<()> {
    let until = match hours {
        _ if off => None,
        None => Some(limits::INTEGER),
        Some(hours) => Some(time::now() + u64::from(hours) * 3_600_000),
    };
    with_conversation(account, which, json, async |client, id| client.mute(id, until).await).await
}

/// Does something with a conversation, without a connection, and shows it afterwards.
async fn with_conversation(
    account: &Account,
    which: Which,
    json: bool,
    act: impl AsyncFnOnce(&Client, ConversationId) -> Result<(), Error>,
) -> anyhow::Result<()> {
    let id = which.conversation(&account.settings.user);
    let client = account.open(false).await?;
    let done = async {
        act(&client, id.clone()).await?;
        client.conversation(id).await?.ok_or(Error::UnknownConversation)
    };
    let done = done.await;
    client.close().await;
    print::one(&done?, json, print::conversation)
}

/// Registers a token, or none, and shows what the server says of it.
async fn push(
    account: &Account,
    token: Option<PushToken>,
    off: bool,
    wait: u64,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let online = !account.settings.offline;
    let client = account.open(online).await?;
    let mut events = client.events();
    let asks = token.is_some() || off;
    if asks {
        client.set_push(token).await?;
    }
    let until = Instant::now() + Duration::from_secs(wait);
    let mut told = !asks || !online;
    while !told {
        match timeout_at(until, events.next()).await {
            Ok(Some(Event::Push { .. })) => told = true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    let status = client.push_status().await?;
    client.close().await;
    print::one(&json!({"push": status}), json, |_| print::push(status).to_owned())?;
    if told {
        return Ok(ExitCode::SUCCESS);
    }
    print::note(json, &format!("the server did not answer within {wait} s; it is told with the next connection"));
    Ok(ExitCode::from(NOT_YET))
}

/// Asks the server who has a message.
async fn receipts(account: &Account, id: MessageId, json: bool) -> anyhow::Result<()> {
    let client = account.open(!account.settings.offline).await?;
    let found = client.receipts(id).await;
    client.close().await;
    match found {
        Ok(found) => print::list(&found, json, |receipt| format!("{} {}", print::tick(receipt.state), receipt.user)),
        Err(Error::NoAnswer) => {
            Err(Unavailable::NoConnection("no connection; only the server knows who has it".to_owned()).into())
        }
        Err(refused) => Err(refused.into()),
    }
}

/// How an account stands, as `status` shows it.
#[derive(Serialize)]
struct Status {
    user: UserId,
    device: DeviceId,
    socket: String,
    /// The network is cut until `poste online`.
    offline: bool,
    conversations: usize,
    unread: u64,
    /// Messages without an acknowledgement, failed ones included.
    waiting: usize,
    failed: usize,
    backlog: Backlog,
    /// Only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<Connection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<Counters>,
}

async fn status(account: &Account, wait: Option<u64>, json: bool) -> anyhow::Result<ExitCode> {
    let (connection, counters) = match wait {
        None => (None, None),
        Some(wait) => {
            let client = account.open(!account.settings.offline).await?;
            let mut events = client.events();
            let until = Instant::now() + Duration::from_secs(wait);
            while !matches!(client.connection().await?, Connection::Online | Connection::Off) {
                if timeout_at(until, events.next()).await.is_err() {
                    break;
                }
            }
            let seen = (client.connection().await?, client.counters().await?);
            client.close().await;
            (Some(seen.0), Some(seen.1))
        }
    };
    let (conversations, outbox, backlog) = match account.read()? {
        Some(mut store) => {
            let store = store.read()?;
            (store.conversations()?, store.outbox_entries()?, engine::backlog(&store, engine::Now::here())?)
        }
        None => (Vec::new(), Vec::new(), Backlog::default()),
    };
    let messages = |which: &dyn Fn(&&OutboxEntry) -> bool| {
        outbox.iter().filter(which).map(|entry| entry.messages.len()).sum::<usize>()
    };
    let settings = &account.settings;
    let status = Status {
        user: settings.user.clone(),
        device: settings.device.clone(),
        socket: settings.socket.clone(),
        offline: settings.offline,
        conversations: conversations.len(),
        unread: conversations.iter().map(|conversation| conversation.unread).sum(),
        waiting: messages(&|_| true),
        failed: messages(&|entry| entry.state == OutboxState::Failed),
        backlog,
        connection,
        counters,
    };
    print::one(&status, json, |status| {
        let Status { user, device, conversations, unread, waiting, failed, .. } = status;
        let mut line =
            format!("{user} on {device}: {conversations} conversations, {unread} unread, {waiting} not sent");
        if let Some(oldest) = status.backlog.oldest_ms {
            line = format!("{line} (the oldest for {} s)", oldest / 1000);
        }
        if *failed > 0 {
            line = format!("{line}, {failed} of them failed (poste outbox)");
        }
        if status.backlog.behind > 0 {
            line = format!("{line}, {} numbers to fetch", status.backlog.behind);
        }
        match status.connection {
            Some(connection) => format!("{line}; {}", print::connection(connection)),
            None if status.offline => format!("{line}; offline until `poste online`"),
            None => line,
        }
    })?;
    let wanted = wait.is_some() && !settings.offline;
    Ok(if wanted && connection != Some(Connection::Online) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Connects, and stays until the outbox is empty and nothing more comes.
async fn catch_up(account: &Account, wait: u64, json: bool) -> anyhow::Result<ExitCode> {
    let client = account.open(true).await?;
    let mut events = client.events();
    let done = quiet(&client, &mut events, Duration::from_secs(wait)).await?;
    let outbox = client.outbox().await?;
    let connection = client.connection().await?;
    let counters = client.counters().await?;
    client.close().await;
    let waiting: usize = outbox.iter().map(|entry| entry.messages.len()).sum();
    let said = json!({"connection": connection, "waiting": waiting, "counters": counters});
    print::one(&said, json, |_| format!("{}; {waiting} messages wait", print::connection(connection)))?;
    if !done && connection != Connection::Online {
        let said = format!("no connection within {wait} s; what waits is safe and goes with the next");
        return Err(Unavailable::NoConnection(said).into());
    }
    let stuck = |state| matches!(state, OutboxState::Failed);
    Ok(match (waiting, outbox.iter().any(|entry| stuck(entry.state))) {
        (0, _) => ExitCode::SUCCESS,
        (_, true) => ExitCode::FAILURE,
        _ => ExitCode::from(NOT_YET),
    })
}

/// Waits until nothing is under way any more, at most so long; but for files, which are waited for while they move. Says
/// whether it is so.
async fn quiet(client: &Client, events: &mut Events, wait: Duration) -> anyhow::Result<bool> {
    let mut until = Instant::now() + wait;
    while Instant::now() < until {
        match timeout(QUIET, events.next()).await {
            Ok(Some(Event::Progress { .. })) => until = Instant::now() + wait,
            Ok(Some(_)) => {}
            Ok(None) => bail!("the client has ended"),
            Err(_) => {
                let sent = client.outbox().await?.iter().all(|entry| !is_on_its_way(entry));
                let behind = client.conversations().await?.iter().any(|c| c.cursor < c.head);
                if client.connection().await? == Connection::Online && sent && !behind {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Whether it is being sent, or a file of it is.
fn is_on_its_way(entry: &OutboxEntry) -> bool {
    let uploads = |message: &Message| message.file.as_ref().is_some_and(|file| file.uploaded.is_some());
    match entry.state {
        OutboxState::UnderWay => true,
        OutboxState::Queued => entry.messages.iter().any(uploads),
        OutboxState::Failed => false,
    }
}
