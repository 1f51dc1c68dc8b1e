//! C1 to C4, I9: what was written is kept, sent as it was, and freed only by a verdict.

use poste_protocol::{Code, limits};
use serde_json::json;

use super::{Rig, bodies, list_of, own_cell, submissions, user, with};
use crate::engine::Input;
use crate::{Error, OutboxState, State, Target};

#[test]
fn a_message_is_on_disk_before_send_returns() {
    let mut rig = Rig::new();
    let message = rig.write("bob", "hello");
    assert_eq!(message.state, State::Pending);
    assert_eq!(message.id.0.get_version_num(), 7);
    rig.restart();
    assert_eq!(rig.messages("bob"), [message]);
}

#[test]
fn written_offline_it_goes_in_one_envelope_oldest_first() {
    let mut rig = Rig::new();
    for body in ["one", "two", "three"] {
        rig.write("bob", body);
    }
    rig.wait(60_000);
    rig.connect();
    let frame = rig.next("send");
    let [submission] = submissions(&frame).as_slice() else { panic!("one envelope: {frame}") };
    assert_eq!(bodies(submission), ["one", "two", "three"]);
    assert_eq!(submission["envelope"]["to"], "bob");
    assert_eq!(submission["envelope"]["number"], 1);
    assert_eq!(submission["age_ms"], 60_000);
    assert_eq!(submission["attempt"], 1);
    assert!(!rig.has_sent("send"), "one envelope at a time");

    rig.accept(&frame, &[1]);
    let sent = State::Sent;
    assert_eq!(rig.list("bob"), list_of(&[("one", sent), ("two", sent), ("three", sent)]));
    assert_eq!(
        rig.messages("bob").iter().map(|m| m.seq.map(u64::from)).collect::<Vec<_>>(),
        [Some(1), Some(2), Some(3)]
    );
    assert_eq!(rig.cursor("bob"), 3, "an own envelope that comes next moves the cursor");
    assert_eq!(rig.engine().read().unwrap().outbox_entries().unwrap(), []);
}

#[test]
fn what_is_written_while_an_envelope_is_under_way_waits_for_the_next() {
    let mut rig = Rig::online();
    rig.write("bob", "first");
    let frame = rig.next("send");
    rig.write("bob", "second");
    rig.write("bob", "third");
    assert!(!rig.has_sent("send"));
    rig.accept(&frame, &[1]);
    let next = rig.next("send");
    assert_eq!(bodies(&submissions(&next)[0]), ["second", "third"]);
    assert_eq!(submissions(&next)[0]["envelope"]["number"], 2);
}

#[test]
fn an_envelope_holds_25_messages_or_24_kib() {
    let mut rig = Rig::new();
    for index in 0..30 {
        rig.write("bob", &format!("m{index}"));
    }
    for _ in 0..3 {
        rig.write("carol", &"é\"".repeat(4500));
    }
    rig.connect();
    let frame = rig.next("send");
    let [first, second] = submissions(&frame).as_slice() else { panic!("two envelopes") };
    assert_eq!(bodies(first).len(), 25);
    assert_eq!(bodies(second).len(), 1, "two would be over 24 KiB");
    for submission in [first, second] {
        assert!(submission["envelope"].to_string().len() <= limits::ENVELOPE_BYTES);
    }
}

#[test]
fn conversations_share_frames_up_to_their_limits() {
    let mut rig = Rig::new();
    for index in 0..20 {
        rig.write(&format!("friend{index}"), "hi");
    }
    for index in 0..2 {
        rig.write(&format!("reader{index}"), &"x".repeat(20_000));
    }
    rig.connect();
    let counts: Vec<_> = (0..3).map(|_| submissions(&rig.next("send")).len()).collect();
    assert_eq!(counts, [16, 5, 1]);
    assert!(!rig.has_sent("send"));
}

#[test]
fn a_body_that_no_envelope_carries_is_refused_at_once() {
    let mut rig = Rig::new();
    let now = rig.now;
    let bob = || Target::User(user("bob"));
    let refused = rig.engine().send(now, bob(), "x".repeat(25_000)).unwrap_err();
    assert!(matches!(refused, Error::BodyTooBig { bytes, limit: limits::ENVELOPE_BYTES } if bytes > 25_000));
    assert!(matches!(rig.engine().send(now, bob(), String::new()), Err(Error::EmptyBody)));
    let unknown = Target::Conversation(with("nobody"));
    assert!(matches!(rig.engine().send(now, unknown, "x".into()), Err(Error::UnknownConversation)));
    assert_eq!(rig.engine().read().unwrap().conversations().unwrap(), [], "what is refused leaves nothing behind");

    rig.write("bob", &"x".repeat(24_200));
    rig.connect();
    let frame = rig.next("send");
    assert_eq!(submissions(&frame).len(), 1, "the largest that is taken does go");
}

