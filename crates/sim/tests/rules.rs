//! The rules of appending and reading, case by case, on the ports in memory.

use std::time::Duration;

use poste_domain::{
    Class,
    fanout::SETTLING_MS,
    ports::{Connections, Log, News, Slot},
    read::GRACE_MS,
};
use poste_protocol::{
    Cell, Code, ConversationId, Envelope, EnvelopeId, FromServer, Message, MessageId, Number, Page, Pages, Resolved,
    Seq, Submission, UserId, limits,
};
use poste_sim::scene::{
    After,
    Answer::{Accepted, Repeat},
    Before, Chat, DAY, Device, LANES_IN_HEAD, SECOND, Scene, aged, texts,
};
use uuid::Uuid;

fn user(name: &str) -> UserId {
    UserId::new(name).expect("valid")
}

fn seq(n: u64) -> Seq {
    Seq::ZERO.plus(n)
}

/// An envelope of alice for bob, with a number and ids of the test's choice.
fn submission(number: u64, id: u128, count: u128) -> Submission {
    let message = |n| Message::new(MessageId(Uuid::from_u128(id * 100 + n)), format!("{n}"));
    let envelope = Envelope {
        id: EnvelopeId(Uuid::from_u128(id)),
        conversation: ConversationId::direct(&user("alice"), &user("bob")),
        to: Some(user("bob")),
        number: Number::new(number).expect("positive"),
        messages: (0..count).map(message).collect(),
    };
    Submission { envelope, age_ms: 0, attempt: 1, resolved: None }
}

fn from_bob(mut submission: Submission) -> Submission {
    submission.envelope.to = Some(user("alice"));
    submission
}

/// Alice's phone, bob's phone, and their conversation.
fn two(scene: &Scene) -> (Device, Device, Chat) {
    (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.direct("alice", "bob"))
}

/// An attempt gets as far as having a place, and ends.
fn stall(device: &Device, submission: &Submission) {
    device.sends_until(Before("log.put"), submission).ends();
}

fn grace() -> Duration {
    Duration::from_millis(GRACE_MS)
}

fn seqs(page: &Page) -> Vec<u64> {
    page.cells.iter().map(|cell| cell.seq.get()).collect()
}

#[test]
fn an_envelope_has_one_place_however_often_it_comes() {
    for lanes_in_head in [LANES_IN_HEAD, 0] {
        let scene = Scene::new(lanes_in_head);
        let (alice, _, chat) = two(&scene);
        assert_eq!(alice.sends(&submission(1, 1, 2)), Accepted(1));
        assert_eq!(alice.sends(&submission(1, 1, 2)), Repeat(1));
        assert!(alice.sends(&submission(2, 2, 1)).accepted() >= 3);
        assert_eq!(alice.sends(&submission(1, 1, 2)), Repeat(1), "a late frame");
        let written: Vec<Slot> = scene.log(&chat);
        assert_eq!(written.len(), 2, "each is stored once");
        assert_eq!(scene.world().published().len(), 4, "and published at every attempt");
    }
}

#[test]
fn a_device_with_a_state_of_before_is_told_where_its_lane_stands() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    alice.sends(&submission(1, 1, 1)).place();
    alice.sends(&submission(2, 2, 1)).place();
    for (number, id) in [(2, 20), (1, 10)] {
        let refusal = alice.sends(&submission(number, id, 1)).refusal();
        assert_eq!(refusal.code, Code::LaneConflict);
        let lane = refusal.lane.expect("where the lane stands");
        assert_eq!((lane.number.get(), lane.seq.get()), (2, 2));
    }
    assert_eq!(scene.log(&chat).len(), 2, "nothing of it was stored");
    assert_eq!(alice.sends(&submission(3, 20, 1)), Accepted(3), "renumbered");
}

#[test]
fn a_resolved_conflict_shuts_out_what_is_left_of_an_earlier_life() {
    for lanes_in_head in [LANES_IN_HEAD, 0] {
        let scene = Scene::new(lanes_in_head);
        let (alice, _, chat) = two(&scene);
        alice.sends(&submission(1, 1, 1)).place();
        // The earlier life's envelope has its place, and its attempt stalls before it writes.
        let stalled = submission(2, 2, 1);
        stall(&alice, &stalled);
        let told = alice.sends(&submission(2, 20, 1)).refusal().lane.expect("where the lane stands");
        assert_eq!((told.number.get(), told.seq.get()), (2, 2));

        // The device has read what there is, has waited, and goes on.
        let through = Seq::ZERO.next();
        let again = Submission { resolved: Some(Resolved { lane: told, through }), ..submission(3, 20, 1) };
        let place = alice.sends(&again).accepted();
        assert!(place > 2);
        assert_eq!(alice.sends(&again), Repeat(place), "its answer was lost");
        assert_eq!(alice.sends(&stalled).code(), Code::LaneConflict, "nothing of it is left");
        let cells = scene.log(&chat).into_iter().filter(|slot| matches!(slot, Slot::Cell(_))).count();
        assert_eq!(cells, 2);
    }
}

