//! Own files: whatever is lost on the way, they arrive whole or fail honestly, and only what is behind them waits.

use std::collections::BTreeSet;

use poste_protocol::{Attachment, Digest, MediaId, limits, part_count, part_range};
use serde_json::{Value, json};

use super::{Rig, bodies, list_of, submissions, user, with};
use crate::engine::{Input, Lost, News, Transfer};
use crate::store::Source;
use crate::{Error, Event, Message, OutboxState, Prepared, State, Target, Tuning};

const MIB: u64 = 1024 * 1024;

fn checksum(part: u32) -> Digest {
    Digest::of(&part.to_be_bytes())
}

/// A file that was read; nobody looks at the disk here.
fn file(size: u64) -> Prepared {
    let parts: Vec<Digest> = (1..=part_count(size)).map(checksum).collect();
    Prepared {
        file: Attachment {
            id: MediaId::fresh(),
            size,
            sha256: Digest::of_parts(&parts),
            kind: "video/mp4".into(),
            name: Some("harbour.mp4".into()),
            pixels: None,
            thumbnail: None,
        },
        source: Source { path: "/films/harbour.mp4".into(), modified: Some(1), parts },
    }
}

impl Rig {
    fn send_file(&mut self, to: &str, size: u64) -> Message {
        let now = self.now;
        let sent = self.engine().send_file(now, Target::User(user(to)), file(size), "look".into());
        let (message, outputs) = sent.expect("the message is written");
        self.take(outputs);
        message
    }

    /// The next part that is to be sent: its number, and where it begins.
    fn put(&mut self) -> (u64, u64) {
        let place = self.transfers.iter().position(|transfer| matches!(transfer, Transfer::Put { .. }));
        let place = place.unwrap_or_else(|| panic!("nothing is to be sent in {:?}", self.transfers));
        let Transfer::Put { number, from, .. } = self.transfers.remove(place) else { unreachable!("just seen") };
        (number, from)
    }

    fn puts(&mut self) -> Vec<(u64, u64)> {
        let count = self.transfers.iter().filter(|transfer| matches!(transfer, Transfer::Put { .. })).count();
        (0..count).map(|_| self.put()).collect()
    }

    fn news(&mut self, number: u64, news: News) {
        self.input(Input::Transfer(number, news));
    }

    fn says(&mut self, frame: &Value, state: &Value) {
        let mut answer = json!({"type": "media", "ref": frame["ref"], "media": frame["media"]});
        answer.as_object_mut().expect("an object").extend(state.as_object().expect("an object").clone());
        self.hears(&answer);
    }

    fn refuses(&mut self, frame: &Value, code: &str, retryable: bool, after: Option<u64>) {
        let no = json!({"type": "error", "ref": frame["ref"], "code": code, "message": "no", "retryable": retryable,
            "retry_after_ms": after});
        self.hears(&no);
    }

    /// The next request for a file, which must be this one.
    fn wants(&mut self, op: &str) -> Value {
        let frame = self.next("media");
        assert_eq!(frame["op"], op, "{frame}");
        frame
    }

    fn gives_links(&mut self, frame: &Value) {
        let link = |part: &Value| json!({"part": part["part"], "url": "http://store/x", "expires_s": 900});
        let links: Vec<_> = frame["parts"].as_array().expect("parts").iter().map(link).collect();
        self.says(frame, &json!({"state": "links", "links": links}));
    }

    /// An upload of three parts has begun, and is sending all of them.
    fn sending() -> (Self, Message, Vec<(u64, u64)>) {
        let mut rig = Self::online();
        let message = rig.send_file("bob", 11 * MIB);
        let begin = rig.wants("begin");
        rig.says(&begin, &json!({"state": "open", "missing": [[1, 3]]}));
        let parts = rig.wants("parts");
        rig.gives_links(&parts);
        let puts = rig.puts();
        (rig, message, puts)
    }

    /// All is there and put together.
    fn completes(&mut self) {
        let complete = self.wants("complete");
        self.says(&complete, &json!({"state": "complete"}));
    }

    fn failed(&mut self, peer: &str) -> String {
        let message = self.messages(peer).remove(0);
        assert_eq!(message.state, State::Failed);
        serde_json::to_value(message.failure.expect("a reason").code).expect("a code").as_str().expect("text").into()
    }
}