#[test]
fn after_a_kill_the_same_bytes_go_again() {
    let mut rig = Rig::online();
    rig.write("bob", "once");
    let first = rig.next_text("send");
    rig.write("bob", "later");
    rig.wait(5_000);
    rig.restart();
    rig.connect();
    let second = rig.next_text("send");
    let envelope = |text: &str| {
        let begin = text.find("\"envelope\":{").expect("an envelope");
        text[begin..text.find(",\"age_ms\"").expect("an age")].to_owned()
    };
    assert_eq!(envelope(&first), envelope(&second), "byte for byte, whatever was written since");
    let frame: serde_json::Value = serde_json::from_str(&second).unwrap();
    assert_eq!(submissions(&frame)[0]["attempt"], 2);
    assert_eq!(submissions(&frame)[0]["age_ms"], 5_000);
}

#[test]
fn a_lost_answer_is_made_up_for_by_the_page() {
    let mut rig = Rig::online();
    rig.write("bob", "did it arrive?");
    let frame = rig.next("send");
    let cell = own_cell(1, &submissions(&frame)[0]);
    rig.input(Input::Disconnected(super::Lost::Closed));
    rig.wait_for_wake();
    rig.input(Input::Connected);
    rig.answer_list(&json!([{"conversation": with("bob"), "peer": "bob", "head": 1, "active_at": 1}]));
    let again = rig.next("send");
    let fetch = rig.next("fetch");
    rig.page(&fetch, 1, &json!([cell]), false);
    assert_eq!(rig.list("bob"), list_of(&[("did it arrive?", State::Sent)]));
    assert_eq!(rig.updates(), list_of(&[("did it arrive?", State::Sent)]));
    // The answer to the repeat says the same, and changes nothing.
    rig.accept(&again, &[1]);
    assert_eq!(rig.list("bob"), list_of(&[("did it arrive?", State::Sent)]));
    rig.write("bob", "next");
    assert_eq!(submissions(&rig.next("send"))[0]["envelope"]["number"], 2);
}

#[test]
fn what_is_in_the_log_is_sent_until_there_is_a_verdict() {
    // The attempt that wrote it may have ended before it was queued for delivery: only a repeat makes up for that.
    let mut rig = Rig::online();
    rig.write("bob", "stored, not published");
    let frame = rig.next("send");
    let cell = own_cell(1, &submissions(&frame)[0]);
    rig.input(Input::Disconnected(super::Lost::Closed));
    rig.wait_for_wake();
    rig.input(Input::Connected);
    rig.answer_list(&json!([{"conversation": with("bob"), "peer": "bob", "head": 1, "active_at": 1}]));
    let second = rig.next("send");
    let fetch = rig.next("fetch");
    rig.page(&fetch, 1, &json!([cell]), false);
    rig.refuse(&second, &json!({"code": "unavailable", "message": "", "retryable": true}));
    assert_eq!(rig.list("bob"), list_of(&[("stored, not published", State::Sent)]));
    rig.restart();
    rig.connect();
    let third = rig.next("send");
    assert_eq!(submissions(&third)[0]["envelope"], submissions(&frame)[0]["envelope"]);
    rig.accept(&third, &[1]);
    rig.restart();
    rig.connect();
    assert!(!rig.has_sent("send"));
}

