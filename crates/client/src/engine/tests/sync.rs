//! O1 to O3, C5: the cursor is a contiguous prefix; pages and realtime cells become one list.

use serde_json::json;

use super::{Rig, cell, list_of, own_cell, submissions, with};
use crate::engine::Input;
use crate::{Event, Start, State};

const GOT: State = State::Received;

fn summary(peer: &str, head: u64) -> serde_json::Value {
    json!({"conversation": with(peer), "peer": peer, "head": head, "active_at": head})
}

fn place(peer: &str, active_at: u64) -> serde_json::Value {
    json!({"active_at": active_at, "conversation": with(peer)})
}

#[test]
fn on_connect_the_list_then_whatever_is_missing_a_few_at_a_time() {
    let mut rig = Rig::new();
    rig.connect();
    let list = rig.next("list");
    assert!(list.get("after").is_none());
    let page = json!({"type": "list", "ref": list["ref"], "conversations": [summary("bob", 0), summary("carol", 3)],
        "next": place("carol", 3)});
    rig.hears(&page);
    let list = rig.next("list");
    assert_eq!(list["after"], place("carol", 3));
    let rest: Vec<_> = (0..6).map(|n| summary(&format!("friend{n}"), 10 + n)).collect();
    rig.hears(&json!({"type": "list", "ref": list["ref"], "conversations": rest}));
    let closing = rig.next("list");
    assert!(closing.get("after").is_none(), "who has moved to the front meanwhile was in neither");
    rig.hears(&json!({"type": "list", "ref": closing["ref"], "conversations": [], "next": place("friend0", 10)}));
    assert!(!rig.has_sent("list"));

    let carol = rig.next("fetch");
    assert_eq!((&carol["conversation"], &carol["after"]), (&json!(with("carol")), &json!(0)));
    let asked: Vec<_> = (0..6).map(|_| rig.next("fetch")).collect();
    assert_eq!(asked[0]["conversation"], json!(with("friend5")), "what was active last comes first");
    assert!(
        asked.iter().all(|fetch| fetch["ref"] == asked[0]["ref"] && fetch["ref"] != carol["ref"]),
        "in one request"
    );
    rig.hears(&json!({"type": "delivery", "items": [{"conversation": with("dave"), "cells": [cell(2, "dave", "laptop", 1, &["x"])]}]}));
    rig.wait(1_000);
    assert!(!rig.has_sent("fetch"), "two are under way");
    rig.page(&carol, 3, &json!([]), false);
    assert_eq!(rig.next("fetch")["conversation"], json!(with("dave")));
}

/// O2: what a person looks at, then what they have not read, then the rest; never more than two requests at a time.
#[test]
fn the_open_conversation_comes_first_then_the_unread_ones() {
    let mut rig = Rig::new();
    rig.connect();
    let read = |peer: &str, head: u64| {
        let mut summary = summary(peer, head);
        summary["marks"] = json!([{"user": "alice", "device": "tablet", "delivered": head, "read": head}]);
        summary
    };
    // Two that are read take both places; then everything else comes to be known.
    let mut under_way = Vec::new();
    for busy in ["busy1", "busy2"] {
        let list = rig.next("list");
        let page = [read(busy, 1000)];
        rig.hears(&json!({"type": "list", "ref": list["ref"], "conversations": page, "next": place(busy, 1000)}));
        under_way.push(rig.next("fetch"));
    }
    let list = rig.next("list");
    let rest = json!([
        read("old", 30),
        summary("unread", 20),
        summary("unread2", 40),
        summary("shown", 10),
        read("recent", 90)
    ]);
    rig.hears(&json!({"type": "list", "ref": list["ref"], "conversations": rest}));
    rig.input(Input::Open(Some(with("shown"))));
    assert!(!rig.has_sent("fetch"));
    rig.page(&under_way[0], 1000, &json!([]), false);
    let asked = [(); 5].map(|()| rig.next("fetch")["conversation"].clone());
    assert_eq!(asked, ["shown", "unread2", "unread", "recent", "old"].map(|peer| json!(with(peer))));
    rig.page(&under_way[1], 1000, &json!([]), false);
    assert!(!rig.has_sent("fetch"));
}

