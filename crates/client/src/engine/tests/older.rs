//! O6: a conversation of which nothing is here is entered at its end; history is fetched when it is asked for.

use serde_json::{Value, json};

use super::{Rig, cell, own_cell, seq, submissions, with};
use crate::engine::Input;
use crate::{Event, Start};

fn summary(peer: &str, head: u64) -> Value {
    json!({"conversation": with(peer), "peer": peer, "head": head, "active_at": head})
}

impl Rig {
    fn bounds(&mut self) -> (u64, u64) {
        let tx = self.engine().read().expect("the store reads");
        let view = tx.conversation_view(&with("bob")).expect("the store reads").expect("it is known");
        (view.oldest.get(), view.cursor.get())
    }

    fn older(&mut self) -> bool {
        let now = self.now;
        let (any, outputs) = self.engine().older(now, &with("bob")).expect("it is known");
        self.take(outputs);
        any
    }

    fn back_page(&mut self, fetch: &Value, after: u64, through: u64, cells: &Value, head: u64) {
        self.hears(&json!({
            "type": "page", "ref": fetch["ref"], "conversation": fetch["conversation"], "after": after,
            "through": through, "cells": cells, "head": head, "more": after > 0
        }));
    }

    /// Enters bob's conversation at 7 and 8.
    fn entered() -> Self {
        let mut rig = Self::lazy();
        rig.answer_list(&json!([summary("bob", 8)]));
        let fetch = rig.next("fetch");
        assert_eq!((fetch.get("after"), fetch.get("before"), &fetch["limit"]), (None, None, &json!(2)));
        rig.back_page(&fetch, 6, 8, &json!([cell(7, "bob", "laptop", 4, &["g", "h"])]), 8);
        assert_eq!(rig.bounds(), (6, 8));
        rig
    }

    /// What a list shows at its beginning: its first message, and whether there are older ones here, or on the server.
    fn top(&mut self, start: Start, limit: usize) -> (Option<String>, bool, bool) {
        let tx = self.engine().read().expect("the store reads");
        let window = tx.window(&with("bob"), start, limit).expect("the store reads").expect("it is there");
        (window.messages.into_iter().next().map(|message| message.body), window.older, window.older_on_server)
    }

    fn texts(&mut self) -> Vec<String> {
        self.list("bob").into_iter().map(|(body, _)| body).collect()
    }
}

#[test]
fn entered_at_the_end_it_goes_on_and_history_comes_when_it_is_asked_for() {
    let mut rig = Rig::entered();
    assert_eq!(rig.texts(), ["g", "h"]);
    assert!(!rig.has_sent("fetch"), "nothing is fetched that nobody asked for");
    rig.deliver("bob", &json!([cell(9, "bob", "laptop", 5, &["i"])]));
    assert_eq!(rig.bounds(), (6, 9));

    rig.events.clear();
    assert!(rig.older() && rig.older());
    let fetch = rig.next("fetch");
    assert_eq!((fetch.get("after"), &fetch["before"]), (None, &json!(7)));
    assert!(!rig.has_sent("fetch"), "asked twice it is fetched once");
    rig.back_page(&fetch, 4, 6, &json!([cell(5, "bob", "laptop", 3, &["e", "f"])]), 9);
    assert_eq!((rig.bounds(), rig.texts()), ((4, 9), vec!["e".into(), "f".into(), "g".into(), "h".into(), "i".into()]));
    assert!(matches!(&rig.events[..], [Event::Conversation { conversation }] if conversation.oldest.get() == 4));
    assert!(!rig.has_sent("fetch"), "one page for one wish");

    assert!(rig.older());
    let fetch = rig.next("fetch");
    rig.back_page(&fetch, 0, 4, &json!([cell(1, "bob", "laptop", 1, &["a", "b", "c", "d"])]), 9);
    assert_eq!(rig.bounds(), (0, 9));
    assert!(!rig.older(), "that was the beginning");
}

#[test]
fn a_wish_survives_the_connection_and_what_came_survives_a_kill() {
    let mut rig = Rig::entered();
    assert!(rig.older());
    drop(rig.next("fetch"));
    rig.input(Input::Network(false));
    rig.connect();
    assert_eq!(rig.next("fetch")["before"], 7);
    rig.restart();
    assert_eq!((rig.bounds(), rig.texts()), ((6, 8), vec!["g".into(), "h".into()]));
    rig.connect();
    assert!(!rig.has_sent("fetch"), "the wish is forgotten");
    assert!(rig.older());
    assert_eq!(rig.next("fetch")["before"], 7);
}

