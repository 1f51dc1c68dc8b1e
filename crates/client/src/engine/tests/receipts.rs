//! D2, D3: who has a message, as the application asks.

use serde_json::{Value, json};

use super::{Lost, Rig, cell, user, with};
use crate::engine::Input;
use crate::{Error, Receipt, State};

impl Rig {
    /// Alice has written to bob, and the message has the place 5.
    fn sent() -> (Self, poste_protocol::MessageId) {
        let mut rig = Self::online();
        let id = rig.write("bob", "hello").id;
        let send = rig.next("send");
        rig.accept(&send, &[5]);
        (rig, id)
    }

    fn asks(&mut self, id: poste_protocol::MessageId) -> Result<u64, Error> {
        let now = self.now;
        let (inquiry, outputs) = self.engine().ask_receipts(now, id)?;
        self.take(outputs);
        Ok(inquiry)
    }

    fn marks(&mut self, asked: &Value, marks: &Value, next: Option<&str>) {
        let mut page =
            json!({"type": "marks", "ref": asked["ref"], "conversation": with("bob"), "seq": 5, "marks": marks});
        if let Some(next) = next {
            page["next"] = json!(next);
        }
        self.hears(&page);
    }
}

fn receipt(name: &str, state: State) -> Receipt {
    Receipt { user: user(name), state }
}

/// Page by page; own marks and those before the message do not count, and the states of own messages move.
#[test]
fn who_has_a_message_is_asked_page_by_page() {
    let (mut rig, id) = Rig::sent();
    let inquiry = rig.asks(id).expect("asked");
    let asked = rig.next("marks");
    assert_eq!((&asked["seq"], asked.get("after")), (&json!(5), None));
    rig.marks(
        &asked,
        &json!([{"user": "alice", "delivered": 9, "read": 9}, {"user": "ann", "delivered": 4, "read": 4}]),
        Some("ann"),
    );
    assert_eq!(rig.told, [], "not yet");
    let asked = rig.next("marks");
    assert_eq!(asked["after"], "ann");
    rig.marks(
        &asked,
        &json!([{"user": "bob", "delivered": 7, "read": 5}, {"user": "carol", "delivered": 5, "read": 4}]),
        None,
    );
    let expected = vec![receipt("bob", State::Read), receipt("carol", State::Delivered)];
    assert_eq!(rig.told, [(inquiry, Some(expected))]);
    assert_eq!(rig.list("bob"), super::list_of(&[("hello", State::Read)]));
    assert!(!rig.has_sent("marks"));
}

/// What a server says of a conversation that was not asked for is no answer, and may be of one that is not known.
#[test]
fn marks_of_another_conversation_are_no_answer() {
    let (mut rig, id) = Rig::sent();
    let inquiry = rig.asks(id).expect("asked");
    let asked = rig.next("marks");
    let marks = json!([{"user": "zoe", "delivered": 7, "read": 7}]);
    rig.hears(&json!({"type": "marks", "ref": asked["ref"], "conversation": with("zoe"), "seq": 5, "marks": marks}));
    assert_eq!((rig.list("bob"), &*rig.told), (super::list_of(&[("hello", State::Sent)]), &[][..]));
    rig.wait(2_000);
    let asked = rig.next("marks");
    rig.marks(&asked, &json!([]), None);
    assert_eq!(rig.told, [(inquiry, Some(Vec::new()))], "asked again");
}

/// It is asked again after a refusal that may pass and on the next connection, until nobody waits any longer.
#[test]
fn an_inquiry_lives_until_its_deadline() {
    let (mut rig, id) = Rig::sent();
    let inquiry = rig.asks(id).expect("asked");
    let asked = rig.next("marks");
    rig.hears(&json!({"type": "error", "ref": asked["ref"], "code": "busy", "message": "", "retryable": true}));
    rig.wait(2_000);
    assert!(rig.has_sent("marks"), "asked again");
    rig.sent.clear();
    rig.input(Input::Disconnected(Lost::Closed));
    while !rig.has_sent("marks") {
        rig.wait_for_wake();
        rig.input(Input::Connected);
    }
    rig.input(Input::Network(false));
    assert_eq!(rig.told, []);
    rig.wait_for_wake();
    assert_eq!(rig.told, [(inquiry, None)], "nobody waits any longer");
    rig.told.clear();
    rig.sent.clear();
    rig.connect();
    let refused = rig.asks(id).expect("asked");
    let asked = rig.next("marks");
    rig.hears(&json!({"type": "error", "ref": asked["ref"], "code": "not_member", "message": "", "retryable": false}));
    assert_eq!(rig.told, [(refused, None)], "refused for good");
}