#[test]
fn a_conflict_is_not_resolved_against_a_lane_that_has_moved_or_was_written_meanwhile() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    let stalled = submission(1, 1, 1);
    stall(&alice, &stalled);
    let told = alice.sends(&submission(1, 10, 1)).refusal().lane.expect("where the lane stands");
    let again = |through| Submission { resolved: Some(Resolved { lane: told, through }), ..submission(2, 10, 1) };

    // A void, and the stalled attempt is placed anew: the lane is another.
    scene.plays(scene.world().put(&chat.id, &Slot::Void(told.seq), None)).expect("a void");
    assert_eq!(alice.sends(&stalled), Accepted(2));
    let moved = alice.sends(&again(told.seq)).refusal();
    assert_eq!(moved.lane.expect("where it stands").seq.get(), 2);

    // Told of that one, but not having read what was written there.
    let lane = moved.lane.expect("where it stands");
    let unread = Submission { resolved: Some(Resolved { lane, through: Seq::ZERO.next() }), ..submission(2, 10, 1) };
    assert_eq!(alice.sends(&unread).code(), Code::LaneConflict);
    let read = Submission { resolved: Some(Resolved { lane, through: lane.seq }), ..submission(2, 10, 1) };
    assert_eq!(alice.sends(&read), Accepted(3));
}

#[test]
fn a_repeat_takes_no_more_numbers_than_were_reserved() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    bob.sends(&from_bob(submission(1, 8, 1))).place();
    stall(&alice, &submission(1, 1, 1));
    // The same envelope comes with three messages: they would lie over what bob writes next.
    assert_eq!(alice.sends(&submission(1, 1, 3)).code(), Code::LaneConflict);
    bob.sends(&from_bob(submission(2, 9, 1))).place();
    assert_eq!(alice.sends(&submission(1, 1, 1)), Accepted(4), "its own place was lost to a void");
    assert_eq!(seqs(&bob.reads(&chat, 0)), [1, 3, 4]);
}

#[test]
fn nobody_is_answered_with_anothers_cell() {
    let scene = Scene::default();
    let (alice, bob, _) = two(&scene);
    alice.sends(&submission(1, 1, 1)).place();
    bob.sends(&from_bob(submission(2, 2, 1))).place();
    assert_eq!(bob.sends(&from_bob(submission(1, 1, 1))).code(), Code::LaneConflict);
}

#[test]
fn what_waited_too_long_is_refused_unless_it_is_a_repeat() {
    for lanes_in_head in [LANES_IN_HEAD, 0] {
        let scene = Scene::new(lanes_in_head);
        let (alice, _, chat) = two(&scene);
        alice.sends(&aged(&submission(1, 1, 1), 30 * DAY)).place();
        assert_eq!(alice.sends(&aged(&submission(1, 1, 1), 400 * DAY)), Repeat(1));
        assert_eq!(alice.sends(&aged(&submission(2, 2, 1), 31 * DAY)).code(), Code::Expired);
        // An attempt of when it was younger is still alive, or its verdict was lost.
        assert_eq!(alice.sends(&submission(2, 2, 1)).code(), Code::Expired, "a verdict stands");
        assert_eq!(alice.sends(&aged(&submission(2, 2, 1), 31 * DAY)).code(), Code::Expired);
        assert!(alice.sends(&submission(3, 3, 1)).accepted() > 1);
        assert_eq!(alice.sends(&submission(2, 2, 1)).code(), Code::LaneConflict, "the device moved on");
        assert_eq!(scene.log(&chat).len(), 2);
    }
}

#[test]
fn a_first_message_that_is_refused_founds_nothing_to_be_seen() {
    let scene = Scene::default();
    let (alice, bob, _) = two(&scene);
    let old = aged(&submission(1, 1, 1), 31 * DAY);
    assert_eq!(alice.sends(&old).code(), Code::Expired);
    assert_eq!(alice.sends(&submission(1, 1, 1)).code(), Code::Expired);
    assert_eq!(bob.lists(), []);
}

#[test]
fn strangers_are_refused_alike_whether_there_is_a_conversation_or_not() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    let eve = scene.device("eve", "phone");
    let before = eve.sends(&submission(1, 1, 1)).refusal();
    alice.sends(&submission(1, 1, 1)).place();
    let after = eve.sends(&submission(1, 1, 1)).refusal();
    assert_eq!(before, after);
    assert_eq!(after.code, Code::NotMember);
    assert_eq!(eve.fetches(&chat, 0, None).expect_err("a refusal").code, Code::NotMember);
}

#[test]
fn a_hole_is_waited_for_and_then_decided() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    alice.sends(&submission(1, 1, 1)).place();
    // Alice's next envelope gets numbers 2 and 3, and its function stalls before it writes.
    let stalled = submission(2, 2, 2);
    stall(&alice, &stalled);
    bob.sends(&from_bob(submission(1, 9, 1))).place();

    let page = bob.reads(&chat, 0);
    assert_eq!((seqs(&page), page.through.get(), page.head.get()), (vec![1], 1, 4));
    let wait = page.retry_after_ms.expect("a young hole is waited for");
    assert!(!page.more);
    scene.passes(Duration::from_millis(wait));
    let page = bob.reads(&chat, 1);
    assert_eq!((seqs(&page), page.through.get(), page.retry_after_ms), (vec![4], 4, None));

    // The stalled attempt, or its retry, finds the void and takes another place: once.
    assert_eq!(alice.sends(&stalled), Accepted(5));
    assert_eq!(alice.sends(&stalled), Repeat(5));
    let page = bob.reads(&chat, 4);
    assert_eq!((seqs(&page), page.through.get()), (vec![5], 6));
}

