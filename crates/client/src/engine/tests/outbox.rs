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
fn frames_that_nobody_has_answered_are_few() {
    let mut rig = Rig::tuned(crate::Tuning { send_frames: 2, ..crate::Tuning::default() });
    for index in 0..40 {
        rig.write(&format!("friend{index}"), "hi");
    }
    rig.connect();
    let first = rig.next("send");
    rig.next("send");
    assert!(!rig.has_sent("send"), "eight envelopes wait for an answer to others");
    rig.accept(&first, &[1; 16]);
    assert_eq!(submissions(&rig.next("send")).len(), 8);
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
    let again = rig.finds_after_a_lost_answer(&cell);
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
    let second = rig.finds_after_a_lost_answer(&cell);
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
fn what_is_in_the_log_and_refused_afterwards_holds_nothing_back() {
    let mut rig = Rig::online();
    rig.write("bob", "stored");
    let frame = rig.next("send");
    rig.write("bob", "behind it");
    rig.deliver("bob", &json!([own_cell(1, &submissions(&frame)[0])]));
    rig.refuse(&frame, &not_member());
    assert_eq!(bodies(&submissions(&rig.next("send"))[0]), ["behind it"]);
    assert_eq!(rig.list("bob"), list_of(&[("stored", State::Sent), ("behind it", State::Pending)]));
    assert_eq!(rig.outbox().len(), 1);
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
    let counted = rig.engine().counters();
    assert_eq!((counted.submissions, counted.resubmissions), (4, 3));
    // The answer to the attempt before comes after all, and counts.
    rig.accept(&frame, &[1]);
    assert_eq!(rig.list("bob"), list_of(&[("patience", State::Sent)]));
    assert!(rig.updates().iter().all(|(_, state)| *state != State::Failed));
}

#[test]
fn what_is_freed_while_it_goes_again_does_not_hold_up_the_next() {
    let mut rig = Rig::online();
    rig.write("bob", "slow answer");
    let frame = rig.next("send");
    rig.hears(&json!({"type": "error", "ref": frame["ref"], "code": "unavailable", "message": "", "retryable": true}));
    rig.wait_for_wake();
    rig.next("send");
    rig.write("bob", "next");
    assert!(!rig.has_sent("send"));
    rig.accept(&frame, &[1]);
    assert_eq!(bodies(&submissions(&rig.next("send"))[0]), ["next"]);
}

#[test]
fn what_may_pass_fails_nothing_whether_the_code_says_so_or_the_server() {
    for (code, retryable) in [("unknown_action", false), ("busy", false), ("not_member", true)] {
        let mut rig = Rig::online();
        rig.write("bob", "patience");
        let frame = rig.next("send");
        rig.refuse(&frame, &json!({"code": code, "message": "", "retryable": retryable}));
        assert_eq!(rig.list("bob"), list_of(&[("patience", State::Pending)]), "{code}");
        rig.wait_for_wake();
        assert_eq!(submissions(&rig.next("send"))[0]["envelope"], submissions(&frame)[0]["envelope"], "{code}");
    }
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

fn not_member() -> serde_json::Value {
    json!({"code": "not_member", "message": "no", "retryable": false})
}

#[test]
fn the_outbox_says_how_often_since_when_and_when_next() {
    let mut rig = Rig::new();
    rig.write("bob", "first");
    assert_eq!(rig.outbox()[0].next_try, None, "the network is cut");
    rig.input(Input::Network(true));
    rig.input(Input::Disconnected(super::Lost::Closed));
    let until = rig.engine().next_wake().unwrap();
    assert_eq!(rig.outbox()[0].next_try, Some(rig.now.wall + until - rig.now.mono), "when it connects next");
    rig.wait_for_wake();
    rig.input(Input::Connected);
    let began = rig.now.wall;
    let frame = rig.next("send");
    rig.write("bob", "behind it");
    rig.refuse(&frame, &json!({"code": "busy", "message": "", "retryable": true, "retry_after_ms": 2000}));
    let [first, behind] = rig.outbox().try_into().expect("two entries");
    assert_eq!((first.attempts, first.first_try, first.state), (1, Some(began), OutboxState::UnderWay));
    assert!((began + 2000..=began + 3000).contains(&first.next_try.unwrap()));
    assert_eq!((behind.attempts, behind.first_try, behind.next_try), (0, None, None));
    rig.wait_for_wake();
    let again = &rig.outbox()[0];
    assert_eq!((again.attempts, again.first_try, again.next_try), (2, Some(began), None), "it waits for the answer");
    rig.restart();
    assert_eq!(rig.outbox()[0].first_try, Some(began));
    rig.connect();
    let frame = rig.next("send");
    rig.refuse(&frame, &not_member());
    assert_eq!(rig.outbox().iter().map(|entry| entry.next_try).collect::<Vec<_>>(), [None, None]);
}

#[test]
fn in_the_foreground_nothing_waits_for_a_backoff_but_for_what_was_told() {
    let mut rig = Rig::online();
    rig.write("bob", "own backoff");
    let frame = rig.next("send");
    rig.write("carol", "told to wait");
    let told = rig.next("send");
    for _ in 0..6 {
        let unavailable = json!({"code": "unavailable", "message": "", "retryable": true});
        rig.refuse(&frame, &unavailable);
    }
    rig.refuse(&told, &json!({"code": "busy", "message": "", "retryable": true, "retry_after_ms": 60_000}));
    assert!(!rig.has_sent("send"));
    rig.input(Input::Foreground);
    assert_eq!(bodies(&submissions(&rig.next("send"))[0]), ["own backoff"]);
    assert!(!rig.has_sent("send"), "the server said how long");

    // Not connected: as when the network returns.
    for _ in 0..10 {
        rig.input(Input::Disconnected(super::Lost::Closed));
        rig.input(Input::Tick);
    }
    let connects = rig.connects.len();
    rig.input(Input::Foreground);
    assert_eq!(rig.connects.len(), connects + 1);
    rig.input(Input::Foreground);
    assert_eq!(rig.connects.len(), connects + 1, "one handshake at a time");
    rig.input(Input::Network(false));
    rig.input(Input::Foreground);
    assert_eq!(rig.connects.len(), connects + 1, "a network that was cut stays cut");
}

#[test]
fn a_connection_that_died_in_its_sleep_is_found_out_in_the_foreground() {
    let mut rig = Rig::online();
    rig.input(Input::Foreground);
    rig.input(Input::Foreground);
    rig.next("hello");
    assert!(!rig.has_sent("hello"), "asked once");
    assert_eq!(rig.wait_for_wake(), 10_000);
    assert_eq!(rig.hung_up, 1);
}

fn going_on() -> crate::Tuning {
    crate::Tuning { hold_back: false, ..crate::Tuning::default() }
}

#[test]
fn if_so_configured_later_messages_go_on_past_a_refused_one() {
    let mut rig = Rig::tuned(going_on());
    let refused = rig.write("bob", "refused");
    rig.connect();
    let first = rig.next("send");
    rig.write("bob", "later");
    rig.refuse(&first, &not_member());
    let later = rig.next("send");
    assert_eq!(
        (bodies(&submissions(&later)[0]), &submissions(&later)[0]["envelope"]["number"]),
        (vec!["later"], &json!(2))
    );
    rig.restart();
    rig.connect();
    let later = rig.next("send");
    assert_eq!(bodies(&submissions(&later)[0]), ["later"]);

    // Retried while another is under way, it waits for its turn; and then it is the same envelope.
    rig.retry(refused.id);
    assert!(!rig.has_sent("send"), "one under way at a time");
    rig.write("bob", "last");
    let states: Vec<_> = rig.outbox().into_iter().map(|entry| (entry.number.map(u64::from), entry.state)).collect();
    let queued = OutboxState::Queued;
    assert_eq!(states, [(Some(1), queued), (Some(2), OutboxState::UnderWay), (None, queued)]);
    rig.restart();
    rig.connect();
    let later = rig.next("send");
    assert_eq!(bodies(&submissions(&later)[0]), ["later"]);
    rig.accept(&later, &[1]);
    let again = rig.next("send");
    assert_eq!(submissions(&again)[0]["envelope"], submissions(&first)[0]["envelope"], "byte for byte");

    // Its number is behind the lane now: it gets another, after what went past it, and before what was written since.
    let lane = json!({"number": 2, "seq": 1});
    rig.refuse(&again, &json!({"code": "lane_conflict", "message": "", "retryable": false, "lane": lane}));
    let renumbered = rig.next("send");
    assert_eq!(submissions(&renumbered)[0]["envelope"]["id"], submissions(&first)[0]["envelope"]["id"]);
    assert_eq!(submissions(&renumbered)[0]["envelope"]["number"], 3);
    rig.accept(&renumbered, &[2]);
    let last = rig.next("send");
    assert_eq!(
        (bodies(&submissions(&last)[0]), &submissions(&last)[0]["envelope"]["number"]),
        (vec!["last"], &json!(4))
    );
    rig.accept(&last, &[3]);
    let sent = State::Sent;
    assert_eq!(rig.list("bob"), list_of(&[("later", sent), ("refused", sent), ("last", sent)]));
    assert_eq!(rig.outbox(), []);
}

#[test]
fn past_a_refused_envelope_another_may_be_refused_and_each_is_decided_alone() {
    let mut rig = Rig::tuned(going_on());
    let one = rig.write("bob", "one");
    rig.connect();
    let first = rig.next("send");
    rig.refuse(&first, &not_member());
    let two = rig.write("bob", "two");
    let second = rig.next("send");
    rig.refuse(&second, &json!({"code": "expired", "message": "", "retryable": false}));
    let failed: Vec<_> = rig.outbox().into_iter().map(|entry| entry.failure.unwrap().code).collect();
    assert_eq!(failed, [Code::NotMember, Code::Expired]);
    // A late answer to the first attempt changes nothing of what is under way.
    rig.write("bob", "three");
    let third = rig.next("send");
    rig.refuse(&first, &not_member());
    let lane = json!({"number": 9, "seq": 9});
    rig.refuse(&first, &json!({"code": "lane_conflict", "message": "", "retryable": false, "lane": lane}));
    assert!(!rig.has_sent("send") && !rig.has_sent("fetch"));
    rig.accept(&third, &[1]);
    let now = rig.now;
    let ((), outputs) = rig.engine().drop_message(now, one.id).unwrap();
    rig.take(outputs);
    assert!(!rig.has_sent("send"));
    // It is in the log after all.
    rig.deliver("bob", &json!([own_cell(2, &submissions(&second)[0])]));
    assert_eq!(rig.list("bob"), list_of(&[("three", State::Sent), ("two", State::Sent)]));
    assert_eq!(rig.outbox(), []);
    assert!(matches!(rig.engine().retry(now, two.id), Err(Error::Message { .. })));
}

#[test]
fn switched_back_on_it_holds_back_until_all_is_decided() {
    let mut rig = Rig::tuned(going_on());
    let mut refused = Vec::new();
    rig.connect();
    for body in ["one", "two"] {
        refused.push(rig.write("bob", body));
        let frame = rig.next("send");
        rig.refuse(&frame, &not_member());
    }
    rig.tuning = crate::Tuning::default();
    rig.restart();
    rig.connect();
    rig.write("bob", "held back");
    assert!(!rig.has_sent("send"));
    for (message, place) in refused.iter().zip(1..) {
        rig.retry(message.id);
        let frame = rig.next("send");
        assert_eq!(bodies(&submissions(&frame)[0]), [message.body.as_str()]);
        assert!(!rig.has_sent("send"));
        rig.accept(&frame, &[place]);
    }
    assert_eq!(bodies(&submissions(&rig.next("send"))[0]), ["held back"]);
}
