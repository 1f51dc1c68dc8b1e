//! A device whose file was rolled back: nothing is doubled, nothing is lost.

use poste_protocol::EnvelopeId;
use serde_json::{Value, json};

use super::{Rig, bodies, cell, list_of, own_cell, submissions, with};
use crate::State;

fn conflict(number: u64, seq: u64) -> Value {
    json!({"code": "lane_conflict", "message": "", "retryable": false, "lane": {"number": number, "seq": seq}})
}

/// Waits for the next fetch.
fn fetch(rig: &mut Rig) -> Value {
    while !rig.has_sent("fetch") {
        rig.wait_for_wake();
    }
    rig.next("fetch")
}

#[test]
fn found_in_the_log_it_is_acknowledged() {
    let mut rig = Rig::online();
    rig.write("bob", "was it stored?");
    let frame = rig.next("send");
    let own = own_cell(1, &submissions(&frame)[0]);
    rig.refuse(&frame, &conflict(3, 2));
    assert!(!rig.has_sent("send") && rig.has_sent("fetch"), "first it reads");
    let fetch = fetch(&mut rig);
    let later = cell(2, "alice", "phone", 3, &["from the future that was rolled back"]);
    rig.page(&fetch, 2, &json!([own, later]), false);
    let sent = State::Sent;
    assert_eq!(rig.list("bob"), list_of(&[("was it stored?", sent), ("from the future that was rolled back", sent)]));
    assert!(!rig.has_sent("send"));
    assert_eq!(rig.next_number("bob"), 4);
    rig.write("bob", "next");
    assert_eq!(submissions(&rig.next("send"))[0]["envelope"]["number"], 4);
}

#[test]
fn not_found_it_gets_a_new_number_and_keeps_its_ids() {
    let mut rig = Rig::online();
    rig.write("bob", "new");
    let frame = rig.next("send");
    rig.refuse(&frame, &conflict(7, 3));
    let first = fetch(&mut rig);
    rig.page(&first, 1, &json!([cell(1, "bob", "laptop", 1, &["x"])]), true);
    assert!(!rig.has_sent("send"), "not before the lane's place has been read");
    let second = fetch(&mut rig);
    rig.page(&second, 3, &json!([cell(2, "alice", "phone", 6, &["y"]), cell(3, "alice", "phone", 7, &["z"])]), false);
    let again = rig.next("send");
    let (before, after) = (&submissions(&frame)[0]["envelope"], &submissions(&again)[0]["envelope"]);
    assert_eq!(after["number"], 8);
    assert_eq!((&after["id"], &after["messages"]), (&before["id"], &before["messages"]));
    assert_eq!(submissions(&again)[0]["attempt"], 2);
    assert!(submissions(&frame)[0].get("resolved").is_none());
    let resolved = json!({"number": 7, "seq": 3, "through": 3});
    assert_eq!(submissions(&again)[0]["resolved"], resolved, "what it goes on from");

    // The new bytes are the ones that are kept.
    rig.restart();
    rig.connect();
    let third = rig.next("send");
    assert_eq!(&submissions(&third)[0]["envelope"], after);
    rig.accept(&third, &[4]);
    assert_eq!(submissions(&third)[0]["resolved"], resolved, "until it is accepted");
    assert_eq!(rig.next_number("bob"), 9);
    assert_eq!(rig.list("bob").last(), Some(&("new".into(), State::Sent)));
    rig.write("bob", "next");
    assert!(submissions(&rig.next("send"))[0].get("resolved").is_none());
}

#[test]
fn what_was_gone_on_from_is_told_until_something_stands_in_the_lane() {
    for (code, told) in [("not_member", true), ("expired", false)] {
        let mut rig = Rig::online();
        let message = rig.write("bob", "new");
        let frame = rig.next("send");
        rig.refuse(&frame, &conflict(7, 1));
        let fetch = fetch(&mut rig);
        rig.page(&fetch, 1, &json!([cell(1, "alice", "phone", 7, &["z"])]), false);
        let again = rig.next("send");
        rig.refuse(&again, &json!({"code": code, "message": "", "retryable": false}));
        rig.retry(message.id);
        assert_eq!(submissions(&rig.next("send"))[0].get("resolved").is_some(), told, "{code}");
    }
}