#[test]
fn a_refusal_fails_exactly_what_was_refused_and_holds_back_what_follows() {
    let mut rig = Rig::new();
    let first = rig.write("bob", "refused");
    rig.write("carol", "fine");
    rig.connect();
    let frame = rig.next("send");
    rig.write("bob", "held back");
    let verdicts = json!([
        {"envelope": submissions(&frame)[0]["envelope"]["id"], "outcome": "refused",
         "error": {"code": "not_member", "message": "no", "retryable": false}},
        {"envelope": submissions(&frame)[1]["envelope"]["id"], "outcome": "accepted", "seq": 1, "at": 1, "repeat": false}
    ]);
    rig.hears(&json!({"type": "sent", "ref": frame["ref"], "verdicts": verdicts}));
    assert_eq!(rig.list("bob"), list_of(&[("refused", State::Failed), ("held back", State::Pending)]));
    assert_eq!(rig.list("carol"), list_of(&[("fine", State::Sent)]));
    let failed = &rig.messages("bob")[0];
    assert_eq!(failed.failure.as_ref().unwrap().code, Code::NotMember);
    assert!(!rig.has_sent("send"));

    // It is still failed after a restart, and others are not held back.
    rig.restart();
    rig.connect();
    assert!(!rig.has_sent("send"));
    let entries = rig.engine().read().unwrap().outbox_entries().unwrap();
    assert_eq!(entries.iter().map(|e| e.state).collect::<Vec<_>>(), [OutboxState::Failed, OutboxState::Queued]);
    rig.write("dave", "hello");
    assert_eq!(bodies(&submissions(&rig.next("send"))[0]), ["hello"]);

    // Retried, the same envelope goes again, and the rest behind it.
    let now = rig.now;
    let ((), outputs) = rig.engine().retry(now, first.id).unwrap();
    rig.take(outputs);
    let again = rig.next("send");
    assert_eq!(submissions(&again)[0]["envelope"], submissions(&frame)[0]["envelope"]);
    rig.accept(&again, &[1]);
    let behind = rig.next("send");
    assert_eq!(bodies(&submissions(&behind)[0]), ["held back"]);
}

#[test]
fn a_failed_message_can_be_dropped_and_the_others_of_its_envelope_go_on() {
    let mut rig = Rig::new();
    let bad = rig.write("bob", "bad");
    rig.write("bob", "good");
    rig.connect();
    let frame = rig.next("send");
    let now = rig.now;
    assert!(matches!(rig.engine().drop_message(now, bad.id), Err(Error::Message { .. })), "it is on its way");
    rig.refuse(&frame, &json!({"code": "not_member", "message": "a stranger", "retryable": false}));
    let ((), outputs) = rig.engine().drop_message(now, bad.id).unwrap();
    rig.take(outputs);
    let rest = rig.next("send");
    assert_eq!(bodies(&submissions(&rest)[0]), ["good"]);
    assert_ne!(submissions(&rest)[0]["envelope"]["id"], submissions(&frame)[0]["envelope"]["id"]);
    assert_eq!(submissions(&rest)[0]["envelope"]["number"], 2);
    assert_eq!(rig.list("bob"), list_of(&[("good", State::Pending)]));
    assert!(matches!(rig.engine().retry(now, bad.id), Err(Error::Message { .. })));
}

#[test]
fn what_waited_too_long_is_decided_message_by_message_and_goes_in_another_envelope() {
    let mut rig = Rig::new();
    let [first, second, third] = ["first", "second", "third"].map(|body| rig.write("bob", body));
    rig.connect();
    let frame = rig.next("send");
    rig.refuse(&frame, &json!({"code": "expired", "message": "too old", "retryable": false}));
    let now = rig.now;
    let ((), outputs) = rig.engine().drop_message(now, second.id).unwrap();
    rig.take(outputs);
    assert!(!rig.has_sent("send"), "the others wait for a decision, too");
    assert_eq!(rig.list("bob"), list_of(&[("first", State::Failed), ("third", State::Failed)]));
    let ((), outputs) = rig.engine().retry(now, first.id).unwrap();
    rig.take(outputs);
    let again = rig.next("send");
    assert_eq!(bodies(&submissions(&again)[0]), ["first", "third"]);
    let [before, after] = [&frame, &again].map(|frame| &submissions(frame)[0]["envelope"]);
    assert_ne!(before["id"], after["id"], "the server never takes the one it has refused");
    assert_eq!(after["number"], 2);
    assert_eq!(submissions(&again)[0]["age_ms"], 0);

    rig.refuse(&again, &json!({"code": "expired", "message": "too old", "retryable": false}));
    for message in [first, third] {
        let ((), outputs) = rig.engine().drop_message(now, message.id).unwrap();
        rig.take(outputs);
    }
    assert!(rig.list("bob").is_empty());
    rig.write("bob", "next");
    assert!(rig.has_sent("send"), "nothing is left to hold it back");
}

