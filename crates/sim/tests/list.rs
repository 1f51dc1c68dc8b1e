//! O2: the list of conversations, on ports in memory: its order, how it is paged, what it tells of each, and what it
//! costs.

use std::collections::BTreeMap;

use poste_protocol::{ListPage, Summary};
use poste_sim::scene::{Chat, DAY, Device, SECOND, Scene};

/// Somebody writes to alice, one after the other, so many each.
fn friends(scene: &Scene, count: usize, messages: usize) -> Vec<Chat> {
    let write = |n: usize| {
        let name = format!("friend{n:03}");
        let (friend, chat) = (scene.device(&name, "phone"), scene.direct(&name, "alice"));
        for m in 0..messages {
            friend.sends(&friend.writes(&chat, [format!("message {m} of {name}").as_str()])).accepted();
        }
        scene.passes(SECOND);
        chat
    };
    (0..count).map(write).collect()
}

fn all(frames: &[ListPage]) -> Vec<&Summary> {
    frames.iter().flat_map(|frame| &frame.conversations).collect()
}

fn last(summary: &Summary) -> Option<(u64, &str)> {
    summary.last.as_ref().map(|last| (last.seq.get(), last.message.body.as_str()))
}

fn listed(device: &Device, chat: &Chat) -> Summary {
    let frames = device.lists_from(None, 16, 50);
    all(&frames).into_iter().find(|summary| summary.conversation == chat.id).expect("it is in the list").clone()
}

/// One request brings everything, the newest first, in as many frames as it takes; with the last messages of the first.
#[test]
fn three_hundred_conversations_come_in_one_request() {
    let scene = Scene::default();
    let chats = friends(&scene, 300, 1);
    let alice = scene.device("alice", "phone");
    let frames = alice.lists_from(None, 16, 50);
    let list = all(&frames);
    let ids: Vec<_> = list.iter().map(|summary| &summary.conversation).collect();
    assert_eq!(ids, chats.iter().rev().map(|chat| &chat.id).collect::<Vec<_>>());
    assert!(frames.len() > 1 && frames.iter().all(|frame| frame.next.is_none()));
    let before: Vec<_> = frames.iter().map(|frame| (frame.before, frame.follows)).collect();
    let count = u32::try_from(frames.len()).expect("few");
    assert_eq!(before, (0..count).map(|n| (n, n + 1 < count)).collect::<Vec<_>>());
    let previews: Vec<_> = list.iter().filter_map(|summary| last(summary)).collect();
    assert_eq!(
        (previews.len(), previews[0], previews[49]),
        (50, (1, "message 0 of friend299"), (1, "message 0 of friend250"))
    );
    assert!(list.iter().all(|summary| (summary.head.get(), summary.unread) == (1, 1)));
}

/// What a list costs does not depend on how long the logs are: one batched key read of each head, one of each mark, and
/// a short look into the log only where a last message is asked for.
#[test]
fn the_cost_is_a_batched_key_read_for_each_whatever_the_logs_hold() {
    let cost = |messages: usize, previews: u32| {
        let scene = Scene::default();
        friends(&scene, 120, messages);
        scene.counts_calls();
        let frames = scene.device("alice", "phone").lists_from(None, 16, previews);
        assert_eq!(all(&frames).len(), 120);
        let mut calls = BTreeMap::new();
        scene.calls().into_iter().for_each(|call| *calls.entry(call).or_insert(0) += 1);
        // What connecting and sending frames cost.
        calls.retain(|call, _| !call.starts_with("connections") && !call.starts_with("callback"));
        calls
    };
    let keys = [("conversations.query", 1), ("heads.get", 2), ("marks.get", 3), ("receipts.get", 1)];
    assert_eq!(cost(1, 0), BTreeMap::from(keys));
    assert_eq!(cost(20, 0), BTreeMap::from(keys));
    let previews = [("members.several", 1), ("log.before", 50)];
    assert_eq!(cost(20, 50), keys.into_iter().chain(previews).collect());
    assert_eq!(cost(1, 1_000), keys.into_iter().chain(previews).collect(), "no more than 50 are looked for");
}