#[test]
fn of_a_regrouped_envelope_only_the_rest_goes_again() {
    // Before the roll-back "a" went alone; afterwards it is pending again, and is grouped with "b".
    let mut rig = Rig::new();
    rig.write("bob", "a");
    let backup = rig.backup();
    rig.connect();
    let frame = rig.next("send");
    let stored = own_cell(1, &submissions(&frame)[0]);
    rig.accept(&frame, &[1]);
    rig.roll_back(&backup);
    rig.write("bob", "b");
    rig.connect();
    let frame = rig.next("send");
    assert_eq!(bodies(&submissions(&frame)[0]), ["a", "b"]);
    rig.refuse(&frame, &conflict(1, 1));
    let fetch = fetch(&mut rig);
    rig.page(&fetch, 1, &json!([stored]), false);
    let rest = rig.next("send");
    assert_eq!(bodies(&submissions(&rest)[0]), ["b"]);
    assert_eq!(submissions(&rest)[0]["envelope"]["number"], 2);
    rig.accept(&rest, &[2]);
    assert_eq!(rig.list("bob"), list_of(&[("a", State::Sent), ("b", State::Sent)]));
}

#[test]
fn an_envelope_that_is_in_the_log_under_another_id_is_not_sent_again() {
    let mut rig = Rig::new();
    rig.write("bob", "a");
    let backup = rig.backup();
    rig.connect();
    let frame = rig.next("send");
    let stored = own_cell(1, &submissions(&frame)[0]);
    rig.roll_back(&backup);
    rig.connect();
    let second = rig.next("send");
    assert_ne!(submissions(&frame)[0]["envelope"]["id"], submissions(&second)[0]["envelope"]["id"]);
    rig.refuse(&second, &conflict(1, 1));
    let fetch = fetch(&mut rig);
    rig.page(&fetch, 1, &json!([stored]), false);
    assert!(!rig.has_sent("send"));
    assert_eq!(rig.list("bob"), list_of(&[("a", State::Sent)]));
}

#[test]
fn a_lanes_last_place_that_is_never_written_does_not_stop_the_device() {
    let mut rig = Rig::online();
    rig.write("bob", "patient");
    let frame = rig.next("send");
    rig.refuse(&frame, &conflict(2, 2));
    let mut asked = 0;
    while !rig.has_sent("send") {
        if rig.has_sent("fetch") {
            let fetch = rig.next("fetch");
            asked += 1;
            let cells = if asked == 1 { json!([cell(1, "alice", "tablet", 1, &["x"])]) } else { json!([]) };
            rig.page(&fetch, 1, &cells, false);
        } else {
            rig.wait_for_wake();
        }
    }
    assert!(asked > 1 && asked < 20, "{asked} fetches");
    assert_eq!(submissions(&rig.next("send"))[0]["envelope"]["number"], 3);
    assert!(rig.now.mono - super::START.mono >= 10_000);
}

#[test]
fn conflict_after_conflict_slows_down() {
    let mut rig = Rig::online();
    rig.write("bob", "x");
    let frame = rig.next("send");
    rig.refuse(&frame, &conflict(1, 1));
    let fetch = fetch(&mut rig);
    rig.page(&fetch, 1, &json!([cell(1, "alice", "phone", 1, &["y"])]), false);
    let mut at_once = 0;
    for number in 2..12 {
        if rig.has_sent("send") {
            at_once += 1;
        }
        while !rig.has_sent("send") {
            rig.wait_for_wake();
        }
        let frame = rig.next("send");
        rig.refuse(&frame, &conflict(number, 1));
    }
    assert!(at_once < 4, "{at_once} of ten at full speed");
    assert_eq!(rig.list("bob").len(), 2);
}