#[test]
fn a_hole_in_history_is_waited_for_and_a_page_that_does_not_fit_is_not_taken() {
    let mut rig = Rig::entered();
    assert!(rig.older());
    let fetch = rig.next("fetch");
    rig.back_page(&fetch, 2, 5, &json!([cell(3, "bob", "laptop", 2, &["c", "d", "e"])]), 8);
    assert_eq!((rig.bounds(), rig.texts().len()), ((6, 8), 2));
    while !rig.has_sent("fetch") {
        rig.wait_for_wake();
    }
    let fetch = rig.next("fetch");
    rig.hears(&json!({"type": "page", "ref": fetch["ref"], "conversation": with("bob"), "after": 6, "through": 6,
        "cells": [], "head": 8, "more": false, "retry_after_ms": 1500}));
    assert!(!rig.has_sent("fetch"));
    rig.wait(1500);
    let fetch = rig.next("fetch");
    assert_eq!(fetch["before"], 7);
    rig.back_page(&fetch, 0, 6, &json!([]), 8);
    assert_eq!(rig.bounds(), (0, 8));
}

#[test]
fn a_conversation_in_which_something_was_written_is_read_from_its_beginning() {
    // What waits may be in the log already, however far back.
    let mut rig = Rig::lazy();
    rig.write("bob", "was it stored?");
    rig.answer_list(&json!([summary("bob", 8)]));
    assert_eq!(rig.next("fetch")["after"], 0);
    // It was written while the newest page was on its way.
    let mut rig = Rig::lazy();
    rig.answer_list(&json!([summary("bob", 8)]));
    let newest = rig.next("fetch");
    rig.write("bob", "in between");
    rig.back_page(&newest, 6, 8, &json!([cell(7, "bob", "laptop", 4, &["g", "h"])]), 8);
    assert_eq!(rig.bounds(), (0, 0));
    assert_eq!(rig.next("fetch")["after"], 0);
    // And what is saved of a damaged file is no reason to read everything, where nothing waits.
    let mut rig = Rig::entered();
    rig.lose(true);
    rig.connect();
    rig.answer_list(&json!([summary("bob", 8)]));
    assert!(rig.next("fetch").get("after").is_none());
}

#[test]
fn a_conflict_with_what_is_before_the_oldest_is_settled_at_once() {
    // The device has lost its file, and with it the number of its next envelope.
    let mut rig = Rig::entered();
    rig.write("bob", "hello again");
    let frame = rig.next("send");
    assert_eq!(submissions(&frame)[0]["envelope"]["number"], 1);
    let lane = json!({"number": 3, "seq": 2});
    rig.refuse(&frame, &json!({"code": "lane_conflict", "message": "", "retryable": false, "lane": lane}));
    // It was written after the conversation was entered: it cannot be in what is before.
    let again = rig.next("send");
    assert_eq!(submissions(&again)[0]["envelope"]["number"], 4);
    assert!(!rig.has_sent("fetch"));
    rig.accept(&again, &[9]);
    assert_eq!(rig.bounds(), (6, 9));
    assert!(rig.older());
    let fetch = rig.next("fetch");
    let mut earlier = own_cell(1, &submissions(&frame)[0]);
    earlier["messages"] = json!([{"id": poste_protocol::MessageId::fresh(), "body": "from before"}]);
    earlier["envelope"] = json!(poste_protocol::MessageId::fresh());
    rig.back_page(&fetch, 0, 6, &json!([earlier, cell(2, "alice", "phone", 3, &["b", "c", "d", "e", "f"])]), 9);
    assert_eq!(rig.texts().len(), 9);
}

#[test]
fn what_comes_while_the_newest_page_is_on_its_way_is_taken_in_after_it() {
    let mut rig = Rig::lazy();
    rig.answer_list(&json!([summary("bob", 8)]));
    let newest = rig.next("fetch");
    rig.deliver("bob", &json!([cell(9, "bob", "laptop", 5, &["i"])]));
    assert_eq!(rig.bounds(), (0, 0));
    rig.back_page(&newest, 6, 8, &json!([cell(7, "bob", "laptop", 4, &["g", "h"])]), 8);
    assert_eq!((rig.bounds(), rig.texts()), ((6, 9), vec!["g".into(), "h".into(), "i".into()]));
}

