//! The handle that applications use.

use std::path::PathBuf;
use std::sync::Arc;

use poste_protocol::{
    ConversationId, Event as GroupEvent, MessageId, PushStatus, PushToken, Role, Seq, UserId, WokenBy,
};
use tokio::sync::{broadcast, oneshot};

use crate::engine::{Engine, Input};
use crate::files;
use crate::runtime::{Download, Driver, Runtime};
use crate::{
    Backlog, ClientConfig, Connection, Conversation, Counters, Error, Event, Found, FoundPlace, Member, Message,
    OutboxEntry, Receipt, Recovery, Seen, Start, StoreError, Target, Window,
};

/// Messages that a window holds at most.
const MOST_IN_WINDOW: usize = 1_000;

/// Hits that a search gives at a time.
const MOST_FOUND: usize = 200;

/// An account on this device. Clones are handles of the same client; it ends with [`Client::close`], or when the last
/// handle is dropped.
///
/// Works on any async runtime: it has threads of its own, and a caller that is cancelled cancels nothing.
#[derive(Clone)]
pub struct Client {
    runtime: Arc<Runtime>,
}

impl Client {
    /// Opens the account's file, and connects unless the configuration says otherwise.
    ///
    /// # Errors
    /// Trouble with the file, see [`StoreError`], or an address that cannot be one.
    pub async fn open(config: ClientConfig) -> Result<Self, Error> {
        let (opened, answer) = oneshot::channel();
        let runtime = Runtime::start(config, opened)?;
        answer.await.map_err(|_| Error::Closed)??;
        Ok(Self { runtime: Arc::new(runtime) })
    }

    /// Writes a message. It is on the disk when this returns; the network is not waited for.
    ///
    /// # Errors
    /// An empty body, one that is too big, an unknown conversation, or trouble with the file: then nothing was written.
    pub async fn send(&self, to: Target, body: impl Into<String>) -> Result<Message, Error> {
        let body = body.into();
        self.call(move |driver| driver.command(|engine, now| engine.send(now, to, body))).await
    }

    /// Sends a file, with a text or without: `caption` may be empty. When this returns, the message is on the disk and
    /// shown, with a thumbnail if the file is a picture; the network is not waited for. Before that the file is read
    /// through once, which takes a while for a long one. Its bytes stay where they are: they are sent from there, when
    /// there is a network, also after a restart, and the message after them. What was written after it in its
    /// conversation waits behind it, and nothing else does. [`Event::Progress`] tells how far it is.
    ///
    /// A file that is moved or changed before it is sent is noticed: then the message has failed, and can be
    /// [retried](Self::retry) or [dropped](Self::drop_message). `kind` is its media type; without one it is guessed.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::BadFile`] for what cannot be sent, and as for [`Self::send`].
    pub async fn send_file(
        &self,
        to: Target,
        path: impl Into<PathBuf>,
        caption: impl Into<String>,
        kind: Option<String>,
    ) -> Result<Message, Error> {
        let (path, caption) = (path.into(), caption.into());
        let (tell, answer) = oneshot::channel();
        let read = move || {
            // Nobody listens any more if the caller was cancelled: then nothing is sent.
            let _ = tell.send(files::prepare(&path, kind));
        };
        std::thread::Builder::new()
            .name("poste-file".into())
            .spawn(read)
            .map_err(|source| StoreError::File { path: "the thread that reads files".into(), source })?;
        let file = answer.await.map_err(|_| Error::Closed)??;
        self.call(move |driver| driver.command(|engine, now| engine.send_file(now, to, file, caption))).await
    }

    /// The file of a message, on this device. If it is not here it is fetched, into the cache ([`ClientConfig::cache`]),
    /// from where it may go again when others are fetched: whoever wants to keep it copies it. What came of a download
    /// that was cut off is kept, and the next one goes on from there. What is given is what the message says, by its
    /// checksum. [`Event::Progress`] tells how far it is.
    ///
    /// Who is cancelled stops waiting, and the download goes on; [`Self::stop_download`] ends it.
    ///
    /// # Errors
    /// [`Error::NoFile`] if it cannot be had; [`Error::Message`] for a message that has none.
    pub async fn download(&self, conversation: ConversationId, message: MessageId) -> Result<PathBuf, Error> {
        match self.call(move |driver| driver.download(&conversation, message)).await? {
            Download::Here(path) => Ok(path),
            Download::Coming(answer) => Ok(answer.await.map_err(|_| Error::Suspended)??),
        }
    }