#[test]
fn what_was_renumbered_gets_another_place_under_the_number_of_its_lane() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    stall(&alice, &submission(1, 1, 1));
    bob.sends(&from_bob(submission(1, 9, 1))).place();
    scene.passes(grace());
    bob.reads(&chat, 0);
    assert_eq!(alice.sends(&submission(2, 1, 1)), Accepted(3));
    assert_eq!(alice.sends(&submission(1, 1, 1)), Repeat(3));
    let numbers: Vec<_> = bob.reads(&chat, 2).cells.iter().map(|cell| cell.number.get()).collect();
    assert_eq!(numbers, [1]);
}

#[test]
fn an_attempt_whose_device_has_moved_on_does_not_take_another_place() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    let (first, second) = (submission(1, 1, 1), submission(2, 2, 1));
    stall(&alice, &first);
    // A second life of the device, without the first envelope, goes on; a reader puts a void on its place.
    alice.sends(&second).place();
    scene.passes(grace());
    alice.reads(&chat, 0);
    assert_eq!(alice.sends(&first).code(), Code::LaneConflict);
    assert_eq!(scene.log(&chat).len(), 2, "a void and the second envelope");
}

#[test]
fn pages_are_contiguous_and_bounded() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    let sizes = [1u128, 25, 3, 25, 25, 2, 25, 25, 25, 25, 1];
    for (n, count) in (1u64..).zip(sizes) {
        let mut submission = submission(n, u128::from(n), count);
        for message in &mut submission.envelope.messages {
            message.body = "x".repeat(300);
        }
        alice.sends(&submission).place();
    }
    for limit in [None, Some(1), Some(30), Some(10_000)] {
        let (mut cursor, mut seen, mut pages) = (0, Vec::new(), 0);
        loop {
            let page = alice.fetches(&chat, cursor, limit).expect("a page");
            assert_eq!(page.after.get(), cursor);
            let frame = serde_json::to_string(&FromServer::Page(page.clone())).expect("serialises");
            assert!(frame.len() <= limits::FRAME_BYTES);
            seen.extend(seqs(&page));
            cursor = page.through.get();
            pages += 1;
            assert!(pages < 100);
            if !page.more {
                break;
            }
        }
        assert_eq!(seen.len(), sizes.len());
        assert!(seen.is_sorted());
        assert_eq!(u128::from(cursor), sizes.iter().sum::<u128>());
        assert!(pages > 1);
    }
}

/// A device's envelopes with bodies of so many characters, one message each.
fn many(device: &Device, chat: &Chat, count: usize, body: usize) {
    for _ in 0..count {
        device.sends(&device.writes(chat, ["x".repeat(body).as_str()])).place();
    }
}

#[test]
fn little_is_read_that_does_not_fit_into_the_page() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    many(&alice, &chat, 100, 200);
    let reads = |after, limit| {
        let before = scene.world().looks().len();
        let page = bob.fetches(&chat, after, limit).expect("a page");
        (page, scene.world().looks().split_off(before))
    };
    // Messages are the limit, and then there are no more.
    let (page, looks) = reads(0, Some(20));
    assert_eq!((page.through.get(), page.more, looks), (20, true, vec![16, 4]));
    let (page, looks) = reads(80, Some(20));
    assert_eq!((page.through.get(), page.more, looks), (100, false, vec![16, 4]));
    // Bytes are: after the first look their number is known, and one is asked for that shows that no more fit.
    let (page, looks) = reads(0, Some(500));
    let held = u32::try_from(page.cells.len()).expect("few");
    assert!(held > 50 && page.more);
    assert_eq!(looks, [16, held - 16 + 1]);
}

/// What came of each conversation: the ranges of its pages, and how many messages they hold.
fn runs(frames: &[Pages], chat: &Chat) -> Vec<(u64, u64, usize)> {
    let pages = frames.iter().flat_map(|frame| &frame.pages).filter(|page| page.conversation == chat.id);
    let count = |page: &Page| page.cells.iter().map(|cell| cell.messages.len()).sum();
    pages.map(|page| (page.after.get(), page.through.get(), count(page))).collect()
}

