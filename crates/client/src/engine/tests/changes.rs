//! L5: edits and deletes are shown at once, go their way like messages, and end the same on every device, in whatever
//! order they come.

use poste_protocol::{Code, MessageId, Seq};
use serde_json::{Value, json};

use super::{Rig, bodies, cell, list_of, own_cell, submissions, with};
use crate::{ChangeKind, Error, Message, OutboxState, State};

/// A change of somebody's message, as the log has it.
fn change(first: u64, by: &str, kind: &str, target: &Value, body: &str) -> Value {
    json!({
        "seq": first, "envelope": MessageId::fresh(), "number": first, "by": {"user": by, "device": "laptop"},
        "at": 9_000 + first, "messages": [{"id": MessageId::fresh(), "body": body, kind: place(target)}]
    })
}

/// Place and id of a cell's first message.
fn place(target: &Value) -> Value {
    json!({"seq": target["seq"], "id": target["messages"][0]["id"]})
}

impl Rig {
    fn edit(&mut self, id: MessageId, body: &str) -> Message {
        let now = self.now;
        let (message, outputs) = self.engine().edit(now, id, body.into()).expect("the edit is written");
        self.take(outputs);
        message
    }

    pub(super) fn delete(&mut self, id: MessageId) {
        let now = self.now;
        let ((), outputs) = self.engine().delete(now, id).expect("the delete is written");
        self.take(outputs);
    }

    /// A message of alice's phone that has the place 1.
    fn with_one_sent() -> (Self, Message) {
        let mut rig = Self::online();
        let message = rig.write("bob", "helo");
        let frame = rig.next("send");
        rig.accept(&frame, &[1]);
        (rig, message)
    }

