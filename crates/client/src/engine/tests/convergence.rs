//! C5, I2 to I5, I9: whatever happens in between, all devices end with the log's list.
//!
//! Two devices write to each other, and edit and delete what they wrote, through a server in memory that follows the
//! wire's rules. A random schedule loses frames both ways, passes them late and twice, cuts connections, kills devices and damages their files. Then the network is good for a
//! while, and both must show what the log holds, which must hold what was written, once and in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use poste_protocol::{
    Author, Cell, ConversationId, EnvelopeId, Fetch, Mark, MessageId, MessagePlace, Number, Request, Seq, SyncRange,
    UserId,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{START, author, seq};
use crate::engine::{Engine, Input, Lost, Now, Output};
use crate::store::Store;
use crate::{Message, OutboxState, State, Target, Tuning};

/// Messages of a page: few, so that there are many pages.
const PAGE: usize = 4;

/// The log of one conversation, with its lanes.
#[derive(Default)]
struct Server {
    cells: Vec<Cell>,
    head: u64,
    lanes: BTreeMap<Author, (Number, EnvelopeId, u64)>,
    marks: BTreeMap<String, (u64, u64, Author)>,
    /// Nobody may write.
    closed: bool,
}

impl Server {
    fn mark(&mut self, by: &Author, conversation: &ConversationId, marks: Vec<Mark>) -> (Vec<Value>, Vec<Value>) {
        let (mut results, mut news) = (Vec::new(), Vec::new());
        for mark in marks {
            let read = mark.read.map_or(0, Seq::get);
            let delivered = mark.delivered.map_or(0, Seq::get).max(read);
            assert!(delivered <= self.head, "I8: a mark never passes the head");
            let mine = self.marks.entry(by.user.as_str().to_owned()).or_insert_with(|| (0, 0, by.clone()));
            *mine = (mine.0.max(delivered), mine.1.max(read), by.clone());
            news.push(json!({"conversation": conversation, "marks": [member_mark(by.user.as_str(), mine)]}));
            results.push(json!({"conversation": mark.conversation}));
        }
        (results, news)
    }

    /// Answers one request, and says whether there is news for the others.
    fn answer(&mut self, by: &Author, conversation: &ConversationId, text: &str) -> (Value, Vec<Value>) {
        match serde_json::from_str(text).expect("devices send well-formed requests") {
            Request::Watch(_) | Request::Away(_) | Request::Typing(_) => unreachable!("nobody looks"),
            Request::Members(_) => unreachable!("there are no groups"),
            Request::Push(_) | Request::Mute(_) => unreachable!("nobody sleeps"),
            Request::Marks(_) | Request::Receipts(_) => unreachable!("nobody asks"),
            Request::Media(_) => unreachable!("there are no files"),
            Request::Hello(hello) => (
                json!({"type": "welcome", "ref": hello.reference, "user": by.user, "device": by.device, "now": 1}),
                Vec::new(),
            ),
            Request::Send(frame) => {
                let mut verdicts = Vec::new();
                let mut news = Vec::new();
                for submission in frame.submissions {
                    submission.envelope.check().expect("devices keep the limits");
                    assert_eq!(&submission.envelope.conversation, conversation);
                    let id = submission.envelope.id;
                    let outcome = self.append(by, submission.envelope);
                    if outcome["outcome"] == "accepted" {
                        let cell = self.cells.iter().find(|cell| cell.envelope == id).expect("stored");
                        news.push(json!({"conversation": conversation, "cells": [cell]}));
                    }
                    let mut verdict = outcome;
                    verdict["envelope"] = json!(id);
                    verdicts.push(verdict);
                }
                let (results, of_marks) = self.mark(by, conversation, frame.marks);
                news.extend(of_marks);
                (json!({"type": "sent", "ref": frame.reference, "verdicts": verdicts, "marks": results}), news)
            }
            Request::Fetch(fetch) => (self.page(conversation, &fetch), Vec::new()),
            Request::Sync(frame) => {
                let SyncRange { conversation, after, limit } = frame.ranges[0].clone();
                let fetch = Fetch { reference: frame.reference, conversation, after, before: None, limit };
                let page = self.page(&fetch.conversation, &fetch);
                (json!({"type": "pages", "ref": fetch.reference, "pages": [page]}), Vec::new())
            }
            Request::List(list) => {
                let marks: Vec<_> = self.marks.iter().map(|(user, mark)| member_mark(user, mark)).collect();
                let all = if self.head == 0 {
                    json!([])
                } else {
                    json!([{"conversation": conversation, "head": self.head, "active_at": 1, "marks": marks}])
                };
                (json!({"type": "list", "ref": list.reference, "conversations": all}), Vec::new())
            }
            Request::Mark(frame) => {
                let (results, news) = self.mark(by, conversation, frame.marks);
                (json!({"type": "marked", "ref": frame.reference, "results": results}), news)
            }
        }
    }

