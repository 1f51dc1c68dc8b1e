//! O6: pages read backwards, on the ports in memory.

use std::{sync::Arc, time::Duration};

use poste_domain::{
    Claim, Failure, Interval, LaneKey, Membership, Retention,
    append::{Append, Settings},
    ports::{Clock, Heads, Log, Placement, Placing, Slot, Terms},
    read::{GRACE_MS, Read},
};
use poste_protocol::{
    Author, Cell, Code, ConversationId, DeviceId, Envelope, EnvelopeId, Fetch, FromServer, Message, MessageId, Number,
    Outcome, Page, Reference, Seq, Submission, UserId, limits,
};
use poste_sim::{Odds, Weather, World};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use uuid::Uuid;

const DAY_MS: u64 = 24 * 3600 * 1000;

fn user(name: &str) -> UserId {
    UserId::new(name).expect("valid")
}

fn author(name: &str) -> Author {
    Author { user: user(name), device: DeviceId::new("phone").expect("valid") }
}

fn seq(n: u64) -> Seq {
    Seq::ZERO.plus(n)
}

fn direct() -> ConversationId {
    ConversationId::direct(&user("alice"), &user("bob"))
}

struct Server {
    world: Arc<World>,
    append: Append,
    read: Read,
    retention: Retention,
    /// Of alice's envelopes and of bob's.
    numbers: [u64; 2],
    body: usize,
}

/// Whether a page lies after a number, before one, or is the newest.
type Where = (Option<u64>, Option<u64>);

impl Server {
    async fn keeping(retention: Retention) -> Self {
        let world = Arc::new(World::new(Weather::new(0, Odds::CALM), 10));
        let w = || world.clone();
        world.admit_all(&direct(), &[user("alice"), user("bob")]);
        world.create(&direct(), retention, world.now_ms()).await.expect("a head");
        Self {
            append: Append::new(w(), w(), w(), w(), w(), w(), Settings { retention, ..Settings::default() }),
            read: Read::new(w(), w(), w(), w(), w(), retention),
            world,
            retention,
            numbers: [0; 2],
            body: 1,
        }
    }

    async fn new() -> Self {
        Self::keeping(Retention::FOREVER).await
    }

    fn submission(&mut self, whose: usize, count: u128) -> (Author, Submission) {
        let (me, to) = [("alice", "bob"), ("bob", "alice")][whose];
        self.numbers[whose] += 1;
        let number = self.numbers[whose];
        let id = u128::from(number) * 2 + whose as u128;
        let body = "x".repeat(self.body);
        let message = |n| Message::new(MessageId(Uuid::from_u128(id * 100 + n)), body.clone());
        let envelope = Envelope {
            id: EnvelopeId(Uuid::from_u128(id)),
            conversation: direct(),
            to: Some(user(to)),
            number: Number::new(number).expect("positive"),
            messages: (0..count).map(message).collect(),
        };
        (author(me), Submission { envelope, age_ms: 0, attempt: 1, resolved: None })
    }

    /// Somebody writes. Returns the place.
    async fn write(&mut self, whose: usize, count: u128) -> u64 {
        let (me, submission) = self.submission(whose, count);
        self.send(&me, &submission).await
    }

    async fn send(&self, me: &Author, submission: &Submission) -> u64 {
        match self.append.append(me, submission).await {
            Ok(Outcome::Accepted { seq, .. }) => seq.get(),
            other => panic!("{other:?}"),
        }
    }

    /// An attempt gets as far as having a place, and stalls. The device goes on later, from another one.
    async fn stall(&mut self, whose: usize, count: u128) -> (Author, Submission) {
        let (me, submission) = self.submission(whose, count);
        let (envelope, now_ms) = (&submission.envelope, self.world.now_ms());
        let lane = LaneKey::of(&me);
        let placement = Placement {
            conversation: &envelope.conversation,
            lane: &lane,
            claim: Claim::of(envelope),
            terms: Terms::Next,
            now_ms,
            retention: self.retention,
            roster: None,
        };
        let mut placing = self.world.place(&placement).await.expect("a placing");
        if let Placing::EpochOver(head) = &placing {
            let next = head.next_epochs(self.retention, now_ms);
            self.world.turn(&envelope.conversation, head, &next).await.expect("a turn");
            placing = self.world.place(&placement).await.expect("a placing");
        }
        assert!(matches!(placing, Placing::Placed { .. }), "{placing:?}");
        (me, submission)
    }

