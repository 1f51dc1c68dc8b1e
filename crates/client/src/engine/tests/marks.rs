//! D2: delivered and read, both ways.

use serde_json::{Value, json};

use super::{Lost, Rig, cell, list_of, own_cell, seq, submissions, with};
use crate::State;
use crate::engine::Input;

/// The server has taken the marks of this frame.
pub(super) fn marked(rig: &mut Rig, mark: &Value) {
    let results: Vec<_> = mark["marks"]
        .as_array()
        .expect("a mark frame has marks")
        .iter()
        .map(|mark| json!({"conversation": mark["conversation"]}))
        .collect();
    rig.hears(&json!({"type": "marked", "ref": mark["ref"], "results": results}));
}

fn member_mark(rig: &mut Rig, who: &str, delivered: u64, read: u64) {
    rig.hears(&json!({"type": "delivery", "items": [{"conversation": with("bob"),
        "marks": [{"user": who, "device": "laptop", "delivered": delivered, "read": read}]}]}));
}

fn read(rig: &mut Rig, upto: u64) {
    let now = rig.now;
    let ((), outputs) = rig.engine().mark_read(now, &with("bob"), seq(upto)).expect("the conversation is known");
    rig.take(outputs);
}

#[test]
fn delivered_is_told_after_it_is_stored_and_coalesced() {
    let mut rig = Rig::online();
    rig.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["a"])]));
    assert!(!rig.has_sent("mark"), "it waits for company");
    read(&mut rig, 1);
    let first = rig.mark_within(250);
    assert_eq!(first["marks"], json!([{"conversation": with("bob"), "delivered": 1, "read": 1}]));
    marked(&mut rig, &first);
    for number in 2..=9 {
        rig.deliver("bob", &json!([cell(number, "bob", "laptop", number, &["x"])]));
    }
    rig.wait(999);
    assert!(!rig.has_sent("mark"), "at most one frame in an interval");
    let second = rig.mark_within(251);
    assert_eq!(second["marks"][0]["delivered"], 9);
    marked(&mut rig, &second);
    let wake = rig.engine().next_wake().unwrap() - rig.now.mono;
    assert!(wake > 200_000, "nothing is due but the keep-alive: {wake}");
}

#[test]
fn a_mark_that_was_not_confirmed_is_told_again() {
    let mut rig = Rig::online();
    rig.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["a"])]));
    rig.mark_within(250);
    rig.restart();
    rig.connect();
    let again = rig.mark_within(250);
    assert_eq!(again["marks"][0]["delivered"], 1);
    marked(&mut rig, &again);
    rig.input(Input::Disconnected(Lost::Closed));
    rig.wait_for_wake();
    rig.input(Input::Connected);
    rig.wait(5_000);
    assert!(!rig.has_sent("mark"), "confirmed is confirmed");
}

#[test]
fn reading_is_told_and_never_beyond_the_cursor() {
    let mut rig = Rig::online();
    rig.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["a", "b"])]));
    let first = rig.mark_within(250);
    marked(&mut rig, &first);
    read(&mut rig, 99);
    let second = rig.mark_within(1_250);
    assert_eq!(second["marks"], json!([{"conversation": with("bob"), "delivered": 2, "read": 2}]));
    marked(&mut rig, &second);
    read(&mut rig, 1);
    rig.wait(5_000);
    assert!(!rig.has_sent("mark"), "it only moves forward");
    let unread = rig.engine().read().unwrap().conversation_view(&with("bob")).unwrap().unwrap().unread;
    assert_eq!(unread, 0);
}

#[test]
fn a_refused_mark_is_told_again_if_that_can_help() {
    let mut rig = Rig::online();
    rig.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["a"])]));
    let mark = rig.mark_within(250);
    let busy = json!({"code": "busy", "message": "", "retryable": true, "retry_after_ms": 1000});
    rig.hears(&json!({"type": "marked", "ref": mark["ref"],
        "results": [{"conversation": with("bob"), "error": busy}]}));
    rig.wait(1_000);
    assert!(!rig.has_sent("mark"), "not before the time that was told");
    let mark = rig.mark_within(700);
    let no = json!({"code": "not_member", "message": "", "retryable": false});
    rig.hears(&json!({"type": "marked", "ref": mark["ref"], "results": [{"conversation": with("bob"), "error": no}]}));
    rig.wait(60_000);
    assert!(!rig.has_sent("mark"));
}

#[test]
fn the_others_marks_raise_the_states_of_own_messages_and_never_lower_them() {
    let mut rig = Rig::online();
    rig.write("bob", "one");
    let frame = rig.next("send");
    rig.accept(&frame, &[1]);
    rig.write("bob", "two");
    let frame = rig.next("send");
    rig.accept(&frame, &[2]);
    rig.events.clear();

    member_mark(&mut rig, "bob", 1, 0);
    assert_eq!(rig.updates(), list_of(&[("one", State::Delivered)]));
    member_mark(&mut rig, "bob", 2, 1);
    assert_eq!(rig.list("bob"), list_of(&[("one", State::Read), ("two", State::Delivered)]));
    member_mark(&mut rig, "bob", 1, 0);
    rig.deliver("bob", &json!([own_cell(1, &submissions(&frame)[0])]));
    assert_eq!(rig.list("bob"), list_of(&[("one", State::Read), ("two", State::Delivered)]));
}