#[test]
fn a_file_goes_first_and_its_message_after_it() {
    let mut rig = Rig::online();
    let message = rig.send_file("bob", 11 * MIB);
    assert_eq!((message.state, message.body.as_str()), (State::Pending, "look"));
    let shown = message.file.expect("it has a file");
    assert_eq!((shown.file.size, shown.uploaded, shown.here), (11 * MIB, Some(0), true));

    let begin = rig.wants("begin");
    assert_eq!((&begin["to"], &begin["size"], &begin["kind"]), (&json!("bob"), &json!(11 * MIB), &json!("video/mp4")));
    assert_eq!(begin["conversation"], json!(with("bob")));
    rig.says(&begin, &json!({"state": "open", "missing": [[1, 3]]}));
    let parts = rig.wants("parts");
    let wish = |part: u32| json!({"part": part, "sha256": checksum(part)});
    assert_eq!(parts["parts"], json!([wish(1), wish(2), wish(3)]));
    rig.gives_links(&parts);
    let [(one, from), (two, _), (three, last)] = rig.puts()[..] else { panic!("three at a time") };
    assert_eq!((from, last), (0, 10 * MIB));
    assert!(!rig.has_sent("send"), "the message waits");
    rig.news(two, News::Done);
    rig.news(one, News::Done);
    assert!(!rig.has_sent("media"), "one is missing");
    rig.news(three, News::Done);
    assert!(!rig.has_sent("send"));
    rig.completes();
    let send = rig.next("send");
    let written = &submissions(&send)[0]["envelope"]["messages"][0];
    assert_eq!((&written["media"]["name"], &written["body"]), (&json!("harbour.mp4"), &json!("look")));
    rig.accept(&send, &[1]);
    let message = rig.messages("bob").remove(0);
    assert_eq!((message.state, message.file.expect("still").uploaded), (State::Sent, None));
}

/// What the server and the store have.
#[derive(Default)]
struct Server {
    begun: bool,
    parts: BTreeSet<u32>,
    complete: bool,
    /// The envelopes that were accepted.
    log: Vec<String>,
}

impl Server {
    const SIZE: u64 = 21 * MIB;

    fn missing(&self) -> Vec<(u32, u32)> {
        (1..=part_count(Self::SIZE)).filter(|part| !self.parts.contains(part)).map(|part| (part, part)).collect()
    }

    fn answer(&mut self, frame: &Value) -> Value {
        let link = |part: &Value| json!({"part": part["part"], "url": "http://store/x", "expires_s": 900});
        let open = |missing: Vec<_>| json!({"state": "open", "missing": missing});
        match frame["op"].as_str().expect("an op") {
            "begin" if self.complete => json!({"state": "complete"}),
            "begin" => {
                self.begun = true;
                open(self.missing())
            }
            "parts" => {
                assert!(self.begun);
                let links: Vec<_> = frame["parts"].as_array().expect("parts").iter().map(link).collect();
                json!({"state": "links", "links": links})
            }
            "complete" if self.missing().is_empty() => {
                self.complete = true;
                json!({"state": "complete"})
            }
            "complete" => open(self.missing()),
            other => panic!("nobody asks for {other}"),
        }
    }

    fn accept(&mut self, submission: &Value) -> Value {
        assert!(self.complete, "a message before its file");
        let envelope = submission["envelope"]["id"].as_str().expect("an id").to_owned();
        if !self.log.contains(&envelope) {
            self.log.push(envelope.clone());
        }
        json!({"envelope": envelope, "outcome": "accepted", "seq": self.log.len(), "at": 5000, "repeat": false})
    }
}

/// What goes wrong at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The process is killed before it happens,
    KilledBefore,
    /// or after it has happened and before it is known.
    KilledAfter,
    /// It happens, and the answer is lost.
    AnswerLost,
    /// So is the connection.
    ConnectionLost,
}

