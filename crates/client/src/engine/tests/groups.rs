//! Groups: what is done to them goes through the outbox in order, and what happened is replayed from the log.

use poste_protocol::{ConversationId, Event as GroupEvent, Role};
use serde_json::{Value, json};

use super::{Rig, cell, list_of, submissions, user};
use crate::{Error, State, Target};

const GROUP: &str = "g_00000000000000000000000000000007";

fn group() -> ConversationId {
    ConversationId::new(GROUP).expect("a valid id")
}

/// A cell with an event.
fn event(at: u64, by: &str, number: u64, event: &Value) -> Value {
    let mut cell = cell(at, by, "phone", number, &[""]);
    cell["messages"][0]["event"] = event.clone();
    cell
}

impl Rig {
    fn members_of(&mut self, id: &ConversationId) -> Vec<(String, Role)> {
        let tx = self.engine().read().expect("the store reads");
        let members = tx.members(id).expect("the store reads");
        members.into_iter().map(|member| (member.user.to_string(), member.role)).collect()
    }

    fn shows(&mut self, id: &ConversationId) -> Vec<(String, State)> {
        let tx = self.engine().read().expect("the store reads");
        let list = tx.history(id, None, 100).expect("the store reads");
        list.into_iter().map(|message| (message.body, message.state)).collect()
    }

    fn does(&mut self, id: &ConversationId, event: GroupEvent) -> Result<(), Error> {
        let now = self.now;
        let (_, outputs) = self.engine().group_event(now, id, event)?;
        self.take(outputs);
        Ok(())
    }

    /// Alice's phone is in a group, has read its log up to `through`, and knows who is in.
    fn in_group(through: u64, cells: &Value) -> Self {
        let mut rig = Self::new();
        rig.connect();
        rig.answer_list(&json!([{
            "conversation": GROUP, "head": through, "active_at": 1,
            "group": {"title": "climbing", "role": "member", "members": 2, "roster": 1}
        }]));
        let fetch = rig.next("fetch");
        rig.page(&fetch, through, cells, false);
        let asked = rig.next("members");
        rig.hears(&json!({
            "type": "members", "ref": asked["ref"], "conversation": GROUP, "roster": 1, "title": "climbing",
            "members": [{"user": "alice", "role": "member"}, {"user": "bob", "role": "admin"}]
        }));
        rig
    }
}

/// C1: a group that was created offline is there, can be written to, and goes out in order, each event alone.
#[test]
fn a_group_is_created_offline_and_sent_in_order() {
    let mut rig = Rig::new();
    let now = rig.now;
    let made = rig.engine().create_group(now, "climbing".into(), vec![user("bob")]).expect("created");
    let id = made.0.id;
    assert_eq!(made.0.group.and_then(|group| group.title).as_deref(), Some("climbing"));
    rig.engine().send(now, Target::Conversation(id.clone()), "hello".into()).expect("written");
    rig.restart();
    let admin = ("alice".to_owned(), Role::Admin);
    assert_eq!(rig.members_of(&id), [admin, ("bob".to_owned(), Role::Member)]);
    assert_eq!(rig.shows(&id), list_of(&[("", State::Pending), ("hello", State::Pending)]));
    rig.connect();
    rig.answer_list(&json!([]));
    let first = rig.next("send");
    let messages = submissions(&first)[0]["envelope"]["messages"].as_array().expect("messages").clone();
    assert_eq!(messages.len(), 1, "an event is alone");
    assert_eq!(messages[0]["event"]["type"], "created");
    assert!(!rig.has_sent("send"));
    rig.accept(&first, &[1]);
    let second = rig.next("send");
    assert_eq!(submissions(&second)[0]["envelope"]["messages"][0]["body"], "hello");
    rig.accept(&second, &[2]);
    assert_eq!(rig.shows(&id), list_of(&[("", State::Sent), ("hello", State::Sent)]));
}

/// L5: what happened is replayed in the log's order, on top of the list that the server gave.
#[test]
fn what_happens_is_replayed() {
    let created = event(1, "bob", 1, &json!({"type": "created", "title": "climbing", "members": ["alice"]}));
    let added = event(2, "bob", 2, &json!({"type": "added", "users": ["carol"]}));
    let mut rig = Rig::in_group(2, &json!([created, added]));
    let names = |rig: &mut Rig| rig.members_of(&group()).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&mut rig), ["alice", "bob", "carol"], "what the list did not have yet");
    let removed = event(3, "bob", 3, &json!({"type": "removed", "users": ["carol"]}));
    let titled = event(4, "bob", 4, &json!({"type": "titled", "title": "bouldering"}));
    rig.hears(&json!({"type": "delivery", "items": [{"conversation": GROUP, "cells": [removed, titled]}]}));
    assert_eq!(names(&mut rig), ["alice", "bob"]);
    let view = rig.engine().read().and_then(|tx| tx.conversation_view(&group())).expect("the store reads");
    let view = view.and_then(|view| view.group).expect("a group");
    assert_eq!((view.title.as_deref(), view.role, view.members), (Some("bouldering"), Some(Role::Member), Some(2)));
}

