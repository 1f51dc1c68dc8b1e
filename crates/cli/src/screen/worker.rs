//! Carries out what the screen wants done, in order, beside it: the screen never waits for the disk.

use poste_client::{Client, Error};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::state::{Answer, Effect, Input};
use crate::account::Account;

/// Works until there are no more effects.
pub(crate) async fn run(
    mut account: Account,
    client: Client,
    mut effects: UnboundedReceiver<Effect>,
    answers: UnboundedSender<anyhow::Result<Input>>,
) {
    while let Some(effect) = effects.recv().await {
        if let Some(answer) = carry_out(&mut account, &client, effect).await {
            // A screen that has ended wants no answers; what it asked for before is done all the same.
            let _ = answers.send(Ok(Input::Answer(answer)));
        }
    }
}

async fn carry_out(account: &mut Account, client: &Client, effect: Effect) -> Option<Answer> {
    let not_done = |wrong: Error| Answer::NotDone(wrong.to_string());
    match effect {
        Effect::Send { conversation, to, body } => match client.send(to, body.clone()).await {
            Ok(_) => None,
            Err(wrong) => Some(Answer::NotSent { conversation, body, why: wrong.to_string() }),
        },
        Effect::Retry(id) => client.retry(id).await.err().map(not_done),
        Effect::Drop(id) => client.drop_message(id).await.err().map(not_done),
        Effect::Edit { id, body } => client.edit(id, body).await.err().map(not_done),
        Effect::Delete(id) => client.delete(id).await.err().map(not_done),
        Effect::MarkRead { conversation, upto } => client.mark_read(conversation, upto).await.err().map(not_done),
        Effect::Older(conversation) => client.older(conversation).await.err().map(not_done),
        Effect::Network(on) => {
            account.settings.offline = !on;
            let saved = account.save();
            let set = client.set_network(on).await;
            saved
                .err()
                .map(|wrong| format!("{wrong:#}"))
                .or(set.err().map(|wrong| wrong.to_string()))
                .map(Answer::NotDone)
        }
        Effect::Read { conversation, read } => {
            let (before, limit) = read.arguments();
            Some(match client.history(conversation.clone(), before, limit).await {
                Ok(messages) => Answer::Page { conversation, read, messages },
                Err(wrong) => Answer::NoPage { conversation, why: wrong.to_string() },
            })
        }
        Effect::ReadConversations => Some(client.conversations().await.map_or_else(not_done, Answer::Conversations)),
        Effect::ReadOutbox => Some(client.outbox().await.map_or_else(not_done, Answer::Outbox)),
        Effect::ReadCounters => client.counters().await.ok().map(Answer::Counters),
        Effect::Look(true) => client.foreground().await.err().map(not_done),
        Effect::Look(false) => client.background().await.err().map(not_done),
        Effect::Watch(conversations) => client.watch(conversations).await.err().map(not_done),
        Effect::Typing(conversation) => client.typing(conversation).await.err().map(not_done),
        // The screen's own affairs.
        Effect::Redraw | Effect::End => None,
    }
}