impl Rig {
    /// Goes on until the message is sent, with one fault. Gives the steps that it took.
    fn runs(&mut self, server: &mut Server, fault: Option<(usize, Fault)>) -> usize {
        let mut step = 0;
        while self.messages("bob")[0].state != State::Sent {
            let wrong = fault.filter(|(at, _)| *at == step).map(|(_, fault)| fault);
            let put = self.transfers.iter().any(|transfer| matches!(transfer, Transfer::Put { .. }));
            let asked = ["media", "send"].into_iter().find(|action| self.has_sent(action));
            if wrong == Some(Fault::KilledBefore) && (put || asked.is_some()) {
                step += 1;
                self.begins_anew();
                continue;
            }
            let answer = if put {
                let (number, from) = self.put();
                let part = u32::try_from(from / (5 * MIB)).expect("few parts") + 1;
                server.parts.insert(part);
                Input::Transfer(number, if wrong == Some(Fault::AnswerLost) { News::Failed } else { News::Done })
            } else if let Some(action) = asked {
                let frame = self.next(action);
                let mut answer = if action == "send" {
                    let verdicts: Vec<_> = submissions(&frame).iter().map(|one| server.accept(one)).collect();
                    json!({"type": "sent", "verdicts": verdicts})
                } else {
                    let mut answer = server.answer(&frame);
                    answer["type"] = json!("media");
                    answer["media"] = frame["media"].clone();
                    answer
                };
                answer["ref"] = frame["ref"].clone();
                Input::Frame(answer.to_string())
            } else {
                self.sent.clear();
                if matches!(self.engine().connection(), crate::Connection::Connecting) {
                    self.input(Input::Connected);
                    self.answer_list(&json!([]));
                } else {
                    self.wait_for_wake();
                }
                continue;
            };
            step += 1;
            match wrong {
                Some(Fault::KilledAfter) => self.begins_anew(),
                Some(Fault::ConnectionLost) => {
                    self.input(Input::Disconnected(Lost::Closed));
                    self.sent.clear();
                    if matches!(answer, Input::Transfer(..)) {
                        self.input(answer);
                    }
                }
                Some(Fault::AnswerLost) if matches!(answer, Input::Frame(_)) => {}
                _ => self.input(answer),
            }
        }
        step
    }

    fn begins_anew(&mut self) {
        self.restart();
        self.connect();
        self.answer_list(&json!([]));
    }
}

#[test]
fn whatever_is_lost_between_the_intent_and_the_message_it_arrives_once() {
    let mut played = 0;
    for fault in [Fault::KilledBefore, Fault::KilledAfter, Fault::AnswerLost, Fault::ConnectionLost] {
        for at in 0.. {
            let mut rig = Rig::online();
            rig.send_file("bob", Server::SIZE);
            let mut server = Server::default();
            let steps = rig.runs(&mut server, Some((at, fault)));
            assert_eq!(server.log.len(), 1, "{fault:?} at {at}");
            assert_eq!(server.parts.len(), 5);
            assert_eq!(rig.list("bob"), list_of(&[("look", State::Sent)]));
            assert_eq!(rig.outbox().len(), 0);
            played += 1;
            if at > steps {
                break;
            }
        }
    }
    assert!(played > 30, "only {played} were played");
}

#[test]
fn a_kill_before_anything_was_said_loses_nothing() {
    let mut rig = Rig::new();
    rig.send_file("bob", 3);
    rig.restart();
    assert_eq!(rig.messages("bob")[0].file.as_ref().expect("still").uploaded, Some(0));
    let mut server = Server::default();
    rig.connect();
    rig.answer_list(&json!([]));
    let begin = rig.wants("begin");
    assert_eq!(begin["size"], 3);
    assert_eq!(server.answer(&begin)["state"], "open");
}

#[test]
fn texts_elsewhere_overtake_a_file_and_texts_behind_it_do_not() {
    let mut rig = Rig::online();
    rig.write("bob", "before");
    rig.send_file("bob", 11 * MIB);
    rig.write("bob", "after");
    rig.write("carol", "elsewhere");
    let first = rig.next("send");
    rig.accept(&first, &[1]);
    let second = rig.next("send");
    rig.accept(&second, &[1]);
    let said: Vec<_> = [&first, &second].iter().flat_map(|send| submissions(send)).flat_map(bodies).collect();
    assert_eq!(said, ["before", "elsewhere"]);
    assert!(!rig.has_sent("send"));

    let begin = rig.wants("begin");
    rig.says(&begin, &json!({"state": "complete"}));
    let send = rig.next("send");
    assert_eq!(bodies(&submissions(&send)[0]), ["look", "after"]);
    rig.accept(&send, &[2]);
    let shown = list_of(&[("before", State::Sent), ("look", State::Sent), ("after", State::Sent)]);
    assert_eq!(rig.list("bob"), shown);
}