    fn append(&mut self, by: &Author, envelope: poste_protocol::Envelope) -> Value {
        let accepted =
            |place: u64, repeat: bool| json!({"outcome": "accepted", "seq": place, "at": 1, "repeat": repeat});
        if let Some((number, id, place)) = self.lanes.get(by) {
            if *number == envelope.number && *id == envelope.id {
                return accepted(*place, true);
            }
            if envelope.number <= *number {
                return match self.cells.iter().find(|cell| cell.envelope == envelope.id) {
                    Some(cell) => accepted(cell.seq.get(), true),
                    None => json!({"outcome": "refused", "error": {"code": "lane_conflict", "message": "",
                        "retryable": false, "lane": {"number": number, "seq": place}}}),
                };
            }
        }
        let refused =
            |code: &str| json!({"outcome": "refused", "error": {"code": code, "message": "", "retryable": false}});
        if self.closed {
            return refused("not_member");
        }
        if !envelope
            .messages
            .iter()
            .filter_map(poste_protocol::Message::target)
            .all(|target| self.author_of(target) == Some(&by.user))
        {
            return refused("no_target");
        }
        let place = self.head + 1;
        self.head += envelope.count();
        self.lanes.insert(by.clone(), (envelope.number, envelope.id, place));
        self.cells.push(Cell {
            seq: seq(place),
            envelope: envelope.id,
            number: envelope.number,
            by: by.clone(),
            at: 1,
            messages: envelope.messages,
        });
        self.redact();
        accepted(place, false)
    }

    fn author_of(&self, target: MessagePlace) -> Option<&UserId> {
        let cell = self.cells.iter().find(|cell| cell.seq <= target.seq && target.seq <= cell.last())?;
        let index = usize::try_from(target.seq.get() - cell.seq.get()).expect("few messages");
        (cell.messages[index].id == target.id).then_some(&cell.by.user)
    }

    /// What is deleted has no text, and its edits have none.
    fn redact(&mut self) {
        let messages = self.cells.iter().flat_map(|cell| &cell.messages);
        let deleted: BTreeSet<_> = messages.filter_map(|message| message.deletes).map(|target| target.id).collect();
        for message in self.cells.iter_mut().flat_map(|cell| &mut cell.messages) {
            if deleted.contains(&message.edits.map_or(message.id, |target| target.id)) {
                *message = message.clone().redacted();
            }
        }
    }

    fn page(&self, conversation: &ConversationId, fetch: &Fetch) -> Value {
        let mut cells: Vec<_> = self.cells.iter().collect();
        if let Some(after) = fetch.after {
            cells.retain(|cell| cell.seq > after);
            let more = cells.len() > PAGE;
            cells.truncate(PAGE);
            let through = cells.last().map_or(after, |cell| cell.last());
            return json!({"type": "page", "ref": fetch.reference, "conversation": conversation, "after": after,
                "through": through, "cells": cells, "head": self.head, "more": more});
        }
        cells.retain(|cell| fetch.before.is_none_or(|before| cell.seq < before));
        let cells = &cells[cells.len().saturating_sub(PAGE)..];
        let through = cells.last().map_or(Seq::ZERO, |cell| cell.last());
        let after = cells.first().map_or(Seq::ZERO, |cell| cell.seq.back());
        json!({"type": "page", "ref": fetch.reference, "conversation": conversation, "after": after,
            "through": through, "cells": cells, "head": self.head, "more": after > Seq::ZERO})
    }
}

