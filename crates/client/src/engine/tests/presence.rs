//! Presence and typing: leases on both sides, and nothing that outlives them.

use serde_json::{Value, json};

use super::{Lost, Rig, cell, user, with};
use crate::engine::Input;
use crate::{Connection, Event};

/// The server's clock when the tests begin. The device's clocks say something else.
const SERVER: u64 = 1_790_000_000_000;

/// What the application was told of presence and typing, as text.
fn told(rig: &mut Rig) -> Vec<String> {
    let word = |on: bool, yes: &str, no: &str| if on { yes.to_owned() } else { no.to_owned() };
    std::mem::take(&mut rig.events)
        .into_iter()
        .filter_map(|event| match event {
            Event::Presence { seen } => Some(format!("{} {}", seen.user, word(seen.online, "is here", "is gone"))),
            Event::Typing { user, typing, .. } => Some(format!("{user} {}", word(typing, "writes", "stops"))),
            _ => None,
        })
        .collect()
}

fn watching(rig: &mut Rig, now: u64, users: &Value) -> Value {
    let watch = rig.next("watch");
    rig.hears(&json!({"type": "watching", "ref": watch["ref"], "now": now, "renew_ms": 50_000, "users": users}));
    watch
}

/// A person looks: the connection is tried, and lives.
fn look(rig: &mut Rig) {
    rig.input(Input::Foreground);
    let hello = rig.next("hello");
    rig.hears(&json!({"type": "welcome", "ref": hello["ref"], "user": "alice", "device": "phone", "now": SERVER}));
}

/// In front, with bob's conversation on the screen; bob is here for two minutes.
fn looking() -> Rig {
    let mut rig = Rig::online();
    rig.input(Input::Watch(vec![with("bob")]));
    assert!(!rig.has_sent("watch"), "nobody looks at the application");
    look(&mut rig);
    let watch = watching(&mut rig, SERVER, &json!([{"user": "bob", "until": SERVER + 120_000, "seen": SERVER}]));
    assert_eq!(watch["conversations"], json!([with("bob")]));
    assert_eq!(told(&mut rig), ["bob is here"]);
    rig
}

fn typing(rig: &mut Rig, now: u64) {
    rig.hears(&json!({"type": "typing", "now": now, "conversation": with("bob"), "user": "bob"}));
}

#[test]
fn a_lease_is_renewed_while_a_person_looks_and_given_up_when_nobody_does() {
    let mut rig = looking();
    let mut passed = 0;
    for n in 1..=6 {
        passed += rig.wait_for_wake();
        let now = SERVER + passed;
        watching(&mut rig, now, &json!([{"user": "bob", "until": now + 120_000, "seen": now}]));
        assert!((45_000 * n..=50_000 * n).contains(&passed), "{passed}");
    }
    assert!(told(&mut rig).is_empty(), "nothing has changed");
    rig.input(Input::Background);
    rig.next("away");
    assert_eq!(told(&mut rig), ["bob is gone"], "who hides sees nobody");
    rig.input(Input::Background);
    assert!(!rig.has_sent("away"), "once");
}

#[test]
fn in_the_background_and_hidden_nothing_is_sent_and_nothing_wakes_the_device() {
    for input in [Input::Background, Input::Visible(false)] {
        let mut rig = looking();
        rig.input(input);
        rig.sent.clear();
        let news = json!([{"user": "bob", "until": SERVER + 120_000, "seen": SERVER}]);
        rig.hears(&json!({"type": "presence", "now": SERVER, "users": news}));
        typing(&mut rig, SERVER);
        rig.input(Input::Typing(with("bob")));
        rig.input(Input::Watch(vec![with("carol")]));
        assert!(rig.sent.is_empty(), "{:?}", rig.sent);
        assert!(told(&mut rig).len() == 1, "only that bob is not seen any more");
        assert_eq!(rig.wait_for_wake(), 300_000, "the keep-alive, and nothing before it");
        rig.next("hello");
    }
}

#[test]
fn who_is_not_told_anew_is_gone_when_the_lease_is_over() {
    let mut rig = looking();
    // The function of presence does not answer any more; the connection lives.
    let mut passed = 0;
    while told(&mut rig).is_empty() {
        passed += rig.wait_for_wake();
    }
    assert_eq!(passed, 120_000);
    assert_eq!((rig.hung_up, rig.engine().connection()), (0, Connection::Online));
    assert!(!rig.engine().seen()[0].online);
}