#[test]
fn what_is_in_the_log_has_not_failed_whatever_a_late_repeat_is_told() {
    let mut rig = Rig::online();
    rig.write("bob", "there");
    let frame = rig.next("send");
    rig.deliver("bob", &json!([own_cell(1, &submissions(&frame)[0])]));
    rig.refuse(&frame, &json!({"code": "expired", "message": "gone", "retryable": false}));
    assert_eq!(rig.list("bob"), list_of(&[("there", State::Sent)]));
    rig.write("bob", "next");
    assert!(rig.has_sent("send"), "nothing holds it back");
}

#[test]
fn what_was_refused_once_and_stored_by_another_attempt_is_sent() {
    // Failure mode 9: a delivered message shown as failed.
    let mut rig = Rig::online();
    rig.write("bob", "there after all");
    let frame = rig.next("send");
    rig.refuse(&frame, &json!({"code": "expired", "message": "too old", "retryable": false}));
    assert_eq!(rig.list("bob"), list_of(&[("there after all", State::Failed)]));
    rig.deliver("bob", &json!([own_cell(1, &submissions(&frame)[0])]));
    assert_eq!(rig.list("bob"), list_of(&[("there after all", State::Sent)]));
    rig.write("bob", "next");
    assert!(rig.has_sent("send"), "nothing holds it back any more");
}

#[test]
fn transient_refusals_wait_and_go_again() {
    let mut rig = Rig::online();
    rig.write("bob", "patience");
    let frame = rig.next("send");
    rig.refuse(&frame, &json!({"code": "busy", "message": "", "retryable": true, "retry_after_ms": 2000}));
    assert!(!rig.has_sent("send"));
    assert!((2000..=3000).contains(&rig.wait_for_wake()));
    let frame = rig.next("send");
    assert_eq!(submissions(&frame)[0]["attempt"], 2);

    rig.hears(&json!({"type": "error", "ref": frame["ref"], "code": "unavailable", "message": "", "retryable": true}));
    assert!(!rig.has_sent("send"));
    rig.wait_for_wake();
    let frame = rig.next("send");
    rig.hears(&json!({"message": "Internal server error", "connectionId": "c", "requestId": "r"}));
    rig.wait_for_wake();
    let last = rig.next("send");
    assert_eq!(submissions(&last)[0]["envelope"], submissions(&frame)[0]["envelope"]);
    // The answer to the attempt before comes after all, and counts.
    rig.accept(&frame, &[1]);
    assert_eq!(rig.list("bob"), list_of(&[("patience", State::Sent)]));
    assert!(rig.updates().iter().all(|(_, state)| *state != State::Failed));
}

#[test]
fn a_frame_refused_as_a_whole_is_taken_apart_to_find_the_fault() {
    let mut rig = Rig::new();
    rig.write("bob", "poison");
    rig.write("carol", "fine");
    rig.connect();
    let frame = rig.next("send");
    let error = json!({"type": "error", "ref": frame["ref"], "code": "bad_frame", "message": "", "retryable": false});
    rig.hears(&error);
    let (one, other) = (rig.next("send"), rig.next("send"));
    assert_eq!((submissions(&one).len(), submissions(&other).len()), (1, 1));
    let mut error = error;
    error["ref"] = one["ref"].clone();
    rig.hears(&error);
    rig.accept(&other, &[1]);
    assert_eq!(rig.list("bob"), list_of(&[("poison", State::Failed)]));
    assert_eq!(rig.list("carol"), list_of(&[("fine", State::Sent)]));
}

#[test]
fn an_expired_token_fails_nothing() {
    let mut rig = Rig::online();
    rig.write("bob", "wait for it");
    let frame = rig.next("send");
    let error = json!({"code": "token_expired", "message": "", "retryable": true});
    rig.refuse(&frame, &error);
    assert_eq!((rig.connects.as_slice(), rig.hung_up), ([false, true].as_slice(), 1));
    rig.input(Input::Connected);
    let again = rig.next("send");
    assert_eq!(submissions(&again)[0]["envelope"], submissions(&frame)[0]["envelope"]);
    rig.accept(&again, &[1]);
    assert_eq!(rig.list("bob"), list_of(&[("wait for it", State::Sent)]));
}

#[test]
fn what_is_pending_and_not_under_way_can_be_dropped() {
    let mut rig = Rig::new();
    let message = rig.write("bob", "never mind");
    let now = rig.now;
    let ((), outputs) = rig.engine().drop_message(now, message.id).unwrap();
    rig.take(outputs);
    rig.connect();
    assert!(!rig.has_sent("send"));
    assert_eq!(rig.list("bob"), []);
}