fn member_mark(user: &str, (delivered, read, by): &(u64, u64, Author)) -> Value {
    json!({"user": user, "device": by.device, "delivered": delivered, "read": read})
}

struct Device {
    tuning: Tuning,
    me: Author,
    peer: Author,
    engine: Option<Engine>,
    /// What the engine wants: a handshake, or that it has a connection.
    wants_connection: bool,
    connected: bool,
    up: VecDeque<String>,
    down: Vec<String>,
    written: Vec<MessageId>,
    edits: usize,
    /// Deleted before they were sent. In another life of the device they may have been.
    dropped: BTreeSet<MessageId>,
    seed: u64,
}

impl Device {
    fn new(me: Author, peer: Author, seed: u64) -> Self {
        let store = Store::in_memory(&me.user, &me.device).expect("a store in memory");
        // The second device goes on past what is refused.
        let tuning = Tuning { hold_back: seed == 1, ..Tuning::default() };
        let engine = Some(Engine::new(store, me.clone(), tuning.clone(), seed));
        Self {
            tuning,
            me,
            peer,
            engine,
            wants_connection: false,
            connected: false,
            up: VecDeque::new(),
            down: Vec::new(),
            written: Vec::new(),
            edits: 0,
            dropped: BTreeSet::new(),
            seed,
        }
    }

    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Connect { .. } => self.wants_connection = true,
                Output::Disconnect => self.cut(),
                Output::Frame(text) => self.up.push_back(text),
                Output::Event(_) | Output::Receipts { .. } | Output::Transfer(_) => {}
            }
        }
    }

    fn cut(&mut self) {
        self.connected = false;
        self.wants_connection = false;
        self.up.clear();
        self.down.clear();
    }

    fn input(&mut self, now: Now, input: Input) {
        let outputs = self.engine.as_mut().expect("alive").handle(now, input).expect("the store works");
        self.take(outputs);
    }

    fn write(&mut self, now: Now) {
        let body = format!("{} {}", self.me.user, self.written.len());
        let to = Target::User(self.peer.user.clone());
        let engine = self.engine.as_mut().expect("alive");
        let (message, outputs) = engine.send(now, to, body).expect("written");
        self.written.push(message.id);
        self.take(outputs);
    }

    /// One of the messages that were written here, of the last few.
    fn own(&self, which: usize) -> Option<MessageId> {
        self.written.iter().rev().nth(which).copied()
    }

    fn edit(&mut self, now: Now, which: usize) {
        let Some(id) = self.own(which) else { return };
        self.edits += 1;
        let body = format!("{} edits {}", self.me.user, self.edits);
        // What is deleted, failed or lost stays as it is.
        if let Ok((_, outputs)) = self.engine.as_mut().expect("alive").edit(now, id, body) {
            self.take(outputs);
        }
    }

    fn delete(&mut self, now: Now, which: usize) {
        let Some(id) = self.own(which) else { return };
        let engine = self.engine.as_mut().expect("alive");
        if let Ok(((), outputs)) = engine.delete(now, id) {
            let there = engine.read().and_then(|tx| tx.own(&self.me.user, id)).expect("reads").is_some();
            if !there {
                self.dropped.insert(id);
            }
            self.take(outputs);
        }
    }

    /// Only the store is left, as it was at the last commit.
    fn kill(&mut self, now: Now) {
        let store = self.engine.take().expect("alive").into_store();
        self.seed += 1000;
        self.engine = Some(Engine::new(store, self.me.clone(), self.tuning.clone(), self.seed));
        self.cut();
        self.input(now, Input::Network(true));
    }

    /// The person retries everything that was refused.
    fn retry(&mut self, now: Now) {
        let engine = self.engine.as_mut().expect("alive");
        let entries = engine.outbox(now).expect("reads");
        let failed = entries.iter().filter(|entry| entry.state == OutboxState::Failed);
        for id in failed.filter_map(|entry| Some(entry.messages.first()?.id)).collect::<Vec<_>>() {
            let ((), outputs) = self.engine.as_mut().expect("alive").retry(now, id).expect("it failed");
            self.take(outputs);
        }
    }

    /// The file is damaged: what is saved of it goes on, perhaps without the envelopes.
    fn lose(&mut self, now: Now, envelopes: bool) {
        let store = self.engine.take().expect("alive").into_store().salvaged(&self.me, envelopes);
        self.engine = Some(Engine::new(store, self.me.clone(), self.tuning.clone(), self.seed));
        self.kill(now);
    }

    fn older(&mut self, now: Now, conversation: &ConversationId) {
        let engine = self.engine.as_mut().expect("alive");
        // Not known yet: then there is nothing older.
        if let Ok((_, outputs)) = engine.older(now, conversation) {
            self.take(outputs);
        }
    }

    /// As far back as what is here reaches, and as far on.
    fn bounds(&mut self, conversation: &ConversationId) -> (u64, u64) {
        let tx = self.engine.as_mut().expect("alive").read().expect("reads");
        let row = tx.conversation(conversation).expect("reads");
        row.map_or((0, 0), |row| (row.oldest.map_or(0, Seq::get), row.cursor.get()))
    }

    fn list(&mut self, conversation: &ConversationId) -> Vec<Message> {
        let tx = self.engine.as_mut().expect("alive").read().expect("reads");
        tx.history(conversation, None, 10_000).expect("reads")
    }
}