/// A device that takes few frames goes on where they ended. Each conversation comes once; what becomes active meanwhile
/// has moved to the front.
#[test]
fn a_list_goes_on_where_it_ended() {
    let scene = Scene::default();
    let chats = friends(&scene, 300, 1);
    let alice = scene.device("alice", "phone");
    let first = alice.lists_from(None, 1, 0);
    assert_eq!(first.len(), 1);
    let count = first[0].conversations.len();
    assert!((100..300).contains(&count), "{count} in a frame");
    let next = first[0].next.clone().expect("there are more");
    assert_eq!((&next.conversation, &next.part), (&chats[300 - count].id, &None));

    let (oldest, friend) = (&chats[0], scene.device("friend000", "tablet"));
    friend.sends(&friend.writes(oldest, ["I am back"])).accepted();
    let rest = alice.lists_from(Some(next), 16, 0);
    let ids: Vec<_> = all(&rest).into_iter().map(|summary| summary.conversation.clone()).collect();
    assert_eq!(ids, chats[1..300 - count].iter().rev().map(|chat| chat.id.clone()).collect::<Vec<_>>());
    assert!(rest.last().expect("a frame").next.is_none());
    assert_eq!(alice.lists()[0].conversation, oldest.id, "who asks for the front again finds it");
}

/// Who has more than 2,000 gets them in parts, each in its order: none is left out.
#[test]
fn a_user_with_very_many_conversations_gets_them_in_parts() {
    let scene = Scene::default();
    let chats = friends(&scene, 2_050, 1);
    let alice = scene.device("alice", "phone");
    let (mut after, mut came, mut parts) = (None, Vec::new(), Vec::new());
    loop {
        let frames = alice.lists_from(after.clone(), 4, 0);
        came.extend(all(&frames).into_iter().map(|summary| (summary.active_at, summary.conversation.clone())));
        after.clone_from(&frames.last().expect("a frame").next);
        let Some(place) = &after else { break };
        parts.push(place.part.clone());
    }
    assert!(parts.contains(&None) && parts.iter().any(Option::is_some), "{parts:?}");
    assert!(came[..2_000].is_sorted_by(|a, b| a.0 >= b.0) && came[2_000..].is_sorted_by(|a, b| a.0 >= b.0));
    let ids = |mut ids: Vec<_>| {
        ids.sort();
        ids
    };
    assert_eq!(ids(came.into_iter().map(|(_, id)| id).collect()), ids(chats.into_iter().map(|chat| chat.id).collect()));
}

/// The last message is the last one that the user may see and that says something: changes, voids and gaps are passed
/// over, and what is deleted says nothing.
#[test]
fn the_last_message_is_one_that_the_user_may_see() {
    let scene = Scene::default();
    let (alice, bob, chat) =
        (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.direct("alice", "bob"));
    bob.sends(&bob.writes(&chat, ["one", "two"])).accepted();
    assert_eq!(last(&listed(&alice, &chat)), Some((2, "two")), "of an envelope the last");
    bob.sends(&bob.edits(&chat, 1, "uno")).accepted();
    assert_eq!(last(&listed(&alice, &chat)), Some((2, "two")), "an edit is no message");
    bob.sends(&bob.deletes(&chat, 2)).accepted();
    let summary = listed(&alice, &chat);
    assert_eq!(last(&summary), Some((2, "")));
    assert!(summary.last.expect("one").message.deleted);
    // A writer stalls: what it has reserved holds nothing yet.
    bob.sends_until(poste_sim::scene::Before("log.put"), &bob.writes(&chat, ["lost"])).ends();
    let summary = listed(&alice, &chat);
    assert_eq!((last(&summary), summary.head.get()), (Some((2, "")), 5));
    bob.sends(&bob.writes(&chat, [&"x".repeat(2_100)])).place();
    assert_eq!(last(&listed(&alice, &chat)), None, "too long for a list");
    bob.sends(&bob.writes(&chat, ["short"])).accepted();
    assert_eq!(last(&listed(&alice, &chat)).map(|(_, body)| body), Some("short"));
    for n in 0..10 {
        bob.sends(&bob.edits(&chat, 1, &format!("uno {n}"))).accepted();
    }
    assert_eq!(last(&listed(&alice, &chat)), None, "not looked for any further");
}