/// O2, O3: one request brings page after page; what is cut off goes on where it was, and what did not fit comes next.
#[test]
fn pages_of_a_request_follow_each_other_and_what_did_not_fit_is_asked_for_again() {
    let mut rig = Rig::new();
    rig.connect();
    rig.answer_list(&json!([summary("bob", 5), summary("carol", 4), summary("dave", 3), summary("eve", 2)]));
    let asked = [(); 4].map(|()| rig.next("fetch"));
    let page = |peer: &str, after: u64, more: bool| {
        let cells = json!([cell(after + 1, peer, "laptop", after + 1, &["x"])]);
        json!({"conversation": with(peer), "after": after, "through": after + 1, "cells": cells, "head": 5, "more": more})
    };
    let hears = |rig: &mut Rig, pages: &[serde_json::Value], follows: bool| {
        rig.input(Input::Frame(
            json!({"type": "pages", "ref": asked[0]["ref"], "pages": pages, "follows": follows,
                "refused": [{"conversation": with("eve"), "error": {"code": "unavailable", "message": "", "retryable": true, "retry_after_ms": 5000}}]})
            .to_string(),
        ));
    };
    hears(&mut rig, &[page("bob", 0, true), page("bob", 1, true)], true);
    assert_eq!(rig.cursor("bob"), 2, "each is stored when it comes");
    assert!(!rig.has_sent("fetch"), "the request goes on");
    // A realtime cell comes in between: the page that has it already is no worse for it.
    rig.deliver("bob", &json!([cell(3, "bob", "laptop", 3, &["x"])]));
    hears(&mut rig, &[page("bob", 2, true), page("carol", 0, false)], false);
    assert_eq!((rig.cursor("bob"), rig.cursor("carol")), (3, 1));
    let again = [(); 2].map(|()| rig.next("fetch"));
    let asked_again = again.each_ref().map(|fetch| (fetch["conversation"].clone(), fetch["after"].clone()));
    assert_eq!(asked_again, [(json!(with("bob")), json!(3)), (json!(with("dave")), json!(0))]);
    assert!(!rig.has_sent("fetch"), "the one that was refused waits as it was told");

    // The connection is lost in the middle: it goes on at the page.
    rig.input(Input::Disconnected(super::Lost::Closed));
    rig.wait_for_wake();
    rig.input(Input::Connected);
    rig.answer_list(&json!([summary("bob", 5)]));
    assert_eq!(rig.next("fetch")["after"], 3);
}

/// A server that says that more follows, and goes on without end, is not listened to for ever.
#[test]
fn a_request_is_over_with_the_last_frame_that_was_asked_for() {
    let mut rig = Rig::new();
    rig.connect();
    rig.answer_list(&json!([summary("bob", 500)]));
    let first = rig.next("fetch");
    for after in 0..8 {
        assert!(!rig.has_sent("fetch"));
        let cells = json!([cell(after + 1, "bob", "laptop", after + 1, &["x"])]);
        let page = json!({"conversation": with("bob"), "after": after, "through": after + 1, "cells": cells,
            "head": 500, "more": true});
        let frame = json!({"type": "pages", "ref": first["ref"], "pages": [page], "follows": true});
        rig.input(Input::Frame(frame.to_string()));
    }
    assert_eq!(rig.next("fetch")["after"], 8);
}

/// An answer with nothing in it is not asked for in a circle.
#[test]
fn an_empty_answer_is_asked_for_again_after_a_wait() {
    let mut rig = Rig::new();
    rig.connect();
    rig.answer_list(&json!([summary("bob", 5)]));
    let first = rig.next("fetch");
    rig.input(Input::Frame(json!({"type": "pages", "ref": first["ref"], "pages": []}).to_string()));
    assert!(!rig.has_sent("fetch"));
    rig.wait_for_wake();
    assert_eq!(rig.next("fetch")["after"], 0);
}