struct World {
    server: Server,
    devices: [Device; 2],
    conversation: ConversationId,
    now: Now,
}

/// What may happen next.
#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    /// The person gives one of their last messages another text,
    Edit(usize, usize),
    /// or deletes it.
    Delete(usize, usize),
    Connect(usize),
    /// The server takes a request; its answer and its news go out.
    Serve(usize),
    /// The server refuses what a request wants to send.
    Refuse(usize),
    /// A person retries what was refused.
    Retry(usize),
    /// A request is lost.
    LoseRequest(usize),
    /// The server takes a request twice.
    ServeTwice(usize),
    /// A frame to the device arrives; which one, and whether it will come again.
    Arrive(usize, usize, bool),
    LoseAnswer(usize, usize),
    Cut(usize),
    Kill(usize),
    /// A damaged file: only what is nowhere else is saved; the envelopes' bytes or not even them.
    Lose(usize, bool),
    Read(usize),
    /// The person wants older messages.
    Older(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let device = 0..2_usize;
    prop_oneof![
        4 => device.clone().prop_map(Step::Write),
        2 => (device.clone(), 0..5_usize).prop_map(|(d, which)| Step::Edit(d, which)),
        1 => (device.clone(), 0..5_usize).prop_map(|(d, which)| Step::Delete(d, which)),
        4 => device.clone().prop_map(Step::Connect),
        8 => device.clone().prop_map(Step::Serve),
        1 => device.clone().prop_map(Step::Refuse),
        1 => device.clone().prop_map(Step::Retry),
        1 => device.clone().prop_map(Step::LoseRequest),
        1 => device.clone().prop_map(Step::ServeTwice),
        8 => (device.clone(), 0..4_usize, prop::bool::weighted(0.1)).prop_map(|(d, n, again)| Step::Arrive(d, n, again)),
        1 => (device.clone(), 0..4_usize).prop_map(|(d, n)| Step::LoseAnswer(d, n)),
        1 => device.clone().prop_map(Step::Cut),
        1 => device.clone().prop_map(Step::Kill),
        1 => (device.clone(), any::<bool>()).prop_map(|(d, envelopes)| Step::Lose(d, envelopes)),
        1 => device.clone().prop_map(Step::Older),
        1 => device.prop_map(Step::Read),
        3 => (1..3_000_u64).prop_map(Step::Wait),
    ]
}

