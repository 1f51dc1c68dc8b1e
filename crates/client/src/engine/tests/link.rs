//! Connecting: backoff, deadlines, keep-alive, renewal, tokens, tunnels.

use serde_json::json;

use super::{Lost, Rig, cell, list_of, with};
use crate::engine::Input;
use crate::{Connection, Event, State};

#[test]
fn the_backoff_grows_with_jitter_and_the_networks_return_resets_it() {
    let mut rig = Rig::new();
    rig.input(Input::Network(true));
    let mut longest = 0;
    for _ in 0..12 {
        rig.input(Input::Disconnected(Lost::Closed));
        longest = longest.max(rig.wait_for_wake());
    }
    assert_eq!(rig.connects.len(), 13);
    assert!(longest > 2_000 && longest <= 30_000, "{longest}");
    rig.input(Input::Disconnected(Lost::Closed));
    rig.input(Input::Network(true));
    assert_eq!(rig.connects.len(), 14, "the network's return connects at once");
    rig.input(Input::Disconnected(Lost::Closed));
    assert!(rig.wait_for_wake() <= 500, "and the backoff begins anew");
}

#[test]
fn who_is_replaced_does_not_fight_for_the_place() {
    let mut rig = Rig::online();
    let mut waits = Vec::new();
    for n in 1..=8 {
        rig.hears(&json!({"type": "replaced", "message": "a newer connection of this device"}));
        assert_eq!((rig.hung_up, rig.engine().connection()), (n, Connection::Replaced));
        waits.push(rig.wait_for_wake());
        rig.input(Input::Connected);
        rig.answer_list(&json!([]));
    }
    assert!((30_000..=60_000).contains(&waits[0]), "{waits:?}");
    assert!(waits.iter().zip(1..).all(|(wait, n)| *wait >= 30_000 << (n - 1).min(4)), "{waits:?}");
    assert!((900_000..=1_800_000).contains(&waits[7]), "{waits:?}");

    rig.hears(&json!({"type": "replaced", "message": "a newer connection of this device"}));
    let connects = rig.connects.len();
    rig.input(Input::Foreground);
    assert_eq!(rig.connects.len(), connects + 1, "a person looks at it: this is the one to be connected");
    rig.input(Input::Connected);
    rig.hears(&json!({"type": "replaced", "message": "a newer connection of this device"}));
    assert!(rig.wait_for_wake() <= 60_000, "and the waits begin anew");
}

#[test]
fn a_handshake_that_hangs_is_given_up() {
    let mut rig = Rig::new();
    rig.input(Input::Network(true));
    assert_eq!(rig.wait_for_wake(), 15_000);
    assert_eq!(rig.hung_up, 1);
    rig.wait_for_wake();
    assert_eq!(rig.connects.len(), 2);
}

#[test]
fn a_request_that_is_not_answered_in_time_closes_the_connection() {
    let mut rig = Rig::online();
    rig.write("bob", "hello?");
    let frame = rig.next("send");
    assert_eq!(rig.wait_for_wake(), 10_000);
    assert_eq!(rig.hung_up, 1);
    assert_eq!(rig.engine().connection(), Connection::Waiting);
    rig.accept(&frame, &[1]);
    assert_eq!(rig.list("bob"), list_of(&[("hello?", State::Pending)]), "the old connection is not listened to");
    rig.wait_for_wake();
    rig.input(Input::Connected);
    assert!(rig.has_sent("send"));
}

#[test]
fn idle_it_does_nothing_but_keep_alive_and_renew() {
    let mut rig = Rig::online();
    let mut hellos = 0;
    let began = rig.now.mono;
    while rig.hung_up == 0 {
        rig.wait_for_wake();
        if rig.has_sent("hello") {
            let hello = rig.next("hello");
            rig.hears(&json!({"type": "welcome", "ref": hello["ref"], "user": "alice", "device": "phone", "now": 1}));
            hellos += 1;
        }
        assert!(rig.sent.is_empty(), "nothing else is sent: {:?}", rig.sent);
    }
    let minutes = (rig.now.mono - began) / 60_000;
    assert!((90..=110).contains(&minutes), "renewed after {minutes} minutes");
    assert!((17..=22).contains(&hellos), "{hellos} hellos");
    assert_eq!(rig.connects.len(), 2, "and connected again at once");
}