#[test]
fn only_of_own_messages_that_were_sent() {
    let (mut rig, _) = Rig::sent();
    rig.input(Input::Network(false));
    let pending = rig.write("bob", "not yet").id;
    assert!(matches!(rig.asks(pending), Err(Error::Message { .. })));
    assert!(matches!(rig.asks(poste_protocol::MessageId(uuid::Uuid::nil())), Err(Error::Message { .. })));
    let (mut rig, sent) = Rig::sent();
    rig.input(Input::Network(false));
    assert!(matches!(rig.asks(sent), Err(Error::NoAnswer)), "with the network cut nobody is kept waiting");
}

impl Rig {
    fn sets_receipts(&mut self, on: bool) {
        let now = self.now;
        let ((), outputs) = self.engine().set_receipts(now, on).expect("on the disk");
        self.take(outputs);
    }

    fn gives_receipts(&mut self) -> bool {
        self.engine().read().expect("the store reads").receipts().expect("the store reads").on
    }
}

/// D4: it is on the disk at once, told until it is confirmed, and what is read waits for that.
#[test]
fn receipts_are_switched_off_offline_and_nothing_read_is_told_before() {
    let mut rig = Rig::online();
    rig.deliver("bob", &json!([cell(1, "bob", "laptop", 1, &["a"])]));
    let first = rig.mark_within(250);
    rig.hears(&json!({"type": "marked", "ref": first["ref"], "results": [{"conversation": with("bob")}]}));
    rig.input(Input::Network(false));
    rig.sets_receipts(false);
    let now = rig.now;
    rig.engine().mark_read(now, &with("bob"), super::seq(1)).expect("read");
    rig.restart();
    assert!(!rig.gives_receipts());
    rig.connect();
    rig.answer_list(&json!([]));
    assert!(!rig.gives_receipts(), "what the list says is older");
    let told = rig.next("receipts");
    assert_eq!(told["on"], false);
    rig.hears(&json!({"type": "error", "ref": told["ref"], "code": "busy", "message": "", "retryable": true}));
    rig.deliver("bob", &json!([cell(2, "bob", "laptop", 2, &["b"])]));
    let mark = rig.mark_within(1_250);
    assert_eq!(mark["marks"], json!([{"conversation": with("bob"), "delivered": 2}]), "nothing that was read");
    rig.hears(&json!({"type": "marked", "ref": mark["ref"], "results": [{"conversation": with("bob")}]}));
    rig.wait(2_000);
    let again = rig.next("receipts");
    assert!(!rig.has_sent("mark"));
    rig.hears(&json!({"type": "receipts", "ref": again["ref"], "on": false}));
    assert_eq!(rig.mark_within(1_250)["marks"][0]["read"], 1, "to the own other devices");
    assert!(!rig.has_sent("receipts"));
}

/// D4, O7: what the person decides while another decision is on its way is told next; what another device has decided is
/// in the list.
#[test]
fn the_last_decision_counts() {
    let mut rig = Rig::online();
    rig.sets_receipts(false);
    let off = rig.next("receipts");
    rig.sets_receipts(true);
    assert!(!rig.has_sent("receipts"), "one at a time");
    rig.hears(&json!({"type": "receipts", "ref": off["ref"], "on": false}));
    let on = rig.next("receipts");
    assert_eq!(on["on"], true);
    rig.hears(&json!({"type": "receipts", "ref": on["ref"], "on": true}));
    assert!(rig.gives_receipts() && !rig.has_sent("receipts"));
    rig.input(Input::Disconnected(Lost::Closed));
    rig.wait_for_wake();
    rig.input(Input::Connected);
    let list = rig.next("list");
    rig.hears(&json!({"type": "list", "ref": list["ref"], "conversations": [], "receipts_off": true}));
    assert!(!rig.gives_receipts(), "another device has decided");
    rig.lose(true);
    assert!(!rig.gives_receipts(), "also after the file was damaged");
}