impl World {
    fn new() -> Self {
        let (alice, bob) = (author("alice", "phone"), author("bob", "laptop"));
        let conversation = ConversationId::direct(&alice.user, &bob.user);
        let mut devices = [Device::new(alice.clone(), bob.clone(), 1), Device::new(bob, alice, 2)];
        for device in &mut devices {
            device.input(START, Input::Network(true));
        }
        Self { server: Server::default(), devices, conversation, now: START }
    }

    fn serve(&mut self, index: usize) {
        let Some(text) = self.devices[index].up.pop_front() else { return };
        self.serve_text(index, &text);
    }

    fn serve_text(&mut self, index: usize, text: &str) {
        let by = self.devices[index].me.clone();
        let (answer, news) = self.server.answer(&by, &self.conversation, text);
        self.devices[index].down.push(answer.to_string());
        let other = &mut self.devices[1 - index];
        if other.connected && !news.is_empty() {
            other.down.push(json!({"type": "delivery", "items": news}).to_string());
        }
    }

    /// Serves a request while the device's user may not write. What is stored is stored: that comes first.
    fn refuse(&mut self, index: usize) {
        self.server.closed = true;
        self.serve(index);
        self.server.closed = false;
    }

    fn arrive(&mut self, index: usize, which: usize, again: bool) {
        let device = &mut self.devices[index];
        if device.down.is_empty() {
            return;
        }
        let which = which % device.down.len();
        let text = if again { device.down[which].clone() } else { device.down.remove(which) };
        device.input(self.now, Input::Frame(text));
    }