    /// The stalled attempt goes on, and writes at its place.
    async fn finish(&self, (by, submission): (Author, Submission), at: u64) {
        let Envelope { id: envelope, number, messages, .. } = submission.envelope;
        let cell = Cell { seq: seq(at), envelope, number, by, at: self.world.now_ms(), messages };
        let there = self.world.put(&direct(), &Slot::Cell(cell), None).await.expect("put");
        assert_eq!(there, None);
    }

    async fn page(&self, name: &str, (after, before): Where, limit: Option<u32>) -> Page {
        let (after, before) = (after.map(seq), before.map(seq));
        let reference = Reference::new("1").expect("short");
        let fetch = Fetch { reference, conversation: direct(), after, before, limit };
        let page = self.read.page(&author(name), &fetch).await.expect("a page");
        assert!(page.after <= page.through && page.through <= page.head, "{page:?}");
        assert!(page.cells.iter().map(|cell| cell.seq).is_sorted());
        assert!(page.cells.iter().all(|cell| cell.last() <= page.through && cell.last() > page.after), "{page:?}");
        let frame = serde_json::to_string(&FromServer::Page(page.clone())).expect("serialises");
        assert!(frame.len() <= limits::FRAME_BYTES);
        page
    }

    async fn newest(&self, limit: u32) -> Page {
        self.page("bob", (None, None), Some(limit)).await
    }

    async fn before(&self, before: u64, limit: u32) -> Page {
        self.page("bob", (None, Some(before)), Some(limit)).await
    }

    fn slots(&self) -> Vec<(u64, bool)> {
        let is_void = |slot: &Slot| matches!(slot, Slot::Void(_));
        self.world.log_of(&direct()).iter().map(|slot| (slot.seq().get(), is_void(slot))).collect()
    }

    fn voids(&self) -> Vec<u64> {
        self.slots().into_iter().filter(|(_, void)| *void).map(|(seq, _)| seq).collect()
    }

    fn remove(&self) -> usize {
        (0..200).for_each(|_| self.world.remove_some());
        self.world.removed()
    }
}

fn seqs(page: &Page) -> Vec<u64> {
    page.cells.iter().map(|cell| cell.seq.get()).collect()
}

/// Where a page begins, what is in it, and where it ends.
fn shape(page: &Page) -> (u64, Vec<u64>, u64) {
    (page.after.get(), seqs(page), page.through.get())
}

