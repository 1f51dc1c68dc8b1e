//! The engine, driven by scripted frames over a store on a real file.

mod backlog;
mod changes;
mod clocks;
mod conflict;
mod convergence;
mod disk;
mod downloads;
mod groups;
mod link;
mod list;
mod marks;
mod older;
mod outbox;
mod presence;
mod receipts;
mod sync;
mod uploads;
mod waking;

use std::collections::HashMap;

use poste_protocol::{Author, ConversationId, DeviceId, MessageId, Seq, UserId};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Engine, Input, Lost, Now, Output, Transfer};
use crate::store::Store;
use crate::{Event, Message, OutboxEntry, Receipt, State, Target, Tuning};

/// The moment at which tests begin.
const START: Now = Now { wall: 1_800_000_000_000, mono: 1_000_000, boot: Uuid::from_u128(1), since_boot: 2_000_000 };

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).expect("test names are valid")
}

pub(super) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).expect("test names are valid")
}

pub(super) fn author(name: &str, on: &str) -> Author {
    Author { user: user(name), device: device(on) }
}

pub(super) fn seq(number: u64) -> Seq {
    Seq::new(number).expect("test numbers are small")
}

/// Shows each range of a `sync` as a `fetch` of its own, so that a test answers conversation by conversation.
#[derive(Default)]
struct Syncs {
    /// By reference: how many ranges are not answered yet.
    open: HashMap<String, usize>,
}

impl Syncs {
    fn split(&mut self, text: String) -> Vec<String> {
        let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
        if frame["action"] != "sync" {
            return vec![text];
        }
        let ranges = frame["ranges"].as_array().expect("a `sync` has ranges");
        self.open.insert(frame["ref"].to_string(), ranges.len());
        let as_fetch = |range: &Value| {
            let mut fetch = range.clone();
            (fetch["ref"], fetch["action"]) = (frame["ref"].clone(), json!("fetch"));
            fetch.to_string()
        };
        ranges.iter().map(as_fetch).collect()
    }

    /// The page of a range, as a frame of the answer; of the last range, the last one.
    fn join(&mut self, frame: &Value) -> Value {
        let Some(open) = self.open.get_mut(&frame["ref"].to_string()).filter(|_| frame["type"] == "page") else {
            return frame.clone();
        };
        *open = open.saturating_sub(1);
        json!({"type": "pages", "ref": frame["ref"], "pages": [frame], "follows": *open > 0})
    }
}

/// Alice's phone.
struct Rig {
    folder: TempDir,
    engine: Option<Engine>,
    now: Now,
    /// Frames that were sent and not looked at yet.
    sent: Vec<String>,
    syncs: Syncs,
    events: Vec<Event>,
    /// What inquiries came to.
    told: Vec<(u64, Option<Vec<Receipt>>)>,
    /// What is to be done with files and was not looked at yet.
    transfers: Vec<Transfer>,
    /// The handshakes that were asked for: whether with a fresh token.
    connects: Vec<bool>,
    hung_up: usize,
    seed: u64,
    wakes: u32,
    tuning: Tuning,
}

impl Rig {
    fn new() -> Self {
        Self::tuned(Tuning { lazy_history: false, parts: 3, ..Tuning::default() })
    }

    /// Enters conversations at their end.
    fn lazy() -> Self {
        let mut rig = Self::tuned(Tuning { history_page: 2, parts: 3, ..Tuning::default() });
        rig.connect();
        rig
    }