#[test]
fn an_expired_address_is_asked_for_again_and_an_upload_that_is_gone_is_begun_again() {
    let (mut rig, _, puts) = Rig::sending();
    rig.news(puts[0].0, News::Done);
    rig.news(puts[1].0, News::Expired);
    let parts = rig.wants("parts");
    assert_eq!(parts["parts"].as_array().map(Vec::len), Some(1), "the third is under way");
    rig.gives_links(&parts);
    let (again, from) = rig.put();
    assert_eq!(from, 5 * MIB);
    // A second time in a row is not tried at full speed.
    rig.news(again, News::Expired);
    rig.news(puts[2].0, News::Gone);
    rig.wait_for_wake();
    let begin = rig.wants("begin");
    rig.says(&begin, &json!({"state": "open", "missing": [[1, 3]]}));
    let parts = rig.wants("parts");
    assert_eq!(parts["parts"].as_array().map(Vec::len), Some(3));
}

#[test]
fn an_address_is_not_used_when_its_time_is_over() {
    let mut rig = Rig::online();
    rig.send_file("bob", 40 * MIB);
    let begin = rig.wants("begin");
    rig.says(&begin, &json!({"state": "open", "missing": [[1, 8]]}));
    let parts = rig.wants("parts");
    rig.gives_links(&parts);
    let puts = rig.puts();
    assert_eq!(puts.len(), 3, "the others wait");
    rig.wait(900_000);
    rig.news(puts[0].0, News::Done);
    assert_eq!(rig.puts(), []);
    let parts = rig.wants("parts");
    assert_eq!(parts["parts"].as_array().map(Vec::len), Some(5), "those that are not under way");
    rig.gives_links(&parts);
    assert_eq!(rig.puts().len(), 1);
}

#[test]
fn the_store_that_has_the_whole_file_is_believed_once_the_server_says_so() {
    let (mut rig, _, puts) = Rig::sending();
    rig.news(puts[0].0, News::Whole);
    rig.news(puts[1].0, News::Whole);
    assert!(!rig.has_sent("media"), "one is under way");
    rig.news(puts[2].0, News::Whole);
    let begin = rig.wants("begin");
    rig.says(&begin, &json!({"state": "complete"}));
    assert!(rig.has_sent("send"));
}

#[test]
fn a_complete_that_comes_too_early_says_what_is_missing() {
    let (mut rig, _, puts) = Rig::sending();
    for (number, _) in puts {
        rig.news(number, News::Done);
    }
    let complete = rig.wants("complete");
    rig.says(&complete, &json!({"state": "open", "missing": [[2, 2]]}));
    let parts = rig.wants("parts");
    rig.gives_links(&parts);
    let (number, from) = rig.put();
    assert_eq!(from, 5 * MIB);
    rig.news(number, News::Done);
    rig.completes();
    assert!(rig.has_sent("send"));
}