    fn connect(&mut self, index: usize) {
        let device = &mut self.devices[index];
        if device.wants_connection {
            device.wants_connection = false;
            device.connected = true;
            device.input(self.now, Input::Connected);
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now.mono += millis;
        self.now.wall += millis;
        self.now.since_boot += millis;
        for device in &mut self.devices {
            device.input(self.now, Input::Tick);
        }
    }

    fn step(&mut self, step: &Step) {
        let now = self.now;
        match *step {
            Step::Write(index) => self.devices[index].write(now),
            Step::Edit(index, which) => self.devices[index].edit(now, which),
            Step::Delete(index, which) => self.devices[index].delete(now, which),
            Step::Connect(index) => self.connect(index),
            Step::Serve(index) => self.serve(index),
            Step::Refuse(index) => self.refuse(index),
            Step::Retry(index) => self.devices[index].retry(now),
            Step::LoseRequest(index) => drop(self.devices[index].up.pop_front()),
            Step::ServeTwice(index) => {
                if let Some(text) = self.devices[index].up.pop_front() {
                    self.serve_text(index, &text);
                    self.serve_text(index, &text);
                }
            }
            Step::Arrive(index, which, again) => self.arrive(index, which, again),
            Step::LoseAnswer(index, which) => {
                let down = &mut self.devices[index].down;
                if !down.is_empty() {
                    down.remove(which % down.len());
                }
            }
            Step::Cut(index) => {
                if self.devices[index].connected {
                    self.devices[index].cut();
                    self.devices[index].input(now, Input::Disconnected(Lost::Closed));
                }
            }
            Step::Kill(index) => self.devices[index].kill(now),
            Step::Lose(index, envelopes) => self.devices[index].lose(now, envelopes),
            Step::Read(index) => {
                let conversation = self.conversation.clone();
                let engine = self.devices[index].engine.as_mut().expect("alive");
                // Not known yet: then there is nothing to read.
                if let Ok(((), outputs)) = engine.mark_read(now, &conversation, seq(1_000_000)) {
                    self.devices[index].take(outputs);
                }
            }
            Step::Older(index) => self.devices[index].older(now, &self.conversation),
            Step::Wait(millis) => self.wait(millis),
        }
        self.check_lists();
    }

    /// At every moment: what a device shows of the log is a part of the log, in order, without gaps.
    fn check_lists(&mut self) {
        let log = self.log();
        for index in 0..2 {
            let conversation = self.conversation.clone();
            let device = &mut self.devices[index];
            let (oldest, cursor) = device.bounds(&conversation);
            let shown: Vec<_> = device
                .list(&conversation)
                .into_iter()
                .filter_map(|m| m.seq.map(|s| (s.get(), m.id)))
                .filter(|(place, _)| *place <= cursor)
                .collect();
            let log: Vec<_> = log.iter().map(|(place, id, ..)| (*place, *id)).collect();
            let log: Vec<_> = log.into_iter().filter(|(place, _)| *place > oldest && *place <= cursor).collect();
            assert_eq!(shown, log, "I3, I4: {} from {oldest} to {cursor}", device.me.user);
        }
    }

    /// The messages of the log with their places, and what each shows by everything that the log says of it.
    fn log(&self) -> Vec<(u64, MessageId, String, bool)> {
        let all = self.server.cells.iter().flat_map(|cell| (cell.seq.get()..).zip(&cell.messages));
        let mut shown: Vec<(u64, MessageId, String, bool)> = Vec::new();
        for (place, message) in all {
            let Some(target) = message.target() else {
                shown.push((place, message.id, message.body.clone(), message.deleted));
                continue;
            };
            let entry = shown.iter_mut().find(|(_, id, ..)| *id == target.id).expect("changes come later");
            entry.3 |= message.deletes.is_some();
            entry.2 = if entry.3 { String::new() } else { message.body.clone() };
        }
        shown
    }

    /// The network is good from now on, until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..2 {
            // What was lost on a live connection is made up for by the next one at the latest.
            for index in 0..2 {
                self.devices[index].cut();
                self.devices[index].input(self.now, Input::Disconnected(Lost::Closed));
                self.devices[index].retry(self.now);
            }
            for _ in 0..400 {
                for index in 0..2 {
                    self.connect(index);
                    while !self.devices[index].up.is_empty() {
                        self.serve(index);
                    }
                    while !self.devices[index].down.is_empty() {
                        self.arrive(index, 0, false);
                    }
                }
                for device in &mut self.devices {
                    device.older(self.now, &self.conversation);
                }
                self.wait(200);
            }
        }
    }

    fn check_end(&mut self) {
        let log = self.log();
        let cells = self.server.cells.iter();
        let places: Vec<u64> = cells.flat_map(|cell| cell.seq.get()..=cell.last().get()).collect();
        assert_eq!(places, (1..=self.server.head).collect::<Vec<_>>());
        let envelopes: BTreeSet<_> = self.server.cells.iter().map(|cell| cell.envelope).collect();
        assert_eq!(envelopes.len(), self.server.cells.len(), "I2");
        for index in 0..2 {
            let conversation = self.conversation.clone();
            let device = &mut self.devices[index];
            let mine = log.iter().map(|(_, id, ..)| *id).filter(|id| device.written.contains(id));
            // What is retried comes after what went past it; what was deleted before it was sent may have been sent.
            let (mut mine, mut written): (Vec<_>, _) = (mine.collect(), device.written.clone());
            written.retain(|id| !device.dropped.contains(id) || mine.contains(id));
            if !device.tuning.hold_back {
                mine.sort();
                written.sort();
            }
            assert_eq!(mine, written, "I1, I5: once, and in the order in which they were written");
            let list = device.list(&conversation);
            let shown: Vec<_> =
                list.iter().map(|m| (m.seq.map_or(0, Seq::get), m.id, m.body.clone(), m.deleted)).collect();
            assert_eq!(shown, log, "C5, L5: {}", device.me.user);
            let me = device.me.user.clone();
            let told = |m: &Message| matches!(m.state, State::Delivered | State::Read);
            assert!(list.iter().filter(|m| m.user == me).all(told), "D2: {list:?}");
            let tx = device.engine.as_mut().expect("alive").read().expect("reads");
            assert_eq!(tx.outbox_entries().expect("reads"), [], "I9");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_all_lists_end_as_the_log(steps in prop::collection::vec(step(), 1..160)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
        world.check_end();
    }
}