#[test]
fn pages_follow_each_other_and_each_is_kept() {
    let mut rig = Rig::new();
    rig.connect();
    rig.answer_list(&json!([summary("bob", 5)]));
    let fetch = rig.next("fetch");
    rig.page(&fetch, 3, &json!([cell(1, "bob", "laptop", 1, &["a", "b"]), cell(3, "bob", "laptop", 2, &["c"])]), true);
    assert_eq!(rig.cursor("bob"), 3);
    let fetch = rig.next("fetch");
    assert_eq!(fetch["after"], 3);

    // The second page is lost; what arrived is kept, and is not asked for again.
    rig.input(Input::Disconnected(super::Lost::Closed));
    rig.wait_for_wake();
    rig.input(Input::Connected);
    rig.answer_list(&json!([summary("bob", 5)]));
    let fetch = rig.next("fetch");
    assert_eq!(fetch["after"], 3);
    // Number 4 was never used: a page steps over it.
    rig.page(&fetch, 5, &json!([cell(5, "bob", "laptop", 3, &["d"])]), false);
    assert_eq!(rig.cursor("bob"), 5);
    assert_eq!(rig.list("bob"), list_of(&[("a", GOT), ("b", GOT), ("c", GOT), ("d", GOT)]));
    assert!(!rig.has_sent("fetch"));
}

#[test]
fn a_page_that_ends_before_something_still_being_written_is_continued_when_told() {
    let mut rig = Rig::new();
    rig.connect();
    rig.answer_list(&json!([summary("bob", 2)]));
    let fetch = rig.next("fetch");
    rig.hears(&json!({"type": "page", "ref": fetch["ref"], "conversation": with("bob"), "after": 0, "through": 1,
        "cells": [cell(1, "bob", "laptop", 1, &["a"])], "head": 2, "more": false, "retry_after_ms": 700}));
    assert!(!rig.has_sent("fetch"));
    let mut waited = 0;
    while !rig.has_sent("fetch") {
        waited += rig.wait_for_wake();
    }
    assert_eq!(waited, 700);
    assert_eq!(rig.next("fetch")["after"], 1);
}

#[test]
fn a_page_that_does_not_reach_the_cursor_is_ignored_and_asked_for_again() {
    let mut rig = Rig::new();
    rig.connect();
    rig.answer_list(&json!([summary("bob", 4)]));
    let fetch = rig.next("fetch");
    // Realtime cells move the cursor before the page comes.
    rig.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["a"]), cell(2, "bob", "laptop", 2, &["b"])]));
    assert_eq!(rig.cursor("bob"), 2);
    rig.page(&fetch, 1, &json!([cell(1, "bob", "laptop", 1, &["a"])]), true);
    assert_eq!(rig.cursor("bob"), 2);
    let fetch = rig.next("fetch");
    assert_eq!(fetch["after"], 2);
    // A page that nobody asked for, and that skips something, changes nothing either.
    rig.hears(&json!({"type": "page", "ref": "999", "conversation": with("bob"), "after": 3, "through": 4,
        "cells": [cell(4, "bob", "laptop", 4, &["too early"])], "head": 4, "more": false}));
    assert_eq!(rig.cursor("bob"), 2);
    assert_eq!(rig.list("bob"), list_of(&[("a", GOT), ("b", GOT)]));
}

#[test]
fn a_page_that_contradicts_itself_is_ignored() {
    let mut rig = Rig::new();
    rig.connect();
    rig.answer_list(&json!([summary("bob", 4)]));
    let bad = [
        json!([cell(2, "bob", "laptop", 2, &["b"]), cell(1, "bob", "laptop", 1, &["a"])]),
        json!([cell(1, "bob", "laptop", 1, &["a", "b"]), cell(2, "bob", "laptop", 2, &["overlap"])]),
        json!([cell(4, "bob", "laptop", 1, &["d", "beyond through"])]),
        json!([cell(1, "bob", "laptop", 1, &[])]),
    ];
    for cells in bad {
        while !rig.has_sent("fetch") {
            rig.wait_for_wake();
        }
        let fetch = rig.next("fetch");
        rig.page(&fetch, 4, &cells, false);
        assert_eq!(rig.cursor("bob"), 0);
    }
    assert_eq!(rig.list("bob"), []);
    assert_eq!(rig.engine().counters().bad_frames, 4);
}