#[test]
fn a_file_that_changed_fails_honestly_and_can_be_retried_or_dropped() {
    for news in [News::Changed, News::Unreadable("no such file".into())] {
        let (mut rig, message, puts) = Rig::sending();
        rig.write("bob", "behind");
        rig.news(puts[0].0, news);
        assert_eq!(rig.failed("bob"), "no_media");
        let stopped = rig.transfers.iter().filter(|transfer| matches!(transfer, Transfer::Stop { .. })).count();
        assert_eq!(stopped, 2, "the others are not sent for nothing");
        let states: Vec<_> = rig.outbox().into_iter().map(|entry| (entry.state, entry.failure.is_some())).collect();
        assert_eq!(states, [(OutboxState::Failed, true), (OutboxState::Queued, false)]);
        assert!(!rig.has_sent("send"), "what is behind it is held back");
        rig.restart();
        assert_eq!(rig.failed("bob"), "no_media");
        rig.connect();
        rig.answer_list(&json!([]));
        assert!(!rig.has_sent("media"), "it waits for a person");

        rig.retry(message.id);
        let begin = rig.wants("begin");
        assert_eq!(begin["media"], json!(message.file.as_ref().expect("a file").file.id));
        assert_eq!(rig.list("bob")[0].1, State::Pending);
        rig.says(&begin, &json!({"state": "open", "missing": [[1, 3]]}));
        let now = rig.now;
        let ((), outputs) = rig.engine().drop_message(now, message.id).expect("it is not sent");
        rig.take(outputs);
        assert_eq!(rig.list("bob"), list_of(&[("behind", State::Pending)]));
        assert_eq!(bodies(&submissions(&rig.next("send"))[0]), ["behind"]);
        assert_eq!(rig.next("media")["op"], "parts", "asked before it was dropped");
        let abort = rig.wants("abort");
        rig.says(&abort, &json!({"state": "gone"}));
        rig.begins_anew();
        assert!(!rig.has_sent("media"), "nothing is left of it");
    }
}

#[test]
fn an_abort_is_said_until_the_server_knows_it() {
    let mut rig = Rig::new();
    let message = rig.send_file("bob", 3);
    let now = rig.now;
    rig.engine().drop_message(now, message.id).expect("it is not sent");
    rig.begins_anew();
    let abort = rig.wants("abort");
    rig.refuses(&abort, "unavailable", true, Some(100));
    rig.wait_for_wake();
    let abort = rig.wants("abort");
    rig.refuses(&abort, "not_member", false, None);
    rig.wait(60_000);
    assert!(!rig.has_sent("media"));
}

#[test]
fn what_the_server_never_takes_fails_with_its_reason() {
    for code in ["too_big", "not_allowed", "not_member", "media_conflict"] {
        let mut rig = Rig::online();
        let message = rig.send_file("bob", 3);
        let begin = rig.wants("begin");
        rig.refuses(&begin, code, false, None);
        assert_eq!(rig.failed("bob"), code);
        rig.retry(message.id);
        let again = rig.wants("begin");
        assert_eq!(again["media"] == begin["media"], code != "media_conflict", "a name in use is not tried again");
    }
}

#[test]
fn over_quota_waits_as_long_as_it_was_told() {
    let mut rig = Rig::online();
    rig.send_file("bob", 3);
    let begin = rig.wants("begin");
    rig.refuses(&begin, "over_quota", true, Some(3_600_000));
    rig.input(Input::Foreground);
    rig.wait(3_599_000);
    assert!(!rig.sent.iter().any(|text| text.contains("\"op\"")), "not even when a person looks");
    rig.input(Input::Disconnected(Lost::Closed));
    rig.wait(30_000);
    rig.input(Input::Connected);
    rig.wait(2_000_000);
    rig.input(Input::Disconnected(Lost::Closed));
    rig.wait(30_000);
    rig.input(Input::Connected);
    assert_eq!(rig.list("bob"), list_of(&[("look", State::Pending)]));
    assert_eq!(rig.wants("begin")["size"], 3);
}

#[test]
fn a_message_whose_file_the_server_does_not_have_goes_in_another_envelope_after_it() {
    let mut rig = Rig::online();
    let message = rig.send_file("bob", 3);
    rig.write("bob", "behind");
    let mut envelopes = BTreeSet::new();
    let no_media = json!({"code": "no_media", "message": "no", "retryable": false});
    for _ in 0..4 {
        let begin = rig.wants("begin");
        rig.says(&begin, &json!({"state": "complete"}));
        let send = rig.next("send");
        assert_eq!(bodies(&submissions(&send)[0]), ["look", "behind"]);
        envelopes.insert(submissions(&send)[0]["envelope"]["id"].to_string());
        rig.refuse(&send, &no_media);
    }
    assert_eq!(envelopes.len(), 4, "the server never takes one that it refused so");
    assert_eq!(rig.failed("bob"), "no_media", "somebody should look");
    assert!(!rig.has_sent("media"));
    rig.retry(message.id);
    let begin = rig.wants("begin");
    rig.says(&begin, &json!({"state": "complete"}));
    let send = rig.next("send");
    rig.accept(&send, &[1]);
    assert_eq!(rig.list("bob"), list_of(&[("look", State::Sent), ("behind", State::Sent)]));
}