#[test]
fn trouble_with_presence_is_trouble_with_nothing_else() {
    let mut rig = Rig::online();
    look(&mut rig);
    for code in ["unavailable", "busy"] {
        let watch = rig.next("watch");
        rig.hears(&json!({"type": "error", "ref": watch["ref"], "code": code, "message": "", "retryable": true}));
        assert!(rig.wait_for_wake() >= 5_000);
    }
    let watch = rig.next("watch");
    let unknown =
        json!({"type": "error", "ref": watch["ref"], "code": "unknown_action", "message": "", "retryable": false});
    rig.hears(&unknown);
    rig.write("bob", "hello?");
    let frame = rig.next("send");
    rig.accept(&frame, &[1]);
    assert!(rig.wait_for_wake() > 250_000, "an older server is not asked again");
    assert!(!rig.has_sent("watch"));
    assert_eq!(rig.hung_up, 0);
}

#[test]
fn of_two_statements_the_later_counts_and_a_late_one_says_nothing_that_is_over() {
    let mut rig = looking();
    let news = |now: u64, until: Option<u64>| json!({"type": "presence", "now": now, "users": [{"user": "bob", "until": until, "seen": now}]});
    rig.hears(&news(SERVER + 9_000, None));
    assert_eq!(told(&mut rig), ["bob is gone"]);
    rig.hears(&news(SERVER + 8_000, Some(SERVER + 128_000)));
    assert!(told(&mut rig).is_empty(), "bob came before he went");
    rig.hears(&news(SERVER + 10_000, Some(SERVER + 130_000)));
    assert_eq!(told(&mut rig), ["bob is here"]);
    let carol = json!({"type": "presence", "now": SERVER, "users": [{"user": "carol", "until": SERVER + 9_000}]});
    rig.hears(&carol);
    assert_eq!(told(&mut rig), ["carol is gone"], "the frame was on its way for too long");
}

#[test]
fn what_is_on_the_screen_is_asked_for_but_not_what_is_scrolled_by() {
    let mut rig = looking();
    for name in ["carol", "dave", "erin"] {
        rig.input(Input::Watch(vec![with(name)]));
    }
    assert!(!rig.has_sent("watch"), "at most once a second");
    assert_eq!(rig.wait_for_wake(), 1_000);
    let watch = watching(&mut rig, SERVER + 1_000, &json!([{"user": "erin"}]));
    assert_eq!(watch["conversations"], json!([with("erin")]));
    assert_eq!(
        told(&mut rig),
        ["erin is gone", "bob is gone"].map(str::to_owned).into_iter().rev().collect::<Vec<_>>()
    );
    rig.input(Input::Watch(vec![with("erin")]));
    assert!(rig.wait_for_wake() > 40_000, "nothing has changed");
}

#[test]
fn writing_is_told_now_and_then_and_ends_by_itself() {
    let mut rig = looking();
    for _ in 0..100 {
        rig.input(Input::Typing(with("bob")));
        rig.wait(100);
    }
    let frames = rig.sent.iter().filter(|frame| frame.contains("typing")).count();
    assert_eq!(frames, 3, "in ten seconds");

    let mut rig = looking();
    typing(&mut rig, SERVER + 100);
    assert_eq!(told(&mut rig), ["bob writes"]);
    assert_eq!(rig.engine().writing(), [(with("bob"), user("bob"))]);
    rig.wait(4_000);
    typing(&mut rig, SERVER + 4_100);
    assert!(told(&mut rig).is_empty());
    rig.wait(5_999);
    assert!(told(&mut rig).is_empty());
    assert_eq!(rig.wait_for_wake(), 1);
    assert_eq!(told(&mut rig), ["bob stops"]);
    typing(&mut rig, SERVER + 4_100);
    assert!(told(&mut rig).is_empty(), "a frame that was doubled, and late");
}

#[test]
fn who_has_written_writes_no_more() {
    let mut rig = looking();
    typing(&mut rig, SERVER + 100);
    let mut message = cell(1, "bob", "phone", 1, &["hi"]);
    message["at"] = json!(SERVER + 300);
    rig.deliver("bob", &json!([message]));
    assert_eq!(told(&mut rig), ["bob writes", "bob stops"]);
    typing(&mut rig, SERVER + 200);
    assert!(told(&mut rig).is_empty(), "said before the message, and heard after it");
    typing(&mut rig, SERVER + 400);
    assert_eq!(told(&mut rig), ["bob writes"]);
}

#[test]
fn a_new_connection_takes_a_lease_of_its_own_after_the_list() {
    let mut rig = looking();
    rig.input(Input::Disconnected(Lost::Closed));
    assert!(told(&mut rig).is_empty(), "what was told holds until it is over");
    rig.wait_for_wake();
    rig.input(Input::Connected);
    assert!(!rig.has_sent("watch"));
    rig.answer_list(&json!([]));
    watching(&mut rig, SERVER + 1_000, &json!([{"user": "bob", "until": SERVER + 121_000}]));
    assert!(told(&mut rig).is_empty());
    rig.input(Input::Network(false));
    rig.next("away");
}