    /// The file of a message is not wanted any more: whoever waits for it is told [`NoFile::Stopped`](crate::NoFile).
    /// What came of it is kept.
    pub async fn stop_download(&self, conversation: ConversationId, message: MessageId) -> Result<(), Error> {
        self.call(move |driver| driver.command(|engine, now| engine.stop_download(now, &conversation, message))).await
    }

    /// Gives an own message another text, for everyone. That is on the disk, and shown, when this returns; the network is
    /// not waited for. A message that is in no envelope yet is just written anew; otherwise the edit goes its way through
    /// the outbox, and [`Message::waiting`] tells of it until it is acknowledged. If it is refused, the message shows the
    /// last text that was accepted, and the edit can be retried or dropped like a message. Of several edits, from
    /// whichever device, the one that is last in the log counts.
    ///
    /// # Errors
    /// As for [`Self::send`]; and [`Error::Message`] for what is not an own message, is deleted, or has failed.
    pub async fn edit(&self, id: MessageId, body: impl Into<String>) -> Result<Message, Error> {
        let body = body.into();
        self.call(move |driver| driver.command(|engine, now| engine.edit(now, id, body))).await
    }

    /// Deletes an own message for everyone: its text, and that of its edits, is removed from the server, and every device
    /// forgets it when it learns of it. That is on the disk, and shown, when this returns; for the rest it is as with
    /// [`Self::edit`]. Once it is acknowledged nothing brings the text back. A message that is in no envelope yet, or has
    /// failed, is [dropped](Self::drop_message). Deleting twice is once.
    ///
    /// # Errors
    /// [`Error::Message`] for what is neither an own message nor one of a group, [`Error::NotInGroup`], and trouble with
    /// the file.
    pub async fn delete(&self, id: MessageId) -> Result<(), Error> {
        self.call(move |driver| driver.command(|engine, now| engine.delete(now, id))).await
    }