#[test]
fn a_server_without_an_answer_costs_neither_the_connection_nor_a_text() {
    let mut rig = Rig::online();
    rig.send_file("bob", 3);
    rig.wants("begin");
    rig.write("carol", "hello");
    let send = rig.next("send");
    rig.accept(&send, &[1]);
    rig.wait(31_000);
    assert_eq!(rig.hung_up, 0);
    while !rig.has_sent("media") {
        rig.wait_for_wake();
    }
    let begin = rig.wants("begin");
    rig.refuses(&begin, "unavailable", true, None);
    rig.write("carol", "still here");
    let send = rig.next("send");
    rig.accept(&send, &[2]);
}

#[test]
fn what_the_server_refuses_about_a_file_it_no_longer_knows_is_begun_again() {
    let (mut rig, _, puts) = Rig::sending();
    for (number, _) in puts {
        rig.news(number, News::Done);
    }
    let complete = rig.wants("complete");
    rig.refuses(&complete, "no_media", false, None);
    let begin = rig.wants("begin");
    rig.says(&begin, &json!({"state": "open", "missing": [[3, 3]]}));
    assert_eq!(rig.wants("parts")["parts"].as_array().map(Vec::len), Some(1));
}

#[test]
fn cutting_the_network_stops_everything_and_what_comes_late_changes_nothing() {
    let (mut rig, _, puts) = Rig::sending();
    rig.input(Input::Network(false));
    let stopped = rig.transfers.iter().filter(|transfer| matches!(transfer, Transfer::Stop { .. })).count();
    assert_eq!(stopped, 3);
    rig.news(puts[0].0, News::Failed);
    rig.transfers.clear();
    rig.connect();
    rig.answer_list(&json!([]));
    assert_eq!(rig.puts().len(), 1, "the addresses are still good, and one goes at a time");
}

#[test]
fn many_files_share_what_may_be_under_way() {
    let mut rig = Rig::online();
    for peer in ["bob", "carol", "dave", "erin"] {
        rig.send_file(peer, 100 * MIB);
    }
    let begins: Vec<_> = (0..3).map(|_| rig.wants("begin")).collect();
    assert!(!rig.has_sent("media"), "three at a time");
    for begin in &begins {
        rig.says(begin, &json!({"state": "open", "missing": [[1, 20]]}));
    }
    for _ in 0..3 {
        let parts = rig.wants("parts");
        assert_eq!(parts["parts"].as_array().map(Vec::len), Some(limits::PART_LINKS));
        rig.gives_links(&parts);
    }
    let first = rig.puts();
    assert_eq!(first.len(), 3, "of all files together");
    rig.news(first[0].0, News::Done);
    let (_, next) = rig.put();
    assert_eq!(next, 0, "the next is of a file that has none under way");
}

#[test]
fn progress_is_told_now_and_then() {
    let (mut rig, message, puts) = Rig::sending();
    rig.events.clear();
    for step in 1..=100 {
        rig.wait(10);
        rig.news(puts[0].0, News::Moved(step * 1000));
    }
    let told: Vec<_> = std::mem::take(&mut rig.events)
        .into_iter()
        .filter_map(|event| match event {
            Event::Progress { id, up: true, done, size, .. } if id == message.id && size == 11 * MIB => Some(done),
            _ => None,
        })
        .collect();
    assert!((3..=5).contains(&told.len()), "{told:?}");
    assert!(told.is_sorted() && *told.last().expect("some") > 50_000);
    rig.news(puts[0].0, News::Done);
    let shown = rig.messages("bob").remove(0).file.expect("a file");
    assert_eq!(shown.uploaded, Some(part_range(11 * MIB, 1).1));
}

