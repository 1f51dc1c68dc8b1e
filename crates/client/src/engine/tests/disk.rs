//! A disk that is full: a clear error, nothing lost, and on with it when there is room again.

use serde_json::json;

use super::{Rig, cell, list_of, submissions, user};
use crate::engine::{Input, Lost};
use crate::{Connection, Error, State, Target};

impl Rig {
    fn fill_disk(&mut self) {
        self.engine().limit_pages(1);
    }

    fn make_room(&mut self) {
        self.engine().limit_pages(u32::MAX);
    }
}

#[test]
fn a_message_that_cannot_be_written_is_not_promised() {
    let mut rig = Rig::online();
    rig.write("bob", "kept");
    let frame = rig.next("send");
    rig.fill_disk();
    let now = rig.now;
    let large = "x".repeat(20_000);
    let refused = rig.engine().send(now, Target::User(user("bob")), large).unwrap_err();
    assert!(matches!(refused, Error::Store(_)), "{refused}");
    assert_eq!(rig.list("bob"), list_of(&[("kept", State::Pending)]));

    rig.make_room();
    rig.wait(1_000);
    assert_eq!((rig.hung_up, rig.engine().connection()), (1, Connection::Waiting), "it starts over");
    rig.wait_for_wake();
    rig.input(Input::Connected);
    let again = rig.next("send");
    assert_eq!(submissions(&again)[0]["envelope"], submissions(&frame)[0]["envelope"]);
    rig.accept(&again, &[1]);
    assert_eq!(rig.list("bob"), list_of(&[("kept", State::Sent)]));
}

#[test]
fn a_cell_that_cannot_be_stored_is_neither_shown_nor_marked() {
    let mut rig = Rig::online();
    rig.fill_disk();
    let large = "y".repeat(20_000);
    let frame = json!({"type": "delivery", "items": [
        {"conversation": super::with("bob"), "cells": [cell(1, "bob", "laptop", 1, &[&large])]}]});
    let now = rig.now;
    rig.events.clear();
    assert!(rig.engine().handle(now, Input::Frame(frame.to_string())).is_err());
    assert!(rig.events.is_empty() && !rig.has_sent("mark"));
    rig.make_room();
    rig.wait(1_000);
    rig.input(Input::Disconnected(Lost::Closed));
    assert_eq!(rig.cursor("bob"), 0, "it is fetched on the next connection");
}
