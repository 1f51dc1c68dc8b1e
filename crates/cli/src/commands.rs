//! What each command does.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use poste_client::{Client, Connection, Event, Events, Message, OutboxState, State, Target, TokenProvider};
use poste_protocol::{ConversationId, MessageId, UserId};
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use crate::account::Account;
use crate::args::{Args, Command};
use crate::{lines, print, screen};

/// Not acknowledged in time; nothing is lost.
const NOT_YET: u8 = 3;

/// After so long without news, what was missed is taken to be there.
const QUIET: Duration = Duration::from_millis(500);

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { whose, json, command } = args;
    let mut account = Account::find(&whose)?;
    let me = account.settings.user.clone();
    match command {
        Command::Login => login(&account, json).await?,
        Command::Send { to, wait, text } => return send(&account, to, text, wait, json).await,
        Command::Show { with, limit } => {
            let id = ConversationId::direct(&me, &with);
            let list = match account.read()? {
                Some(mut store) => store.read()?.history(&id, None, limit)?,
                None => Vec::new(),
            };
            if list.is_empty() {
                eprintln!("nothing on this device yet; `poste online` fetches what there is");
            }
            print::list(&list, json, |m| print::message(m, &me))?;
        }
        Command::Conversations => {
            if let Some(mut store) = account.read()? {
                print::list(&store.read()?.conversations()?, json, print::conversation)?;
            }
        }
        Command::Outbox => {
            if let Some(mut store) = account.read()? {
                print::list(&store.read()?.outbox_entries()?, json, print::outbox)?;
            }
        }
        Command::Retry { id } => {
            let client = account.open(false).await?;
            client.retry(MessageId(id)).await?;
            client.close().await;
            eprintln!("pending again; it goes with the next connection (poste online)");
        }
        Command::Drop { id } => {
            let client = account.open(false).await?;
            client.drop_message(MessageId(id)).await?;
            client.close().await;
        }
        Command::Watch => watch(&account, json).await?,
        Command::Offline => {
            account.settings.offline = true;
            account.save()?;
            eprintln!("offline until `poste online`; a chat that is open has its own /offline");
        }
        Command::Online { wait } => {
            account.settings.offline = false;
            account.save()?;
            return catch_up(&account, wait, json).await;
        }
        Command::Chat { with, plain } => {
            if plain || json || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
                let with = with.context("line by line, a chat is with somebody: --with USER")?;
                lines::run(&mut account, &with).await?;
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

async fn send(account: &Account, to: UserId, text: String, wait: u64, json: bool) -> anyhow::Result<ExitCode> {
    let online = !account.settings.offline;
    let client = account.open(online).await?;
    let mut events = client.events();
    let mut message = client.send(Target::User(to), text).await?;
    let until = Instant::now() + Duration::from_secs(wait);
    while online && message.state == State::Pending {
        match timeout_at(until, events.next()).await {
            Ok(Some(Event::Updated { message: new })) if new.id == message.id => message = new,
            Ok(Some(Event::Missed { .. })) => message = reread(&client, message).await?,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    client.close().await;
    print::one(&message, json, |m| format!("{} {}", print::tick(m.state), print::word(m.state)))?;
    Ok(match message.state {
        State::Failed => {
            eprintln!("the server refused it; see `poste outbox`");
            ExitCode::FAILURE
        }
        State::Pending if online => {
            eprintln!("not acknowledged within {wait} s; it is safe in the outbox and goes with the next connection");
            ExitCode::from(NOT_YET)
        }
        State::Pending => {
            eprintln!("you are offline; it is safe in the outbox and goes with `poste online`");
            ExitCode::SUCCESS
        }
        _ => ExitCode::SUCCESS,
    })
}

async fn reread(client: &Client, message: Message) -> anyhow::Result<Message> {
    let list = client.history(message.conversation.clone(), None, 1000).await?;
    Ok(list.into_iter().find(|m| m.id == message.id).unwrap_or(message))
}

async fn watch(account: &Account, json: bool) -> anyhow::Result<()> {
    let client = account.open(!account.settings.offline).await?;
    let mut events = client.events();
    let me = account.settings.user.clone();
    loop {
        let event = tokio::select! {
            event = events.next() => event.context("the client has ended")?,
            _ = tokio::signal::ctrl_c() => break,
        };
        if json {
            print::text(&print::as_json(&event)?)?;
            continue;
        }
        match event {
            Event::Added { message } | Event::Updated { message } => print::text(&print::message(&message, &me))?,
            Event::Removed { id, .. } => print::text(&format!("dropped {id}"))?,
            Event::Connection { state } => eprintln!("-- {}", print::connection(state)),
            Event::Missed { count } => eprintln!("-- {count} changes went by too fast; see `poste show`"),
            Event::Conversation { .. } => {}
        }
    }
    client.close().await;
    Ok(())
}

/// Connects, and stays until the outbox is empty and nothing more comes.
async fn catch_up(account: &Account, wait: u64, json: bool) -> anyhow::Result<ExitCode> {
    let client = account.open(true).await?;
    let mut events = client.events();
    let until = Instant::now() + Duration::from_secs(wait);
    let done = timeout_at(until, quiet(&client, &mut events)).await;
    let outbox = client.outbox().await?;
    let connection = client.connection().await?;
    let counters = client.counters().await?;
    client.close().await;
    let waiting: usize = outbox.iter().map(|entry| entry.messages.len()).sum();
    let said = json!({"connection": connection, "waiting": waiting, "counters": counters});
    print::one(&said, json, |_| format!("{}; {waiting} messages wait", print::connection(connection)))?;
    match done {
        Ok(done) => done?,
        Err(_) if connection == Connection::Online => {}
        Err(_) => bail!("no connection within {wait} s; what waits is safe and goes with the next"),
    }
    let stuck = |state| matches!(state, OutboxState::Failed);
    Ok(match (waiting, outbox.iter().any(|entry| stuck(entry.state))) {
        (0, _) => ExitCode::SUCCESS,
        (_, true) => ExitCode::FAILURE,
        _ => ExitCode::from(NOT_YET),
    })
}

async fn quiet(client: &Client, events: &mut Events) -> anyhow::Result<()> {
    loop {
        match timeout(QUIET, events.next()).await {
            Ok(Some(_)) => {}
            Ok(None) => bail!("the client has ended"),
            Err(_) => {
                let sent = client.outbox().await?.iter().all(|entry| entry.state != OutboxState::UnderWay);
                let behind = client.conversations().await?.iter().any(|c| c.cursor < c.head);
                if client.connection().await? == Connection::Online && sent && !behind {
                    return Ok(());
                }
            }
        }
    }
}