    fn tuned(tuning: Tuning) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut rig = Self {
            folder,
            engine: None,
            now: START,
            sent: Vec::new(),
            syncs: Syncs::default(),
            events: Vec::new(),
            told: Vec::new(),
            transfers: Vec::new(),
            connects: Vec::new(),
            hung_up: 0,
            seed: 7,
            wakes: 0,
            tuning,
        };
        rig.open();
        rig
    }

    fn open(&mut self) {
        let me = author("alice", "phone");
        let path = self.folder.path().join("account.db");
        let store = Store::open(&path, &me.user, &me.device).expect("the store opens");
        self.seed += 1;
        self.engine = Some(Engine::new(store, me, self.tuning.clone(), self.seed));
    }

    /// As a kill and a new start would: only the file is left.
    fn restart(&mut self) {
        self.engine = None;
        self.sent.clear();
        self.transfers.clear();
        self.open();
    }

    /// As a clean end would.
    fn close(&mut self) {
        self.engine.take().expect("the engine is open").into_store().close().expect("the store closes");
    }

    /// The file is damaged: what is saved of it goes on, perhaps without the envelopes.
    fn lose(&mut self, envelopes: bool) {
        let me = author("alice", "phone");
        let store = self.engine.take().expect("the engine is open").into_store().salvaged(&me, envelopes);
        self.sent.clear();
        self.seed += 1;
        self.engine = Some(Engine::new(store, me, self.tuning.clone(), self.seed));
    }

    /// The file as it is now, to roll back to.
    fn backup(&mut self) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        self.engine = None;
        let files = std::fs::read_dir(self.folder.path()).expect("the folder is there");
        let copy = files
            .map(|file| file.expect("an entry").path())
            .map(|path| (path.clone(), std::fs::read(&path).expect("a readable file")))
            .collect();
        self.open();
        copy
    }

    fn roll_back(&mut self, files: &[(std::path::PathBuf, Vec<u8>)]) {
        self.engine = None;
        for file in std::fs::read_dir(self.folder.path()).expect("the folder is there") {
            std::fs::remove_file(file.expect("an entry").path()).expect("it can be removed");
        }
        for (path, bytes) in files {
            std::fs::write(path, bytes).expect("it can be written");
        }
        self.sent.clear();
        self.open();
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("the engine is open")
    }

    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Connect { fresh_token } => self.connects.push(fresh_token),
                Output::Disconnect => self.hung_up += 1,
                Output::Frame(text) => {
                    assert!(text.len() <= poste_protocol::limits::FRAME_BYTES, "a frame is too long: {}", text.len());
                    let frames = self.syncs.split(text);
                    self.sent.extend(frames);
                }
                Output::Event(event) => self.events.push(event),
                Output::Receipts { inquiry, found } => self.told.push((inquiry, found)),
                Output::Transfer(transfer) => self.transfers.push(transfer),
            }
        }
    }

    fn input(&mut self, input: Input) {
        let now = self.now;
        let outputs = self.engine().handle(now, input).expect("the store works");
        self.take(outputs);
    }

    fn hears(&mut self, frame: &Value) {
        let frame = self.syncs.join(frame);
        self.input(Input::Frame(frame.to_string()));
    }

    fn wait(&mut self, millis: u64) {
        self.now.wall += millis;
        self.now.mono += millis;
        self.now.since_boot += millis;
        self.input(Input::Tick);
    }

    /// Lets time pass until the engine wants to be woken, and wakes it. Says how long that was.
    fn wait_for_wake(&mut self) -> u64 {
        self.wakes += 1;
        assert!(self.wakes < 10_000, "the engine wakes again and again");
        let wake = self.engine().next_wake().expect("something is due");
        let wait = wake.saturating_sub(self.now.mono);
        self.wait(wait);
        wait
    }

    /// The next frame of marks, which the engine sends within so many milliseconds from now.
    fn mark_within(&mut self, millis: u64) -> Value {
        let deadline = self.now.mono + millis;
        while !self.has_sent("mark") {
            self.wait_for_wake();
            assert!(self.now.mono <= deadline, "no mark in {millis} ms");
        }
        self.next("mark")
    }

    /// Lets the marks that wait go, and confirms them: then nothing is due for their sake.
    fn has_marked(&mut self) {
        let mark = self.mark_within(1_250);
        marks::marked(self, &mark);
    }

    fn connect(&mut self) {
        self.input(Input::Network(true));
        self.input(Input::Connected);
    }

    /// Connects, with the list already answered.
    fn online() -> Self {
        let mut rig = Self::new();
        rig.connect();
        rig.answer_list(&json!([]));
        rig
    }

    /// The answer to the first envelope in the talk with bob is lost with the connection; on the next one the log has its
    /// cell. Gives the frame that repeats the envelope.
    fn finds_after_a_lost_answer(&mut self, cell: &Value) -> Value {
        self.input(Input::Disconnected(Lost::Closed));
        self.wait_for_wake();
        self.input(Input::Connected);
        self.answer_list(&json!([{"conversation": with("bob"), "peer": "bob", "head": 1, "active_at": 1}]));
        let again = self.next("send");
        let fetch = self.next("fetch");
        self.page(&fetch, 1, &json!([cell]), false);
        again
    }

    fn answer_list(&mut self, conversations: &Value) {
        let list = self.next("list");
        self.hears(&json!({"type": "list", "ref": list["ref"], "conversations": conversations}));
    }

    /// The next frame of that action, taken out of what was sent.
    fn next(&mut self, action: &str) -> Value {
        let frame = self.next_text(action);
        serde_json::from_str(&frame).expect("frames are JSON")
    }

    fn next_text(&mut self, action: &str) -> String {
        let wanted = format!("\"action\":\"{action}\"");
        let place = self.sent.iter().position(|text| text.contains(&wanted));
        let place = place.unwrap_or_else(|| panic!("no {action} frame in {:?}", self.sent));
        self.sent.remove(place)
    }

    fn has_sent(&self, action: &str) -> bool {
        self.sent.iter().any(|text| text.contains(&format!("\"action\":\"{action}\"")))
    }

    fn write(&mut self, to: &str, body: &str) -> Message {
        let now = self.now;
        let (message, outputs) =
            self.engine().send(now, Target::User(user(to)), body.into()).expect("the message is written");
        self.take(outputs);
        message
    }

    fn retry(&mut self, id: MessageId) {
        let now = self.now;
        let ((), outputs) = self.engine().retry(now, id).expect("it failed");
        self.take(outputs);
    }

    fn outbox(&mut self) -> Vec<OutboxEntry> {
        let now = self.now;
        self.engine().outbox(now).expect("the store reads")
    }

    fn accept(&mut self, frame: &Value, seqs: &[u64]) {
        let verdicts: Vec<_> = submissions(frame)
            .iter()
            .zip(seqs)
            .map(|(s, seq)| {
                json!({"envelope": s["envelope"]["id"], "outcome": "accepted", "seq": seq, "at": 5000, "repeat": false})
            })
            .collect();
        self.hears(&json!({"type": "sent", "ref": frame["ref"], "verdicts": verdicts}));
    }

    fn refuse(&mut self, frame: &Value, error: &Value) {
        let verdicts: Vec<_> = submissions(frame)
            .iter()
            .map(|s| json!({"envelope": s["envelope"]["id"], "outcome": "refused", "error": error}))
            .collect();
        self.hears(&json!({"type": "sent", "ref": frame["ref"], "verdicts": verdicts}));
    }

    fn page(&mut self, fetch: &Value, through: u64, cells: &Value, more: bool) {
        self.hears(&json!({
            "type": "page", "ref": fetch["ref"], "conversation": fetch["conversation"], "after": fetch["after"],
            "through": through, "cells": cells, "head": through, "more": more
        }));
    }

    fn deliver(&mut self, peer: &str, cells: &Value) {
        let conversation = with(peer);
        self.hears(&json!({"type": "delivery", "items": [{"conversation": conversation, "cells": cells}]}));
    }

    /// Bodies and states, as a list shows them.
    fn list(&mut self, peer: &str) -> Vec<(String, State)> {
        self.messages(peer).into_iter().map(|message| (message.body, message.state)).collect()
    }

    fn messages(&mut self, peer: &str) -> Vec<Message> {
        let tx = self.engine().read().expect("the store reads");
        tx.history(&with(peer), None, 1000).expect("the store reads")
    }

    fn cursor(&mut self, peer: &str) -> u64 {
        let tx = self.engine().read().expect("the store reads");
        tx.conversation(&with(peer)).expect("the store reads").map_or(0, |row| row.cursor.get())
    }

    fn next_number(&mut self, peer: &str) -> u64 {
        let tx = self.engine().read().expect("the store reads");
        tx.conversation(&with(peer)).expect("the store reads").map_or(0, |row| row.next_number.get())
    }

    fn updates(&mut self) -> Vec<(String, State)> {
        std::mem::take(&mut self.events)
            .into_iter()
            .filter_map(|event| match event {
                Event::Updated { message } => Some((message.body, message.state)),
                _ => None,
            })
            .collect()
    }
}