    fn only(&mut self) -> Message {
        let mut all = self.messages("bob");
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn finds(&mut self, word: &str) -> usize {
        let tx = self.engine().read().expect("the store reads");
        tx.search(word, None, None, 10).expect("the store reads").hits.len()
    }
}

#[test]
fn an_edit_is_shown_at_once_and_goes_in_an_envelope_of_its_own() {
    let (mut rig, message) = Rig::with_one_sent();
    rig.events.clear();
    let edited = rig.edit(message.id, "hello");
    assert_eq!((edited.body.as_str(), edited.state, edited.edited_at), ("hello", State::Sent, Some(rig.now.wall)));
    let waiting = edited.waiting.clone().expect("it is not acknowledged");
    assert_eq!((waiting.kind, waiting.state), (ChangeKind::Edit, State::Pending));
    assert_eq!(rig.updates(), list_of(&[("hello", State::Sent)]));
    rig.write("bob", "and more");
    rig.restart();
    assert_eq!(rig.messages("bob")[0], edited);

    rig.connect();
    let frame = rig.next("send");
    let [submission] = submissions(&frame).as_slice() else { panic!("{frame}") };
    assert_eq!(bodies(submission), ["hello"]);
    assert_eq!(submission["envelope"]["messages"][0]["edits"], json!({"seq": 1, "id": message.id}));
    rig.accept(&frame, &[2]);
    assert_eq!(bodies(&submissions(&rig.next("send"))[0]), ["and more"]);
    let edited = rig.messages("bob").remove(0);
    assert_eq!((edited.body.as_str(), edited.edited_at, edited.waiting), ("hello", Some(5000), None));
    assert_eq!((rig.finds("hello"), rig.finds("helo")), (1, 0));
    assert_eq!(rig.cursor("bob"), 2, "its place counts, and it is no entry of the list");
}

#[test]
fn a_delete_is_shown_at_once_and_its_text_is_gone_when_it_is_accepted() {
    let (mut rig, message) = Rig::with_one_sent();
    rig.edit(message.id, "a secret");
    let frame = rig.next("send");
    rig.accept(&frame, &[2]);
    rig.delete(message.id);
    rig.delete(message.id);
    let shown = rig.only();
    assert_eq!((shown.body.as_str(), shown.deleted, shown.edited_at), ("", true, None));
    assert_eq!(rig.finds("secret"), 0);
    let frame = rig.next("send");
    assert_eq!(submissions(&frame)[0]["envelope"]["messages"][0]["deletes"], json!({"seq": 1, "id": message.id}));
    assert_eq!(bodies(&submissions(&frame)[0]), [""]);
    rig.accept(&frame, &[3]);
    assert!(rig.only().deleted && rig.only().waiting.is_none());
    rig.close();
    let file = std::fs::read(rig.folder.path().join("account.db")).expect("a file");
    assert!(!file.windows(6).any(|bytes| bytes == b"secret"), "nothing is left in the file");
    rig.open();
    assert_eq!(rig.engine().outbox(super::START).expect("reads"), []);
    let refused = rig.engine().edit(super::START, message.id, "no".into()).expect_err("it is deleted");
    assert!(matches!(refused, Error::Message { .. }));
}

#[test]
fn what_was_never_sent_is_changed_in_its_place() {
    let mut rig = Rig::new();
    let (one, two) = (rig.write("bob", "one"), rig.write("bob", "two"));
    let edited = rig.edit(one.id, "first");
    assert_eq!((edited.body.as_str(), edited.edited_at, &edited.waiting), ("first", None, &None));
    rig.delete(two.id);
    assert_eq!(rig.list("bob"), list_of(&[("first", State::Pending)]));
    rig.connect();
    let frame = rig.next("send");
    assert_eq!(bodies(&submissions(&frame)[0]), ["first"]);
}

#[test]
fn a_change_of_what_is_under_way_waits_until_that_has_its_place() {
    let mut rig = Rig::online();
    let message = rig.write("bob", "helo");
    let frame = rig.next("send");
    rig.edit(message.id, "hullo");
    rig.edit(message.id, "hello");
    assert!(!rig.has_sent("send"));
    assert_eq!(rig.list("bob"), list_of(&[("hello", State::Pending)]));
    rig.accept(&frame, &[7]);
    assert_eq!(rig.list("bob"), list_of(&[("hello", State::Sent)]));
    let frame = rig.next("send");
    assert_eq!(bodies(&submissions(&frame)[0]), ["hello"], "only the last that was written");
    assert_eq!(submissions(&frame)[0]["envelope"]["messages"][0]["edits"]["seq"], 7);
}

#[test]
fn a_delete_takes_back_an_edit_that_has_not_gone() {
    let mut rig = Rig::online();
    let message = rig.write("bob", "helo");
    let frame = rig.next("send");
    rig.edit(message.id, "hello");
    rig.delete(message.id);
    rig.accept(&frame, &[1]);
    let frame = rig.next("send");
    assert_eq!(bodies(&submissions(&frame)[0]), [""]);
    rig.accept(&frame, &[2]);
    assert!(!rig.has_sent("send"));
    assert!(rig.only().deleted);
}

#[test]
fn a_refused_change_shows_and_holds_nothing_back() {
    let (mut rig, message) = Rig::with_one_sent();
    rig.edit(message.id, "hello");
    rig.write("bob", "more");
    let frame = rig.next("send");
    rig.refuse(&frame, &json!({"code": "no_target", "message": "gone", "retryable": false}));
    let shown = rig.messages("bob").remove(0);
    assert_eq!((shown.body.as_str(), shown.edited_at), ("helo", None), "the last text that was accepted");
    let waiting = shown.waiting.expect("the refused edit");
    assert_eq!((waiting.state, waiting.failure.expect("why").code), (State::Failed, Code::NoTarget));
    let frame = rig.next("send");
    assert_eq!(bodies(&submissions(&frame)[0]), ["more"]);
    rig.accept(&frame, &[2]);
    let entry = rig.outbox().remove(0);
    assert_eq!((entry.state, entry.messages[0].id), (OutboxState::Failed, waiting.id));
    let change = entry.messages[0].change.expect("an edit");
    assert_eq!((change.kind, change.message), (ChangeKind::Edit, message.id));

    rig.retry(waiting.id);
    assert_eq!(rig.messages("bob")[0].body, "hello");
    let frame = rig.next("send");
    rig.refuse(&frame, &json!({"code": "no_target", "message": "gone", "retryable": false}));
    let now = rig.now;
    let ((), outputs) = rig.engine().drop_message(now, waiting.id).expect("it failed");
    rig.take(outputs);
    let shown = rig.messages("bob").remove(0);
    assert_eq!((shown.body.as_str(), shown.waiting), ("helo", None));
    assert_eq!(rig.outbox(), []);
}

#[test]
fn the_edit_with_the_greatest_place_counts_and_only_by_its_author() {
    let mut rig = Rig::online();
    let hello = cell(1, "bob", "laptop", 1, &["helo"]);
    let cells = [
        hello.clone(),
        change(2, "bob", "edits", &hello, "hello"),
        change(3, "bob", "edits", &hello, "hello!"),
        change(4, "eve", "edits", &hello, "mine"),
    ];
    // One after the other, and all of them at once in history, the last ones first.
    rig.deliver("bob", &json!(cells));
    let shown = rig.only();
    assert_eq!((shown.body.as_str(), shown.edited_at), ("hello!", Some(9_003)));
    let tx = rig.engine().read().expect("reads");
    let view = tx.conversation_view(&with("bob")).expect("reads").expect("known");
    assert_eq!((view.unread, view.cursor), (1, Seq::ZERO.plus(4)));
    drop(tx);

    let mut late = Rig::lazy();
    late.answer_list(&json!([{"conversation": with("bob"), "peer": "bob", "head": 4, "active_at": 1}]));
    let pages = [(&cells[2..4], 2), (&cells[1..2], 1), (&cells[0..1], 0)];
    for (part, after) in pages {
        let fetch = late.next("fetch");
        let through = part.last().expect("a cell")["seq"].clone();
        late.hears(&json!({"type": "page", "ref": fetch["ref"], "conversation": with("bob"), "after": after,
            "through": through, "cells": part, "head": 4, "more": after > 0}));
        let now = late.now;
        let (_, outputs) = late.engine().older(now, &with("bob")).expect("known");
        late.take(outputs);
    }
    assert_eq!(late.only().body, "hello!");
    assert_eq!((late.finds("hello"), late.finds("helo")), (1, 0));
}

#[test]
fn a_delete_wins_over_everything_in_whatever_order_it_comes() {
    let hello = cell(1, "bob", "laptop", 1, &["a secret"]);
    let edit = change(2, "bob", "edits", &hello, "another secret");
    let delete = change(3, "bob", "deletes", &hello, "");
    let late = change(4, "bob", "edits", &hello, "a last secret");
    let mut redacted = hello.clone();
    redacted["messages"][0]["body"] = json!("");
    redacted["messages"][0]["deleted"] = json!(true);
    let mut redacted_edit = edit.clone();
    redacted_edit["messages"][0]["body"] = json!("");
    redacted_edit["messages"][0]["deleted"] = json!(true);
    for cells in [
        vec![hello.clone(), edit.clone(), delete.clone(), late.clone()],
        vec![redacted.clone(), edit.clone()],
        vec![hello.clone(), redacted_edit.clone()],
        vec![redacted, redacted_edit, delete, late],
    ] {
        let mut rig = Rig::online();
        rig.deliver("bob", &json!(cells));
        let shown = rig.only();
        assert_eq!((shown.body.as_str(), shown.deleted, shown.edited_at), ("", true, None), "{cells:?}");
        assert_eq!(rig.finds("secret"), 0);
        rig.close();
        let file = std::fs::read(rig.folder.path().join("account.db")).expect("a file");
        assert!(!file.windows(6).any(|bytes| bytes == b"secret"), "nothing is left in the file: {cells:?}");
        rig.open();
    }
}

#[test]
fn nothing_is_kept_of_what_is_deleted_before_it_was_here() {
    let mut rig = Rig::lazy();
    rig.answer_list(&json!([{"conversation": with("bob"), "peer": "bob", "head": 4, "active_at": 1}]));
    let fetch = rig.next("fetch");
    let hello = cell(1, "bob", "laptop", 1, &["a secret"]);
    let edit = change(3, "bob", "edits", &hello, "another secret");
    rig.hears(&json!({"type": "page", "ref": fetch["ref"], "conversation": with("bob"), "after": 2, "through": 3,
        "cells": [edit], "head": 3, "more": true}));
    rig.deliver("bob", &json!([change(4, "bob", "deletes", &hello, "")]));
    rig.close();
    let file = std::fs::read(rig.folder.path().join("account.db")).expect("a file");
    assert!(!file.windows(6).any(|bytes| bytes == b"secret"));
    rig.open();
}

#[test]
fn what_lost_its_envelope_goes_as_it_was_written() {
    let mut rig = Rig::online();
    let message = rig.write("bob", "one");
    rig.next("send");
    rig.delete(message.id);
    rig.lose(false);
    rig.connect();
    rig.answer_list(&json!([]));
    let frame = rig.next("send");
    assert_eq!(bodies(&submissions(&frame)[0]), ["one"], "its delete comes after it");
}

#[test]
fn what_another_device_deletes_is_not_edited_any_more() {
    let mut rig = Rig::online();
    let message = rig.write("bob", "helo");
    let frame = rig.next("send");
    let own = own_cell(1, &submissions(&frame)[0]);
    rig.edit(message.id, "hello");
    // The tablet has read it, and deletes it, before the phone has its verdict.
    rig.deliver("bob", &json!([own, change(2, "alice", "deletes", &own, "")]));
    assert!(rig.only().deleted);
    rig.accept(&frame, &[1]);
    assert!(!rig.has_sent("send"), "the edit is not sent");
    assert!(rig.only().deleted);
    assert_eq!(rig.outbox(), []);
}

#[test]
fn a_damaged_file_loses_no_change_that_waits() {
    for envelopes in [true, false] {
        let (mut rig, message) = Rig::with_one_sent();
        rig.input(crate::engine::Input::Network(false));
        rig.edit(message.id, "hello");
        let under_way = rig.write("bob", "more");
        rig.lose(envelopes);
        let waiting = rig.outbox().into_iter().flat_map(|entry| entry.messages).collect::<Vec<_>>();
        let ids: Vec<_> = waiting.iter().map(|m| m.change.map_or(m.id, |change| change.message)).collect();
        assert_eq!(ids, [message.id, under_way.id]);
        rig.connect();
        rig.answer_list(&json!([]));
        let frame = rig.next("send");
        assert_eq!(submissions(&frame)[0]["envelope"]["messages"][0]["edits"]["seq"], 1);
    }
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let mut rig = Rig::online();
    rig.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["his"])]));
    let his = rig.only();
    let failed = rig.write("carol", "refused");
    let frame = rig.next("send");
    rig.refuse(&frame, &json!({"code": "not_member", "message": "no", "retryable": false}));
    let now = rig.now;
    for id in [his.id, MessageId::fresh(), failed.id] {
        assert!(matches!(rig.engine().edit(now, id, "mine".into()), Err(Error::Message { .. })));
    }
    assert!(matches!(rig.engine().delete(now, his.id), Err(Error::Message { .. })));
    let ((), outputs) = rig.engine().delete(now, failed.id).expect("it is dropped");
    rig.take(outputs);
    assert_eq!(rig.messages("carol"), []);
    let mine = rig.write("bob", "mine");
    assert!(matches!(rig.engine().edit(now, mine.id, String::new()), Err(Error::EmptyBody)));
    assert!(matches!(rig.engine().edit(now, mine.id, "x".repeat(30_000)), Err(Error::BodyTooBig { .. })));
}
