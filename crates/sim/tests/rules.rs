//! The rules of appending and reading, case by case, on the ports in memory.

use std::{sync::Arc, time::Duration};

use poste_domain::{
    Claim, Failure, Interval, LaneKey, Membership, Retention,
    append::{Append, Settings},
    fanout::{Fanout, SETTLING_MS},
    marks::Marking,
    membership::Roll,
    ports::{Clock, Connection, Connections, Heads, Log, News, Parcel, Placement, Placing, Slot, Terms},
    read::{GRACE_MS, Read},
};
use poste_protocol::{
    Author, Cell, Code, ConversationId, DeviceId, Envelope, EnvelopeId, Fetch, FromServer, List, Mark, Message,
    MessageId, Number, Outcome, Page, Reference, Refusal, Resolved, Seq, Submission, UserId, limits,
};
use poste_sim::{Odds, Weather, World};
use uuid::Uuid;

const DAY_MS: u64 = 24 * 3600 * 1000;

fn user(name: &str) -> UserId {
    UserId::new(name).expect("valid")
}

fn author(name: &str, device: &str) -> Author {
    Author { user: user(name), device: DeviceId::new(device).expect("valid") }
}

fn seq(n: u64) -> Seq {
    Seq::ZERO.plus(n)
}

fn direct() -> ConversationId {
    ConversationId::direct(&user("alice"), &user("bob"))
}

