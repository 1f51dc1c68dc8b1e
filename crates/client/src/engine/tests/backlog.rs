//! O9: what waits, and for how long, can be read.

use serde_json::json;

use super::{Rig, with};
use crate::Backlog;
use crate::engine::Input;

fn backlog(rig: &mut Rig) -> Backlog {
    let now = rig.now;
    rig.engine().backlog(now).expect("the store reads")
}

#[test]
fn what_waits_is_counted_and_the_oldest_has_an_age() {
    let mut rig = Rig::online();
    assert_eq!(backlog(&mut rig), Backlog::default());
    rig.input(Input::Network(false));
    rig.write("bob", "first");
    rig.wait(60_000);
    rig.write("bob", "second");
    rig.write("carol", "third");
    rig.wait(1_000);
    let waits = Backlog { waiting: 3, oldest_ms: Some(61_000), ..Backlog::default() };
    assert_eq!(backlog(&mut rig), waits);
    // A clock that was set, and a restart, change nothing.
    rig.now.wall += 40 * 24 * 3_600_000;
    rig.restart();
    assert_eq!(backlog(&mut rig), waits);

    rig.connect();
    rig.answer_list(&json!([]));
    let sent = rig.next("send");
    let refused = json!({"code": "not_member", "message": "no", "retryable": false});
    let verdicts: Vec<_> = super::submissions(&sent)
        .iter()
        .map(|s| {
            let id = &s["envelope"]["id"];
            if s["envelope"]["to"] == "carol" {
                return json!({"envelope": id, "outcome": "refused", "error": refused});
            }
            json!({"envelope": id, "outcome": "accepted", "seq": 1, "at": 5000, "repeat": false})
        })
        .collect();
    rig.hears(&json!({"type": "sent", "ref": sent["ref"], "verdicts": verdicts}));
    assert_eq!(backlog(&mut rig), Backlog { failed: 1, ..Backlog::default() }, "what failed waits for a person");
}

#[test]
fn what_is_on_the_server_and_not_here_is_counted() {
    let mut rig = Rig::lazy();
    let summary =
        |peer: &str, head: u64| json!({"conversation": with(peer), "peer": peer, "head": head, "active_at": 1});
    rig.answer_list(&json!([summary("bob", 7), summary("carol", 5)]));
    assert_eq!(backlog(&mut rig), Backlog { behind: 12, behind_in: 2, ..Backlog::default() });
    let fetch = rig.next("fetch");
    let head = if fetch["conversation"] == json!(with("bob")) { 7 } else { 5 };
    rig.hears(&json!({"type": "page", "ref": fetch["ref"], "conversation": fetch["conversation"], "after": 0,
        "through": head, "cells": [], "head": head, "more": false}));
    assert_eq!(backlog(&mut rig).behind_in, 1);
}
