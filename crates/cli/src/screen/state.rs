//! What the screen knows, and how it changes: an input comes in, effects come out. No terminal, no store, no clock.

use std::collections::{BTreeSet, HashMap};

use poste_client::{Connection, Conversation, Counters, Event, Message, OutboxEntry, State as MessageState, Target};
use poste_protocol::{ConversationId, DeviceId, MessageId, Seq, UserId, limits};
use ratatui::crossterm::event::KeyEvent;
use ratatui::layout::{Rect, Size};

use super::editor::Editor;
use super::layout::{Areas, Paper};
use super::window::{Measure, Read, Stand, Window};

/// How long a notice stays, in milliseconds.
const NOTICE: u64 = 6_000;

/// What happens to the screen.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(crate) enum Input {
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted.
    Paste(String),
    /// The terminal has another size.
    Resize(Size),
    /// The terminal is looked at, or not any more.
    Focus(bool),
    /// The client tells of a change.
    Told(Event),
    /// An effect was carried out.
    Answer(Answer),
    /// Time passes; in Unix milliseconds. Once a second.
    Tick(u64),
}

/// What the screen wants done. In order, and never waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Answered by an event, or by [`Answer::NotSent`].
    Send {
        conversation: ConversationId,
        to: Target,
        body: String,
    },
    Retry(MessageId),
    Drop(MessageId),
    /// Answered by an event, or by [`Answer::NotDone`].
    Edit {
        id: MessageId,
        body: String,
    },
    Delete(MessageId),
    MarkRead {
        conversation: ConversationId,
        upto: Seq,
    },
    /// Asks the server for older messages than the store has. Answered by an event.
    Older(ConversationId),
    /// Cuts the network, or brings it back, and remembers it.
    Network(bool),
    Read {
        conversation: ConversationId,
        read: Read,
    },
    ReadConversations,
    ReadOutbox,
    ReadCounters,
    /// Whether a person looks at the screen.
    Look(bool),
    /// Whose coming and going is shown: who is in these.
    Watch(Vec<ConversationId>),
    /// The person is writing.
    Typing(ConversationId),
    /// Draws everything anew.
    Redraw,
    End,
}

/// What comes of effects.
#[derive(Debug)]
pub(crate) enum Answer {
    Conversations(Vec<Conversation>),
    Outbox(Vec<OutboxEntry>),
    Counters(Counters),
    Page {
        conversation: ConversationId,
        read: Read,
        messages: Vec<Message>,
    },
    /// A page could not be read.
    NoPage {
        conversation: ConversationId,
        why: String,
    },
    /// A message was not written.
    NotSent {
        conversation: ConversationId,
        body: String,
        why: String,
    },
    /// Something else was not done.
    NotDone(String),
}

/// Where keys go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Focus {
    List,
    Input,
}

/// What covers the conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Over {
    Help,
    /// The chosen message, by its place, and whether it is about to be dropped.
    Outbox {
        chosen: usize,
        dropping: Option<MessageId>,
    },
    /// With whom a conversation begins, and what is wrong with it.
    New {
        editor: Editor,
        wrong: Option<String>,
    },
}

/// The open conversation.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) id: ConversationId,
    pub(crate) peer: Option<UserId>,
    pub(crate) window: Window,
    pub(crate) editor: Editor,
    /// What is being written is the new text of this message.
    pub(crate) editing: Option<MessageId>,
    /// When it was opened, everything up to here was read, and something beyond was not.
    pub(crate) new_after: Option<Seq>,
    /// How far the client was told that it is read.
    told_read: Seq,
}

/// Something to say, for a while.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) text: String,
    until: u64,
}

/// A list that is read anew when it is due, one reading at a time.
#[derive(Debug, Default)]
struct Fresh {
    due: bool,
    asked: bool,
}