fn submission(number: u64, id: u128, count: u128) -> Submission {
    let message = |n| Message { id: MessageId(Uuid::from_u128(id * 100 + n)), body: format!("{n}"), written_at: None };
    let envelope = Envelope {
        id: EnvelopeId(Uuid::from_u128(id)),
        conversation: direct(),
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

fn reference() -> Reference {
    Reference::new("1").expect("short")
}

struct Server {
    world: Arc<World>,
    append: Append,
    read: Read,
    marking: Marking,
    fanout: Fanout,
    retention: Retention,
}

impl Server {
    fn new(lanes_in_head: usize) -> Self {
        Self::keeping(lanes_in_head, Retention::FOREVER)
    }

    fn keeping(lanes_in_head: usize, retention: Retention) -> Self {
        let world = Arc::new(World::new(Weather::new(0, Odds::CALM), lanes_in_head));
        let w = || world.clone();
        Self {
            append: Append::new(w(), w(), w(), w(), w(), Settings { retention, ..Settings::default() }),
            read: Read::new(w(), w(), w(), w(), w(), retention),
            marking: Marking::new(w(), w(), w(), Roll::new(w(), w()), w()),
            fanout: Fanout::new(w(), w(), w(), w()),
            world,
            retention,
        }
    }

    /// An attempt gets as far as having a place, and stalls.
    async fn stall(&self, author: &Author, submission: &Submission) {
        let (envelope, now_ms) = (&submission.envelope, self.world.now_ms());
        let placement = Placement {
            conversation: &envelope.conversation,
            lane: &LaneKey::of(author),
            claim: Claim::of(envelope),
            terms: Terms::Next,
            now_ms,
            retention: self.retention,
        };
        let mut placing = self.world.place(&placement).await.expect("a placing");
        if let Placing::EpochOver(head) = &placing {
            let next = head.next_epochs(self.retention, now_ms);
            self.world.turn(&envelope.conversation, head, &next).await.expect("a turn");
            placing = self.world.place(&placement).await.expect("a placing");
        }
        assert!(matches!(placing, Placing::Placed(_)), "{placing:?}");
    }

    /// Makes the conversation of alice and bob, and nothing in it.
    async fn found(&self) {
        self.world.admit_all(&direct(), &[user("alice"), user("bob")]);
        self.world.create(&direct(), self.retention, self.world.now_ms()).await.expect("a head");
    }

    async fn send(&self, author: &Author, submission: &Submission) -> (u64, bool) {
        match self.append.append(author, submission).await {
            Ok(Outcome::Accepted { seq, repeat, .. }) => (seq.get(), repeat),
            other => panic!("{other:?}"),
        }
    }

    async fn refusal(&self, author: &Author, submission: &Submission) -> Refusal {
        match self.append.append(author, submission).await {
            Err(Failure::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    async fn page(&self, author: &Author, after: u64, limit: Option<u32>) -> Page {
        let fetch = Fetch { reference: reference(), conversation: direct(), after: seq(after), limit };
        self.read.page(author, &fetch).await.expect("a page")
    }
}

fn seqs(page: &Page) -> Vec<u64> {
    page.cells.iter().map(|cell| cell.seq.get()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_envelope_has_one_place_however_often_it_comes() {
    for lanes_in_head in [10, 0] {
        let server = Server::new(lanes_in_head);
        let alice = author("alice", "phone");
        assert_eq!(server.send(&alice, &submission(1, 1, 2)).await, (1, false));
        assert_eq!(server.send(&alice, &submission(1, 1, 2)).await, (1, true));
        let second = server.send(&alice, &submission(2, 2, 1)).await;
        assert!(!second.1 && second.0 >= 3);
        assert_eq!(server.send(&alice, &submission(1, 1, 2)).await, (1, true), "a late frame");
        let written: Vec<Slot> = server.world.log_of(&direct());
        assert_eq!(written.len(), 2, "each is stored once");
        assert_eq!(server.world.published().len(), 4, "and published at every attempt");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_with_a_state_of_before_is_told_where_its_lane_stands() {
    let server = Server::new(10);
    let alice = author("alice", "phone");
    server.send(&alice, &submission(1, 1, 1)).await;
    server.send(&alice, &submission(2, 2, 1)).await;
    for (number, id) in [(2, 20), (1, 10)] {
        let refusal = server.refusal(&alice, &submission(number, id, 1)).await;
        assert_eq!(refusal.code, Code::LaneConflict);
        let lane = refusal.lane.expect("where the lane stands");
        assert_eq!((lane.number.get(), lane.seq.get()), (2, 2));
    }
    assert_eq!(server.world.log_of(&direct()).len(), 2, "nothing of it was stored");
    assert_eq!(server.send(&alice, &submission(3, 20, 1)).await, (3, false), "renumbered");
}

#[tokio::test(start_paused = true)]
async fn a_resolved_conflict_shuts_out_what_is_left_of_an_earlier_life() {
    for lanes_in_head in [10, 0] {
        let server = Server::new(lanes_in_head);
        let alice = author("alice", "phone");
        server.send(&alice, &submission(1, 1, 1)).await;
        // The earlier life's envelope has its place, and its attempt stalls before it writes.
        let stalled = submission(2, 2, 1);
        server.stall(&alice, &stalled).await;
        let told = server.refusal(&alice, &submission(2, 20, 1)).await.lane.expect("where the lane stands");
        assert_eq!((told.number.get(), told.seq.get()), (2, 2));

        // The device has read what there is, has waited, and goes on.
        let through = Seq::ZERO.next();
        let again = Submission { resolved: Some(Resolved { lane: told, through }), ..submission(3, 20, 1) };
        let (seq, repeat) = server.send(&alice, &again).await;
        assert!(seq > 2 && !repeat);
        assert_eq!(server.send(&alice, &again).await, (seq, true), "its answer was lost");
        assert_eq!(server.refusal(&alice, &stalled).await.code, Code::LaneConflict, "nothing of it is left");
        let cells = server.world.log_of(&direct()).into_iter().filter(|slot| matches!(slot, Slot::Cell(_))).count();
        assert_eq!(cells, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_not_resolved_against_a_lane_that_has_moved_or_was_written_meanwhile() {
    let server = Server::new(10);
    let alice = author("alice", "phone");
    let stalled = submission(1, 1, 1);
    server.found().await;
    server.stall(&alice, &stalled).await;
    let told = server.refusal(&alice, &submission(1, 10, 1)).await.lane.expect("where the lane stands");
    let again = |through| Submission { resolved: Some(Resolved { lane: told, through }), ..submission(2, 10, 1) };

    // A void, and the stalled attempt is placed anew: the lane is another.
    server.world.put(&direct(), &Slot::Void(told.seq), None).await.expect("a void");
    assert_eq!(server.send(&alice, &stalled).await, (2, false));
    let moved = server.refusal(&alice, &again(told.seq)).await;
    assert_eq!(moved.lane.expect("where it stands").seq.get(), 2);

    // Told of that one, but not having read what was written there.
    let lane = moved.lane.expect("where it stands");
    let unread = Submission { resolved: Some(Resolved { lane, through: Seq::ZERO.next() }), ..submission(2, 10, 1) };
    assert_eq!(server.refusal(&alice, &unread).await.code, Code::LaneConflict);
    let read = Submission { resolved: Some(Resolved { lane, through: lane.seq }), ..submission(2, 10, 1) };
    assert_eq!(server.send(&alice, &read).await, (3, false));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_takes_no_more_numbers_than_were_reserved() {
    let server = Server::new(10);
    let (alice, bob) = (author("alice", "phone"), author("bob", "phone"));
    server.send(&bob, &from_bob(submission(1, 8, 1))).await;
    server.stall(&alice, &submission(1, 1, 1)).await;
    // The same envelope comes with three messages: they would lie over what bob writes next.
    assert_eq!(server.refusal(&alice, &submission(1, 1, 3)).await.code, Code::LaneConflict);
    server.send(&bob, &from_bob(submission(2, 9, 1))).await;
    assert_eq!(server.send(&alice, &submission(1, 1, 1)).await, (4, false), "its own place was lost to a void");
    assert_eq!(seqs(&server.page(&bob, 0, None).await), [1, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_answered_with_anothers_cell() {
    let server = Server::new(10);
    let (alice, bob) = (author("alice", "phone"), author("bob", "phone"));
    server.send(&alice, &submission(1, 1, 1)).await;
    server.send(&bob, &from_bob(submission(2, 2, 1))).await;
    assert_eq!(server.refusal(&bob, &from_bob(submission(1, 1, 1))).await.code, Code::LaneConflict);
}

#[tokio::test(start_paused = true)]
async fn what_waited_too_long_is_refused_unless_it_is_a_repeat() {
    for lanes_in_head in [10, 0] {
        let server = Server::new(lanes_in_head);
        let alice = author("alice", "phone");
        let aged = |submission: Submission, days| Submission { age_ms: days * DAY_MS, ..submission };
        server.send(&alice, &aged(submission(1, 1, 1), 30)).await;
        assert_eq!(server.send(&alice, &aged(submission(1, 1, 1), 400)).await, (1, true));
        assert_eq!(server.refusal(&alice, &aged(submission(2, 2, 1), 31)).await.code, Code::Expired);
        // An attempt of when it was younger is still alive, or its verdict was lost.
        assert_eq!(server.refusal(&alice, &submission(2, 2, 1)).await.code, Code::Expired, "a verdict stands");
        assert_eq!(server.refusal(&alice, &aged(submission(2, 2, 1), 31)).await.code, Code::Expired);
        let (next, repeat) = server.send(&alice, &submission(3, 3, 1)).await;
        assert!(next > 1 && !repeat);
        assert_eq!(server.refusal(&alice, &submission(2, 2, 1)).await.code, Code::LaneConflict, "the device moved on");
        assert_eq!(server.world.log_of(&direct()).len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_message_that_is_refused_founds_nothing_to_be_seen() {
    let server = Server::new(10);
    let alice = author("alice", "phone");
    let old = Submission { age_ms: 31 * DAY_MS, ..submission(1, 1, 1) };
    assert_eq!(server.refusal(&alice, &old).await.code, Code::Expired);
    assert_eq!(server.refusal(&alice, &submission(1, 1, 1)).await.code, Code::Expired);
    let list = server.read.list(&author("bob", "phone"), &List { reference: reference(), after: None }).await;
    assert_eq!(list.expect("a list").conversations, []);
}

#[tokio::test(start_paused = true)]
async fn strangers_are_refused_alike_whether_there_is_a_conversation_or_not() {
    let server = Server::new(10);
    let eve = author("eve", "phone");
    let before = server.refusal(&eve, &submission(1, 1, 1)).await;
    server.send(&author("alice", "phone"), &submission(1, 1, 1)).await;
    let after = server.refusal(&eve, &submission(1, 1, 1)).await;
    assert_eq!(before, after);
    assert_eq!(after.code, Code::NotMember);
    let fetch = Fetch { reference: reference(), conversation: direct(), after: Seq::ZERO, limit: None };
    assert!(matches!(server.read.page(&eve, &fetch).await, Err(Failure::Refused(r)) if r.code == Code::NotMember));
}

#[tokio::test(start_paused = true)]
async fn a_hole_is_waited_for_and_then_decided() {
    let server = Server::new(10);
    let (alice, bob) = (author("alice", "phone"), author("bob", "phone"));
    server.send(&alice, &submission(1, 1, 1)).await;
    // Alice's next envelope gets numbers 2 and 3, and its function stalls before it writes.
    let stalled = submission(2, 2, 2);
    server.stall(&alice, &stalled).await;
    server.send(&bob, &from_bob(submission(1, 9, 1))).await;

    let page = server.page(&bob, 0, None).await;
    assert_eq!((seqs(&page), page.through.get(), page.head.get()), (vec![1], 1, 4));
    let wait = page.retry_after_ms.expect("a young hole is waited for");
    assert!(!page.more);
    tokio::time::advance(Duration::from_millis(wait)).await;
    let page = server.page(&bob, 1, None).await;
    assert_eq!((seqs(&page), page.through.get(), page.retry_after_ms), (vec![4], 4, None));

    // The stalled attempt, or its retry, finds the void and takes another place: once.
    assert_eq!(server.send(&alice, &stalled).await, (5, false));
    assert_eq!(server.send(&alice, &stalled).await, (5, true));
    let page = server.page(&bob, 4, None).await;
    assert_eq!((seqs(&page), page.through.get()), (vec![5], 6));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_device_has_moved_on_does_not_take_another_place() {
    let server = Server::new(10);
    let alice = author("alice", "phone");
    let (first, second) = (submission(1, 1, 1), submission(2, 2, 1));
    server.found().await;
    server.stall(&alice, &first).await;
    // A second life of the device, without the first envelope, goes on; a reader puts a void on its place.
    server.send(&alice, &second).await;
    tokio::time::advance(Duration::from_millis(GRACE_MS)).await;
    server.page(&alice, 0, None).await;
    assert_eq!(server.refusal(&alice, &first).await.code, Code::LaneConflict);
    assert_eq!(server.world.log_of(&direct()).len(), 2, "a void and the second envelope");
}

#[tokio::test(start_paused = true)]
async fn pages_are_contiguous_and_bounded() {
    let server = Server::new(10);
    let alice = author("alice", "phone");
    let sizes = [1u128, 25, 3, 25, 25, 2, 25, 25, 25, 25, 1];
    for (n, count) in (1u64..).zip(sizes) {
        let mut submission = submission(n, u128::from(n), count);
        for message in &mut submission.envelope.messages {
            message.body = "x".repeat(300);
        }
        server.send(&alice, &submission).await;
    }
    for limit in [None, Some(1), Some(30), Some(10_000)] {
        let (mut cursor, mut seen, mut pages) = (0, Vec::new(), 0);
        loop {
            let page = server.page(&alice, cursor, limit).await;
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

#[tokio::test(start_paused = true)]
async fn a_cursor_inside_a_cell_makes_no_voids() {
    let server = Server::new(10);
    let alice = author("alice", "phone");
    server.send(&alice, &submission(1, 1, 5)).await;
    server.send(&alice, &submission(2, 2, 1)).await;
    tokio::time::advance(Duration::from_millis(GRACE_MS)).await;
    let page = server.page(&alice, 2, None).await;
    assert_eq!((seqs(&page), page.through.get()), (vec![1, 6], 6), "the whole cell, once more");
    assert!(server.world.log_of(&direct()).iter().all(|slot| matches!(slot, Slot::Cell(_))));
}

#[tokio::test(start_paused = true)]
async fn a_page_holds_what_its_reader_may_see() {
    let server = Server::new(10);
    let (alice, bob) = (author("alice", "phone"), author("bob", "phone"));
    for n in 1..=9u64 {
        server.send(&alice, &submission(n, u128::from(n), 1)).await;
    }
    let seen =
        Membership::new(vec![Interval { from: seq(2), to: Some(seq(3)) }, Interval { from: seq(7), to: Some(seq(8)) }]);
    server.world.admit(&direct(), &bob.user, seen);
    let page = server.page(&bob, 0, None).await;
    assert_eq!((seqs(&page), page.through.get()), (vec![2, 3, 7, 8], 9));
    assert_eq!(server.refusal(&bob, &from_bob(submission(1, 77, 1))).await.code, Code::NotMember, "left");
}

#[tokio::test(start_paused = true)]
async fn marks_only_move_forward_and_stay_below_the_head() {
    let server = Server::new(10);
    let (alice, bob, tablet) = (author("alice", "phone"), author("bob", "phone"), author("bob", "tablet"));
    for n in 1..=5u64 {
        server.send(&alice, &submission(n, u128::from(n), 1)).await;
    }
    let mark = |delivered: Option<u64>, read: Option<u64>| Mark {
        conversation: direct(),
        delivered: delivered.map(seq),
        read: read.map(seq),
    };
    let told = || {
        let marks = server.world.published().into_iter().filter_map(|parcel| match parcel.news {
            News::Mark(mark) => Some((mark.delivered.get(), mark.read.get())),
            News::Cell(_) => None,
        });
        marks.collect::<Vec<_>>()
    };
    server.marking.mark(&bob, &mark(Some(3), None)).await.expect("taken");
    server.marking.mark(&bob, &mark(Some(3), None)).await.expect("a repeat is told again");
    server.marking.mark(&bob, &mark(Some(2), None)).await.expect("an old one changes nothing");
    server.marking.mark(&tablet, &mark(Some(2), None)).await.expect("a slower device changes nothing for others");
    server.marking.mark(&tablet, &mark(None, Some(4))).await.expect("read is delivered");
    assert_eq!(told(), [(3, 0), (3, 0), (4, 4)]);
    let beyond = server.marking.mark(&bob, &mark(Some(6), None)).await;
    assert!(matches!(beyond, Err(Failure::Refused(r)) if r.code == Code::BadFrame));
    let list = List { reference: reference(), after: None };
    let summary = server.read.list(&alice, &list).await.expect("a list").conversations.remove(0);
    assert_eq!((summary.head.get(), summary.peer), (5, Some(user("bob"))));
    assert_eq!(summary.marks.len(), 1);
    assert_eq!((summary.marks[0].delivered.get(), summary.marks[0].read.get()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn everybody_hears_but_the_device_it_comes_from_and_the_dead_are_removed() {
    let server = Server::new(10);
    let devices = [author("alice", "phone"), author("alice", "tablet"), author("bob", "phone"), author("bob", "dead")];
    server.send(&devices[0], &submission(1, 1, 1)).await;
    tokio::time::advance(Duration::from_millis(SETTLING_MS)).await;
    let now = server.world.now_ms();
    for device in &devices {
        let id = format!("{}-{}", device.user, device.device);
        let connection = Connection { id: id.clone(), since_ms: now - SETTLING_MS, until_ms: now + 1 };
        server.world.register(device, &connection).await.expect("registered");
        if device.device.as_str() != "dead" {
            server.world.open(&id);
        }
    }
    let young = author("bob", "young");
    let connection = Connection { id: "bob-young".to_owned(), since_ms: now, until_ms: now + 1 };
    server.world.register(&young, &connection).await.expect("registered");
    let parcels = server.world.published();
    assert!(server.fanout.deliver(&parcels).await.is_empty());
    let mut posted: Vec<String> = server.world.posts().into_iter().map(|(id, _)| id).collect();
    posted.sort();
    assert_eq!(posted, ["alice-tablet", "bob-phone"]);
    let left = server.world.of(&[user("alice"), user("bob")]).await.expect("connections");
    let left: Vec<String> = left.into_iter().map(|(_, _, connection)| connection.id).collect();
    assert_eq!(left, ["alice-phone", "alice-tablet", "bob-phone", "bob-young"], "the young one is still opening");
}

#[tokio::test(start_paused = true)]
async fn an_envelope_never_overwrites_another() {
    let server = Server::new(10);
    let (alice, bob) = (author("alice", "phone"), author("bob", "phone"));
    server.found().await;
    let foreign = Cell {
        seq: seq(1),
        envelope: EnvelopeId(Uuid::from_u128(5)),
        number: Number::FIRST,
        by: bob,
        at: 0,
        messages: submission(1, 5, 1).envelope.messages,
    };
    server.world.put(&direct(), &Slot::Cell(foreign.clone()), None).await.expect("put");
    let outcome = server.append.append(&alice, &submission(1, 1, 1)).await;
    assert!(matches!(outcome, Err(Failure::Trouble(_))), "{outcome:?}");
    assert_eq!(server.world.log_of(&direct()), [Slot::Cell(foreign)]);
    let parcels: Vec<Parcel> = server.world.published();
    assert!(parcels.is_empty(), "what is not stored is not published");
}

/// Kept for 40 days, so that an epoch is ten days, and the store removes what is 51 days old.
fn forty_days() -> Server {
    Server::keeping(10, Retention::of(40 * DAY_MS))
}

async fn days(count: u64) {
    tokio::time::advance(Duration::from_millis(count * DAY_MS)).await;
}

/// Lets the store remove all that it may.
fn remove(server: &Server) -> usize {
    for _ in 0..200 {
        server.world.remove_some();
    }
    server.world.removed()
}

fn voids(server: &Server) -> usize {
    server.world.log_of(&direct()).iter().filter(|slot| matches!(slot, Slot::Void(_))).count()
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_gone_before_and_after_the_store_removes_it() {
    let server = forty_days();
    let (alice, bob) = (author("alice", "phone"), author("bob", "phone"));
    for n in 1..=3 {
        server.send(&alice, &submission(n, n.into(), 2)).await;
        days(15).await;
    }
    // Day 45. The first is gone, the second has ten days left.
    let page = server.page(&bob, 0, None).await;
    assert_eq!((seqs(&page), page.through.get(), page.floor.get()), (vec![3, 5], 6, 2));
    assert_eq!(remove(&server), 0, "the store has its time");
    days(7).await;
    assert_eq!(remove(&server), 1);
    for _ in 0..2 {
        let page = server.page(&bob, 0, None).await;
        assert_eq!((seqs(&page), page.through.get(), page.floor.get()), (vec![3, 5], 6, 2));
    }
    assert_eq!(voids(&server), 0, "what was removed is no hole");

    // Everything is gone: the list and an empty page say so.
    days(60).await;
    assert_eq!(remove(&server), 3);
    let page = server.page(&bob, 0, None).await;
    assert_eq!((seqs(&page), page.through.get(), page.floor.get(), page.more), (vec![], 6, 6, false));
    let list = server.read.list(&bob, &List { reference: reference(), after: None }).await.expect("a list");
    assert_eq!((list.conversations[0].head.get(), list.conversations[0].floor.get()), (6, 6));

    // Life goes on, and what is written now is behind what is gone.
    assert_eq!(server.send(&alice, &submission(4, 4, 1)).await, (7, false));
    let page = server.page(&bob, 0, None).await;
    assert_eq!((seqs(&page), page.through.get(), page.floor.get()), (vec![7], 7, 6));
    assert_eq!((voids(&server), server.world.trespasses().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_hole_above_what_is_gone_gets_its_void_and_nothing_else_does() {
    let server = forty_days();
    let (alice, bob) = (author("alice", "phone"), author("bob", "phone"));
    server.send(&alice, &submission(1, 1, 2)).await;
    days(30).await;
    // Numbers 3 and 4 are given, and never written.
    server.stall(&alice, &submission(2, 2, 2)).await;
    server.send(&bob, &from_bob(submission(1, 9, 1))).await;
    days(22).await;
    assert_eq!(remove(&server), 1);
    let page = server.page(&bob, 0, None).await;
    assert_eq!((seqs(&page), page.through.get(), page.floor.get()), (vec![5], 5, 2));
    assert_eq!((voids(&server), server.world.trespasses().len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_from_before_what_is_kept_is_refused_and_written_nowhere() {
    for written in [true, false] {
        let server = forty_days();
        let alice = author("alice", "phone");
        server.send(&alice, &submission(1, 1, 1)).await;
        if written {
            server.send(&alice, &submission(2, 2, 1)).await;
        } else {
            server.stall(&alice, &submission(2, 2, 1)).await;
        }
        days(60).await;
        remove(&server);
        let log = server.world.log_of(&direct());
        // Its age is what the device says; it may be wrong.
        assert_eq!(server.refusal(&alice, &submission(2, 2, 1)).await.code, Code::Expired, "nobody can tell any more");
        assert_eq!(server.world.log_of(&direct()), log);
        assert_eq!(server.send(&alice, &submission(3, 3, 1)).await, (3, false), "the lane goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_attempt_left_unwritten_is_written_at_a_place_of_now() {
    let server = forty_days();
    let (alice, bob) = (author("alice", "phone"), author("bob", "phone"));
    server.found().await;
    server.stall(&alice, &submission(1, 1, 1)).await;
    days(35).await;
    assert_eq!(server.send(&alice, &submission(1, 1, 1)).await, (2, false), "it would be gone in five days at 1");
    days(30).await;
    let page = server.page(&bob, 0, None).await;
    assert_eq!((seqs(&page), page.through.get()), (vec![2], 2));
}

#[tokio::test(start_paused = true)]
async fn messages_without_end_are_kept_for_ever() {
    let server = Server::new(10);
    let (alice, bob) = (author("alice", "phone"), author("bob", "phone"));
    server.send(&alice, &submission(1, 1, 1)).await;
    days(10_000).await;
    assert_eq!(remove(&server), 0);
    let page = server.page(&bob, 0, None).await;
    assert_eq!((seqs(&page), page.floor), (vec![1], Seq::ZERO));
}

#[tokio::test(start_paused = true)]
async fn what_waited_longer_than_messages_are_kept_is_refused() {
    let server = Server::keeping(10, Retention::of(10 * DAY_MS));
    let alice = author("alice", "phone");
    let aged = |age_ms| Submission { age_ms, ..submission(1, 1, 1) };
    assert_eq!(server.refusal(&alice, &aged(10 * DAY_MS)).await.code, Code::Expired);
    let server = Server::keeping(10, Retention::of(10 * DAY_MS));
    assert_eq!(server.send(&alice, &aged(10 * DAY_MS - 1)).await, (1, false));
}