    /// The newest `limit` messages of a conversation in the list's order, or, with `before`, those of the log before
    /// that number.
    pub async fn history(
        &self,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Message>, Error> {
        self.read(move |engine| engine.read()?.history(&conversation, before, limit)).await
    }

    /// At most `limit` messages of a conversation, and never more than 1,000, from a place in either direction: for lists
    /// that load more at both ends. A conversation that this device does not know has none.
    ///
    /// # Errors
    /// [`Error::Message`] if the window is to begin at a message that is not in this conversation.
    pub async fn window(&self, conversation: ConversationId, start: Start, limit: usize) -> Result<Window, Error> {
        let limit = limit.min(MOST_IN_WINDOW);
        let window = self.read(move |engine| engine.read()?.window(&conversation, start, limit)).await?;
        window.ok_or(match start {
            Start::Before(id) | Start::After(id) => Error::Message { id, why: "is not in this conversation" },
            _ => Error::UnknownConversation,
        })
    }

    /// Messages on this device that have all of these words, the newest first, with the part of each in which they are;
    /// of one conversation, or of all. Accents and upper case make no difference, and the last word may be the beginning
    /// of one. Any text is good: what is no word in it is left aside, and a text without words finds nothing. At most
    /// `limit` at a time, and never more than 200; `before` is [`Found::next`] of the page before. Needs no network.
    pub async fn search(
        &self,
        text: impl Into<String>,
        conversation: Option<ConversationId>,
        before: Option<FoundPlace>,
        limit: usize,
    ) -> Result<Found, Error> {
        let text = text.into();
        let limit = limit.min(MOST_FOUND);
        self.read(move |engine| engine.read()?.search(&text, conversation.as_ref(), before, limit)).await
    }

    /// Every conversation, the one with the latest activity first.
    pub async fn conversations(&self) -> Result<Vec<Conversation>, Error> {
        self.read(|engine| engine.read()?.conversations()).await
    }

    /// One conversation, if this device knows it: its cursor, head and unread count.
    pub async fn conversation(&self, id: ConversationId) -> Result<Option<Conversation>, Error> {
        self.read(move |engine| engine.read()?.conversation_view(&id)).await
    }

    /// Begins a group with this title and these users. It is on the disk when this returns, also without a network, and
    /// can be written to.
    pub async fn create_group(&self, title: String, members: Vec<UserId>) -> Result<Conversation, Error> {
        self.call(move |driver| driver.command(|engine, now| engine.create_group(now, title, members))).await
    }

    /// Gives a group another title. Like all that is done to a group, it is a message that is sent through the outbox in
    /// its order, counts when it is in the log, and has failed visibly if it is refused.
    ///
    /// # Errors
    /// [`Error::NotInGroup`] if the person has left it or was removed.
    pub async fn set_title(&self, group: ConversationId, title: String) -> Result<Message, Error> {
        self.group_event(group, GroupEvent::Titled { title }).await
    }

    /// Adds users to a group; at most 100.
    ///
    /// # Errors
    /// As for [`Self::set_title`].
    pub async fn add_members(&self, group: ConversationId, users: Vec<UserId>) -> Result<Message, Error> {
        self.group_event(group, GroupEvent::Added { users }).await
    }

    /// Removes users from a group; at most 100.
    ///
    /// # Errors
    /// As for [`Self::set_title`].
    pub async fn remove_members(&self, group: ConversationId, users: Vec<UserId>) -> Result<Message, Error> {
        self.group_event(group, GroupEvent::Removed { users }).await
    }

    /// Leaves a group. What was seen of it stays here.
    ///
    /// # Errors
    /// As for [`Self::set_title`].
    pub async fn leave(&self, group: ConversationId) -> Result<Message, Error> {
        self.group_event(group, GroupEvent::Left).await
    }

    /// Gives a member a role.
    ///
    /// # Errors
    /// As for [`Self::set_title`].
    pub async fn set_role(&self, group: ConversationId, user: UserId, role: Role) -> Result<Message, Error> {
        self.group_event(group, GroupEvent::Role { user, role }).await
    }

    /// Who is in a group, as far as this device has taken in what happened to it. While
    /// [`GroupView::members`](crate::GroupView::members) says nothing, that is not known yet.
    pub async fn members(&self, group: ConversationId) -> Result<Vec<Member>, Error> {
        self.read(move |engine| engine.read()?.members(&group)).await
    }

    async fn group_event(&self, group: ConversationId, event: GroupEvent) -> Result<Message, Error> {
        self.call(move |driver| driver.command(|engine, now| engine.group_event(now, &group, event))).await
    }

    /// What is not acknowledged yet: per conversation the envelopes by their numbers, then what is in none yet.
    pub async fn outbox(&self) -> Result<Vec<OutboxEntry>, Error> {
        self.call(Driver::outbox).await
    }

    /// How much waits to be sent and for how long, and how much is known to be on the server and is not here.
    pub async fn backlog(&self) -> Result<Backlog, Error> {
        self.call(Driver::backlog).await
    }

    /// Sends a failed message or change again, with everything that was refused in the same envelope. If later messages have gone
    /// on past it ([`Tuning::hold_back`](crate::Tuning::hold_back) is off), it comes after them.
    pub async fn retry(&self, id: MessageId) -> Result<(), Error> {
        self.call(move |driver| driver.command(|engine, now| engine.retry(now, id))).await
    }

    /// Drops an own message or change that failed, or that waits and is not on its way yet; with the upload of its file.
    pub async fn drop_message(&self, id: MessageId) -> Result<(), Error> {
        self.call(move |driver| driver.command(|engine, now| engine.drop_message(now, id))).await
    }

    /// The person has read a conversation up to a number.
    pub async fn mark_read(&self, conversation: ConversationId, upto: Seq) -> Result<(), Error> {
        self.call(move |driver| driver.command(|engine, now| engine.mark_read(now, &conversation, upto))).await
    }

    /// Who has an own message on a device of theirs, and who has read it, in the order of their ids: asked of the server,
    /// which alone knows it exactly. Of those who are in now and see the message; who came later does not.
    ///
    /// In a group of more than 32 members nobody tells others by themselves how far they are. There the states of own
    /// messages ([`State::Delivered`](crate::State::Delivered), [`State::Read`](crate::State::Read)) move when this is
    /// called.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] without a connection within some seconds; [`Error::Message`] for what is not an own message
    /// that was sent; [`Error::NotInGroup`].
    pub async fn receipts(&self, message: MessageId) -> Result<Vec<Receipt>, Error> {
        let answer = self.call(move |driver| driver.ask_receipts(message)).await?;
        answer.await.ok().flatten().ok_or(Error::NoAnswer)
    }

    /// Gives and gets read receipts from now on, or does neither: with them off, others are not told what the person has
    /// read, nor the person what others have, in any conversation and on any device of theirs. What was told before
    /// stays told. `delivered` is not affected.
    ///
    /// It is on the disk when this returns, and the server, which enforces it, is told as soon as it can be. Until it has
    /// confirmed, nothing that the person reads on this device is told to anybody.
    pub async fn set_receipts(&self, on: bool) -> Result<(), Error> {
        self.call(move |driver| driver.command(|engine, now| engine.set_receipts(now, on))).await
    }

    /// Whether the person gives and gets read receipts, as this device knows it: what another device of theirs has
    /// decided is known after the next connection.
    pub async fn gives_receipts(&self) -> Result<bool, Error> {
        self.read(|engine| Ok(engine.read()?.receipts()?.on)).await
    }

    /// Asks for the next page of a conversation's history, before what is on this device, unless one is asked for
    /// already. When it is here, [`Event::Conversation`] tells a smaller `oldest`, and [`Self::window`] and
    /// [`Self::history`] have more; its messages are no news and are not told one by one. Without a connection it is
    /// fetched on the next one. Says whether there is any: not if `oldest` is 0.
    ///
    /// What came is kept, whatever happens next. Only the wish is not: after a restart it is asked again.
    ///
    /// # Errors
    /// [`Error::UnknownConversation`], or trouble with the file.
    pub async fn older(&self, conversation: ConversationId) -> Result<bool, Error> {
        self.call(move |driver| driver.command(|engine, now| engine.older(now, &conversation))).await
    }

    /// What changes from now on.
    pub fn events(&self) -> Events {
        Events { receiver: self.runtime.events() }
    }

    /// Closes the connection, and closes the file and lets go of it, so that the system may stop the process or another
    /// one may open the account. What is in the outbox stays there. Until [`Self::resume`] every call that needs the
    /// file is refused with [`Error::Suspended`]: a call that waited could wait for days. Suspending twice is once.
    ///
    /// When this returns, nothing of the file is held any more. Mobile systems kill a process that holds a lock while it
    /// is in the background: call this when the application goes there.
    ///
    /// # Errors
    /// Trouble with the file. It is let go of all the same, and what was promised is in it.
    pub async fn suspend(&self) -> Result<(), Error> {
        self.call(Driver::suspend).await
    }

    /// Opens the file again, connects if the network is not cut, and goes on with what waits. Whoever listens is told
    /// [`Event::Missed`], because another process may have changed the file meanwhile. Resuming twice is once.
    ///
    /// # Errors
    /// Trouble with the file, for example [`StoreError::AlreadyOpen`] while another process has it. The client stays
    /// suspended, and may be resumed again.
    pub async fn resume(&self) -> Result<(), Error> {
        self.call(Driver::resume).await
    }

    /// Cuts the network, or brings it back. While the client is suspended it is noted for later. Its return is also
    /// worth telling when the system says so: the client connects at once instead of waiting for its backoff.
    pub async fn set_network(&self, on: bool) -> Result<(), Error> {
        self.call(move |driver| {
            driver.set_network(on);
            Ok(())
        })
        .await
    }

    /// A person looks at this conversation: of what is missing here, its part is fetched first, then what is unread, then
    /// the rest, and of each what was active last. One is open at a time; opening another closes it. A hint, also while
    /// the client is suspended.
    pub async fn open_conversation(&self, id: ConversationId) -> Result<(), Error> {
        self.call(move |driver| {
            driver.open_conversation(id);
            Ok(())
        })
        .await
    }

    /// A person looks at this conversation no longer. One that is not open is none the worse for it.
    pub async fn close_conversation(&self, id: ConversationId) -> Result<(), Error> {
        self.call(move |driver| {
            driver.close_conversation(&id);
            Ok(())
        })
        .await
    }

    /// A person looks at the application. Nothing waits for a backoff any longer, unless the server said how long to wait,
    /// and a connection that may have died while the device slept is tried. A client whose network is cut or that is
    /// suspended stays so. From now on, until [`Self::background`], others may see that the person is here.
    pub async fn foreground(&self) -> Result<(), Error> {
        self.call(|driver| {
            driver.set_front(true);
            Ok(())
        })
        .await
    }

    /// Nobody looks at the application any more: others are told that the person has gone, nobody is watched, and the
    /// client does nothing by itself but to keep its connection.
    pub async fn background(&self) -> Result<(), Error> {
        self.call(|driver| {
            driver.set_front(false);
            Ok(())
        })
        .await
    }

    /// The person wants to see who is here and who is writing in these conversations, and in no others; at most 50, the
    /// rest is left aside. While a person looks at the application, [`Event::Presence`] and [`Event::Typing`] tell.
    /// Conversations of more than 32 members show nobody.
    pub async fn watch(&self, conversations: Vec<ConversationId>) -> Result<(), Error> {
        self.call(move |driver| {
            driver.watch(conversations);
            Ok(())
        })
        .await
    }

    /// Whether others may see when the person is here and writes, on this device. Who hides sees nobody, either.
    pub async fn set_visible(&self, visible: bool) -> Result<(), Error> {
        self.call(move |driver| {
            driver.set_visible(visible);
            Ok(())
        })
        .await
    }

    /// The person is writing in a conversation. Worth calling at every key: others are told once in four seconds.
    /// Nothing happens without a connection, in the background, and for who hides.
    pub async fn typing(&self, conversation: ConversationId) -> Result<(), Error> {
        self.call(move |driver| {
            driver.input(Input::Typing(conversation));
            Ok(())
        })
        .await
    }

    /// Those of whom [`Event::Presence`] has told, as they are now. Worth asking on [`Event::Missed`].
    pub async fn seen(&self) -> Result<Vec<Seen>, Error> {
        self.read(|engine| Ok(engine.seen())).await
    }

    /// Who is writing now, and where.
    pub async fn writing(&self) -> Result<Vec<(ConversationId, UserId)>, Error> {
        self.read(|engine| Ok(engine.writing())).await
    }

    /// The device can be woken by this token of its platform's notification service, in place of the one before; or it
    /// shall not be woken. That is on the disk when this returns, and the server is told as soon as it can be. Worth
    /// calling at every start and whenever the system gives another token: one that the server has is not sent again.
    /// [`Event::Push`] tells how it stands.
    pub async fn set_push(&self, token: Option<PushToken>) -> Result<(), Error> {
        self.call(move |driver| driver.command(|engine, now| engine.set_push(now, token.as_ref()))).await
    }

    /// What the server said last of waking this device. [`PushStatus::Renew`] asks for a new token, and
    /// [`PushStatus::None`] for [`Self::set_push`] with the same, unless another account shall be woken by it.
    pub async fn push_status(&self) -> Result<Option<PushStatus>, Error> {
        self.read(|engine| Ok(engine.read()?.waking()?.status)).await
    }

    /// A push has woken the device: what it says, for the operator to count. The server is told as soon as it can be.
    pub async fn woken(&self, by: WokenBy) -> Result<(), Error> {
        self.call(move |driver| driver.command(|engine, now| engine.woken(now, &by))).await
    }

    /// Nobody is to be woken for this conversation, on any device of the user, until a time in Unix milliseconds by the
    /// server's clock; without one it is not muted any more. That is on the disk when this returns, and the server is
    /// told as soon as it can be. [`Conversation::muted_until`] shows it, on this device.
    ///
    /// # Errors
    /// [`Error::UnknownConversation`], or trouble with the file.
    pub async fn mute(&self, conversation: ConversationId, until: Option<u64>) -> Result<(), Error> {
        self.call(move |driver| driver.command(|engine, now| engine.mute(now, &conversation, until))).await
    }

    /// What was saved when the account's file was found damaged, when it was opened or later, and a new one took its
    /// place. Told until [`Self::recovery_noted`]. Worth asking after opening, after resuming, and on [`Event::Missed`].
    pub async fn recovery(&self) -> Result<Option<Recovery>, Error> {
        self.read(|engine| engine.read()?.recovery()).await
    }

    /// The application has taken note of what [`Self::recovery`] says.
    pub async fn recovery_noted(&self) -> Result<(), Error> {
        self.call(|driver| driver.command(Engine::forget_recovery)).await
    }

    /// The connection as it is now.
    pub async fn connection(&self) -> Result<Connection, Error> {
        self.call(|driver| Ok(driver.connection())).await
    }

    /// What was counted since the client was opened.
    pub async fn counters(&self) -> Result<Counters, Error> {
        self.call(|driver| Ok(driver.counters())).await
    }

    /// Closes the connection and the file. What is in the outbox stays there. Other handles get [`Error::Closed`].
    pub async fn close(&self) {
        self.runtime.close().await;
    }

    /// Lets the file grow to so many pages and no further, as a full disk would. For tests.
    #[cfg(test)]
    pub(crate) async fn limit_pages(&self, pages: u32) {
        let limit = move |engine: &mut Engine| {
            engine.limit_pages(pages);
            Ok(())
        };
        self.read(limit).await.expect("the client is open");
    }

    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Engine) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        self.call(move |driver| driver.read(look)).await
    }

    async fn call<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Driver) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (tell, answer) = oneshot::channel();
        self.runtime.run(Box::new(move |driver| {
            // Nobody listens any more if the caller was cancelled: what was asked for is done all the same.
            let _ = tell.send(act(driver));
        }))?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// A stream of what changed.
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// The next change; nothing when the client is closed.
    pub async fn next(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Event::Missed { count }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