impl Fresh {
    fn ask(&mut self) -> bool {
        let ask = self.due && !self.asked;
        if ask {
            *self = Self { due: false, asked: true };
        }
        ask
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) me: UserId,
    pub(crate) device: DeviceId,
    pub(crate) now: u64,
    pub(crate) size: Size,
    pub(crate) connection: Connection,
    /// The one with the latest activity first.
    pub(crate) conversations: Vec<Conversation>,
    /// The place of the chosen one in the list.
    pub(crate) chosen: usize,
    pub(crate) open: Option<Open>,
    pub(crate) focus: Focus,
    pub(crate) over: Option<Over>,
    pub(crate) outbox: Vec<OutboxEntry>,
    pub(crate) counters: Counters,
    pub(crate) notice: Option<Notice>,
    /// A message that the next key may delete.
    pub(super) deleting: Option<MessageId>,
    /// What was begun in conversations that are not open.
    drafts: HashMap<ConversationId, Editor>,
    looked_at: bool,
    /// Who is here, and who writes.
    pub(crate) here: BTreeSet<UserId>,
    pub(crate) writing: BTreeSet<(ConversationId, UserId)>,
    watched: Vec<ConversationId>,
    fresh_list: Fresh,
    fresh_outbox: Fresh,
    pub(super) effects: Vec<Effect>,
}

impl State {
    /// A screen on which nothing is open. `conversations` are all that the client has, the latest activity first.
    pub(crate) fn new(
        (me, device): (UserId, DeviceId),
        connection: Connection,
        conversations: Vec<Conversation>,
        size: Size,
        now: u64,
    ) -> Self {
        Self {
            me,
            device,
            now,
            size,
            connection,
            conversations,
            chosen: 0,
            open: None,
            focus: Focus::List,
            over: None,
            outbox: Vec::new(),
            counters: Counters::default(),
            notice: None,
            deleting: None,
            drafts: HashMap::new(),
            looked_at: true,
            here: BTreeSet::new(),
            writing: BTreeSet::new(),
            watched: Vec::new(),
            fresh_list: Fresh::default(),
            fresh_outbox: Fresh { due: true, asked: false },
            effects: Vec::new(),
        }
    }

