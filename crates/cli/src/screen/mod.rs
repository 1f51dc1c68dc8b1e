//! The chat as a screen: conversations, messages with their ticks, the outbox, and a line to write in.
//!
//! [`state`] knows and decides, and does nothing: inputs in, effects out. [`draw`] shows it. This file puts the parts
//! together: [`terminal`] brings keys, the client brings events, [`worker`] carries out the effects.

mod draw;
mod editor;
mod keys;
mod layout;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod window;
mod worker;

use std::time::Duration;

use anyhow::{Context, anyhow};
use poste_client::{Event, Events};
use poste_protocol::UserId;
use tokio::sync::mpsc;

use crate::account::Account;
use crate::{signals, time};
use state::{Effect, Input, State};
use terminal::Terminal;
pub(crate) use terminal::is_covered;

/// Events that wait for the screen; what does not fit is read anew.
const EVENTS: usize = 256;

/// Inputs that are taken in before the screen is drawn again.
const BURST: usize = 256;

/// Shows the screen until the person ends it, or a signal does. With a user, their conversation is open.
pub(crate) async fn run(account: Account, with: Option<UserId>) -> anyhow::Result<()> {
    let client = account.open(!account.settings.offline).await?;
    let mut told = forward(client.events());
    let (connection, conversations) = (client.connection().await?, client.conversations().await?);
    let me = (account.settings.user.clone(), account.settings.device.clone());
    client.foreground().await?;
    let (tell, mut inputs) = mpsc::unbounded_channel();
    let (ask, effects) = mpsc::unbounded_channel();
    let worker = tokio::spawn(worker::run(account, client.clone(), effects, tell.clone()));

    let mut terminal = Terminal::take()?;
    terminal::inputs(tell);
    let mut state = State::new(me, connection, conversations, terminal.size()?, time::now());
    if let Some(with) = with {
        state.open_with(with);
    }
    let ended = show(&mut terminal, &mut state, &mut inputs, &mut told, &ask).await;
    drop(terminal);

    // What was asked for is done before the file is closed.
    drop(ask);
    worker.await.context("the worker")?;
    let waiting: usize =
        client.outbox().await.map_or(0, |outbox| outbox.iter().map(|entry| entry.messages.len()).sum());
    client.close().await;
    if waiting > 0 {
        eprintln!("{waiting} messages wait in the outbox; they go with the next connection");
    }
    ended
}

async fn show(
    terminal: &mut Terminal,
    state: &mut State,
    inputs: &mut mpsc::UnboundedReceiver<anyhow::Result<Input>>,
    told: &mut mpsc::Receiver<Event>,
    ask: &mpsc::UnboundedSender<Effect>,
) -> anyhow::Result<()> {
    let mut signals = std::pin::pin!(signals::ended());
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        let mut next = tokio::select! {
            input = inputs.recv() => Some(input.context("the keyboard has ended")??),
            event = told.recv() => Some(Input::Told(event.context("the client has ended")?)),
            _ = seconds.tick() => Some(Input::Tick(time::now())),
            () = &mut signals => return Ok(()),
        };
        let mut effects = Vec::new();
        let mut room = BURST;
        while let Some(input) = next.take() {
            effects.append(&mut state.update(input));
            room -= 1;
            if room > 0 {
                next = match inputs.try_recv() {
                    Ok(input) => Some(input?),
                    Err(_) => told.try_recv().ok().map(Input::Told),
                };
            }
        }
        // A size that has not been told of yet, or not any more.
        effects.append(&mut state.update(Input::Resize(terminal.size()?)));
        let mut ends = false;
        for effect in effects {
            match effect {
                Effect::End => ends = true,
                Effect::Redraw => terminal.clear()?,
                effect => ask.send(effect).map_err(|_| anyhow!("the worker has ended"))?,
            }
        }
        if ends {
            return Ok(());
        }
        terminal.draw(state)?;
    }
}

/// Events through a bounded queue, so that those that are there can be taken without waiting.
fn forward(mut events: Events) -> mpsc::Receiver<Event> {
    let (tell, told) = mpsc::channel(EVENTS);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if tell.send(event).await.is_err() {
                return;
            }
        }
    });
    told
}