#[test]
fn catching_up_brings_what_is_wanted_first_first_and_joins_what_is_small() {
    let scene = Scene::default();
    let alice = scene.device("alice", "phone");
    let chats: Vec<Chat> = ["bob", "carol", "dave", "eve"].map(|peer| scene.direct("alice", peer)).into();
    let eve = scene.direct("bob", "eve");
    for (count, chat) in (1..).zip(&chats) {
        many(&alice, chat, count, 20);
    }
    let wanted = [(&chats[3], Some(1)), (&chats[0], Some(0)), (&eve, Some(0)), (&chats[2], None), (&chats[1], Some(2))];
    let frames = alice.syncs(&wanted, 4).expect("pages");
    assert_eq!(frames.len(), 1, "all of it fits into one frame");
    let order: Vec<_> = frames[0].pages.iter().map(|page| &page.conversation).collect();
    assert_eq!(order, [&chats[3].id, &chats[0].id, &chats[2].id, &chats[1].id]);
    assert_eq!(
        chats.iter().map(|chat| runs(&frames, chat)).collect::<Vec<_>>(),
        [vec![(0, 1, 1)], vec![(2, 2, 0)], vec![(0, 3, 3)], vec![(1, 4, 3)]]
    );
    let refused = &frames[0].refused;
    assert_eq!((refused.len(), &refused[0].conversation, refused[0].error.code), (1, &eve.id, Code::NotMember));
}

#[test]
fn catching_up_posts_full_frames_and_no_more_than_were_asked_for() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    let other = scene.direct("alice", "carol");
    many(&alice, &chat, 400, 500);
    many(&alice, &other, 3, 20);
    let mut cursor = 0;
    let mut frames = Vec::new();
    while cursor < 400 {
        let came = bob.syncs(&[(&chat, Some(cursor))], 3).expect("pages");
        assert!(came.len() <= 3 && came.iter().rev().skip(1).all(|frame| frame.follows));
        assert!(came.last().is_some_and(|last| !last.follows));
        for (after, through, count) in runs(&came, &chat) {
            assert_eq!((after, usize::try_from(through - after).expect("few")), (cursor, count));
            cursor = through;
        }
        frames.extend(came);
    }
    let sizes = frames.into_iter().map(|frame| serde_json::to_string(&FromServer::Pages(frame)).expect("JSON").len());
    let sizes: Vec<usize> = sizes.collect();
    assert!(sizes.iter().all(|size| *size <= limits::FRAME_BYTES), "{sizes:?}");
    let full = sizes.iter().filter(|size| **size > limits::FRAME_BYTES * 9 / 10).count();
    assert!(full + 1 >= sizes.len(), "{sizes:?}");

    // The first one takes all the room: of the second nothing comes, and its device asks again.
    let came = alice.syncs(&[(&chat, Some(0)), (&other, Some(0))], 2).expect("pages");
    assert!(runs(&came, &other).is_empty() && came.len() == 2);
    let came = alice.syncs(&[(&other, Some(0)), (&chat, Some(0))], 2).expect("pages");
    assert_eq!((runs(&came, &other), runs(&came, &chat)[0].0), (vec![(0, 3, 3)], 0));
}

#[test]
fn catching_up_makes_one_read_for_a_conversation_however_long_its_log_is() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    let reads = |after| {
        scene.counts_calls();
        bob.syncs(&[(&chat, Some(after))], 4).expect("pages");
        scene.calls().into_iter().filter(|call| call.starts_with("log.")).count()
    };
    many(&alice, &chat, 3, 20);
    assert_eq!(reads(2), 1);
    many(&alice, &chat, 300, 20);
    assert_eq!(reads(302), 1);
}

#[test]
fn a_post_that_fails_fails_the_request_and_one_that_is_gone_ends_it() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    many(&alice, &chat, 200, 500);
    scene.fails(Before("callback.post"), Class::Transient);
    assert_eq!(alice.syncs(&[(&chat, Some(0))], 4).expect_err("refused").code, Code::Unavailable);
    assert!(alice.syncs(&[(&chat, Some(0))], 4).expect("pages").len() == 4);
}

#[test]
fn a_page_makes_no_call_that_it_can_do_without() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    many(&alice, &chat, 8, 10);
    scene.passes(10 * SECOND);
    let backwards = |before, limit| {
        scene.counts_calls();
        let page = bob.reads_back(&chat, before, limit);
        // Who the members are is remembered for a while.
        let calls: Vec<_> = scene.calls().into_iter().filter(|call| *call != "members.get").collect();
        (page.cells.len(), calls)
    };
    let found = vec!["log.before"];
    assert_eq!(backwards(None, 2), (2, found.clone()), "the newest");
    assert_eq!(backwards(None, 20), (8, found.clone()), "to the beginning");
    assert_eq!(backwards(Some(7), 2), (2, found.clone()), "before a number");
    assert_eq!(backwards(Some(4), 20), (3, found.clone()), "the first");
    // The hole is decided by the slot above it, which is in the page.
    alice.sends_until(Before("log.put"), &alice.writes(&chat, ["late"])).ends();
    many(&alice, &chat, 2, 10);
    scene.passes(10 * SECOND);
    assert_eq!(backwards(None, 4), (4, vec!["log.before", "heads.get", "log.put"]));
    // Only the slot above the page tells whether a hole at its end is old.
    alice.sends_until(Before("log.put"), &alice.writes(&chat, ["late"])).ends();
    many(&alice, &chat, 1, 10);
    scene.passes(10 * SECOND);
    assert_eq!(backwards(Some(13), 2), (2, vec!["log.before", "heads.get", "log.after", "log.put"]));
}