    /// Takes in what happened. Says what is to be done.
    pub(crate) fn update(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Key(key) => self.key(key),
            Input::Paste(text) => self.paste(&text),
            Input::Resize(size) => self.size = size,
            Input::Focus(looked_at) => {
                self.looked_at = looked_at;
                self.effects.push(Effect::Look(looked_at));
            }
            Input::Told(event) => self.told(event),
            Input::Answer(answer) => self.answer(answer),
            Input::Tick(now) => self.tick(now),
        }
        self.settle();
        std::mem::take(&mut self.effects)
    }

    /// Opens the conversation with a user, known or not.
    pub(crate) fn open_with(&mut self, peer: UserId) {
        let id = ConversationId::direct(&self.me, &peer);
        self.open(id, Some(peer));
    }

    pub(super) fn open(&mut self, id: ConversationId, peer: Option<UserId>) {
        self.focus = Focus::Input;
        self.choose(&id);
        if self.open.as_ref().is_some_and(|open| open.id == id) {
            return;
        }
        self.close();
        let editor = self.drafts.remove(&id).unwrap_or_default();
        let unread = self.conversations.iter().find(|known| known.id == id && known.unread > 0);
        let new_after = unread.map(|summary| summary.read);
        let window = Window::new(new_after);
        self.open = Some(Open { id, peer, window, editor, editing: None, new_after, told_read: Seq::ZERO });
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && !open.editor.text().is_empty()
            && open.editing.is_none()
        {
            self.drafts.insert(open.id, open.editor);
        }
    }

    /// Opens the chosen conversation of the list.
    pub(super) fn open_chosen(&mut self) {
        if let Some(conversation) = self.conversations.get(self.chosen) {
            self.open(conversation.id.clone(), conversation.peer.clone());
        }
    }

    fn choose(&mut self, id: &ConversationId) {
        if let Some(place) = self.conversations.iter().position(|conversation| conversation.id == *id) {
            self.chosen = place;
        }
    }

    pub(crate) fn is_online(&self) -> bool {
        self.connection == Connection::Online
    }

    /// Messages that wait or failed, in all conversations.
    pub(crate) fn unsettled(&self) -> u64 {
        self.conversations.iter().map(|conversation| conversation.unsettled).sum()
    }

    /// The outbox's messages in order, each with its entry.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&OutboxEntry, &Message)> {
        self.outbox.iter().flat_map(|entry| entry.messages.iter().map(move |message| (entry, message)))
    }

    pub(super) fn say(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), until: self.now + NOTICE });
    }

    /// Sends what is written to the open conversation.
    pub(super) fn send(&mut self) {
        let Some(open) = &mut self.open else { return };
        if open.editor.text().trim().is_empty() {
            return;
        }
        let body = open.editor.take();
        if let Some(id) = open.editing.take() {
            self.effects.push(Effect::Edit { id, body });
            return;
        }
        open.window.go_to_bottom();
        let to = match &open.peer {
            Some(peer) => Target::User(peer.clone()),
            None => Target::Conversation(open.id.clone()),
        };
        self.effects.push(Effect::Send { conversation: open.id.clone(), to, body });
    }

    /// Cuts the network, or brings it back.
    pub(super) fn set_network(&mut self, on: bool) {
        self.effects.push(Effect::Network(on));
    }

    /// Sends the first failed message of the open conversation again, and with it what was refused together with it.
    pub(super) fn retry_here(&mut self) {
        let Some(open) = &self.open else { return };
        let failed = open.window.messages().iter().find_map(|message| {
            let change = message.waiting.as_ref().filter(|change| change.state == MessageState::Failed);
            change.map(|change| change.id).or((message.state == MessageState::Failed).then_some(message.id))
        });
        let id = failed.or_else(|| {
            let here = self
                .waiting()
                .find(|(entry, message)| entry.conversation == open.id && message.state == MessageState::Failed);
            here.map(|(_, message)| message.id)
        });
        match id {
            Some(id) => self.effects.push(Effect::Retry(id)),
            None => self.say("nothing has failed here"),
        }
    }

    /// The last message of one's own in the open conversation that can be changed.
    fn last_own(&self) -> Option<&Message> {
        let own =
            |message: &&Message| message.user == self.me && !message.deleted && message.state != MessageState::Failed;
        self.open.as_ref()?.window.messages().iter().rev().find(own)
    }

    /// Begins to write the last own message anew.
    pub(super) fn edit_last(&mut self) {
        let Some((id, body)) = self.last_own().map(|message| (message.id, message.body.clone())) else {
            return self.say("there is nothing of yours here to edit");
        };
        let Some(open) = &mut self.open else { return };
        if !open.editor.text().is_empty() {
            return self.say("send or clear first what you are writing");
        }
        (open.editor, open.editing) = (Editor::with(&body), Some(id));
        self.focus = Focus::Input;
        self.say("Enter changes the message, Esc leaves it as it is");
    }

    /// Leaves a message as it is that was being written anew. Says whether there was one.
    pub(super) fn leave_edit(&mut self) -> bool {
        let Some(open) = &mut self.open else { return false };
        let edits = open.editing.take().is_some();
        if edits {
            open.editor.take();
        }
        edits
    }

    /// Deletes the last own message, if it is asked for a second time.
    pub(super) fn delete_last(&mut self, asked: Option<MessageId>) {
        let Some(id) = self.last_own().map(|message| message.id) else {
            return self.say("there is nothing of yours here to delete");
        };
        if asked == Some(id) {
            self.leave_edit();
            self.effects.push(Effect::Delete(id));
        } else {
            self.deleting = Some(id);
            self.say("F7 again deletes your last message, for everyone");
        }
    }

    /// The area of the messages, and what is needed to scroll in it.
    pub(super) fn with_window<T>(&mut self, act: impl FnOnce(&mut Window, &Measure<'_>) -> T) -> Option<T> {
        let area = self.areas().messages;
        let Open { peer, window, new_after, .. } = self.open.as_mut()?;
        let width = area.map_or(80, |area| area.width);
        let paper = Paper { me: &self.me, peer: peer.as_ref(), new_after: *new_after, width };
        let lines = |messages: &[Message], index| paper.lines(messages, index).len();
        let height = area.map_or(1, |area| usize::from(area.height));
        Some(act(window, &Measure { lines: &lines, height }))
    }

    pub(crate) fn areas(&self) -> Areas {
        Areas::of(self, Rect::from((ratatui::layout::Position::ORIGIN, self.size)))
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Added { message } => {
                self.window_of(&message.conversation, |window| window.changed(1));
                self.fresh_outbox.due |= message.state == MessageState::Pending;
            }
            Event::Updated { message } => {
                self.fresh_outbox.due = true;
                self.window_of(&message.conversation, |window| {
                    window.replace(&message);
                    window.changed(0);
                });
            }
            Event::Removed { conversation, .. } => {
                self.fresh_outbox.due = true;
                self.window_of(&conversation, |window| window.changed(0));
            }
            Event::Conversation { conversation } => self.conversation(conversation),
            Event::Presence { seen } => {
                self.here.remove(&seen.user);
                if seen.online {
                    self.here.insert(seen.user);
                }
            }
            Event::Typing { conversation, user, typing } => {
                let writer = (conversation, user);
                self.writing.remove(&writer);
                if typing {
                    self.writing.insert(writer);
                }
            }
            Event::Connection { state } => {
                self.connection = state;
                self.fresh_outbox.due = true;
            }
            Event::Progress { conversation, .. } => self.window_of(&conversation, |window| window.changed(0)),
            Event::Push { .. } => {}
            Event::Missed { count } => {
                (self.fresh_list.due, self.fresh_outbox.due) = (true, true);
                if let Some(open) = &mut self.open {
                    open.window.changed(usize::try_from(count).unwrap_or(usize::MAX).min(super::window::PAGE));
                }
            }
        }
    }

    fn window_of(&mut self, id: &ConversationId, change: impl FnOnce(&mut Window)) {
        if let Some(open) = self.open.as_mut().filter(|open| open.id == *id) {
            change(&mut open.window);
        }
    }

    fn conversation(&mut self, new: Conversation) {
        if let Some(open) = self.open.as_mut().filter(|open| open.id == new.id) {
            if open.peer.is_none() {
                open.peer.clone_from(&new.peer);
            }
            open.window.changed(0);
            open.window.look_again();
        }
        let chosen = self.conversations.get(self.chosen).map(|conversation| conversation.id.clone());
        match self.conversations.iter_mut().find(|known| known.id == new.id) {
            Some(known) => *known = new,
            None => self.conversations.push(new),
        }
        self.conversations.sort_by(|a, b| (b.active_at, &a.id).cmp(&(a.active_at, &b.id)));
        if let Some(id) = chosen {
            self.choose(&id);
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Conversations(list) => {
                self.fresh_list.asked = false;
                let chosen = self.conversations.get(self.chosen).map(|conversation| conversation.id.clone());
                self.conversations = list;
                if let Some(id) = chosen {
                    self.choose(&id);
                }
            }
            Answer::Outbox(outbox) => {
                self.fresh_outbox.asked = false;
                self.outbox = outbox;
            }
            Answer::Counters(counters) => self.counters = counters,
            Answer::Page { conversation, read, messages } => {
                self.window_of(&conversation, |window| window.take(read, messages));
            }
            Answer::NoPage { conversation, why } => {
                self.window_of(&conversation, Window::failed);
                self.say(why);
            }
            Answer::NotSent { conversation, body, why } => {
                self.say(format!("not sent: {why}"));
                // What was written is not lost; but what is being written by now is not overwritten either.
                let editor = match self.open.as_mut().filter(|open| open.id == conversation) {
                    Some(open) => &mut open.editor,
                    None => self.drafts.entry(conversation).or_default(),
                };
                if editor.text().is_empty() {
                    *editor = Editor::with(&body);
                }
            }
            Answer::NotDone(why) => {
                // A list that could not be read is read again when something changes.
                (self.fresh_list.asked, self.fresh_outbox.asked) = (false, false);
                self.say(why);
            }
        }
    }

    fn tick(&mut self, now: u64) {
        self.now = now;
        if self.notice.as_ref().is_some_and(|notice| notice.until <= now) {
            self.notice = None;
        }
        self.effects.push(Effect::ReadCounters);
        if self.fresh_outbox.ask() {
            self.effects.push(Effect::ReadOutbox);
        }
    }

    /// After every input: everything in its range, what is missing asked for, what is seen told.
    fn settle(&mut self) {
        self.chosen = self.chosen.min(self.conversations.len().saturating_sub(1));
        let waiting = self.waiting().count();
        if let Some(Over::Outbox { chosen, .. }) = &mut self.over {
            *chosen = (*chosen).min(waiting.saturating_sub(1));
            if self.fresh_outbox.ask() {
                self.effects.push(Effect::ReadOutbox);
            }
        }
        if self.fresh_list.ask() {
            self.effects.push(Effect::ReadConversations);
        }
        self.settle_window();
        self.settle_watched();
    }

    /// What is in the list is watched, as far as it may be, and what is open in any case.
    fn settle_watched(&mut self) {
        let open = self.open.as_ref().map(|open| &open.id);
        let listed = self.conversations.iter().map(|conversation| &conversation.id);
        let wanted: BTreeSet<_> = open.into_iter().chain(listed).take(limits::WATCHED).collect();
        if !wanted.iter().copied().eq(&self.watched) {
            self.watched = wanted.into_iter().cloned().collect();
            self.effects.push(Effect::Watch(self.watched.clone()));
        }
    }

    fn settle_window(&mut self) {
        let Some(open) = &self.open else { return };
        let conversation = open.id.clone();
        let summary = self.conversations.iter().find(|known| known.id == conversation);
        let (cursor, read) = summary.map_or((Seq::ZERO, Seq::ZERO), |summary| (summary.cursor, summary.read));
        let oldest = summary.map_or(Seq::ZERO, |summary| summary.oldest);
        let unsettled = summary.map_or(0, |summary| usize::try_from(summary.unsettled).unwrap_or(usize::MAX / 2));
        let stand = Stand { oldest, cursor, unsettled };
        if let Some(Some(read)) = self.with_window(|window, measure| window.settle(measure, stand)) {
            self.effects.push(Effect::Read { conversation: conversation.clone(), read });
        }
        if self.with_window(|window, measure| window.wants_older(measure, stand)) == Some(true) {
            self.effects.push(Effect::Older(conversation.clone()));
            if !self.is_online() {
                self.say("older messages come with the next connection");
            }
        }
        if !self.looked_at || self.over.is_some() || self.areas().messages.is_none() {
            return;
        }
        let seen = self.with_window(|window, measure| {
            let last = window.last(measure)?;
            let seen = window.messages()[..=last].iter().filter(|message| message.state == MessageState::Received);
            seen.filter_map(|message| message.seq).max().filter(|seq| *seq <= cursor)
        });
        if let (Some(Some(upto)), Some(open)) = (seen, &mut self.open)
            && upto > open.told_read.max(read)
        {
            open.told_read = upto;
            self.effects.push(Effect::MarkRead { conversation, upto });
        }
    }
}