/// C2: a device that lost its file asks the lane, and takes no number twice.
#[test]
fn after_a_damaged_file_the_device_goes_on_from_its_lane() {
    let mut rig = Rig::online();
    let mut stored = Vec::new();
    for place in 1..=3 {
        rig.write("bob", &format!("m{place}"));
        let frame = rig.next("send");
        stored.push(own_cell(place, &submissions(&frame)[0]));
        rig.accept(&frame, &[place]);
    }
    rig.close();
    let path = rig.folder.path().join("account.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..100].fill(0);
    std::fs::write(&path, bytes).unwrap();
    rig.restart();
    assert!(rig.engine().read().unwrap().recovery().unwrap().is_some());
    rig.write("bob", "after");
    rig.connect();
    let frame = rig.next("send");
    assert_eq!(submissions(&frame)[0]["envelope"]["number"], 1);
    rig.refuse(&frame, &conflict(3, 3));
    let fetch = fetch(&mut rig);
    assert_eq!(fetch["after"], 0, "the log is fetched anew");
    rig.page(&fetch, 3, &json!(stored), false);
    let again = rig.next("send");
    assert_eq!(submissions(&again)[0]["envelope"]["number"], 4);
    assert_eq!(submissions(&again)[0]["resolved"], json!({"number": 3, "seq": 3, "through": 3}));
    rig.accept(&again, &[4]);
    let sent = State::Sent;
    assert_eq!(rig.list("bob"), list_of(&[("m1", sent), ("m2", sent), ("m3", sent), ("after", sent)]));
}

/// Its envelope is lost, the message is not, and is in the log already: it is found there, and not doubled.
#[test]
fn a_message_whose_envelope_is_lost_is_looked_for_before_it_is_sent() {
    let mut rig = Rig::online();
    rig.write("bob", "before");
    let frame = rig.next("send");
    let before = own_cell(1, &submissions(&frame)[0]);
    rig.accept(&frame, &[1]);
    rig.write("bob", "was it stored?");
    let frame = rig.next("send");
    let stored = own_cell(2, &submissions(&frame)[0]);
    rig.lose(false);
    rig.connect();
    let other = rig.next("send");
    assert_ne!(submissions(&other)[0]["envelope"]["id"], stored["envelope"]);
    assert_eq!(submissions(&other)[0]["envelope"]["number"], 1, "too small on purpose");
    rig.refuse(&other, &conflict(2, 2));
    let fetch = fetch(&mut rig);
    rig.page(&fetch, 2, &json!([before, stored]), false);
    assert!(!rig.has_sent("send"));
    assert_eq!(rig.list("bob"), list_of(&[("before", State::Sent), ("was it stored?", State::Sent)]));
}

/// Its envelope is saved: the same bytes under the same number, which the server knows.
#[test]
fn an_envelope_that_is_saved_goes_again_as_it_was() {
    let mut rig = Rig::online();
    rig.write("bob", "before");
    let frame = rig.next("send");
    rig.accept(&frame, &[1]);
    rig.write("bob", "under way");
    let frame = rig.next("send");
    rig.lose(true);
    rig.write("bob", "behind it");
    rig.connect();
    let again = rig.next("send");
    assert_eq!(submissions(&again)[0]["envelope"], submissions(&frame)[0]["envelope"]);
    assert_eq!(submissions(&again)[0]["attempt"], 2);
    rig.accept(&again, &[2]);
    assert_eq!(bodies(&submissions(&rig.next("send"))[0]), ["behind it"]);
}

#[test]
fn only_own_cells_of_this_device_raise_the_next_number() {
    let mut rig = Rig::online();
    rig.deliver("bob", &json!([cell(1, "alice", "phone", 5, &["restored"])]));
    assert_eq!(rig.next_number("bob"), 6);
    rig.deliver("bob", &json!([cell(2, "alice", "phone", 2, &["older"])]));
    assert_eq!(rig.next_number("bob"), 6);
    rig.deliver("bob", &json!([cell(3, "bob", "phone", 50, &["bob's"])]));
    assert_eq!(rig.next_number("bob"), 6);
    let row = rig.engine().read().unwrap().outbox_envelope(EnvelopeId::fresh()).unwrap();
    assert_eq!((row, with("bob").is_direct()), (None, true));
}