#[test]
fn what_lies_between_two_memberships_is_not_read() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    many(&alice, &chat, 400, 10);
    scene.passes(10 * SECOND);
    scene.admits(&chat, "carol", &[(1, Some(2)), (397, Some(398))]);
    let carol = scene.device("carol", "phone");
    let before = scene.world().looks().len();
    assert_eq!(seqs(&carol.reads_back(&chat, Some(399), 100)), [1, 2, 397, 398]);
    assert_eq!(scene.world().looks().len() - before, 2, "one look for each");
}

#[test]
fn a_page_takes_what_fits_into_a_frame_with_its_own_fields() {
    let held = |second| {
        let scene = Scene::default();
        let (alice, bob, chat) = two(&scene);
        many(&alice, &chat, 1, 20_000);
        many(&alice, &chat, 1, second);
        let page = bob.reads(&chat, 0);
        let cells = page.cells.iter().map(|cell| serde_json::to_string(cell).expect("serialises").len() + 1);
        (page.cells.len(), cells.sum::<usize>())
    };
    let (two, bytes) = held(1);
    assert_eq!(two, 2);
    let largest = limits::FRAME_BYTES - 1_024 - bytes + 1;
    assert_eq!([held(largest).0, held(largest + 1).0], [2, 1]);
}

#[test]
fn a_cell_larger_than_a_page_is_a_page_of_its_own() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    many(&alice, &chat, 1, 1);
    let Slot::Cell(mut large) = scene.log(&chat).remove(0) else { panic!("a cell") };
    large.seq = seq(2);
    large.messages[0].body = "x".repeat(limits::FRAME_BYTES + 1);
    scene.plays(scene.world().put(&chat.id, &Slot::Cell(large), None)).expect("put");
    // It is the first that bob sees, and behind it there is more to look at, and no room.
    scene.admits(&chat, "bob", &[(2, None)]);
    for place in 3..40 {
        scene.plays(scene.world().put(&chat.id, &Slot::Void(seq(place)), None)).expect("put");
    }
    let page = bob.reads(&chat, 0);
    assert_eq!((seqs(&page), page.through.get()), (vec![2], 39));
}

#[test]
fn a_page_writes_fifty_voids_at_most_and_the_next_goes_on() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    for n in 1..=3u64 {
        stall(&alice, &submission(n, n.into(), 25));
    }
    bob.sends(&from_bob(submission(1, 9, 1))).place();
    scene.passes(grace());
    let page = bob.reads(&chat, 0);
    assert_eq!((seqs(&page), page.through.get(), page.more, page.retry_after_ms), (vec![], 50, true, None));
    assert_eq!(scene.voids(&chat), 50);
    let page = bob.reads(&chat, 50);
    assert_eq!((seqs(&page), page.through.get(), page.more), (vec![76], 76, false));
}

#[test]
fn the_head_is_not_asked_where_no_number_is_missing() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    many(&alice, &chat, 40, 1);
    scene.fails(Before("heads.get"), Class::Transient);
    assert_eq!(bob.reads(&chat, 0).through.get(), 40, "the call is still to fail");
    assert_eq!(bob.fetches(&chat, 40, None).expect_err("nothing is there").code, Code::Unavailable);
}

#[test]
fn a_cursor_inside_a_cell_makes_no_voids() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    alice.sends(&submission(1, 1, 5)).place();
    alice.sends(&submission(2, 2, 1)).place();
    scene.passes(grace());
    let page = alice.reads(&chat, 2);
    assert_eq!((seqs(&page), page.through.get()), (vec![1, 6], 6), "the whole cell, once more");
    assert!(scene.log(&chat).iter().all(|slot| matches!(slot, Slot::Cell(_))));
}

#[test]
fn a_page_holds_what_its_reader_may_see() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    for n in 1..=9u64 {
        alice.sends(&submission(n, u128::from(n), 1)).place();
    }
    scene.admits(&chat, "bob", &[(2, Some(3)), (7, Some(8))]);
    let page = bob.reads(&chat, 0);
    assert_eq!((seqs(&page), page.through.get()), (vec![2, 3, 7, 8], 9));
    assert_eq!(bob.sends(&from_bob(submission(1, 77, 1))).code(), Code::NotMember, "left");
}

#[test]
fn a_page_goes_on_over_what_its_reader_may_not_see() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    many(&alice, &chat, 40, 1);
    scene.admits(&chat, "bob", &[(35, None)]);
    let page = bob.fetches(&chat, 0, Some(6)).expect("a page");
    assert_eq!((seqs(&page), page.through.get(), page.more), ((35..=40).collect(), 40, false));
}