fn with(peer: &str) -> ConversationId {
    ConversationId::direct(&user("alice"), &user(peer))
}

fn submissions(frame: &Value) -> &Vec<Value> {
    frame["submissions"].as_array().expect("a send frame has submissions")
}

fn bodies(submission: &Value) -> Vec<&str> {
    let messages = submission["envelope"]["messages"].as_array().expect("an envelope has messages");
    messages.iter().map(|message| message["body"].as_str().expect("a body is text")).collect()
}

/// A cell of somebody with one message per body.
fn cell(first: u64, by: &str, on: &str, number: u64, texts: &[&str]) -> Value {
    let messages: Vec<_> = texts.iter().map(|text| json!({"id": MessageId::fresh(), "body": text})).collect();
    json!({
        "seq": first, "envelope": MessageId::fresh(), "number": number, "by": {"user": by, "device": on},
        "at": 9000, "messages": messages
    })
}

/// The cell that a submission of alice's phone becomes.
fn own_cell(first: u64, submission: &Value) -> Value {
    let envelope = &submission["envelope"];
    json!({
        "seq": first, "envelope": envelope["id"], "number": envelope["number"],
        "by": {"user": "alice", "device": "phone"}, "at": 9000, "messages": envelope["messages"]
    })
}

fn list_of(pairs: &[(&str, State)]) -> Vec<(String, State)> {
    pairs.iter().map(|(body, state)| ((*body).to_owned(), *state)).collect()
}
