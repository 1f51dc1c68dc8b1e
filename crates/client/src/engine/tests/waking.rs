//! P2, P3: where the device can be woken, what woke it, and what nobody is woken for.

use poste_protocol::{Platform, ProviderToken, PushId, PushStatus, PushStyle, PushToken, WokenBy};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Lost, Rig, cell, seq, with};
use crate::engine::Input;
use crate::{Conversation, Error, Event};

fn token(text: &str) -> PushToken {
    let token = ProviderToken::new(text).expect("a valid token");
    PushToken { platform: Platform::Fcm, token, style: PushStyle::Alert }
}

fn set_push(rig: &mut Rig, token: Option<&PushToken>) {
    let now = rig.now;
    let ((), outputs) = rig.engine().set_push(now, token).expect("the store works");
    rig.take(outputs);
}

fn mute(rig: &mut Rig, until: Option<u64>) {
    let now = rig.now;
    let ((), outputs) = rig.engine().mute(now, &with("bob"), until).expect("the conversation is known");
    rig.take(outputs);
}

fn answer(rig: &mut Rig, push: &Value, status: &str) {
    rig.hears(&json!({"type": "push", "ref": push["ref"], "status": status}));
}

fn welcome(rig: &mut Rig, hello: &Value, status: &str) {
    rig.hears(&json!({"type": "welcome", "ref": hello["ref"], "user": "alice", "device": "phone", "now": 1,
        "push": status}));
}

/// Registered, by a frame of the first connection.
fn registered() -> Rig {
    let mut rig = Rig::online();
    set_push(&mut rig, Some(&token("one")));
    let push = rig.next("push");
    answer(&mut rig, &push, "registered");
    rig.events.clear();
    rig
}

fn reconnect(rig: &mut Rig) {
    rig.input(Input::Disconnected(Lost::Closed));
    rig.wait_for_wake();
    rig.input(Input::Connected);
}

fn conversation(rig: &mut Rig) -> Conversation {
    rig.engine().read().unwrap().conversation_view(&with("bob")).unwrap().unwrap()
}

#[test]
fn a_token_is_told_once_whatever_becomes_of_the_connection_and_the_process() {
    let mut rig = Rig::new();
    set_push(&mut rig, Some(&token("one")));
    rig.restart();
    rig.connect();
    let push = rig.next("push");
    assert_eq!(push["token"], json!({"platform": "fcm", "token": "one"}));
    reconnect(&mut rig);
    let push = rig.next("push");
    answer(&mut rig, &push, "registered");
    assert!(rig.events.contains(&Event::Push { status: PushStatus::Registered }));
    // The same at every start is nothing new.
    rig.restart();
    rig.connect();
    set_push(&mut rig, Some(&token("one")));
    assert!(!rig.has_sent("push"));
    assert_eq!(rig.next("hello")["push"], true);
}

#[test]
fn another_token_takes_its_place_also_while_the_first_is_on_its_way() {
    let mut rig = Rig::online();
    set_push(&mut rig, Some(&token("one")));
    set_push(&mut rig, Some(&token("two")));
    let push = rig.next("push");
    assert!(!rig.has_sent("push"), "one at a time");
    answer(&mut rig, &push, "registered");
    let push = rig.next("push");
    assert_eq!(push["token"]["token"], "two");
    answer(&mut rig, &push, "registered");
    set_push(&mut rig, None);
    let push = rig.next("push");
    assert_eq!(push["token"], Value::Null);
    answer(&mut rig, &push, "none");
    reconnect(&mut rig);
    assert!(!rig.has_sent("push") && !rig.has_sent("hello"), "who is not woken says nothing");
}

#[test]
fn a_dead_token_is_asked_for_anew_and_the_same_one_is_sent_again_if_it_is_all_there_is() {
    let mut rig = registered();
    reconnect(&mut rig);
    let hello = rig.next("hello");
    welcome(&mut rig, &hello, "renew");
    assert_eq!(rig.events.last(), Some(&Event::Push { status: PushStatus::Renew }));
    assert_eq!(rig.engine().read().unwrap().waking().unwrap().status, Some(PushStatus::Renew));
    assert!(!rig.has_sent("push"), "that is for the application to do");
    set_push(&mut rig, Some(&token("one")));
    assert_eq!(rig.next("push")["token"]["token"], "one");
}

#[test]
fn what_woke_it_is_told_once() {
    let mut rig = registered();
    let by = WokenBy { conversation: with("bob"), seq: Some(seq(7)), push: Some(PushId(Uuid::from_u128(5))) };
    rig.restart();
    let now = rig.now;
    let ((), outputs) = rig.engine().woken(now, &by).unwrap();
    rig.take(outputs);
    rig.restart();
    rig.connect();
    let hello = rig.next("hello");
    assert_eq!(hello["woken_by"], serde_json::to_value(&by).unwrap());
    reconnect(&mut rig);
    let hello = rig.next("hello");
    assert_eq!(hello["woken_by"], serde_json::to_value(&by).unwrap(), "not answered, so not told");
    welcome(&mut rig, &hello, "registered");
    reconnect(&mut rig);
    assert_eq!(rig.next("hello").get("woken_by"), None);
}

#[test]
fn a_mute_is_shown_at_once_and_told_until_it_is_confirmed() {
    let mut rig = Rig::new();
    let (now, id) = (rig.now, with("bob"));
    assert!(matches!(rig.engine().mute(now, &id, Some(9_000)), Err(Error::UnknownConversation)));
    rig.write("bob", "hello");
    mute(&mut rig, Some(9_000));
    assert_eq!(conversation(&mut rig).muted_until, Some(9_000));
    rig.connect();
    assert!(!rig.has_sent("mute"), "the server does not know the conversation yet");
    let send = rig.next("send");
    rig.accept(&send, &[1]);
    let told = rig.next("mute");
    assert_eq!((&told["conversation"], &told["until"]), (&json!(with("bob")), &json!(9_000)));
    reconnect(&mut rig);
    let told = rig.next("mute");
    mute(&mut rig, None);
    rig.hears(&json!({"type": "muted", "ref": told["ref"], "conversation": with("bob")}));
    let told = rig.next("mute");
    assert_eq!(told.get("until"), None, "taken back meanwhile");
    rig.hears(&json!({"type": "muted", "ref": told["ref"], "conversation": with("bob")}));
    reconnect(&mut rig);
    assert!(!rig.has_sent("mute"));
    assert_eq!(conversation(&mut rig).muted_until, None);
}

#[test]
fn a_refusal_waits_if_that_can_help_and_ends_it_if_not() {
    let mut rig = Rig::online();
    rig.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["a"])]));
    set_push(&mut rig, Some(&token("one")));
    mute(&mut rig, Some(9_000));
    let push = rig.next("push");
    rig.hears(&json!({"type": "error", "ref": push["ref"], "code": "busy", "message": "", "retryable": true,
        "retry_after_ms": 1000}));
    assert!(!rig.has_sent("push"));
    rig.wait(1_500);
    let push = rig.next("push");
    // A server that is older than the library.
    rig.hears(&json!({"type": "error", "ref": push["ref"], "code": "unknown_action", "message": "",
        "retryable": false}));
    assert!(rig.events.contains(&Event::Push { status: PushStatus::Off }));
    let told = rig.next("mute");
    rig.hears(&json!({"type": "error", "ref": told["ref"], "code": "not_member", "message": "",
        "retryable": false}));
    rig.wait(60_000);
    assert!(!rig.has_sent("push") && !rig.has_sent("mute"));
}