#[test]
fn marks_only_move_forward_and_stay_below_the_head() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    let tablet = scene.device("bob", "tablet");
    for n in 1..=5u64 {
        alice.sends(&submission(n, u128::from(n), 1)).place();
    }
    let told = || {
        let marks = scene.world().published().into_iter().filter_map(|parcel| match parcel.news {
            News::Mark(mark) => Some((mark.delivered.get(), mark.read.get())),
            News::Cell(_) => None,
        });
        marks.collect::<Vec<_>>()
    };
    bob.marks(&chat, Some(3), None).expect("taken");
    bob.marks(&chat, Some(3), None).expect("a repeat is told again");
    bob.marks(&chat, Some(2), None).expect("an old one changes nothing");
    tablet.marks(&chat, Some(2), None).expect("a slower device changes nothing for others");
    tablet.marks(&chat, None, Some(4)).expect("read is delivered");
    assert_eq!(told(), [(3, 0), (3, 0), (4, 4)]);
    assert_eq!(bob.marks(&chat, Some(6), None).expect_err("beyond the head").code, Code::BadFrame);
    let summary = alice.lists().remove(0);
    assert_eq!((summary.head.get(), summary.peer), (5, Some(user("bob"))));
    assert_eq!(summary.marks.len(), 1);
    assert_eq!((summary.marks[0].delivered.get(), summary.marks[0].read.get()), (4, 4));
}

#[test]
fn everybody_hears_but_the_device_it_comes_from_and_the_dead_are_removed() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    let [tablet, dead, young] =
        [("alice", "tablet"), ("bob", "dead"), ("bob", "young")].map(|(u, d)| scene.device(u, d));
    let mut lines = [&alice, &tablet, &bob].map(Device::connects);
    dead.connects().breaks();
    scene.passes(Duration::from_millis(SETTLING_MS));
    young.connects().breaks();
    alice.sends(&alice.writes(&chat, ["hello"])).place();
    scene.delivers();
    let heard = lines.each_mut().map(|line| line.hears().cells.len());
    assert_eq!(heard, [0, 1, 1]);
    let users = [user("alice"), user("bob")];
    let left = scene.plays(Connections::of(scene.world(), &users)).expect("connections");
    let left: Vec<_> = left.into_iter().map(|(user, device, _)| format!("{user}-{device}")).collect();
    assert_eq!(left, ["alice-phone", "alice-tablet", "bob-phone", "bob-young"], "the young one is still opening");
}

#[test]
fn an_envelope_never_overwrites_another() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    let foreign = Cell {
        seq: seq(1),
        envelope: EnvelopeId(Uuid::from_u128(5)),
        number: Number::FIRST,
        by: bob.author().clone(),
        at: 0,
        messages: submission(1, 5, 1).envelope.messages,
    };
    scene.plays(scene.world().put(&chat.id, &Slot::Cell(foreign.clone()), None)).expect("put");
    assert_eq!(alice.sends(&submission(1, 1, 1)).code(), Code::Unavailable);
    assert_eq!(scene.log(&chat), [Slot::Cell(foreign)]);
    assert_eq!(scene.world().published(), [], "what is not stored is not published");
}

/// Kept for 40 days, so that an epoch is ten days, and the store removes what is 51 days old.
fn forty_days() -> Scene {
    let scene = Scene::default();
    scene.keeps(40 * DAY);
    scene
}

#[test]
fn what_is_too_old_is_gone_also_where_its_epoch_is_not() {
    let scene = forty_days();
    let (alice, bob, chat) = two(&scene);
    alice.sends(&submission(1, 1, 2)).place();
    scene.passes(9 * DAY);
    alice.sends(&submission(2, 2, 1)).place();
    scene.passes(32 * DAY);
    let (forwards, backwards) = (bob.reads(&chat, 0), bob.reads_back(&chat, None, 100));
    assert_eq!((seqs(&forwards), forwards.through.get()), (vec![3], 3));
    assert_eq!((seqs(&backwards), backwards.through.get()), (vec![3], 3));
}

#[test]
fn what_is_too_old_is_gone_before_and_after_the_store_removes_it() {
    let scene = forty_days();
    let (alice, bob, chat) = two(&scene);
    for n in 1..=3 {
        alice.sends(&submission(n, n.into(), 2)).place();
        scene.passes(15 * DAY);
    }
    // Day 45. The first is gone, the second has ten days left.
    let page = bob.reads(&chat, 0);
    assert_eq!((seqs(&page), page.through.get(), page.floor.get()), (vec![3, 5], 6, 2));
    assert_eq!(seqs(&bob.reads_back(&chat, None, 100)), [3, 5], "backwards, too");
    assert_eq!(scene.removes(), 0, "the store has its time");
    scene.passes(7 * DAY);
    assert_eq!(scene.removes(), 1);
    for _ in 0..2 {
        let page = bob.reads(&chat, 0);
        assert_eq!((seqs(&page), page.through.get(), page.floor.get()), (vec![3, 5], 6, 2));
    }
    assert_eq!(scene.voids(&chat), 0, "what was removed is no hole");

    // Everything is gone: the list and an empty page say so.
    scene.passes(60 * DAY);
    assert_eq!(scene.removes(), 3);
    let page = bob.reads(&chat, 0);
    assert_eq!((seqs(&page), page.through.get(), page.floor.get(), page.more), (vec![], 6, 6, false));
    let list = bob.lists();
    assert_eq!((list[0].head.get(), list[0].floor.get()), (6, 6));

    // Life goes on, and what is written now is behind what is gone.
    assert_eq!(alice.sends(&submission(4, 4, 1)), Accepted(7));
    let page = bob.reads(&chat, 0);
    assert_eq!((seqs(&page), page.through.get(), page.floor.get()), (vec![7], 7, 6));
    assert_eq!((scene.voids(&chat), scene.world().trespasses().len()), (0, 0));
}