#[test]
fn realtime_cells_that_come_next_are_taken_at_once_and_duplicates_vanish() {
    let mut rig = Rig::online();
    let first = cell(1, "bob", "laptop", 1, &["a", "b"]);
    let second = cell(3, "bob", "laptop", 2, &["c"]);
    rig.deliver("bob", &json!([first, second]));
    rig.deliver("bob", &json!([second]));
    rig.deliver("bob", &json!([first, second]));
    assert_eq!(rig.list("bob"), list_of(&[("a", GOT), ("b", GOT), ("c", GOT)]));
    assert_eq!(rig.cursor("bob"), 3);
    let added = rig.events.iter().filter(|event| matches!(event, Event::Added { .. })).count();
    assert_eq!(added, 3);
    assert!(!rig.has_sent("fetch"));
    let tx = rig.engine().read().unwrap();
    let view = tx.conversation_view(&with("bob")).unwrap().unwrap();
    assert_eq!(view.peer.unwrap().as_str(), "bob", "a first delivery makes the conversation known, and its peer");
    assert_eq!(view.unread, 3);
}

#[test]
fn a_gap_waits_a_moment_and_is_then_fetched() {
    let mut rig = Rig::online();
    rig.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["a"])]));
    let third = cell(3, "bob", "laptop", 3, &["c"]);
    rig.deliver("bob", &json!([third]));
    assert_eq!(rig.list("bob"), list_of(&[("a", GOT)]), "nothing beyond the cursor is shown");
    assert!(!rig.has_sent("fetch"));
    assert!(rig.wait_for_wake() <= 50);
    let fetch = rig.next("fetch");
    assert_eq!(fetch["after"], 1);
    // While it is fetched, the fourth comes; the page brings the second, and what was kept fits on.
    rig.deliver("bob", &json!([cell(4, "bob", "laptop", 4, &["d"])]));
    rig.page(&fetch, 2, &json!([cell(2, "bob", "laptop", 2, &["b"])]), false);
    assert_eq!(rig.list("bob"), list_of(&[("a", GOT), ("b", GOT), ("c", GOT), ("d", GOT)]));
    assert_eq!(rig.cursor("bob"), 4);
}

#[test]
fn a_gap_that_closes_by_itself_needs_no_fetch_for_long() {
    let mut rig = Rig::online();
    rig.deliver("bob", &json!([cell(2, "bob", "laptop", 2, &["b"])]));
    rig.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["a"])]));
    assert_eq!(rig.list("bob"), list_of(&[("a", GOT), ("b", GOT)]));
    assert_eq!(rig.cursor("bob"), 2);
}

#[test]
fn many_cells_beyond_the_cursor_are_bounded() {
    let mut rig = Rig::online();
    for number in 2..200 {
        rig.deliver("bob", &json!([cell(number, "bob", "laptop", number, &["x"])]));
    }
    while !rig.has_sent("fetch") {
        rig.wait_for_wake();
    }
    let fetch = rig.next("fetch");
    rig.page(&fetch, 1, &json!([cell(1, "bob", "laptop", 1, &["first"])]), false);
    assert_eq!(rig.cursor("bob"), 65, "the nearest 64 were kept");
    rig.wait_for_wake();
    assert_eq!(rig.next("fetch")["after"], 65, "and the rest is fetched");
}