#[test]
fn a_message_with_its_file_and_an_edit_in_its_place_keep_the_limits() {
    let mut rig = Rig::new();
    let mut big = file(3);
    big.file.thumbnail = Some("x".repeat(limits::THUMBNAIL_BYTES));
    let now = rig.now;
    let caption = "x".repeat(17_000);
    let refused = rig.engine().send_file(now, Target::User(user("bob")), big.clone(), caption.clone());
    assert!(matches!(refused, Err(Error::BodyTooBig { .. })));
    let (message, _) = rig.engine().send_file(now, Target::User(user("bob")), big, String::new()).expect("written");
    assert!(matches!(rig.engine().edit(now, message.id, caption), Err(Error::BodyTooBig { .. })));
    rig.engine().edit(now, message.id, "short".into()).expect("it fits");
    let mut wrong = file(3);
    wrong.file.kind = "no kind".into();
    let refused = rig.engine().send_file(now, Target::User(user("bob")), wrong, String::new());
    assert!(matches!(refused, Err(Error::BadFile(_))));
    assert_eq!(rig.messages("bob").len(), 1, "what is refused is not written");
}

#[test]
fn a_damaged_file_loses_no_upload_that_waits() {
    for envelopes in [true, false] {
        let mut rig = Rig::new();
        rig.send_file("bob", 11 * MIB);
        rig.lose(envelopes);
        rig.connect();
        rig.answer_list(&json!([]));
        let begin = rig.wants("begin");
        assert_eq!(begin["size"], 11 * MIB);
        rig.says(&begin, &json!({"state": "open", "missing": [[3, 3]]}));
        assert_eq!(rig.wants("parts")["parts"], json!([{"part": 3, "sha256": checksum(3)}]));
    }
}

#[test]
fn later_messages_go_on_past_a_failed_file_if_so_tuned() {
    let mut rig = Rig::tuned(Tuning { hold_back: false, lazy_history: false, ..Tuning::default() });
    rig.connect();
    rig.answer_list(&json!([]));
    rig.send_file("bob", 3);
    rig.write("bob", "behind");
    let begin = rig.wants("begin");
    assert!(!rig.has_sent("send"));
    rig.refuses(&begin, "too_big", false, None);
    assert_eq!(bodies(&submissions(&rig.next("send"))[0]), ["behind"]);
}

#[test]
fn what_is_deleted_for_ever_has_no_file() {
    let mut rig = Rig::online();
    let message = rig.send_file("bob", 3);
    let begin = rig.wants("begin");
    rig.says(&begin, &json!({"state": "complete"}));
    let send = rig.next("send");
    rig.accept(&send, &[1]);
    let now = rig.now;
    let ((), outputs) = rig.engine().delete(now, message.id).expect("it was sent");
    rig.take(outputs);
    assert_eq!(rig.messages("bob")[0].file, None, "at once");
    let send = rig.next("send");
    rig.accept(&send, &[2]);
    let message = rig.messages("bob").remove(0);
    assert!(message.deleted && message.file.is_none());
    assert!(!rig.has_sent("media"), "the server removes it with the message");
}

/// After a part was cut off, and after a restart in the middle, parts go one at a time until the network has held for a
/// while.
#[test]
fn where_the_network_goes_parts_go_one_at_a_time() {
    let mut rig = Rig::online();
    rig.send_file("bob", 100 * MIB);
    let begin = rig.wants("begin");
    rig.says(&begin, &json!({"state": "open", "missing": [[1, 20]]}));
    let parts = rig.wants("parts");
    rig.gives_links(&parts);
    let [(one, _), (two, _), (three, _)] = rig.puts()[..] else { panic!("three at a time") };
    rig.news(one, News::Done);
    rig.news(two, News::Done);
    rig.news(three, News::Failed);
    for (number, _) in rig.puts() {
        rig.news(number, News::Failed);
    }
    rig.wait_for_wake();
    assert_eq!(rig.puts().len(), 1, "one was cut off");

    rig.restart();
    rig.connect();
    let begin = rig.wants("begin");
    rig.says(&begin, &json!({"state": "open", "missing": [[3, 20]]}));
    let mut at_once = Vec::new();
    for _ in 0..9 {
        if rig.has_sent("media") {
            let parts = rig.wants("parts");
            rig.gives_links(&parts);
        }
        let puts = rig.puts();
        at_once.push(puts.len());
        for (number, _) in puts {
            rig.news(number, News::Done);
        }
    }
    assert_eq!(at_once[..8], [1; 8], "it was begun before");
    assert!(at_once[8] > 1, "the network has held");
}
