//! O2: the list comes before history. What it says shows at once, and gives way to what is here.

use poste_protocol::MessageId;
use serde_json::{Value, json};

use super::{Rig, cell, with};
use crate::engine::{Input, Lost};
use crate::{Conversation, Event};

/// A conversation with so many numbers, of which bob's last message is shown.
fn told(peer: &str, head: u64, unread: u64, last: &str) -> Value {
    json!({"conversation": with(peer), "peer": peer, "head": head, "active_at": 1_000 + head, "unread": unread,
        "last": {"seq": head, "by": {"user": peer, "device": "laptop"}, "at": 1_000 + head,
            "message": {"id": MessageId::fresh(), "body": last}}})
}

fn shown(rig: &mut Rig) -> Vec<(String, u64, Option<String>)> {
    let of = |known: Conversation| {
        let peer = known.peer.expect("a peer").to_string();
        (peer, known.unread, known.preview.map(|preview| preview.body))
    };
    let tx = rig.engine().read().expect("the store reads");
    tx.conversations().expect("the store reads").into_iter().map(of).collect()
}

fn row(peer: &str, unread: u64, last: Option<&str>) -> (String, u64, Option<String>) {
    (peer.to_owned(), unread, last.map(str::to_owned))
}

/// One round trip, and there is a list to look at: the newest first, each with how much is unread and the last message.
#[test]
fn a_fresh_device_shows_the_list_before_a_page_is_here() {
    let mut rig = Rig::lazy();
    let list = rig.next("list");
    assert_eq!((&list["previews"], &list["frames"]), (&json!(50), &json!(16)));
    let frame = |rig: &mut Rig, of: &[Value], before: u64, follows: bool| {
        let ends =
            json!({"type": "list", "ref": list["ref"], "conversations": of, "before": before, "follows": follows});
        rig.hears(&ends);
    };
    frame(&mut rig, &[told("carol", 9, 3, "at nine?")], 0, true);
    assert_eq!(shown(&mut rig), [row("carol", 3, Some("at nine?"))]);
    assert!(rig.list("carol").is_empty(), "a preview is no message of the history");
    assert!(
        matches!(&rig.events[..], [Event::Connection { .. }, .., Event::Conversation { conversation }]
        if conversation.preview.is_some()),
        "{:?}",
        rig.events
    );
    frame(&mut rig, &[told("bob", 4, 4, "hello")], 1, false);
    assert_eq!(shown(&mut rig), [row("carol", 3, Some("at nine?")), row("bob", 4, Some("hello"))]);
    assert!(!rig.has_sent("list"));

    // The pages come: what is here counts.
    let fetch = rig.next("fetch");
    let page = [cell(8, "carol", "laptop", 1, &["or"]), cell(9, "carol", "laptop", 2, &["at nine?"])];
    rig.hears(&json!({"type": "page", "ref": fetch["ref"], "conversation": with("carol"), "after": 7, "through": 9,
        "cells": page, "head": 9, "more": true}));
    assert_eq!(shown(&mut rig)[0], row("carol", 3, None), "two of the three are here, and the third is on the server");
    rig.deliver("carol", &json!([cell(10, "carol", "laptop", 3, &["well?"])]));
    assert_eq!(shown(&mut rig)[0], row("carol", 4, None));
    let now = rig.now;
    let ((), outputs) = rig.engine().mark_read(now, &with("carol"), super::seq(9)).expect("it is known");
    rig.take(outputs);
    assert_eq!(shown(&mut rig)[0], row("carol", 1, None));
}

/// Frames may come in another order than they were sent in, or after the last one.
#[test]
fn the_list_is_here_when_all_its_frames_are() {
    let mut rig = Rig::lazy();
    let list = rig.next("list");
    let next = json!({"active_at": 1_004, "conversation": with("bob")});
    rig.hears(&json!({"type": "list", "ref": list["ref"], "conversations": [told("bob", 4, 4, "b")], "before": 1,
        "next": next}));
    assert!(!rig.has_sent("list"), "one is still on its way");
    rig.hears(
        &json!({"type": "list", "ref": list["ref"], "conversations": [told("carol", 9, 3, "c")], "follows": true}),
    );
    let more = rig.next("list");
    assert_eq!((&more["after"], more.get("previews")), (&next, None));
    // One that never comes is as an answer that never comes: the connection is given up.
    rig.hears(&json!({"type": "list", "ref": more["ref"], "conversations": [], "before": 1}));
    let hung_up = rig.hung_up;
    rig.wait(rig.tuning.request_deadline);
    assert_eq!(rig.hung_up, hung_up + 1);
}

/// A device that has pages has something to show: it asks for no previews, and keeps none.
#[test]
fn a_device_with_pages_asks_for_no_previews() {
    let mut rig = Rig::lazy();
    rig.answer_list(&json!([told("bob", 1, 1, "hi")]));
    let fetch = rig.next("fetch");
    rig.hears(&json!({"type": "page", "ref": fetch["ref"], "conversation": with("bob"), "after": 0, "through": 1,
        "cells": [cell(1, "bob", "laptop", 1, &["hi"])], "head": 1, "more": false}));
    rig.input(Input::Disconnected(Lost::Closed));
    rig.wait_for_wake();
    rig.input(Input::Connected);
    assert_eq!(rig.next("list").get("previews"), None);
    assert_eq!(shown(&mut rig), [row("bob", 1, None)]);
}

/// What was deleted before the pages came is not shown; nor is what retention has taken.
#[test]
fn a_preview_is_as_the_last_list_says() {
    let mut rig = Rig::lazy();
    rig.answer_list(&json!([told("bob", 3, 3, "oops"), told("carol", 3, 3, "old")]));
    rig.input(Input::Disconnected(Lost::Closed));
    rig.wait_for_wake();
    rig.input(Input::Connected);
    let mut deleted = told("bob", 4, 4, "");
    deleted["last"]["seq"] = json!(3);
    deleted["last"]["message"]["deleted"] = json!(true);
    rig.answer_list(&json!([deleted, {"conversation": with("carol"), "peer": "carol", "head": 3, "floor": 3,
        "active_at": 1_003}]));
    let tx = rig.engine().read().expect("the store reads");
    let known = tx.conversations().expect("the store reads");
    let preview = known[0].preview.as_ref().expect("one");
    assert_eq!((preview.deleted, preview.body.as_str(), known[0].unread), (true, "", 4));
    assert_eq!((&known[1].preview, known[1].unread), (&None, 0));
}