#[test]
fn a_mark_that_overtakes_the_acknowledgement_counts() {
    let mut rig = Rig::online();
    rig.write("bob", "quick");
    let frame = rig.next("send");
    member_mark(&mut rig, "bob", 1, 1);
    assert_eq!(rig.list("bob"), list_of(&[("quick", State::Pending)]));
    rig.accept(&frame, &[1]);
    assert_eq!(rig.list("bob"), list_of(&[("quick", State::Read)]));
}

#[test]
fn summaries_bring_marks_too_and_my_own_other_devices_reading_is_mine() {
    let mut rig = Rig::new();
    rig.write("bob", "hello");
    rig.connect();
    let frame = rig.next("send");
    rig.accept(&frame, &[1]);
    rig.answer_list(&json!([{"conversation": with("bob"), "peer": "bob", "head": 2, "active_at": 1, "marks": [
        {"user": "bob", "device": "laptop", "delivered": 1, "read": 1},
        {"user": "alice", "device": "tablet", "delivered": 2, "read": 2}
    ]}]));
    assert_eq!(rig.list("bob"), list_of(&[("hello", State::Read)]));
    let fetch = rig.next("fetch");
    rig.page(&fetch, 2, &json!([cell(2, "bob", "laptop", 1, &["answer"])]), false);
    let view = rig.engine().read().unwrap().conversation_view(&with("bob")).unwrap().unwrap();
    assert_eq!((view.unread, view.read), (0, seq(2)));
    let mark = rig.mark_within(250);
    assert_eq!(mark["marks"][0]["delivered"], 2);
}

impl Rig {
    /// Bob's messages have come, and alice answers while their mark waits for company: her frame.
    fn answers_at_once(&mut self) -> Value {
        self.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["a"])]));
        self.deliver("bob", &json!([cell(2, "bob", "laptop", 2, &["b"])]));
        assert!(!self.has_sent("mark"), "it waits");
        self.write("bob", "answer");
        self.next("send")
    }

    fn accepts(&mut self, send: &Value, marks: &Value) {
        let verdict = json!({"envelope": submissions(send)[0]["envelope"]["id"], "outcome": "accepted", "seq": 3,
            "at": 5000, "repeat": false});
        self.hears(&json!({"type": "sent", "ref": send["ref"], "verdicts": [verdict], "marks": marks}));
    }
}

/// What waits goes along with what is sent, and needs no frame of its own.
#[test]
fn marks_that_wait_ride_along_with_what_is_sent() {
    let mut rig = Rig::online();
    let send = rig.answers_at_once();
    assert_eq!(send["marks"], json!([{"conversation": with("bob"), "delivered": 2}]));
    rig.accepts(&send, &json!([{"conversation": with("bob")}]));
    rig.wait(999);
    assert!(!rig.has_sent("mark"));
    rig.deliver("bob", &json!([cell(4, "bob", "laptop", 3, &["c"])]));
    rig.write("bob", "again");
    assert_eq!(rig.next("send").get("marks"), None, "once in an interval");
    assert_eq!(rig.mark_within(251)["marks"][0]["delivered"], 4, "what does not ride goes by itself, a little later");
}

/// What is due rides before it would go by itself.
#[test]
fn after_the_interval_the_next_message_takes_the_marks_along() {
    let mut rig = Rig::online();
    let send = rig.answers_at_once();
    rig.accepts(&send, &json!([{"conversation": with("bob")}]));
    rig.deliver("bob", &json!([cell(4, "bob", "laptop", 3, &["c"])]));
    rig.wait(1_001);
    assert!(!rig.has_sent("mark"), "it waits for company");
    rig.write("bob", "again");
    assert_eq!(rig.next("send")["marks"][0]["delivered"], 4);
}

/// A mark that is refused for now is told again; the message that it rode with is acknowledged all the same.
#[test]
fn a_mark_that_rides_fails_nothing() {
    let mut rig = Rig::online();
    let send = rig.answers_at_once();
    let error = json!({"code": "unavailable", "message": "", "retryable": true});
    rig.accepts(&send, &json!([{"conversation": with("bob"), "error": error}]));
    assert_eq!(rig.list("bob").pop(), Some(("answer".to_owned(), State::Sent)));
    assert!(!rig.has_sent("mark"), "not at once");
    rig.wait(5_000);
    assert!(rig.has_sent("mark"));
}

/// A frame in which marks ride is refused as a whole: that is no verdict on its envelopes.
#[test]
fn a_frame_that_is_refused_goes_again_without_its_marks() {
    for code in ["bad_frame", "too_big", "too_many"] {
        let mut rig = Rig::online();
        let send = rig.answers_at_once();
        rig.hears(&json!({"type": "error", "ref": send["ref"], "code": code, "message": "", "retryable": false}));
        let again = rig.next("send");
        assert_eq!(again.get("marks"), None);
        assert_eq!(submissions(&again)[0]["envelope"], submissions(&send)[0]["envelope"]);
        rig.mark_within(1_250); // By themselves.
        rig.accept(&again, &[3]);
        assert_eq!(rig.list("bob").pop(), Some(("answer".to_owned(), State::Sent)));
    }
}

/// A server of an earlier version passes over them.
#[test]
fn a_server_that_does_not_know_riding_marks_gets_them_by_themselves() {
    let mut rig = Rig::online();
    let send = rig.answers_at_once();
    rig.accept(&send, &[3]);
    let own = rig.mark_within(1_250);
    assert_eq!(own["marks"][0]["delivered"], 2);
    marked(&mut rig, &own);
    rig.deliver("bob", &json!([cell(4, "bob", "laptop", 3, &["c"])]));
    rig.write("bob", "again");
    assert_eq!(rig.next("send").get("marks"), None, "not on this connection");
}