#[test]
fn a_window_says_whether_older_ones_are_here_or_on_the_server() {
    let mut rig = Rig::entered();
    let body = |text: &str| Some(text.to_owned());
    assert_eq!(rig.top(Start::Newest, 1), (body("h"), true, false));
    assert_eq!(rig.top(Start::Newest, 2), (body("g"), false, true));
    assert_eq!(rig.top(Start::BeforeSeq(seq(7)), 5), (None, false, true));
    assert!(rig.older());
    let fetch = rig.next("fetch");
    rig.back_page(&fetch, 0, 6, &json!([cell(1, "bob", "laptop", 1, &["a", "b", "c", "d", "e", "f"])]), 8);
    assert_eq!(rig.top(Start::BeforeSeq(seq(7)), 5), (body("b"), true, false));
    assert_eq!(rig.top(Start::Newest, 100), (body("a"), false, false));
}

/// L8: what is gone is no reason to read what is left from its beginning.
#[test]
fn a_conversation_of_which_the_beginning_is_gone_is_entered_at_its_end_too() {
    let mut rig = Rig::lazy();
    let mut gone = summary("bob", 8);
    gone["floor"] = json!(3);
    rig.answer_list(&json!([gone]));
    assert_eq!(rig.bounds(), (0, 0));
    let fetch = rig.next("fetch");
    assert!(fetch.get("after").is_none());
    rig.back_page(&fetch, 6, 8, &json!([cell(7, "bob", "laptop", 4, &["g", "h"])]), 8);
    assert_eq!(rig.bounds(), (6, 8));
    assert!(rig.older());
    let fetch = rig.next("fetch");
    rig.back_page(&fetch, 0, 6, &json!([cell(4, "bob", "laptop", 3, &["d", "e", "f"])]), 8);
    assert_eq!((rig.bounds(), rig.texts()), ((0, 8), ["d", "e", "f", "g", "h"].map(String::from).into()));
    assert!(!rig.older(), "what is before it is gone");
    // Where nothing is left there is nothing to fetch.
    let mut rig = Rig::lazy();
    gone["floor"] = json!(8);
    rig.answer_list(&json!([gone]));
    assert_eq!(rig.bounds(), (0, 8));
    assert!(!rig.has_sent("fetch"));
}

/// O5: between two memberships there is nothing to see. One wish reaches over it.
#[test]
fn a_page_with_nothing_to_see_is_gone_past() {
    let mut rig = Rig::entered();
    assert!(rig.older());
    let fetch = rig.next("fetch");
    rig.back_page(&fetch, 4, 6, &json!([]), 8);
    assert_eq!(rig.bounds(), (4, 8));
    let fetch = rig.next("fetch");
    assert_eq!(fetch["before"], 5);
    rig.back_page(&fetch, 1, 4, &json!([cell(2, "bob", "laptop", 2, &["b"])]), 8);
    assert_eq!((rig.bounds(), rig.texts().len()), ((1, 8), 3));
    assert!(!rig.has_sent("fetch"));
}

/// D2: the person's other devices have had what is before, or nobody will have it without being asked.
#[test]
fn who_enters_marks_the_end_as_delivered_and_history_marks_nothing() {
    let mut rig = Rig::lazy();
    rig.answer_list(&json!([summary("bob", 8)]));
    let fetch = rig.next("fetch");
    rig.back_page(&fetch, 6, 8, &json!([cell(7, "alice", "phone", 4, &["g", "h"])]), 8);
    rig.wait(1000);
    let mark = rig.mark_within(1_250);
    assert_eq!(mark["marks"][0]["delivered"], 8);
    assert_eq!(mark["marks"][0].get("read"), None);
    rig.hears(&json!({"type": "marked", "ref": mark["ref"], "conversations": [{"conversation": with("bob")}]}));
    assert!(rig.older());
    let fetch = rig.next("fetch");
    rig.back_page(&fetch, 0, 6, &json!([cell(1, "bob", "laptop", 1, &["a", "b", "c", "d", "e", "f"])]), 8);
    rig.wait(1000);
    assert!(!rig.has_sent("mark"));
}

#[test]
fn a_refusal_for_good_is_told_and_ends_the_wish() {
    let mut rig = Rig::entered();
    assert!(rig.older());
    let fetch = rig.next("fetch");
    rig.events.clear();
    rig.hears(&json!({"type": "error", "ref": fetch["ref"], "code": "not_member", "message": "", "retryable": false}));
    assert!(matches!(&rig.events[..], [Event::Conversation { conversation }] if conversation.oldest.get() == 6));
    rig.wait(60_000);
    assert!(!rig.has_sent("fetch"));
}
