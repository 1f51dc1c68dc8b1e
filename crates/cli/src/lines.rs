//! A chat, line by line: what you type is sent, what arrives is printed, and so is what becomes of it. For pipes, and for
//! terminals without a screen.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use anyhow::Context;
use poste_client::{Client, Event, Message, State, Target};
use poste_protocol::{ConversationId, UserId};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::account::Account;
use crate::{print, signals};

/// How much of the past is shown at the beginning.
const PAST: usize = 20;

const HELP: &str = "type to send; /offline, /online, /show, /quit";

/// With `json`, each line of the output is a message as `show` has it; one that is printed again has changed.
pub(crate) async fn run(account: &mut Account, with: &UserId, json: bool) -> anyhow::Result<()> {
    let client = account.open(!account.settings.offline).await?;
    let mut events = client.events();
    let mut chat = Chat {
        conversation: ConversationId::direct(&account.settings.user, with),
        me: account.settings.user.clone(),
        with: with.clone(),
        client,
        json,
    };
    print::note(json, &format!("{} and {with}: {HELP}", chat.me));
    chat.show().await?;
    let mut lines = lines();
    let mut signals = std::pin::pin!(signals::ended());
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => if !chat.typed(line.trim_end(), account).await? { break },
                None => break,
            },
            event = events.next() => chat.happened(event.context("the client has ended")?).await?,
            () = &mut signals => break,
        }
    }
    // What has happened by now is printed, also when the last line was followed by the end.
    while let Ok(Some(event)) = timeout(Duration::ZERO, events.next()).await {
        chat.happened(event).await?;
    }
    let waiting: usize = chat.client.outbox().await?.iter().map(|entry| entry.messages.len()).sum();
    chat.client.close().await;
    if waiting > 0 {
        print::note(json, &format!("{waiting} messages wait in the outbox; they go with the next connection"));
    }
    Ok(())
}

/// Lines that are typed. A thread of its own, which a read that waits does not keep the process for.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (tell, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

struct Chat {
    client: Client,
    conversation: ConversationId,
    me: UserId,
    with: UserId,
    json: bool,
}

impl Chat {
    /// What was typed. `false` ends the chat.
    async fn typed(&mut self, line: &str, account: &mut Account) -> anyhow::Result<bool> {
        match line {
            "" => {}
            "/quit" | "/exit" => return Ok(false),
            "/show" => self.show().await?,
            "/offline" | "/online" => {
                account.settings.offline = line == "/offline";
                account.save()?;
                self.client.set_network(!account.settings.offline).await?;
            }
            command if command.starts_with('/') && !command.starts_with("//") => {
                print::note(self.json, &format!("-- {HELP}"));
            }
            text => {
                // Two slashes begin a message with one.
                let text = if text.starts_with("//") { &text[1..] } else { text };
                if let Err(refused) = self.client.send(Target::User(self.with.clone()), text).await {
                    print::error(self.json, "not_sent", &format!("not sent: {refused}"));
                }
            }
        }
        Ok(true)
    }

    async fn happened(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Added { message } if message.conversation == self.conversation => {
                self.print(&message);
                self.read(&message).await?;
            }
            Event::Updated { message } if message.conversation == self.conversation => self.print(&message),
            Event::Added { message } if message.state == State::Received => {
                print::note(self.json, &format!("-- {} wrote elsewhere", message.user));
            }
            Event::Connection { state } => print::note(self.json, &format!("-- {}", print::connection(state))),
            Event::Missed { .. } => self.show().await?,
            _ => {}
        }
        Ok(())
    }

    fn print(&self, message: &Message) {
        // A terminal that is gone is noticed by the reading side.
        let _ = print::one(message, self.json, |message| print::message(message, &self.me));
    }

    /// What is on the screen of a person is read; what goes into a pipe may not be.
    async fn read(&self, message: &Message) -> anyhow::Result<()> {
        if let (State::Received, Some(seq), true) = (message.state, message.seq, std::io::stdin().is_terminal()) {
            self.client.mark_read(self.conversation.clone(), seq).await?;
        }
        Ok(())
    }

    async fn show(&self) -> anyhow::Result<()> {
        let list = self.client.history(self.conversation.clone(), None, PAST).await?;
        for message in &list {
            self.print(message);
        }
        if let Some(last) = list.iter().rev().find(|message| message.state == State::Received) {
            self.read(last).await?;
        }
        Ok(())
    }
}