#[test]
fn a_hole_above_what_is_gone_gets_its_void_and_nothing_else_does() {
    let scene = forty_days();
    let (alice, bob, chat) = two(&scene);
    alice.sends(&submission(1, 1, 2)).place();
    scene.passes(30 * DAY);
    // Numbers 3 and 4 are given, and never written.
    stall(&alice, &submission(2, 2, 2));
    bob.sends(&from_bob(submission(1, 9, 1))).place();
    scene.passes(22 * DAY);
    assert_eq!(scene.removes(), 1);
    let page = bob.reads(&chat, 0);
    assert_eq!((seqs(&page), page.through.get(), page.floor.get()), (vec![5], 5, 2));
    assert_eq!((scene.voids(&chat), scene.world().trespasses().len()), (2, 0));
}

/// The age of a number is that of its placing, and a slow write makes its cell younger.
#[test]
fn what_a_page_says_is_gone_is_not_in_it() {
    let scene = forty_days();
    let (alice, bob, chat) = two(&scene);
    alice.sends(&submission(1, 1, 1)).place();
    let slow = alice.sends_until(After("heads.place"), &submission(2, 2, 1));
    scene.passes(10 * SECOND);
    assert_eq!(slow.goes_on(), Accepted(2));
    scene.passes(11 * DAY);
    stall(&alice, &submission(3, 3, 1));
    bob.sends(&from_bob(submission(1, 9, 1))).place();
    scene.passes((29 * DAY).saturating_sub(SECOND));
    let page = bob.reads(&chat, 0);
    assert_eq!((seqs(&page), page.through.get(), page.floor.get()), (vec![4], 4, 2));
}

#[test]
fn a_repeat_from_before_what_is_kept_is_refused_and_written_nowhere() {
    for written in [true, false] {
        let scene = forty_days();
        let (alice, _, chat) = two(&scene);
        alice.sends(&submission(1, 1, 1)).place();
        if written {
            alice.sends(&submission(2, 2, 1)).place();
        } else {
            stall(&alice, &submission(2, 2, 1));
        }
        scene.passes(60 * DAY);
        scene.removes();
        let log = scene.log(&chat);
        // Its age is what the device says; it may be wrong.
        assert_eq!(alice.sends(&submission(2, 2, 1)).code(), Code::Expired, "nobody can tell any more");
        assert_eq!(scene.log(&chat), log);
        assert_eq!(alice.sends(&submission(3, 3, 1)), Accepted(3), "the lane goes on");
    }
}

/// Two attempts, of which one still finds the void at the envelope's place, and the other nothing any more: either the
/// envelope is refused for good, or it is stored.
#[test]
fn who_finds_a_void_and_who_finds_it_gone_come_to_one_verdict() {
    for refused_first in [true, false] {
        let scene = forty_days();
        let (alice, bob, chat) = two(&scene);
        alice.sends(&submission(1, 1, 1)).place();
        let late = submission(2, 2, 1);
        stall(&alice, &late);
        bob.sends(&from_bob(submission(1, 9, 1))).place();
        scene.passes(10 * SECOND);
        assert_eq!(bob.reads(&chat, 0).through.get(), 3, "with a void at 2");
        scene.passes(60 * DAY);
        let finds_void = alice.sends_until(After("log.before"), &late);
        scene.removes();
        if refused_first {
            assert_eq!(alice.sends(&late).code(), Code::Expired);
            let log = scene.log(&chat);
            assert_eq!(finds_void.goes_on().code(), Code::Expired);
            assert_eq!(scene.log(&chat), log);
        } else {
            let finds_nothing = alice.sends_until(After("heads.get"), &late);
            assert_eq!(finds_void.goes_on(), Accepted(4));
            assert_eq!(finds_nothing.goes_on(), Repeat(4));
        }
        alice.sends(&submission(3, 3, 1)).place();
    }
}

#[test]
fn what_an_attempt_left_unwritten_is_written_at_a_place_of_now() {
    let scene = forty_days();
    let (alice, bob, chat) = two(&scene);
    stall(&alice, &submission(1, 1, 1));
    scene.passes(35 * DAY);
    assert_eq!(alice.sends(&submission(1, 1, 1)), Accepted(2), "it would be gone in five days at 1");
    scene.passes(30 * DAY);
    let page = bob.reads(&chat, 0);
    assert_eq!((seqs(&page), page.through.get()), (vec![2], 2));
}

#[test]
fn messages_without_end_are_kept_for_ever() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    alice.sends(&submission(1, 1, 1)).place();
    scene.passes(10_000 * DAY);
    assert_eq!(scene.removes(), 0);
    let page = bob.reads(&chat, 0);
    assert_eq!((seqs(&page), page.floor), (vec![1], Seq::ZERO));
}