/// What an idle hour costs a phone: one timer runs, well under the gateway's idle limit of ten minutes. A message that
/// was refused, and one that it holds back, cost nothing while they wait for a person.
#[test]
fn an_idle_hour_costs_twelve_wake_ups_and_as_many_frames_each_way() {
    const HOUR: u64 = 3_600_000;
    let mut rig = Rig::online();
    rig.deliver("carol", &json!([cell(1, "carol", "laptop", 1, &["hello"])]));
    let mark = rig.mark_within(1_250);
    rig.hears(&json!({"type": "marked", "ref": mark["ref"], "results": [{"conversation": with("carol")}]}));
    rig.write("bob", "refused");
    let frame = rig.next("send");
    rig.write("bob", "held back");
    rig.refuse(&frame, &json!({"code": "not_member", "message": "", "retryable": false}));

    let (before, end) = (rig.engine().counters(), rig.now.mono + HOUR);
    let mut wakes = 0;
    while rig.engine().next_wake().is_some_and(|wake| wake <= end) {
        rig.wait_for_wake();
        wakes += 1;
        let hello = rig.next("hello");
        rig.hears(&json!({"type": "welcome", "ref": hello["ref"], "user": "alice", "device": "phone", "now": 1}));
        assert!(rig.sent.is_empty(), "nothing else is sent: {:?}", rig.sent);
    }
    let after = rig.engine().counters();
    let (sent, received) = (after.frames_sent - before.frames_sent, after.frames_received - before.frames_received);
    println!("an idle hour: {wakes} wake-ups, {sent} frames sent, {received} received");
    assert_eq!((wakes, sent, received), (12, 12, 12));
    assert!(rig.tuning.keep_alive <= 10 * 60_000 / 2);
}

#[test]
fn a_refused_token_is_replaced_and_if_that_is_refused_it_is_said() {
    let mut rig = Rig::new();
    rig.write("bob", "safe");
    rig.input(Input::Network(true));
    rig.input(Input::Disconnected(Lost::Unauthorized));
    assert_eq!(rig.connects, [false, true], "a fresh one at once");
    rig.input(Input::Disconnected(Lost::Unauthorized));
    assert_eq!(rig.engine().connection(), Connection::SignInRefused);
    assert!(rig.events.contains(&Event::Connection { state: Connection::SignInRefused }));
    rig.wait_for_wake();
    assert_eq!(rig.connects, [false, true, true]);
    assert_eq!(rig.list("bob"), list_of(&[("safe", State::Pending)]));
    rig.input(Input::Connected);
    assert_eq!(rig.engine().connection(), Connection::Online);
    assert!(rig.has_sent("send"));
}

#[test]
fn no_token_is_no_reason_to_fail_either() {
    let mut rig = Rig::new();
    rig.write("bob", "safe");
    rig.input(Input::Network(true));
    rig.input(Input::Disconnected(Lost::SignIn));
    assert_eq!(rig.engine().connection(), Connection::SignInRefused);
    assert_eq!(rig.list("bob"), list_of(&[("safe", State::Pending)]));
}

#[test]
fn in_the_tunnel_nothing_is_tried_and_nothing_is_lost() {
    let mut rig = Rig::online();
    rig.input(Input::Network(false));
    assert_eq!((rig.hung_up, rig.engine().connection()), (1, Connection::Off));
    assert_eq!(rig.engine().next_wake(), None, "no timer runs");
    rig.write("bob", "in the dark");
    rig.input(Input::Disconnected(Lost::Closed));
    assert_eq!(rig.connects.len(), 1);
    rig.connect();
    assert!(rig.has_sent("send"));
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut rig = Rig::new();
        rig.input(Input::Network(true));
        let mut waits = Vec::new();
        for _ in 0..5 {
            rig.input(Input::Disconnected(Lost::Closed));
            waits.push(rig.wait_for_wake());
        }
        let id = rig.write("bob", "x").id;
        (waits, id)
    };
    assert_eq!(run(), run());
}

/// O8: what the server says of coming back spreads those at which nobody looks.
#[test]
fn lost_connections_come_back_spread_unless_a_person_looks() {
    let waits = |person: bool, spread: u64| {
        let mut waits = Vec::new();
        let mut rig = Rig::new();
        if person {
            rig.input(Input::Foreground);
        }
        rig.connect();
        for _ in 0..20 {
            let list = rig.next("list");
            rig.hears(&json!({"type": "list", "ref": list["ref"], "conversations": [], "spread_ms": spread}));
            rig.input(Input::Disconnected(Lost::Closed));
            waits.push(rig.wait_for_wake());
            rig.input(Input::Connected);
        }
        waits.sort_unstable();
        waits
    };
    let spread = waits(false, 60_000);
    assert!(spread[0] < 15_000 && spread[19] > 30_000 && spread[19] <= 60_500, "{spread:?}");
    assert!(waits(true, 60_000)[19] <= 500, "a person waits for nobody");
    assert!(waits(false, 0)[19] <= 500);
    assert!(waits(false, u64::MAX)[19] <= 300_500, "whatever the server says");
}

/// O8: in a storm the gateway refuses what reads, and cannot say what it refused. What is sent goes again soon, each time.
#[test]
fn refused_reading_does_not_hold_sending_up() {
    let mut rig = Rig::new();
    rig.connect();
    rig.write("bob", "through the storm");
    for round in 1..=4 {
        assert!(rig.has_sent("list") && rig.has_sent("send"), "both are under way");
        rig.sent.clear();
        rig.hears(&json!({"message": "Internal server error", "connectionId": "c", "requestId": "r"}));
        let mut waited = 0;
        while !rig.has_sent("send") {
            waited += rig.wait_for_wake();
        }
        assert!(waited <= 500, "{waited} ms in round {round}");
        while !rig.has_sent("list") {
            rig.wait_for_wake();
        }
    }
    assert_eq!(rig.engine().counters().refused, 4);
}