#[test]
fn own_messages_settle_into_the_servers_order() {
    let mut rig = Rig::online();
    rig.write("bob", "mine 1");
    let frame = rig.next("send");
    rig.write("bob", "mine 2");
    // Bob's came before mine.
    rig.accept(&frame, &[2]);
    assert_eq!(rig.list("bob"), list_of(&[("mine 1", State::Sent), ("mine 2", State::Pending)]));
    assert_eq!(rig.cursor("bob"), 0);
    let frame = rig.next("send");
    rig.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["bob's"])]));
    assert_eq!(rig.list("bob"), list_of(&[("bob's", GOT), ("mine 1", State::Sent), ("mine 2", State::Pending)]));
    // The gap is fetched all the same: own cells do not come by delivery.
    let mut fetch = None;
    while fetch.is_none() {
        rig.wait_for_wake();
        fetch = rig.has_sent("fetch").then(|| rig.next("fetch"));
    }
    let fetch = fetch.unwrap();
    let own = rig.messages("bob")[1].clone();
    rig.accept(&frame, &[3]);
    rig.page(
        &fetch,
        2,
        &json!([{"seq": 2, "envelope": own.id, "number": 1, "by": {"user": "alice", "device": "phone"}, "at": 5000,
            "messages": [{"id": own.id, "body": "mine 1"}]}]),
        false,
    );
    assert_eq!(rig.list("bob").len(), 3, "no doubles");
}

#[test]
fn messages_of_my_other_device_appear_as_mine() {
    let mut rig = Rig::online();
    rig.deliver("bob", &json!([cell(1, "alice", "tablet", 4, &["from the tablet"])]));
    assert_eq!(rig.list("bob"), list_of(&[("from the tablet", State::Sent)]));
    assert_eq!(rig.next_number("bob"), 1, "another device's numbers are its own");
}

#[test]
fn nobody_takes_the_place_of_somebody_elses_message() {
    let mut rig = Rig::online();
    let mine = rig.write("bob", "mine");
    let frame = rig.next("send");
    let mut theirs = cell(1, "bob", "laptop", 1, &["an id that I have seen"]);
    theirs["messages"][0]["id"] = json!(mine.id);
    rig.deliver("bob", &json!([theirs]));
    assert_eq!(
        rig.list("bob"),
        list_of(&[("an id that I have seen", GOT), ("mine", State::Pending)]),
        "bob's message with alice's id neither acknowledges hers nor hides his"
    );
    rig.accept(&frame, &[2]);
    assert_eq!(rig.list("bob")[1], ("mine".into(), State::Sent));
}

#[test]
fn frames_that_make_no_sense_are_ignored() {
    let mut rig = Rig::online();
    rig.write("bob", "still here");
    let frame = rig.next("send");
    for bad in ["", "{", "[]", "null", r#"{"type":"page"}"#, r#"{"type":"sent","ref":"1","verdicts":7}"#] {
        rig.input(Input::Frame(bad.into()));
    }
    for unknown in [json!({"type": "typing", "who": "bob"}), json!({"type": "hologram"})] {
        rig.hears(&unknown);
    }
    assert_eq!(rig.hung_up, 0);
    rig.accept(&frame, &[1]);
    assert_eq!(rig.list("bob"), list_of(&[("still here", State::Sent)]));
}

#[test]
fn the_same_cell_by_delivery_and_by_page_and_by_answer_is_one() {
    let mut rig = Rig::online();
    rig.write("bob", "once");
    let frame = rig.next("send");
    let own = own_cell(1, &submissions(&frame)[0]);
    rig.deliver("bob", &json!([own]));
    rig.accept(&frame, &[1]);
    rig.deliver("bob", &json!([own]));
    assert_eq!(rig.list("bob"), list_of(&[("once", State::Sent)]));
    assert_eq!((rig.cursor("bob"), rig.next_number("bob")), (1, 2));
}

#[test]
fn history_reads_backwards_in_windows() {
    let mut rig = Rig::online();
    for number in 1..=10 {
        rig.deliver("bob", &json!([cell(number, "bob", "laptop", number, &[&format!("m{number}")])]));
    }
    rig.write("bob", "mine");
    let tx = rig.engine().read().unwrap();
    let bodies = |before, limit| {
        let list = tx.history(&with("bob"), before, limit).unwrap();
        list.into_iter().map(|m| m.body).collect::<Vec<_>>()
    };
    assert_eq!(bodies(None, 3), ["m9", "m10", "mine"]);
    assert_eq!(bodies(Some(super::seq(9)), 3), ["m6", "m7", "m8"]);
    assert_eq!(bodies(Some(super::seq(1)), 3), [""; 0]);
}