/// Who was removed from a group sees the last message of then, at the place of then, however busy the group is.
#[test]
fn who_is_out_is_told_of_nothing_after() {
    let scene = Scene::default();
    let (alice, group) = (scene.device("alice", "phone"), scene.group());
    let bob = scene.device("bob", "phone");
    alice.sends(&alice.creates(&group, "climbing", ["bob"])).accepted();
    alice.sends(&alice.writes(&group, ["hello"])).accepted();
    assert_eq!(last(&listed(&bob, &group)), Some((2, "hello")));
    alice.sends(&alice.removes(&group, ["bob"])).accepted();
    scene.passes(SECOND);
    let chat = scene.direct("alice", "bob");
    alice.sends(&alice.writes(&chat, ["sorry"])).accepted();
    scene.passes(SECOND);
    alice.sends(&alice.writes(&group, ["he is gone"])).accepted();
    let frames = bob.lists_from(None, 1, 50);
    let list = all(&frames);
    assert_eq!(list[0].conversation, chat.id, "the group's place in the list tells nothing, either");
    assert_eq!((list[1].head.get(), list[1].unread), (3, 3));
    assert!(list[1].last.as_ref().is_some_and(|last| last.seq.get() == 3 && last.message.event.is_some()));

    // Who comes later sees nothing of before.
    scene.device("carol", "phone");
    alice.sends(&alice.adds(&group, ["carol"])).accepted();
    let carol = scene.device("carol", "phone");
    let summary = listed(&carol, &group);
    assert_eq!((summary.head.get(), summary.unread), (5, 1));
    assert!(summary.last.is_some_and(|last| last.seq.get() == 5));
}

/// What is unread ends where the user has read, begins where they see something and where something is left.
#[test]
fn unread_are_the_numbers_that_are_seen_and_not_read() {
    let scene = Scene::default();
    scene.keeps(DAY);
    let (alice, bob, chat) =
        (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.direct("alice", "bob"));
    for body in ["a", "b", "c"] {
        bob.sends(&bob.writes(&chat, [body])).accepted();
    }
    let unread = |device: &Device| listed(device, &chat).unread;
    assert_eq!((unread(&alice), unread(&bob)), (3, 3), "numbers, whoever wrote them");
    alice.marks(&chat, Some(3), Some(2)).expect("taken");
    bob.marks(&chat, Some(3), Some(3)).expect("taken");
    assert_eq!((unread(&alice), unread(&bob)), (1, 0));
    // Read without anybody being told.
    alice.sets_receipts(false);
    alice.marks(&chat, None, Some(3)).expect("taken");
    assert_eq!(unread(&alice), 0);
    assert!(listed(&alice, &chat).marks.iter().all(|mark| mark.user.as_str() != "bob" || mark.read.is_zero()));
    // Time takes what was never read.
    bob.sends(&bob.writes(&chat, ["d"])).accepted();
    assert_eq!(unread(&alice), 1);
    scene.passes(3 * DAY);
    let summary = listed(&alice, &chat);
    assert_eq!((summary.unread, summary.floor.get(), last(&summary)), (0, 4, None));
}

/// A last message that cannot be read is left out; the list is there.
#[test]
fn a_list_does_not_fail_for_want_of_a_last_message() {
    let scene = Scene::default();
    let chats = friends(&scene, 2, 1);
    let alice = scene.device("alice", "phone");
    scene.fails(poste_sim::scene::Before("log.before"), poste_domain::Class::Throttled);
    let frames = alice.lists_from(None, 1, 50);
    let list = all(&frames);
    assert_eq!(list.len(), chats.len());
    assert_eq!(list.iter().filter(|summary| summary.last.is_some()).count(), 1);
}