/// C4: who was removed sees what they saw, and is told so when they write.
#[test]
fn after_a_removal_nothing_is_sent_and_all_is_there() {
    let mut rig = Rig::in_group(2, &json!([cell(2, "bob", "phone", 2, &["hello"])]));
    let removed = event(3, "bob", 3, &json!({"type": "removed", "users": ["alice"]}));
    rig.hears(&json!({"type": "delivery", "items": [{"conversation": GROUP, "cells": [removed]}]}));
    let now = rig.now;
    let refused = rig.engine().send(now, Target::Conversation(group()), "am I?".into());
    assert!(matches!(refused, Err(Error::NotInGroup)));
    assert!(matches!(rig.does(&group(), GroupEvent::Left), Err(Error::NotInGroup)));
    assert_eq!(rig.shows(&group()).len(), 2);
    let back = event(7, "bob", 4, &json!({"type": "added", "users": ["alice"]}));
    rig.hears(&json!({"type": "delivery", "items": [{"conversation": GROUP, "cells": [back]}]}));
    rig.wait_for_wake();
    let fetch = rig.next("fetch");
    rig.page(&fetch, 7, &json!([back]), false);
    assert!(rig.has_sent("members"), "what happened meanwhile was not to be seen");
    rig.does(&group(), GroupEvent::Left).expect("in again");
}

/// C4: what is not allowed fails visibly; sent again, it goes in another envelope.
#[test]
fn what_is_not_allowed_fails_and_goes_again_in_another_envelope() {
    let mut rig = Rig::in_group(1, &json!([]));
    rig.does(&group(), GroupEvent::Titled { title: "mine".into() }).expect("written");
    let first = rig.next("send");
    rig.refuse(&first, &json!({"code": "not_allowed", "message": "only an admin", "retryable": false}));
    assert_eq!(rig.shows(&group()), list_of(&[("", State::Failed)]));
    let tx = rig.engine().read().expect("the store reads");
    let id = tx.history(&group(), None, 1).expect("the store reads")[0].id;
    drop(tx);
    rig.retry(id);
    let second = rig.next("send");
    assert_ne!(submissions(&first)[0]["envelope"]["id"], submissions(&second)[0]["envelope"]["id"]);
    rig.accept(&second, &[2]);
    assert_eq!(rig.shows(&group()), list_of(&[("", State::Sent)]));
    let view = rig.engine().read().and_then(|tx| tx.conversation_view(&group())).expect("the store reads");
    assert_eq!(view.and_then(|view| view.group?.title).as_deref(), Some("mine"), "it counts when it is in the log");
}

/// What cannot be an event is said so at once.
#[test]
fn events_are_checked_when_they_are_written() {
    let mut rig = Rig::in_group(1, &json!([]));
    let many = (0..101).map(|n| user(&format!("u{n}"))).collect();
    assert!(matches!(rig.does(&group(), GroupEvent::Added { users: many }), Err(Error::BadEvent(_))));
    assert!(matches!(rig.does(&group(), GroupEvent::Titled { title: String::new() }), Err(Error::BadEvent(_))));
    assert!(matches!(rig.does(&ConversationId::group(), GroupEvent::Left), Err(Error::UnknownConversation)));
    assert!(rig.shows(&group()).is_empty());
}

/// L5: what others wrote in a group can be deleted; what the server refuses shows again.
#[test]
fn what_others_wrote_is_deleted_and_comes_back_when_that_is_refused() {
    let mut rig = Rig::in_group(2, &json!([cell(2, "bob", "laptop", 1, &["rude"])]));
    let newest = |rig: &mut Rig| {
        let list = rig.engine().read().and_then(|tx| tx.history(&group(), None, 1)).expect("the store reads");
        list.into_iter().next().expect("bob wrote")
    };
    let id = newest(&mut rig).id;
    rig.delete(id);
    let first = rig.next("send");
    assert_eq!(submissions(&first)[0]["envelope"]["messages"][0]["deletes"]["seq"], 2);
    assert_eq!(rig.shows(&group()), list_of(&[("", State::Received)]));
    rig.refuse(&first, &json!({"code": "no_target", "message": "not yours", "retryable": false}));
    assert_eq!(rig.shows(&group()), list_of(&[("rude", State::Received)]));

    let change = newest(&mut rig).waiting.expect("a delete that failed").id;
    let now = rig.now;
    let ((), outputs) = rig.engine().drop_message(now, change).expect("it failed");
    rig.take(outputs);
    assert_eq!(newest(&mut rig).waiting, None);

    rig.delete(id);
    assert_eq!(rig.shows(&group()), list_of(&[("", State::Received)]));
    let second = rig.next("send");
    rig.accept(&second, &[3]);
    assert_eq!(rig.shows(&group()), list_of(&[("", State::Received)]));
}
