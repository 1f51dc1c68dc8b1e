//! `poste group`: what each of its commands does.

use std::process::ExitCode;

use poste_client::{Client, Error, Message, Target};
use poste_protocol::Role;

use crate::account::Account;
use crate::args::{GroupCommand, RoleName};
use crate::commands::settle;
use crate::{files, print};

/// How long an acknowledgement is waited for, in seconds.
const WAIT: u64 = 10;

pub(crate) async fn run(account: &Account, what: GroupCommand, json: bool) -> anyhow::Result<ExitCode> {
    match &what {
        GroupCommand::Show { group, limit } => {
            let me = account.settings.user.clone();
            if let Some(mut store) = account.read()? {
                print::list(&store.read()?.history(group, None, *limit)?, json, |m| print::message(m, &me))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        GroupCommand::Members { group } => {
            if let Some(mut store) = account.read()? {
                print::list(&store.read()?.members(group)?, json, print::member)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let client = account.open(!account.settings.offline).await?;
    let events = client.events();
    match act(&client, what, json).await {
        Ok(message) => settle(account, client, events, message, WAIT, json).await,
        Err(refused) => {
            client.close().await;
            Err(refused)
        }
    }
}

/// Writes the message that it is.
async fn act(client: &Client, what: GroupCommand, json: bool) -> anyhow::Result<Message> {
    Ok(match what {
        GroupCommand::Create { title, users } => {
            let group = client.create_group(title, users).await?;
            print::note(json, group.id.as_str());
            let list = client.history(group.id, None, 1).await?;
            list.into_iter().next().ok_or(Error::UnknownConversation)?
        }
        GroupCommand::Add { group, users } => client.add_members(group, users).await?,
        GroupCommand::Remove { group, users } => client.remove_members(group, users).await?,
        GroupCommand::Leave { group } => client.leave(group).await?,
        GroupCommand::Title { group, title } => client.set_title(group, title).await?,
        GroupCommand::Role { group, member, role } => {
            let role = match role {
                RoleName::Member => Role::Member,
                RoleName::Admin => Role::Admin,
            };
            client.set_role(group, member, role).await?
        }
        GroupCommand::Send { group, file, kind, text } => {
            files::write(client, Target::Conversation(group), file, kind, text.unwrap_or_default()).await?
        }
        GroupCommand::Show { .. } | GroupCommand::Members { .. } => return Err(Error::UnknownConversation.into()),
    })
}
