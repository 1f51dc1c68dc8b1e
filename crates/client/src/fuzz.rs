//! What `cargo local fuzz` feeds the engine with: whatever a server may send, between what a person does. Compiled for
//! fuzzing and for tests only; the tests replay the corpus in `fuzz/corpus`.
//!
//! An input is a script: a line that begins with `!` is the person's, or time's; every other line is a frame of the
//! server. `$ACTION` in a frame stands for the reference of the last request with that action, `$envelope` for the id of
//! the last envelope that was sent.

use std::collections::BTreeMap;

use poste_protocol::{Author, ConversationId, Event, MessageId, Request, Seq, UserId, limits, parse};
use uuid::Uuid;

use crate::engine::{Engine, Input, Lost, Now, Output};
use crate::store::Store;
use crate::{Target, Tuning};

/// Lines of a script that are played.
const LINES: usize = 64;

/// The moment at which a script begins.
const START: Now = Now { wall: 1_800_000_000_000, mono: 1_000_000, boot: Uuid::from_u128(1), since_boot: 2_000_000 };

/// Plays a script on alice's phone. Whatever the server says, the engine goes on: it never panics, its store takes what
/// it writes, it sends nothing that the server must refuse unread, and it does not wake again and again.
pub fn device_engine(data: &[u8]) {
    thread_local! {
        /// Opened once: a copy is quicker than all the steps from the first version on.
        static FRESH: Store = {
            let me = me();
            Store::in_memory(&me.user, &me.device).expect("a store in memory")
        };
    }
    let Ok(script) = std::str::from_utf8(data) else { return };
    let store = FRESH.with(|fresh| fresh.copy().expect("a copy in memory"));
    let mut player = Player {
        engine: Engine::new(store, me(), Tuning { history_page: 2, ..Tuning::default() }, 7),
        now: START,
        words: BTreeMap::new(),
        written: None,
    };
    player.input(Input::Network(true));
    player.input(Input::Connected);
    script.lines().take(LINES).for_each(|line| player.play(line));
    player.look();
}

fn me() -> Author {
    Author { user: user("alice"), device: "phone".parse().expect("well formed") }
}

fn user(name: &str) -> UserId {
    name.parse().expect("well formed")
}

struct Player {
    engine: Engine,
    now: Now,
    /// What is put in the place of which word.
    words: BTreeMap<String, String>,
    /// The last message that the person wrote.
    written: Option<MessageId>,
}

impl Player {
    fn play(&mut self, line: &str) {
        let Some(deed) = line.strip_prefix('!') else {
            let mut frame = line.to_owned();
            for (word, meaning) in &self.words {
                frame = frame.replace(word, meaning);
            }
            return self.input(Input::Frame(frame));
        };
        let (deed, what) = deed.split_once(' ').unwrap_or((deed, ""));
        let now = self.now;
        let with = ConversationId::new(what).unwrap_or_else(|_| ConversationId::direct(&user("alice"), &user("bob")));
        let done = match (deed, self.written) {
            ("wait", _) => return self.wait(what.parse().unwrap_or(0)),
            ("lost", _) => return self.input(Input::Disconnected(Lost::Closed)),
            ("open", _) => return self.input(Input::Open(Some(with))),
            ("watch", _) => return self.input(Input::Watch(vec![with])),
            ("write", _) => {
                let target = what.parse().map_or(Target::Conversation(with), Target::User);
                self.engine.send(now, target, "hello".to_owned()).map(|(message, outputs)| {
                    self.written = Some(message.id);
                    outputs
                })
            }
            ("group", _) => {
                self.engine.create_group(now, "climbing".to_owned(), vec![user("bob")]).map(|(_, outputs)| outputs)
            }
            ("leave", _) => self.engine.group_event(now, &with, Event::Left).map(|(_, outputs)| outputs),
            ("older", _) => self.engine.older(now, &with).map(|(_, outputs)| outputs),
            ("read", _) => self.engine.mark_read(now, &with, Seq::LAST).map(|((), outputs)| outputs),
            ("retry", Some(id)) => self.engine.retry(now, id).map(|((), outputs)| outputs),
            ("edit", Some(id)) => self.engine.edit(now, id, "hallo".to_owned()).map(|(_, outputs)| outputs),
            ("delete", Some(id)) => self.engine.delete(now, id).map(|((), outputs)| outputs),
            ("receipts", Some(id)) => self.engine.ask_receipts(now, id).map(|(_, outputs)| outputs),
            _ => return,
        };
        // What the person may not do is refused, and harms nothing.
        if let Ok(outputs) = done {
            self.take(outputs);
        }
    }

    fn input(&mut self, input: Input) {
        let outputs = self.engine.handle(self.now, input).expect("the store takes what the engine writes");
        self.take(outputs);
    }

    fn take(&mut self, outputs: Vec<Output>) {
        let mut connect = false;
        for output in outputs {
            match output {
                Output::Connect { .. } => connect = true,
                Output::Disconnect => connect = false,
                Output::Frame(text) => self.sent(&text),
                Output::Event(_) | Output::Receipts { .. } | Output::Transfer(_) => {}
            }
        }
        if connect {
            self.input(Input::Connected);
        }
    }

    /// What a device sends can be read, and keeps the limits.
    fn sent(&mut self, text: &str) {
        assert!(text.len() <= limits::FRAME_BYTES, "{} bytes", text.len());
        let request: Request = parse(text).unwrap_or_else(|error| panic!("{:?}: {text}", error.refusal));
        if let Request::Send(frame) = &request {
            for submission in &frame.submissions {
                submission.envelope.check().unwrap_or_else(|refusal| panic!("{refusal}: {text}"));
                self.words.insert("$envelope".to_owned(), submission.envelope.id.to_string());
            }
        }
        let frame = serde_json::to_value(&request).expect("plain fields");
        if let (Some(action), Some(reference)) = (frame["action"].as_str(), frame["ref"].as_str()) {
            self.words.insert(format!("${action}"), reference.to_owned());
        }
    }

    fn wait(&mut self, ms: u32) {
        let ms = u64::from(ms);
        self.now = Now {
            wall: self.now.wall + ms,
            mono: self.now.mono + ms,
            since_boot: self.now.since_boot + ms,
            ..self.now
        };
        self.input(Input::Tick);
        // Ticked in time it has done what was due.
        let due = self.engine.next_wake().is_some_and(|wake| wake <= self.now.mono);
        assert!(!due, "it wants to be woken again at once");
    }

    /// What an application looks at.
    fn look(&mut self) {
        self.engine.outbox(self.now).expect("the outbox can be read");
        self.engine.backlog(self.now).expect("the backlog can be read");
        self.engine.seen();
        self.engine.writing();
        let tx = self.engine.read().expect("the store can be read");
        for conversation in tx.conversations().expect("the list can be read") {
            tx.history(&conversation.id, None, 100).expect("each conversation can be read");
        }
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    #[test]
    fn whatever_a_server_says_the_device_goes_on() {
        super::replay::replay("device_engine", super::device_engine);
    }
}
