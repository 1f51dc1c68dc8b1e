//! The handle that applications use. What each call promises is written at [`poste_client::Client`].

use std::sync::Arc;

use poste_client::{Client, ClientConfig, Events, Target, Tuning};
use poste_protocol::{ConversationId, DeviceId, PushId, UserId, WokenBy};
use tokio::sync::Mutex;

use crate::model::{list, message_id, number};
use crate::tokens::Tokens;
use crate::{
    Backlog, Config, Connection, Conversation, Event, Found, FoundPlace, Member, Message, OutboxEntry, PosteError,
    PushStatus, PushToken, Receipt, Recovery, Role, Seen, Start, TokenSource, Window,
};

/// An account on this device.
#[derive(uniffi::Object)]
pub struct PosteClient {
    client: Client,
}

fn user(text: &str) -> Result<UserId, PosteError> {
    UserId::new(text).map_err(|wrong| PosteError::invalid("a user's id", wrong))
}

fn conversation_id(text: &str) -> Result<ConversationId, PosteError> {
    ConversationId::new(text).map_err(|wrong| PosteError::invalid("a conversation's id", wrong))
}

fn users(names: &[String]) -> Result<Vec<UserId>, PosteError> {
    names.iter().map(|name| user(name)).collect()
}

fn count(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[uniffi::export]
impl PosteClient {
    /// Opens the account's file, and connects unless the configuration says otherwise.
    #[uniffi::constructor]
    pub async fn open(config: Config, tokens: Arc<dyn TokenSource>) -> Result<Self, PosteError> {
        let device = DeviceId::new(&config.device).map_err(|wrong| PosteError::invalid("a device's id", wrong))?;
        let tokens = Arc::new(Tokens(tokens));
        let mut opened = ClientConfig::new(config.path, config.socket_url, user(&config.user)?, device, tokens);
        opened.network = config.network;
        opened.tuning = Tuning { hold_back: config.hold_back, ..Tuning::default() };
        Ok(Self { client: Client::open(opened).await? })
    }

    /// Writes a message to a person. It is on the disk when this returns; the network is not waited for.
    pub async fn send_to_user(&self, to: String, body: String) -> Result<Message, PosteError> {
        Ok(self.client.send(Target::User(user(&to)?), body).await?.into())
    }

    /// Writes a message to a conversation that this device knows.
    pub async fn send(&self, conversation: String, body: String) -> Result<Message, PosteError> {
        Ok(self.client.send(Target::Conversation(conversation_id(&conversation)?), body).await?.into())
    }

    /// Sends a file, with a text or without (`caption` may be empty). The message is on the disk and shown when this
    /// returns; the file goes when there is a network, also after a restart, and the message after it. The file stays
    /// where it is and is not to be changed until then. Without a `kind` its media type is guessed.
    pub async fn send_file(
        &self,
        conversation: String,
        path: String,
        caption: String,
        kind: Option<String>,
    ) -> Result<Message, PosteError> {
        let to = Target::Conversation(conversation_id(&conversation)?);
        Ok(self.client.send_file(to, path, caption, kind).await?.into())
    }

    /// The path of a message's file on this device; it is fetched if it is not here. What is in the cache may go again
    /// when other files are fetched.
    pub async fn download(&self, conversation: String, message: String) -> Result<String, PosteError> {
        let path = self.client.download(conversation_id(&conversation)?, message_id(&message)?).await?;
        path.into_os_string().into_string().map_err(|_| PosteError::invalid("the cache", "its path is not UTF-8"))
    }

    /// The file of a message is not wanted any more. What came of it is kept.
    pub async fn stop_download(&self, conversation: String, message: String) -> Result<(), PosteError> {
        Ok(self.client.stop_download(conversation_id(&conversation)?, message_id(&message)?).await?)
    }

    /// Gives an own message another text, for everyone. It is on the disk, and shown, when this returns.
    pub async fn edit(&self, message: String, body: String) -> Result<Message, PosteError> {
        Ok(self.client.edit(message_id(&message)?, body).await?.into())
    }

    /// Deletes an own message for everyone, or as an admin of a group what somebody else wrote there. That is on the
    /// disk, and shown, when this returns.
    pub async fn delete(&self, message: String) -> Result<(), PosteError> {
        Ok(self.client.delete(message_id(&message)?).await?)
    }

    /// Begins a group with this title and these users. It can be written to at once, also without a network.
    pub async fn create_group(&self, title: String, members: Vec<String>) -> Result<Conversation, PosteError> {
        Ok(self.client.create_group(title, users(&members)?).await?.into())
    }

    /// Gives a group another title. Like all that is done to a group it is a message: pending, then sent or failed.
    pub async fn set_title(&self, group: String, title: String) -> Result<Message, PosteError> {
        Ok(self.client.set_title(conversation_id(&group)?, title).await?.into())
    }

    /// Adds users to a group.
    pub async fn add_members(&self, group: String, members: Vec<String>) -> Result<Message, PosteError> {
        Ok(self.client.add_members(conversation_id(&group)?, users(&members)?).await?.into())
    }

    /// Removes users from a group.
    pub async fn remove_members(&self, group: String, members: Vec<String>) -> Result<Message, PosteError> {
        Ok(self.client.remove_members(conversation_id(&group)?, users(&members)?).await?.into())
    }

    /// Leaves a group.
    pub async fn leave(&self, group: String) -> Result<Message, PosteError> {
        Ok(self.client.leave(conversation_id(&group)?).await?.into())
    }

    /// Gives a member a role.
    pub async fn set_role(&self, group: String, member: String, role: Role) -> Result<Message, PosteError> {
        Ok(self.client.set_role(conversation_id(&group)?, user(&member)?, role.into()).await?.into())
    }

    /// Who is in a group, as far as this device knows.
    pub async fn members(&self, group: String) -> Result<Vec<Member>, PosteError> {
        Ok(list(self.client.members(conversation_id(&group)?).await?))
    }

    /// Asks for the next page of history before what is on this device. A change of the conversation tells when it is
    /// here. Says whether there is any.
    pub async fn older(&self, conversation: String) -> Result<bool, PosteError> {
        Ok(self.client.older(conversation_id(&conversation)?).await?)
    }

    /// A part of a conversation's list, from a place in either direction.
    pub async fn window(&self, conversation: String, start: Start, limit: u32) -> Result<Window, PosteError> {
        let id = conversation_id(&conversation)?;
        Ok(self.client.window(id, start.try_into()?, count(limit)).await?.into())
    }

    /// Messages on this device that have all of these words, the newest first; of one conversation, or of all.
    pub async fn search(
        &self,
        text: String,
        conversation: Option<String>,
        before: Option<FoundPlace>,
        limit: u32,
    ) -> Result<Found, PosteError> {
        let conversation = conversation.as_deref().map(conversation_id).transpose()?;
        let before = before.map(|place| poste_client::FoundPlace { at: place.at, local: place.local });
        Ok(self.client.search(text, conversation, before, count(limit)).await?.into())
    }

    /// Every conversation, the one with the latest activity first.
    pub async fn conversations(&self) -> Result<Vec<Conversation>, PosteError> {
        Ok(list(self.client.conversations().await?))
    }

    /// One conversation, if this device knows it.
    pub async fn conversation(&self, id: String) -> Result<Option<Conversation>, PosteError> {
        Ok(self.client.conversation(conversation_id(&id)?).await?.map(Into::into))
    }

    /// Who has an own message, and who has read it, asked of the server.
    pub async fn receipts(&self, message: String) -> Result<Vec<Receipt>, PosteError> {
        Ok(list(self.client.receipts(message_id(&message)?).await?))
    }

    /// Gives and gets read receipts from now on, or does neither, on all devices of the user.
    pub async fn set_receipts(&self, on: bool) -> Result<(), PosteError> {
        Ok(self.client.set_receipts(on).await?)
    }

    /// Whether the user gives and gets read receipts, as this device knows it.
    pub async fn gives_receipts(&self) -> Result<bool, PosteError> {
        Ok(self.client.gives_receipts().await?)
    }

    /// What is not acknowledged yet.
    pub async fn outbox(&self) -> Result<Vec<OutboxEntry>, PosteError> {
        Ok(list(self.client.outbox().await?))
    }

    /// How much waits to be sent and for how long, and how much is known to be on the server and is not here.
    pub async fn backlog(&self) -> Result<Backlog, PosteError> {
        Ok(self.client.backlog().await?.into())
    }

    /// Sends a failed message or change again, with everything that was refused in the same envelope.
    pub async fn retry(&self, message: String) -> Result<(), PosteError> {
        Ok(self.client.retry(message_id(&message)?).await?)
    }

    /// Drops an own message or change that failed, or that waits and is not on its way yet.
    pub async fn drop_message(&self, message: String) -> Result<(), PosteError> {
        Ok(self.client.drop_message(message_id(&message)?).await?)
    }

    /// The person has read a conversation up to a number.
    pub async fn mark_read(&self, conversation: String, upto: u64) -> Result<(), PosteError> {
        Ok(self.client.mark_read(conversation_id(&conversation)?, number(upto)?).await?)
    }

    /// What changes from now on.
    pub fn events(&self) -> PosteEvents {
        PosteEvents { events: Mutex::new(self.client.events()) }
    }

    /// Cuts the network, or brings it back.
    pub async fn set_network(&self, on: bool) -> Result<(), PosteError> {
        Ok(self.client.set_network(on).await?)
    }

    /// A person looks at the application: nothing waits for a backoff any longer.
    pub async fn foreground(&self) -> Result<(), PosteError> {
        Ok(self.client.foreground().await?)
    }

    /// Nobody looks at the application any more: others are told that the person has gone.
    pub async fn background(&self) -> Result<(), PosteError> {
        Ok(self.client.background().await?)
    }

    /// The person wants to see who is here and who is writing in these conversations, and in no others.
    pub async fn watch(&self, conversations: Vec<String>) -> Result<(), PosteError> {
        let conversations = conversations.iter().map(|id| conversation_id(id)).collect::<Result<_, _>>()?;
        Ok(self.client.watch(conversations).await?)
    }

    /// Whether others may see when the person is here and writes, on this device. Who hides sees nobody, either.
    pub async fn set_visible(&self, visible: bool) -> Result<(), PosteError> {
        Ok(self.client.set_visible(visible).await?)
    }

    /// The person is writing in a conversation. Worth calling at every key.
    pub async fn typing(&self, conversation: String) -> Result<(), PosteError> {
        Ok(self.client.typing(conversation_id(&conversation)?).await?)
    }

    /// Those of whom events have told whether they are here, as they are now.
    pub async fn seen(&self) -> Result<Vec<Seen>, PosteError> {
        Ok(list(self.client.seen().await?))
    }

    /// The device can be woken by this token, or shall not be. Worth calling at every start.
    pub async fn set_push(&self, token: Option<PushToken>) -> Result<(), PosteError> {
        Ok(self.client.set_push(token.map(TryInto::try_into).transpose()?).await?)
    }

    /// What the server said last of waking this device.
    pub async fn push_status(&self) -> Result<Option<PushStatus>, PosteError> {
        Ok(self.client.push_status().await?.map(Into::into))
    }

    /// A push has woken the device: what it says, for the operator to count.
    pub async fn woken(&self, conversation: String, seq: Option<u64>, push: Option<String>) -> Result<(), PosteError> {
        let (conversation, seq) = (conversation_id(&conversation)?, seq.map(number).transpose()?);
        let push = push.map(|id| id.parse().map(PushId)).transpose();
        let push = push.map_err(|wrong: uuid::Error| PosteError::invalid("a push's id", wrong))?;
        Ok(self.client.woken(WokenBy { conversation, seq, push }).await?)
    }

    /// Nobody is to be woken for this conversation, on any device of the user, until a time in Unix milliseconds.
    pub async fn mute(&self, conversation: String, until: Option<u64>) -> Result<(), PosteError> {
        Ok(self.client.mute(conversation_id(&conversation)?, until).await?)
    }

    /// A person looks at this conversation: its part of what is missing here is fetched first.
    pub async fn open_conversation(&self, conversation: String) -> Result<(), PosteError> {
        Ok(self.client.open_conversation(conversation_id(&conversation)?).await?)
    }

    /// A person looks at this conversation no longer.
    pub async fn close_conversation(&self, conversation: String) -> Result<(), PosteError> {
        Ok(self.client.close_conversation(conversation_id(&conversation)?).await?)
    }

    /// Lets go of the file until the client is resumed.
    pub async fn suspend(&self) -> Result<(), PosteError> {
        Ok(self.client.suspend().await?)
    }

    /// Opens the file again, and goes on.
    pub async fn resume(&self) -> Result<(), PosteError> {
        Ok(self.client.resume().await?)
    }

    /// What was saved of a damaged file, until it is noted.
    pub async fn recovery(&self) -> Result<Option<Recovery>, PosteError> {
        Ok(self.client.recovery().await?.map(Into::into))
    }

    /// The application has taken note of what became of a damaged file.
    pub async fn recovery_noted(&self) -> Result<(), PosteError> {
        Ok(self.client.recovery_noted().await?)
    }

    /// The connection as it is now.
    pub async fn connection(&self) -> Result<Connection, PosteError> {
        Ok(self.client.connection().await?.into())
    }

    /// Closes the connection and the file. What is in the outbox stays there.
    pub async fn close(&self) {
        self.client.close().await;
    }
}

/// A stream of what changed.
#[derive(uniffi::Object)]
pub struct PosteEvents {
    events: Mutex<Events>,
}

#[uniffi::export]
impl PosteEvents {
    /// The next change; nothing when the client is closed.
    pub async fn next(&self) -> Option<Event> {
        self.events.lock().await.next().await.map(Into::into)
    }
}