async fn pass(millis: u64) {
    tokio::time::advance(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn the_newest_page_then_older_ones_to_the_beginning() {
    let mut server = Server::new().await;
    for count in [1, 2, 3, 1, 1] {
        server.write(0, count).await;
    }
    let page = server.newest(2).await;
    assert_eq!((shape(&page), page.more, page.head.get()), ((6, vec![7, 8], 8), true, 8));
    let page = server.before(7, 2).await;
    assert_eq!((shape(&page), page.more), ((3, vec![4], 6), true), "an empty page takes any cell");
    let page = server.before(4, 2).await;
    assert_eq!((shape(&page), page.more), ((1, vec![2], 3), true));
    let page = server.before(2, 2).await;
    assert_eq!((shape(&page), page.more), ((0, vec![1], 1), false), "0 is the beginning");
    let page = server.before(1, 2).await;
    assert_eq!((shape(&page), page.more), ((0, vec![], 0), false));
    assert_eq!(shape(&server.before(0, 2).await), (0, vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn a_page_is_asked_for_in_one_direction() {
    let server = Server::new().await;
    let reference = Reference::new("1").expect("short");
    let (after, before) = (Some(seq(1)), Some(seq(3)));
    let fetch = Fetch { reference, conversation: direct(), after, before, limit: None };
    let refused = server.read.page(&author("bob"), &fetch).await;
    assert!(matches!(refused, Err(Failure::Refused(no)) if no.code == Code::BadFrame));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decided_beyond_the_last_slot() {
    let mut server = Server::new().await;
    for at in [(None, None), (None, Some(9))] {
        let page = server.page("bob", at, None).await;
        assert_eq!((shape(&page), page.more, page.head.get()), ((0, vec![], 0), false, 0), "an empty log");
    }
    server.stall(0, 1).await;
    pass(GRACE_MS).await;
    assert_eq!(shape(&server.newest(9).await), (0, vec![], 0), "reserved, and nothing is written after it");
    server.write(1, 1).await;
    server.stall(0, 3).await;
    pass(GRACE_MS).await;
    for page in [server.newest(9).await, server.before(3, 9).await, server.before(1000, 9).await] {
        assert_eq!(shape(&page), (0, vec![2], 2));
    }
    assert_eq!(server.voids(), [1]);
}

#[tokio::test(start_paused = true)]
async fn the_newest_page_ends_below_a_young_hole_also_below_its_own_cells() {
    let mut server = Server::new().await;
    server.write(0, 1).await;
    server.write(0, 1).await;
    pass(GRACE_MS).await;
    let stalled = server.stall(0, 1).await;
    for _ in 0..4 {
        server.write(1, 1).await;
    }
    for limit in [1, 2, 100] {
        let page = server.newest(limit).await;
        assert_eq!(page.through.get(), 2, "4 is there and 3 is not");
        assert_eq!((page.retry_after_ms, page.head.get()), (Some(GRACE_MS), 7));
    }
    assert_eq!(shape(&server.newest(1).await), (1, vec![2], 2));
    // The page before a number keeps what is above the hole.
    let page = server.before(6, 9).await;
    assert_eq!((shape(&page), page.retry_after_ms, page.more), ((3, vec![4, 5], 5), Some(GRACE_MS), false));
    let page = server.before(4, 9).await;
    assert_eq!((shape(&page), page.retry_after_ms, page.more), ((3, vec![], 3), Some(GRACE_MS), false));
    assert!(server.voids().is_empty());

    server.finish(stalled, 3).await;
    assert_eq!(shape(&server.newest(3).await), (4, vec![5, 6, 7], 7));
    assert_eq!(shape(&server.before(5, 9).await), (0, vec![1, 2, 3, 4], 4));
}

#[tokio::test(start_paused = true)]
async fn an_old_hole_is_decided_from_its_beginning() {
    let mut server = Server::new().await;
    server.write(0, 1).await;
    let stalled = server.stall(0, 3).await;
    server.write(1, 1).await;
    pass(GRACE_MS).await;
    // Asked for from the middle of the hole: its lower numbers are decided first.
    assert_eq!(shape(&server.before(4, 9).await), (0, vec![1], 3));
    assert_eq!(server.voids(), [2, 3]);
    assert_eq!(server.send(&stalled.0, &stalled.1).await, 6, "its place was lost");
    assert_eq!(shape(&server.newest(9).await), (0, vec![1, 5, 6], 8));
    assert_eq!(server.voids(), [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_meanwhile_is_in_the_page() {
    let mut server = Server::new().await;
    let stalled = server.stall(0, 3).await;
    server.write(1, 1).await;
    pass(GRACE_MS).await;
    server.finish(stalled, 1).await;
    assert_eq!(shape(&server.newest(1).await), (3, vec![4], 4));
    assert_eq!(shape(&server.before(4, 1).await), (0, vec![1], 3));
    // From the middle of a cell: ours never ask so.
    assert_eq!(shape(&server.before(2, 1).await), (0, vec![1], 3));
    assert!(server.voids().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_page_writes_a_bounded_number_of_voids_and_the_next_goes_on() {
    let mut server = Server::new().await;
    server.write(0, 1).await;
    for _ in 0..5 {
        server.stall(0, 25).await;
    }
    server.write(1, 1).await;
    pass(GRACE_MS).await;
    let page = server.before(128, 100).await;
    assert_eq!((shape(&page), page.more), ((126, vec![127], 127), true), "126 is still missing");
    assert_eq!(server.voids().len(), 50);
    let page = server.newest(100).await;
    assert_eq!(shape(&page), (0, vec![1], 101), "it ends where it is decided");
    let page = server.before(127, 100).await;
    assert_eq!(shape(&page), (0, vec![1], 126));
    assert_eq!(server.voids().len(), 125);
    assert_eq!(shape(&server.newest(100).await), (0, vec![1, 127], 127));
}

/// An interval that ends inside a cell brings the walk down into it: whether the cell is in the page is one question for
/// the whole of it.
#[tokio::test(start_paused = true)]
async fn a_page_does_not_begin_inside_a_cell() {
    let mut server = Server::new().await;
    for count in [3, 1, 1, 1] {
        server.write(0, count).await;
    }
    let interval = |from, to: Option<u64>| Interval { from: seq(from), to: to.map(seq) };
    let twice = Membership::new(vec![interval(1, Some(2)), interval(6, None)]);
    server.world.admit(&direct(), &user("guest"), twice);
    assert_eq!(shape(&server.page("guest", (None, None), Some(2)).await), (3, vec![6], 6));
    assert_eq!(shape(&server.page("guest", (None, Some(4)), Some(2)).await), (0, vec![1], 3));
}

#[tokio::test(start_paused = true)]
async fn the_intervals_of_a_membership_are_honoured_and_end_the_way() {
    let mut server = Server::new().await;
    for _ in 0..9 {
        server.write(0, 1).await;
    }
    let interval = |from, to: Option<u64>| Interval { from: seq(from), to: to.map(seq) };
    for (name, intervals, expected) in [
        ("left", vec![interval(2, Some(3)), interval(6, Some(7))], vec![(5, vec![6, 7], 9), (0, vec![2, 3], 5)]),
        ("back", vec![interval(2, Some(3)), interval(8, None)], vec![(7, vec![8, 9], 9), (0, vec![2, 3], 7)]),
        ("late", vec![interval(9, None)], vec![(0, vec![9], 9)]),
        ("next", vec![interval(10, None)], vec![(0, vec![], 9)]),
        ("none", vec![], vec![(0, vec![], 9)]),
    ] {
        server.world.admit(&direct(), &user(name), Membership::new(intervals));
        let mut at = (None, None);
        let mut seen = Vec::new();
        loop {
            let page = server.page(name, at, Some(2)).await;
            seen.push(shape(&page));
            if page.after.is_zero() {
                break;
            }
            at = (None, Some(page.after.next().get()));
        }
        assert_eq!(seen, expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_ends_the_way_and_gets_no_voids() {
    let mut server = Server::keeping(Retention::of(40 * DAY_MS)).await;
    server.write(0, 2).await;
    pass(30 * DAY_MS).await;
    server.stall(0, 2).await;
    server.write(1, 1).await;
    pass(11 * DAY_MS).await;
    // The first is gone, though the store has it still; numbers 3 and 4 are a hole.
    let page = server.newest(1).await;
    assert_eq!((shape(&page), page.more), ((4, vec![5], 5), true));
    pass(11 * DAY_MS).await;
    assert_eq!(server.remove(), 1);
    let page = server.before(5, 9).await;
    assert_eq!((shape(&page), page.floor.get(), page.more), ((0, vec![], 4), 2, false));
    assert_eq!(server.voids(), [3, 4]);
    for n in 0..=3 {
        assert_eq!(shape(&server.before(n, 9).await), (0, vec![], n.saturating_sub(1)), "at the floor and below");
    }
    pass(60 * DAY_MS).await;
    assert_eq!(server.remove(), 4);
    for page in [server.newest(9).await, server.before(9, 9).await] {
        assert_eq!((shape(&page), page.floor.get(), page.head.get()), ((0, vec![], 5), 5, 5));
    }
    assert_eq!((server.voids(), server.world.trespasses().len()), (vec![3, 4], 0));
}

/// Whatever was written, and wherever attempts have stalled: backwards it is the same as forwards.
#[tokio::test(start_paused = true)]
async fn backwards_there_is_exactly_what_is_there_forwards() {
    for seed in 0..300 {
        let mut dice = StdRng::seed_from_u64(seed);
        let retention = Retention::of([0, 0, 40 * DAY_MS][dice.random_range(0..3)]);
        let mut server = Server::keeping(retention).await;
        server.body = [1, 1, 1, 900][dice.random_range(0..4)];
        let mut stalled = Vec::new();
        for _ in 0..dice.random_range(0..60) {
            let (whose, count) = (dice.random_range(0..2), [1, 1, 2, 25][dice.random_range(0..4)]);
            match dice.random_range(0..10) {
                0 => stalled.push(server.stall(whose, count).await),
                1 => pass(dice.random_range(0..GRACE_MS)).await,
                2 if retention != Retention::FOREVER => {
                    pass(dice.random_range(0..8 * DAY_MS)).await;
                    server.world.remove_some();
                }
                _ => drop(server.write(whose, count).await),
            }
        }
        if dice.random_bool(0.5) {
            let (from, gap) = (dice.random_range(1..40), dice.random_range(0..40));
            let first = Interval { from: seq(from), to: Some(seq(from + gap)) };
            let again = Interval { from: seq(from + gap + dice.random_range(1..20)), to: None };
            server.world.admit(&direct(), &user("bob"), Membership::new(vec![first, again]));
        }
        let forwards_first = dice.random_bool(0.3);
        let mut forwards = Vec::new();
        if forwards_first {
            forwards = walk_forwards(&server).await;
        }

        // Enter by the newest page, go on from its end, and back to the beginning.
        let newest = server.newest(dice.random_range(1..60)).await;
        let (mut oldest, cursor) = (newest.after, newest.through);
        let mut seen: Vec<_> = newest.cells.clone();
        let mut rounds = 0;
        while oldest > Seq::ZERO {
            let page = server.before(oldest.next().get(), dice.random_range(1..60)).await;
            assert_eq!(page.through, oldest, "seed {seed}: right before what was asked");
            seen.splice(0..0, page.cells);
            if let Some(wait) = page.retry_after_ms {
                pass(wait).await;
            }
            oldest = page.after;
            rounds += 1;
            assert!(rounds < 500, "seed {seed}");
        }
        let end = newest.through;
        let mut on = cursor;
        loop {
            let page = server.page("bob", (Some(on.get()), None), None).await;
            seen.extend(page.cells);
            on = page.through;
            match page.retry_after_ms {
                Some(wait) => pass(wait).await,
                None if page.more => {}
                None => break,
            }
        }
        if !forwards_first {
            forwards = walk_forwards(&server).await;
        }
        let shown = |cells: &[Cell]| cells.iter().map(|cell| cell.seq.get()).collect::<Vec<_>>();
        assert_eq!(shown(&seen), shown(&forwards), "seed {seed}, entered at {end}");
        assert_eq!(server.world.trespasses().len(), 0, "seed {seed}");
        let mut through = Seq::ZERO;
        for slot in server.world.log_of(&direct()) {
            assert!(slot.seq() > through, "seed {seed}: {slot:?} overlaps");
            through = slot.last();
        }
    }
}

async fn walk_forwards(server: &Server) -> Vec<Cell> {
    let (mut cursor, mut seen) = (Seq::ZERO, Vec::new());
    loop {
        let page = server.page("bob", (Some(cursor.get()), None), None).await;
        seen.extend(page.cells);
        cursor = page.through;
        match page.retry_after_ms {
            Some(wait) => pass(wait).await,
            None if page.more => {}
            None => return seen,
        }
    }
}