#[test]
fn what_waited_longer_than_messages_are_kept_is_refused() {
    for (age, taken) in [(10 * DAY, false), (9 * DAY, true)] {
        let scene = Scene::default();
        scene.keeps(10 * DAY);
        let (alice, ..) = two(&scene);
        let answer = alice.sends(&aged(&submission(1, 1, 1), age));
        assert_eq!(matches!(answer, Accepted(1)), taken, "{answer:?}");
    }
}

/// A hot conversation: its head, or its part of the log, takes no more for a while.
#[test]
fn what_is_throttled_is_busy_and_stored_once_in_the_end() {
    for call in ["members.get", "heads.place", "log.put", "queue.publish"] {
        let scene = Scene::default();
        let (alice, bob, chat) = two(&scene);
        let (hello, again) = (alice.writes(&chat, ["hello"]), 5);
        for _ in 0..again {
            scene.fails(Before(call), Class::Throttled);
            let refusal = alice.sends(&hello).refusal();
            assert_eq!((refusal.code, refusal.retryable), (Code::Busy, true), "{call}");
            assert!(refusal.retry_after_ms.is_some_and(|wait| wait > 0), "{call}");
            scene.passes(Duration::from_millis(refusal.retry_after_ms.expect("a wait")));
        }
        let place = alice.sends(&hello).place();
        assert_eq!(alice.sends(&hello), Repeat(place), "{call}");
        assert_eq!(texts(&bob.reads(&chat, 0).cells), [(place, "hello")], "{call}");
        let news = scene.world().published();
        assert!(!news.is_empty() && news.iter().all(|parcel| parcel.news == news[0].news), "{call}");
    }
}

#[test]
fn lanes_outside_a_throttled_head_lose_nothing_either() {
    for call in ["heads.reserve", "lanes.bind"] {
        let scene = Scene::new(0);
        let (alice, bob, chat) = two(&scene);
        alice.sends(&alice.writes(&chat, ["first"])).place();
        let hello = alice.writes(&chat, ["hello"]);
        scene.fails(Before(call), Class::Throttled);
        assert_eq!(alice.sends(&hello).code(), Code::Busy, "{call}");
        let place = alice.sends(&hello).accepted();
        assert_eq!(alice.sends(&hello), Repeat(place), "{call}");
        scene.passes(grace());
        assert_eq!(texts(&bob.reads(&chat, 0).cells), [(1, "first"), (place, "hello")], "{call}");
    }
}

#[test]
fn a_throttled_conversation_does_not_hold_up_another_in_the_same_frame() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    let other = scene.direct("alice", "carol");
    let (hot, calm) = (alice.writes(&chat, ["hot"]), alice.writes(&other, ["calm"]));
    scene.fails(Before("heads.place"), Class::Throttled);
    let answers = alice.sends_together(&[&hot, &calm]);
    assert_eq!(answers[0].clone().code(), Code::Busy);
    assert_eq!(answers[1], Accepted(1));
    assert_eq!(alice.sends(&hot), Accepted(1));
}

#[test]
fn a_reader_of_a_throttled_conversation_is_busy_and_keeps_its_cursor() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    alice.sends(&alice.writes(&chat, ["hello"])).place();
    stall(&alice, &alice.writes(&chat, ["lost", "with its function"]));
    bob.sends(&bob.writes(&chat, ["hi"])).place();
    scene.passes(grace());
    for call in ["log.after", "heads.get", "log.put"] {
        scene.fails(Before(call), Class::Throttled);
        let refusal = bob.fetches(&chat, 0, None).expect_err("a refusal");
        assert_eq!((refusal.code, refusal.retry_after_ms.is_some()), (Code::Busy, true), "{call}");
    }
    let page = bob.reads(&chat, 0);
    assert_eq!((texts(&page.cells), page.through.get()), (vec![(1, "hello"), (4, "hi")], 4));
}

#[test]
fn a_call_that_is_made_twice_has_one_effect() {
    let founding = ["members.found", "heads.create", "log.put", "queue.publish"];
    let turning: &[&str] = &["heads.turn"];
    for (lanes_in_head, placing) in [(LANES_IN_HEAD, ["heads.place"].as_slice()), (0, &["heads.reserve", "lanes.bind"])]
    {
        let scene = Scene::new(lanes_in_head);
        scene.keeps(400 * DAY);
        let (alice, bob, chat) = two(&scene);
        for calls in [&founding, placing, turning] {
            let message = alice.writes(&chat, ["hello"]);
            for call in calls {
                scene.is_made_again(call);
            }
            let place = alice.sends(&message).place();
            assert_eq!(alice.sends(&message), Repeat(place), "{calls:?}");
            // The epoch is over after a hundred.
            scene.passes(60 * DAY);
        }
        let page = bob.reads(&chat, 0);
        assert_eq!(page.cells.len(), 3);
        scene.is_made_again("marks.advance");
        bob.marks(&chat, Some(page.through.get()), None).expect("taken");
        assert_eq!(alice.lists()[0].marks[0].delivered, page.through);
    }
}