/// C5: a list that loads more at both ends, by messages and by numbers, with own messages that are not in the log yet.
#[test]
fn windows_page_both_ways_over_log_and_outbox() {
    let mut rig = Rig::online();
    let cells: Vec<_> = (1..=7).map(|n| cell(n, "bob", "laptop", n, &[&format!("m{n}")])).collect();
    rig.deliver("bob", &json!(cells));
    let mut all = rig.messages("bob");
    for body in ["own 1", "own 2", "own 3"] {
        all.push(rig.write("bob", body));
    }
    // One has its place already, beyond what has been taken in: it stays where it is shown.
    let frame = rig.next("send");
    rig.accept(&frame, &[9]);
    let all: Vec<_> = all.into_iter().map(|message| (message.id, message.body)).collect();
    let mut window = |start, limit| {
        let tx = rig.engine().read().unwrap();
        let window = tx.window(&with("bob"), start, limit).unwrap().expect("the message is there");
        let shown: Vec<_> = window.messages.into_iter().map(|message| (message.id, message.body)).collect();
        (shown, window.older, window.newer)
    };
    for limit in 1..=11 {
        // From the end to the beginning, and on to the end again.
        let (mut found, mut older, newer) = window(Start::Newest, limit);
        assert!(!newer);
        while older {
            let (page, more, newer) = window(Start::Before(found[0].0), limit);
            assert!(newer && page.len() <= limit);
            found.splice(0..0, page);
            older = more;
        }
        assert_eq!(found, all);
        let (mut found, _, mut newer) = window(Start::AfterSeq(super::seq(0)), limit);
        while newer {
            let (page, older, more) = window(Start::After(found.last().unwrap().0), limit);
            assert!(older && page.len() <= limit);
            found.extend(page);
            newer = more;
        }
        assert_eq!(found, all);
    }
    assert_eq!(window(Start::BeforeSeq(super::seq(4)), 2), (all[1..3].to_vec(), true, true));
    assert_eq!(window(Start::AfterSeq(super::seq(4)), 4), (all[4..8].to_vec(), true, true));
    assert_eq!(window(Start::BeforeSeq(super::seq(1)), 4), (Vec::new(), false, true));
    let tx = rig.engine().read().unwrap();
    assert_eq!(tx.window(&with("bob"), Start::After(poste_protocol::MessageId::fresh()), 4).unwrap(), None);
    assert_eq!(tx.window(&with("nobody"), Start::Newest, 4).unwrap().unwrap().messages, []);
}

/// L8: what is gone is told by the list or by a page; the cursor steps over it, and nothing waits for it.
#[test]
fn what_is_gone_is_stepped_over_and_known() {
    let mut rig = Rig::new();
    rig.connect();
    let list = rig.next("list");
    let mut gone = summary("bob", 4);
    gone["floor"] = json!(4);
    let mut part = summary("carol", 9);
    part["floor"] = json!(5);
    rig.hears(&json!({"type": "list", "ref": list["ref"], "conversations": [gone, part]}));
    let fetch = rig.next("fetch");
    assert_eq!((&fetch["conversation"], &fetch["after"]), (&json!(with("carol")), &json!(5)));
    assert!(!rig.has_sent("fetch"), "there is nothing left to fetch of the other");
    rig.hears(&json!({"type": "page", "ref": fetch["ref"], "conversation": with("carol"), "after": 5, "through": 9,
        "cells": [cell(9, "carol", "phone", 1, &["still there"])], "floor": 8, "head": 9, "more": false}));
    let known = rig.engine().read().unwrap().conversation_view(&with("carol")).unwrap().unwrap();
    assert_eq!((known.floor.get(), known.cursor.get()), (8, 9));
    assert_eq!(rig.list("carol"), list_of(&[("still there", GOT)]));
}
