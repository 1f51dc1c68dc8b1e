//! What every implementation of a port must do: one suite per port, run on the ports in memory and on those of AWS.
//! [`contract_tests!`](crate::contract_tests) makes the tests. Each case works on ids of its own, so that all may share
//! one deployment.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use poste_domain::{
    Claim, Farewell, FileId, Interval, Lane, LaneKey, Member, Membership, Pushes, Retention, TokenHash,
    ports::{
        Address, Audience, Callback, Connection, Connections, Courier, Devices, Files, Group, Head, Heads, Log, Marks,
        Members, Mutes, News, Noted, Parcel, Period, Placement, Placing, Posted, Presence, Push, Pushed, Pusher,
        Quotas, Registered, Registration, Slot, Standing, StoredFile, Terms, Told, Upload, Uploads, UserMarks, Wake,
        Wakeable, Wakes,
    },
};
use poste_protocol::{
    Author, Cell, ConversationId, Delivery, DeliveryItem, DeviceId, Digest, EnvelopeId, FromServer, Link, Mark,
    MediaFile, MediaId, MemberMark, Message, MessageId, Number, Platform, ProviderToken, PushId, PushStatus, PushStyle,
    Role, Seq, UserId, part_range,
};
use uuid::Uuid;

/// The ports of one deployment.
#[derive(Clone)]
pub struct Ports {
    /// Heads and lanes.
    pub heads: Arc<dyn Heads>,
    /// How many lanes live in the head.
    pub lanes_in_head: usize,
    /// The log.
    pub log: Arc<dyn Log>,
    /// Members.
    pub members: Arc<dyn Members>,
    /// Marks.
    pub marks: Arc<dyn Marks>,
    /// Connections.
    pub connections: Arc<dyn Connections>,
    /// The first answer to every write is lost, and the call is made again.
    pub lose_answers: bool,
    /// Presence.
    pub presence: Arc<dyn Presence>,
    /// A queue that nobody else takes from.
    pub courier: Arc<dyn Courier>,
    /// The way to live connections.
    pub callback: Arc<dyn Callback>,
    /// Where devices can be woken.
    pub devices: Arc<dyn Devices>,
    /// What nobody wants to be woken for.
    pub mutes: Arc<dyn Mutes>,
    /// A push queue that nobody else takes from.
    pub wakes: Arc<dyn Wakes>,
    /// The way to the platforms' services.
    pub pusher: Arc<dyn Pusher>,
    /// Uploads that were begun.
    pub uploads: Arc<dyn Uploads>,
    /// What is counted.
    pub quotas: Arc<dyn Quotas>,
    /// The object store.
    pub files: Arc<dyn Files>,
    /// What is at the other end of the queues and of the connections.
    pub far_end: Arc<dyn FarEnd>,
}

/// The other end of the ports that lead out.
#[async_trait]
pub trait FarEnd: Send + Sync {
    /// Everything that has come out of the queue so far, once there is as much as this.
    async fn parcels(&self, at_least: usize) -> Vec<Parcel>;

    /// Everything that has come out of the push queue so far, once there is as much as this.
    async fn wakes(&self, at_least: usize) -> Vec<Wake>;

    /// Puts bytes at an address of the object store. The status of the answer.
    async fn put(&self, link: &Link, bytes: &[u8]) -> u16;

    /// Gets what is at an address: its length and checksum.
    async fn get(&self, link: &Link) -> Option<(u64, Digest)>;

    /// Opens a connection.
    async fn connect(&self) -> Box<dyn Line>;
}

/// A live connection, at its device's end.
#[async_trait]
pub trait Line: Send {
    /// As the gateway names it.
    fn id(&self) -> &str;

    /// Waits until a delivery has come.
    async fn hears(&mut self, delivery: &Delivery);

    /// Closes it.
    async fn hang_up(&mut self);

    /// Waits until the other side has closed it.
    async fn ends(&mut self);
}

/// Makes a test of every case. `$ports` is an async expression that gives [`Ports`].
#[macro_export]
macro_rules! contract_tests {
    ($ports:expr) => {
        $crate::contract_tests!(@each $ports;
            heads_are_made_once,
            a_claim_has_one_place,
            a_lane_yields_to_greater_numbers_only,
            lanes_beyond_the_head_keep_the_same_rules,
            a_place_is_given_anew_only_to_its_holder,
            a_resolved_conflict_goes_on_from_its_lane_only,
            places_given_at_once_do_not_overlap,
            a_refusal_stands_in_the_lane_and_takes_no_numbers,
            numbers_are_given_only_in_an_epoch_that_admits_them,
            heads_are_read_together,
            an_event_is_placed_by_its_roster,
            a_place_that_is_lost_may_be_refused,
            slots_are_written_once,
            of_two_writers_one_wins,
            slots_come_in_order_and_in_pages,
            large_slots_come_in_more_pages,
            an_edit_is_registered_at_its_message,
            a_message_is_redacted_and_the_rest_stays,
            what_is_not_there_is_neither_registered_nor_redacted,
            messages_of_one_cell_are_redacted_at_once,
            direct_conversations_are_founded_as_often_as_one_likes,
            conversations_come_in_pages,
            what_events_make_of_users_is_guarded,
            members_come_in_pages,
            groups_only_go_forward,
            marks_move_forward,
            marks_are_read_together,
            marks_are_read_in_pages,
            what_is_read_without_receipts_is_kept_apart,
            receipts_are_as_was_decided_last,
            a_newer_connection_replaces_an_older_one,
            connections_are_read_together,
            leases_are_taken_renewed_and_given_up,
            watchers_come_and_make_room,
            news_of_a_user_are_told_once_in_a_while,
            presence_is_read_together,
            what_is_published_comes_out_as_it_was,
            what_many_publish_at_once_comes_out,
            frames_reach_the_connection_that_is_named,
            a_connection_that_is_closed_is_gone,
            a_token_wakes_its_last_registrar_only,
            a_registration_that_died_is_asked_for_anew,
            pushes_are_noted_on_those_before,
            a_member_mutes_for_themselves,
            wake_ups_come_out_as_they_were,
            a_token_has_one_endpoint,
            uploads_are_noted_on_those_before,
            a_period_is_counted_up_to_its_quota,
            a_file_comes_in_parts,
            a_file_of_one_part_is_put_once,
            an_upload_that_is_ended_is_gone,
        );
    };
    (@each $ports:expr; $($case:ident,)+) => {
        $(#[tokio::test]
        async fn $case() {
            $crate::contract::$case(&$ports.await).await;
        })+
    };
}

fn fresh(prefix: &str) -> String {
    format!("{prefix}{}", Uuid::now_v7().simple())
}

fn conversation() -> ConversationId {
    ConversationId::new(fresh("c")).expect("a valid id")
}

fn user() -> UserId {
    UserId::new(fresh("u")).expect("a valid id")
}

fn author() -> Author {
    Author { user: user(), device: device("phone") }
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).expect("a valid id")
}

fn seq(n: u64) -> Seq {
    Seq::ZERO.plus(n)
}

fn claim(number: u64, id: u128, count: u64) -> Claim {
    let number = Number::new(number).expect("positive");
    Claim { number, id: EnvelopeId(Uuid::from_u128(id)), count }
}

fn lane(claim: &Claim, first: u64) -> Lane {
    Lane::taken(claim, seq(first))
}

fn cell(at: u64, count: u64, bytes: usize) -> Slot {
    let id = |n| MessageId(Uuid::from_u128(n));
    let message = |n| Message { written_at: Some(1), ..Message::new(id(n), "x".repeat(bytes)) };
    Slot::Cell(Cell {
        seq: seq(at),
        envelope: EnvelopeId(Uuid::now_v7()),
        number: Number::FIRST,
        by: author(),
        at: 7,
        messages: (0..u128::from(count)).map(message).collect(),
    })
}

fn placed(first: u64) -> Placing {
    Placing::Placed { first: seq(first), roster: Seq::ZERO }
}

/// When everything happens that has no other time.
const NOW: u64 = 1;

async fn create(ports: &Ports, conversation: &ConversationId) {
    ports.heads.create(conversation, Retention::FOREVER, NOW).await.expect("a head");
}

async fn whole_head(ports: &Ports, conversation: &ConversationId) -> Option<Head> {
    ports.heads.head(conversation).await.expect("a look")
}

async fn head_of(ports: &Ports, conversation: &ConversationId) -> u64 {
    whole_head(ports, conversation).await.map_or(0, |head| head.head.get())
}

async fn place_on(
    ports: &Ports,
    conversation: &ConversationId,
    lane: &LaneKey,
    claim: &Claim,
    terms: Terms,
) -> Placing {
    let placement = Placement {
        conversation,
        lane,
        claim: *claim,
        terms,
        now_ms: NOW,
        retention: Retention::FOREVER,
        roster: None,
    };
    ports.heads.place(&placement).await.expect("a placing")
}

async fn place(ports: &Ports, conversation: &ConversationId, key: &LaneKey, claim: &Claim) -> Placing {
    place_on(ports, conversation, key, claim, Terms::Next).await
}

async fn put(ports: &Ports, conversation: &ConversationId, slot: &Slot) -> Option<Slot> {
    ports.log.put(conversation, slot, None).await.expect("a put")
}

/// A lane inside the head of its conversation, and one outside of another's.
async fn lanes(ports: &Ports) -> [(ConversationId, LaneKey); 2] {
    let (crowded, _, outside) = full(ports).await;
    let (roomy, inside) = (conversation(), LaneKey::of(&author()));
    create(ports, &roomy).await;
    [(roomy, inside), (crowded, outside)]
}

/// A conversation whose head is full, and a lane outside it.
async fn full(ports: &Ports) -> (ConversationId, LaneKey, LaneKey) {
    let conversation = conversation();
    create(ports, &conversation).await;
    let mut inside = LaneKey::of(&author());
    for n in 0..ports.lanes_in_head {
        inside = LaneKey::of(&author());
        let placing = place(ports, &conversation, &inside, &claim(1, 100 + n as u128, 1)).await;
        assert_eq!(placing, placed(n as u64 + 1));
    }
    (conversation, inside, LaneKey::of(&author()))
}

/// A head is made at 0, once; making it again changes nothing. Without one there is no placing.
pub async fn heads_are_made_once(ports: &Ports) {
    let (conversation, key) = (conversation(), LaneKey::of(&author()));
    assert_eq!(place(ports, &conversation, &key, &claim(1, 1, 1)).await, Placing::NoConversation);
    let anew = place_on(ports, &conversation, &key, &claim(1, 1, 1), Terms::Anew(lane(&claim(1, 1, 1), 1))).await;
    assert_eq!(anew, Placing::NoConversation);
    assert_eq!(ports.heads.lane(&conversation, &key).await.expect("a look"), None);
    create(ports, &conversation).await;
    assert_eq!(place(ports, &conversation, &key, &claim(1, 1, 3)).await, placed(1));
    create(ports, &conversation).await;
    assert_eq!(head_of(ports, &conversation).await, 3);
}

/// The same claim again finds the place it has. In the head nothing is reserved by that; outside numbers may be
/// reserved in vain.
pub async fn a_claim_has_one_place(ports: &Ports) {
    let (conversation, key) = (conversation(), LaneKey::of(&author()));
    create(ports, &conversation).await;
    let first = claim(1, 1, 2);
    assert_eq!(place(ports, &conversation, &key, &first).await, placed(1));
    assert_eq!(place(ports, &conversation, &key, &first).await, Placing::Standing(lane(&first, 1)));
    assert_eq!(ports.heads.lane(&conversation, &key).await.expect("a look"), Some(lane(&first, 1)));
    assert!(ports.lanes_in_head == 0 || head_of(ports, &conversation).await == 2);
}

/// A lane takes a claim with a greater number and another id, and no other.
pub async fn a_lane_yields_to_greater_numbers_only(ports: &Ports) {
    let (conversation, key) = (conversation(), LaneKey::of(&author()));
    create(ports, &conversation).await;
    let standing = claim(5, 50, 1);
    assert_eq!(place(ports, &conversation, &key, &standing).await, placed(1));
    for refused in [claim(5, 51, 1), claim(4, 40, 1), claim(4, 50, 1), claim(6, 50, 1)] {
        assert_eq!(place(ports, &conversation, &key, &refused).await, Placing::Standing(lane(&standing, 1)));
    }
    let head = head_of(ports, &conversation).await;
    assert!(ports.lanes_in_head == 0 || head == 1);
    assert_eq!(place(ports, &conversation, &key, &claim(9, 90, 1)).await, placed(head + 1));
}

/// Beyond the head a lane keeps the same rules; numbers may be reserved in vain, and no place is given twice. Lanes
/// inside a full head stay there.
pub async fn lanes_beyond_the_head_keep_the_same_rules(ports: &Ports) {
    let (conversation, inside, outside) = full(ports).await;
    let standing = claim(5, 50, 2);
    let Placing::Placed { first, .. } = place(ports, &conversation, &outside, &standing).await else {
        panic!("no place")
    };
    let lane = lane(&standing, first.get());
    for refused in [standing, claim(5, 51, 1), claim(4, 40, 1), claim(6, 50, 1)] {
        assert_eq!(place(ports, &conversation, &outside, &refused).await, Placing::Standing(lane));
    }
    assert_eq!(ports.heads.lane(&conversation, &outside).await.expect("a look"), Some(lane));
    let Placing::Placed { first: next, .. } = place(ports, &conversation, &outside, &claim(6, 60, 1)).await else {
        panic!("no place")
    };
    assert!(next > first.plus(1));
    if ports.lanes_in_head > 0 {
        let Placing::Placed { first: further, .. } = place(ports, &conversation, &inside, &claim(2, 2, 1)).await else {
            panic!("no place")
        };
        assert!(further > next);
    }
}

/// Other numbers go only to the claim of the envelope that the lane holds, exactly as it was seen there; and so does its
/// refusal, after which nobody gets any. Inside the head and outside.
pub async fn a_place_is_given_anew_only_to_its_holder(ports: &Ports) {
    for (conversation, key) in lanes(ports).await {
        let held = claim(5, 50, 2);
        let Placing::Placed { first, .. } = place(ports, &conversation, &key, &held).await else { panic!("no place") };
        let anew = async |claim: Claim, first: Seq| {
            place_on(ports, &conversation, &key, &claim, Terms::Anew(lane(&held, first.get()))).await
        };
        let standing = Placing::Standing(lane(&held, first.get()));
        assert_eq!(anew(claim(5, 51, 2), first).await, standing, "another id");
        assert_eq!(anew(claim(4, 50, 2), first).await, standing, "another number");
        assert_eq!(anew(held, first.next()).await, standing, "another place");
        let Placing::Placed { first: second, .. } = anew(held, first).await else { panic!("no place") };
        assert!(second > first.next(), "beyond the old range");
        assert_eq!(anew(held, first).await, Placing::Standing(lane(&held, second.get())), "done before");
        let stands = ports.heads.lane(&conversation, &key).await.expect("a look");
        assert_eq!(stands, Some(lane(&held, second.get())));
        let highest = head_of(ports, &conversation).await;
        assert!(highest > second.get());
        let refused = lane(&held.of_refusal(), highest);
        assert_eq!(anew(held.of_refusal(), first).await, Placing::Standing(lane(&held, second.get())), "too late");
        assert_eq!(anew(held.of_refusal(), second).await, Placing::Placed { first: refused.first, roster: Seq::ZERO });
        assert_eq!(anew(held, second).await, Placing::Standing(refused), "refused");
    }
}

/// A claim over a lane is placed if the lane is exactly that one; inside the head and outside.
pub async fn a_resolved_conflict_goes_on_from_its_lane_only(ports: &Ports) {
    for (conversation, key) in lanes(ports).await {
        let held = claim(5, 50, 1);
        let Placing::Placed { first, .. } = place(ports, &conversation, &key, &held).await else { panic!("no place") };
        let standing = lane(&held, first.get());
        let over =
            async |claim: Claim, over: Lane| place_on(ports, &conversation, &key, &claim, Terms::Over(over)).await;
        let moved = Lane { first: first.next(), ..standing };
        let other = Lane { id: claim(5, 51, 1).id, ..standing };
        for wrong in [moved, other] {
            assert_eq!(over(claim(6, 60, 1), wrong).await, Placing::Standing(standing));
        }
        for refused in [claim(5, 60, 1), claim(6, 50, 1)] {
            assert_eq!(over(refused, standing).await, Placing::Standing(standing));
        }
        assert!(matches!(over(claim(6, 60, 1), standing).await, Placing::Placed { first: place, .. } if place > first));
    }
}

/// Whoever reserves at the same moment gets ranges apart.
pub async fn places_given_at_once_do_not_overlap(ports: &Ports) {
    let conversation = conversation();
    create(ports, &conversation).await;
    let writers = (0..30_u64).map(|n| {
        let (ports, conversation) = (ports.clone(), conversation.clone());
        tokio::spawn(async move {
            let claim = claim(1, u128::from(n) + 1, n % 3 + 1);
            match place(&ports, &conversation, &LaneKey::of(&author()), &claim).await {
                Placing::Placed { first, .. } => first.get()..first.get() + claim.count,
                other => panic!("{other:?}"),
            }
        })
    });
    let mut taken = BTreeSet::new();
    let writers: Vec<_> = writers.collect();
    for writer in writers {
        for number in writer.await.expect("a writer") {
            assert!(taken.insert(number), "{number} was given twice");
        }
    }
    assert_eq!(taken.first(), Some(&1));
    assert!(taken.last().copied() <= Some(head_of(ports, &conversation).await));
}

/// A refusal is recorded like a claim, on the same terms, and moves no counter; nothing of its envelope has a place
/// afterwards. Inside the head and outside.
pub async fn a_refusal_stands_in_the_lane_and_takes_no_numbers(ports: &Ports) {
    for (conversation, key) in lanes(ports).await {
        let head = head_of(ports, &conversation).await;
        let (first, refused) = (claim(1, 1, 1), claim(2, 2, 3));
        assert_eq!(place(ports, &conversation, &key, &first).await, placed(head + 1));
        let refusal = refused.of_refusal();
        assert_eq!(place(ports, &conversation, &key, &refusal).await, placed(head + 1));
        assert_eq!(head_of(ports, &conversation).await, head + 1);
        let standing = Placing::Standing(lane(&refusal, head + 1));
        for late in [refused, refusal, first] {
            assert_eq!(place(ports, &conversation, &key, &late).await, standing);
        }
        assert!(matches!(place(ports, &conversation, &key, &claim(3, 3, 1)).await, Placing::Placed { .. }));
    }
}

/// When an epoch has lasted a quarter of the retention, or another retention is in force, it has to be ended before
/// numbers are given. Ending it twice is ending it once, and what is noted comes back as it was.
pub async fn numbers_are_given_only_in_an_epoch_that_admits_them(ports: &Ports) {
    for (conversation, key) in lanes(ports).await {
        let mut number = 0;
        let mut place_at = async |now_ms, keep_ms| {
            number += 1;
            let claim = claim(number, number.into(), 2);
            let retention = Retention::of(keep_ms);
            let placement = Placement {
                conversation: &conversation,
                lane: &key,
                claim,
                terms: Terms::Next,
                now_ms,
                retention,
                roster: None,
            };
            ports.heads.place(&placement).await.expect("a placing")
        };
        let ended = async |placing, now_ms, keep_ms| {
            let Placing::EpochOver(before) = placing else { panic!("{placing:?}") };
            assert_eq!(whole_head(ports, &conversation).await, Some((*before).clone()), "nothing has changed");
            let next = before.next_epochs(Retention::of(keep_ms), now_ms);
            ports.heads.turn(&conversation, &before, &next).await.expect("a turn");
            let other = before.next_epochs(Retention::of(keep_ms), now_ms + 1);
            ports.heads.turn(&conversation, &before, &other).await.expect("no second turn");
            let after = whole_head(ports, &conversation).await.expect("a head");
            assert_eq!(after, Head { epochs: next, ..*before });
        };
        ended(place_at(100, 400).await, 100, 400).await;
        assert!(matches!(place_at(100, 400).await, Placing::Placed { .. }));
        assert!(matches!(place_at(199, 400).await, Placing::Placed { .. }));
        ended(place_at(200, 400).await, 200, 400).await;
        assert!(matches!(place_at(201, 400).await, Placing::Placed { .. }));
        ended(place_at(202, 100).await, 202, 100).await;
        let head = whole_head(ports, &conversation).await.expect("a head");
        let last = head.head;
        assert!(head.floor(300) < last);
        assert_eq!(head.floor(301), last, "by the shorter retention");
        ended(place_at(900, 0).await, 900, 0).await;
        assert!(matches!(place_at(u64::from(u32::MAX), 0).await, Placing::Placed { .. }), "for ever has no epochs");
        let head = whole_head(ports, &conversation).await.expect("a head");
        assert_eq!(head.epochs.floor, last);
    }
}

/// An event has a place only where the roster is the one that it was judged by, which then is its own place; everybody
/// who is given numbers is told the roster. Inside the head and outside.
pub async fn an_event_is_placed_by_its_roster(ports: &Ports) {
    for (conversation, key) in lanes(ports).await {
        let event = async |number: u64, roster: Seq, terms: Terms| {
            let (lane, claim) = (&key, claim(number, number.into(), 1));
            let placement = Placement {
                conversation: &conversation,
                lane,
                claim,
                terms,
                now_ms: NOW,
                retention: Retention::FOREVER,
                roster: Some(roster),
            };
            ports.heads.place(&placement).await.expect("a placing")
        };
        assert_eq!(event(1, seq(99), Terms::Next).await, Placing::RosterMoved);
        let Placing::Placed { first, roster } = event(1, Seq::ZERO, Terms::Next).await else { panic!("no place") };
        assert_eq!(roster, first);
        assert_eq!(whole_head(ports, &conversation).await.expect("a head").roster, first);
        let Placing::Placed { first: next, roster } = place(ports, &conversation, &key, &claim(2, 2, 2)).await else {
            panic!("no place")
        };
        assert!(next > first);
        assert_eq!(roster, first);
        assert_eq!(event(3, Seq::ZERO, Terms::Next).await, Placing::RosterMoved);
        let Placing::Placed { first: third, .. } = event(3, first, Terms::Next).await else { panic!("no place") };
        let standing = lane(&claim(3, 3, 1), third.get());
        assert_eq!(event(3, first, Terms::Anew(standing)).await, Placing::RosterMoved);
        let Placing::Placed { first: anew, roster } = event(3, third, Terms::Anew(standing)).await else {
            panic!("no place")
        };
        assert!(anew > third);
        assert_eq!(roster, anew);
        let other = LaneKey::of(&author());
        assert!(matches!(place(ports, &conversation, &other, &claim(1, 9, 1)).await,
            Placing::Placed { roster, .. } if roster == anew));
    }
}

/// Who has a place and may not use it is refused over exactly that; nothing of the envelope has a place afterwards.
pub async fn a_place_that_is_lost_may_be_refused(ports: &Ports) {
    for (conversation, key) in lanes(ports).await {
        let held = claim(5, 50, 2);
        let Placing::Placed { first, .. } = place(ports, &conversation, &key, &held).await else { panic!("no place") };
        let standing = lane(&held, first.get());
        let elsewhere = Terms::Anew(Lane { first: first.next(), ..standing });
        let refused = place_on(ports, &conversation, &key, &held.of_refusal(), elsewhere).await;
        assert_eq!(refused, Placing::Standing(standing));
        let refused = place_on(ports, &conversation, &key, &held.of_refusal(), Terms::Anew(standing)).await;
        assert!(matches!(refused, Placing::Placed { .. }));
        for late in [Terms::Next, Terms::Anew(standing)] {
            let Placing::Standing(lane) = place_on(ports, &conversation, &key, &held, late).await else {
                panic!("a place")
            };
            assert!(lane.is_refused());
        }
    }
}

/// A hundred heads in one call; those that do not exist are left out.
pub async fn heads_are_read_together(ports: &Ports) {
    let ids: Vec<ConversationId> = (0..100).map(|_| conversation()).collect();
    for id in ids.iter().step_by(2) {
        create(ports, id).await;
    }
    let found = ports.heads.heads(&ids).await.expect("heads");
    assert_eq!(found.len(), 50);
    let found: BTreeSet<ConversationId> = found.into_iter().map(|(id, _)| id).collect();
    assert_eq!(found, ids.into_iter().step_by(2).collect());
}

/// A slot is written once; what is there comes back unchanged, whichever kind it is.
pub async fn slots_are_written_once(ports: &Ports) {
    let conversation = conversation();
    let (one, other) = (cell(1, 2, 10), cell(1, 1, 10));
    let (hole, late) = (Slot::Void(seq(3)), cell(3, 1, 10));
    assert_eq!(put(ports, &conversation, &one).await, None);
    assert_eq!(put(ports, &conversation, &hole).await, None);
    for (there, refused) in [(&one, &other), (&one, &one), (&one, &Slot::Void(seq(1))), (&hole, &late), (&hole, &hole)]
    {
        assert_eq!(put(ports, &conversation, refused).await.as_ref(), Some(there));
    }
    let found = ports.log.after(&conversation, Seq::ZERO, 10).await.expect("slots");
    assert_eq!(found.slots, [one, hole]);
}

/// Of those who put at the same moment, one is told that nothing was there, and all others find what that one put.
pub async fn of_two_writers_one_wins(ports: &Ports) {
    let conversation = conversation();
    let writers: Vec<_> = (0..16)
        .map(|n| {
            let (ports, conversation) = (ports.clone(), conversation.clone());
            tokio::spawn(async move {
                let slot = if n % 2 == 0 { cell(1, 1, 10) } else { Slot::Void(seq(1)) };
                let found = put(&ports, &conversation, &slot).await;
                (slot, found)
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for writer in writers {
        outcomes.push(writer.await.expect("a writer"));
    }
    let won: Vec<&Slot> = outcomes.iter().filter(|(_, found)| found.is_none()).map(|(slot, _)| slot).collect();
    assert_eq!(won.len(), 1);
    assert!(outcomes.iter().filter_map(|(_, found)| found.as_ref()).all(|found| found == won[0]));
}

/// Places of edits are kept apart by message, each once, and told by the redaction; who comes after it is told of it.
pub async fn an_edit_is_registered_at_its_message(ports: &Ports) {
    let conversation = conversation();
    put(ports, &conversation, &cell(5, 3, 10)).await;
    let register =
        async |index, edit| ports.log.register(&conversation, seq(5), index, seq(edit)).await.expect("an answer");
    for (index, edit) in [(0, 20), (2, 9), (2, 110), (2, 9)] {
        assert_eq!(register(index, edit).await, Registered::Intact);
    }
    assert_eq!(redact(ports, &conversation, 5, 2).await, [9, 110]);
    assert_eq!(register(2, 111).await, Registered::Redacted);
    assert_eq!(register(0, 21).await, Registered::Intact);
    assert_eq!(redact(ports, &conversation, 5, 1).await, [0_u64; 0]);
    assert_eq!(redact(ports, &conversation, 5, 0).await, [20, 21]);
    let again = redact(ports, &conversation, 5, 2).await;
    assert!([9, 110].iter().all(|edit| again.contains(edit)), "{again:?}");
}

/// Only the body goes, and only that of the one message; again is as good as once, and nothing brings it back.
pub async fn a_message_is_redacted_and_the_rest_stays(ports: &Ports) {
    let conversation = conversation();
    let (before, Slot::Cell(whole), after) = (cell(1, 1, 10), cell(2, 3, 10), cell(5, 1, 10)) else { panic!("a cell") };
    let whole = Slot::Cell(whole);
    for slot in [&before, &whole, &after] {
        put(ports, &conversation, slot).await;
    }
    let Slot::Cell(mut cell) = whole.clone() else { panic!("a cell") };
    cell.messages[1] = cell.messages[1].clone().redacted();
    let redacted = Slot::Cell(cell);
    for _ in 0..2 {
        redact(ports, &conversation, 2, 1).await;
        assert_eq!(put(ports, &conversation, &whole).await.as_ref(), Some(&redacted));
        let found = ports.log.after(&conversation, Seq::ZERO, 10).await.expect("slots");
        assert_eq!(found.slots, [before.clone(), redacted.clone(), after.clone()]);
    }
}

/// Neither brings anything into being: not where nothing is, nor where a void is.
pub async fn what_is_not_there_is_neither_registered_nor_redacted(ports: &Ports) {
    let conversation = conversation();
    let void = Slot::Void(seq(4));
    put(ports, &conversation, &void).await;
    for at in [3, 4] {
        let registered = ports.log.register(&conversation, seq(at), 0, seq(9)).await;
        assert_eq!(registered.expect("an answer"), Registered::Gone);
        assert_eq!(redact(ports, &conversation, at, 0).await, [0_u64; 0]);
    }
    assert_eq!(ports.log.after(&conversation, Seq::ZERO, 10).await.expect("slots").slots, [void]);
}

/// Who redacts beside others takes nothing back of what they did, nor do those who register meanwhile.
pub async fn messages_of_one_cell_are_redacted_at_once(ports: &Ports) {
    let conversation = conversation();
    put(ports, &conversation, &cell(1, 8, 10)).await;
    let work = (0..8).map(|index| {
        let (ports, conversation) = (ports.clone(), conversation.clone());
        tokio::spawn(async move {
            ports.log.register(&conversation, seq(1), index, seq(50)).await.expect("registered");
            while ports.log.redact(&conversation, seq(1), index).await.is_err() {}
        })
    });
    for done in work.collect::<Vec<_>>() {
        done.await.expect("no panic");
    }
    let found = ports.log.after(&conversation, Seq::ZERO, 10).await.expect("slots").slots;
    let Some(Slot::Cell(cell)) = found.first() else { panic!("{found:?}") };
    assert!(cell.messages.iter().all(|message| message.deleted && message.body.is_empty()), "{cell:?}");
    for index in 0..8 {
        assert_eq!(redact(ports, &conversation, 1, index).await, [50]);
    }
}

async fn redact(ports: &Ports, conversation: &ConversationId, cell: u64, index: usize) -> Vec<u64> {
    let mut edits = ports.log.redact(conversation, seq(cell), index).await.expect("a redaction");
    edits.sort_unstable();
    edits.into_iter().map(Seq::get).collect()
}

/// Ascending after a number, descending from one, by number and not by text; `end` is told, at the latest with a look
/// that finds nothing. What was put before is there.
pub async fn slots_come_in_order_and_in_pages(ports: &Ports) {
    let conversation = conversation();
    for n in (1..=12).rev() {
        put(ports, &conversation, &Slot::Void(seq(n))).await;
    }
    let numbers = |slots: &[Slot]| slots.iter().map(|slot| slot.seq().get()).collect::<Vec<_>>();
    let page = ports.log.after(&conversation, seq(7), 3).await.expect("slots");
    assert_eq!((numbers(&page.slots), page.end), (vec![8, 9, 10], false));
    let page = ports.log.after(&conversation, seq(10), 3).await.expect("slots");
    assert_eq!((numbers(&page.slots), page.end), (vec![11, 12], true));
    let page = ports.log.before(&conversation, seq(10), 3).await.expect("slots");
    assert_eq!((numbers(&page.slots), page.end), (vec![10, 9, 8], false));
    let page = ports.log.before(&conversation, seq(2), 3).await.expect("slots");
    assert_eq!((numbers(&page.slots), page.end), (vec![2, 1], true));
    let page = ports.log.after(&conversation, seq(12), 3).await.expect("slots");
    assert_eq!((numbers(&page.slots), page.end), (vec![], true));
}

/// A look may bring less than it was asked for; then it does not say that this is the end.
pub async fn large_slots_come_in_more_pages(ports: &Ports) {
    let conversation = conversation();
    for n in 1..=60 {
        put(ports, &conversation, &cell(n, 1, 23_000)).await;
    }
    let (mut after, mut count, mut looks) = (Seq::ZERO, 0, 0);
    loop {
        let page = ports.log.after(&conversation, after, 100).await.expect("slots");
        looks += 1;
        for slot in &page.slots {
            assert_eq!(slot.seq(), after.next());
            after = slot.last();
            count += 1;
        }
        if page.end {
            break;
        }
        assert!(looks < 10);
    }
    assert_eq!(count, 60);
}

/// Founding makes both sides members and lists the conversation for both; again it changes nothing.
pub async fn direct_conversations_are_founded_as_often_as_one_likes(ports: &Ports) {
    let (a, b, stranger) = (user(), user(), user());
    let id = ConversationId::direct(&a, &b);
    assert_eq!(ports.members.member(&id, &a).await.expect("a look"), None);
    for (one, other) in [(&a, &b), (&b, &a), (&a, &b)] {
        ports.members.found_direct(&id, one, other).await.expect("founded");
    }
    let roster = ports.members.members(&id).await.expect("members");
    assert_eq!(roster.applied, Seq::ZERO);
    let mut members = roster.members;
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut expected = [a.clone(), b.clone()].map(|user| (user, Member::plain(Membership::from_the_start())));
    expected.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(members, expected);
    assert_eq!(ports.members.member(&id, &a).await.expect("a look"), Some(Member::plain(Membership::from_the_start())));
    assert_eq!(ports.members.member(&id, &stranger).await.expect("a look"), None);
    for (user, peer) in [(&a, &b), (&b, &a)] {
        let list = ports.members.conversations(user, None, 10).await.expect("a list");
        assert_eq!(list.conversations.len(), 1);
        assert_eq!((&list.conversations[0].conversation, list.conversations[0].peer.as_ref()), (&id, Some(peer)));
        assert!(!list.more);
    }
    let own = ConversationId::direct(&a, &a);
    ports.members.found_direct(&own, &a, &a).await.expect("notes to oneself");
    assert_eq!(ports.members.members(&own).await.expect("members").members.len(), 1);
}

/// A user's conversations come by id, in pages, each once.
pub async fn conversations_come_in_pages(ports: &Ports) {
    let me = user();
    let mut expected = BTreeSet::new();
    for _ in 0..7 {
        let peer = user();
        let id = ConversationId::direct(&me, &peer);
        ports.members.found_direct(&id, &me, &peer).await.expect("founded");
        expected.insert(id);
    }
    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = ports.members.conversations(&me, after.as_ref(), 3).await.expect("a list");
        seen.extend(page.conversations.into_iter().map(|belonging| belonging.conversation));
        pages += 1;
        if !page.more {
            break;
        }
        after = seen.last().cloned();
        assert!(pages < 10);
    }
    assert_eq!(seen, expected.into_iter().collect::<Vec<_>>());
}

fn member(version: u64, intervals: &[(u64, Option<u64>)], role: Role) -> Member {
    let interval = |(from, to): &(u64, Option<u64>)| Interval { from: seq(*from), to: to.map(seq) };
    let membership = Membership::new(intervals.iter().map(interval).collect());
    let left = (!membership.is_open()).then(|| Farewell { at: 7, title: "ours \u{1f600}".to_owned() });
    Member { membership, role, version: seq(version), left }
}

/// What an event made of a user is noted once, and never over what a later event has; the user finds the group in
/// their list.
pub async fn what_events_make_of_users_is_guarded(ports: &Ports) {
    let (group, user) = (ConversationId::group(), user());
    let enter = async |member: &Member| ports.members.enter(&group, &user, member).await.expect("noted");
    let noted = async || ports.members.member(&group, &user).await.expect("a look");
    assert_eq!(noted().await, None);
    let joined = member(3, &[(3, None)], Role::Admin);
    let left = member(5, &[(3, Some(5))], Role::Admin);
    let back = member(9, &[(3, Some(5)), (9, None)], Role::Member);
    for (entry, then) in [
        (&joined, &joined),
        (&joined, &joined),
        (&left, &left),
        (&joined, &left),
        (&member(5, &[(5, None)], Role::Member), &left),
        (&back, &back),
        (&left, &back),
    ] {
        enter(entry).await;
        assert_eq!(noted().await.as_ref(), Some(then));
        let several = ports.members.several(&[(group.clone(), user.clone())]).await.expect("a look");
        assert_eq!(several, [(group.clone(), user.clone(), then.clone())]);
    }
    let list = ports.members.conversations(&user, None, 10).await.expect("a list").conversations;
    assert_eq!(list.iter().map(|belonging| &belonging.conversation).collect::<Vec<_>>(), [&group]);
    assert_eq!(list[0].peer, None);
}

/// A group's members come by id, in pages, each once; and all at once, with the event that they are as of.
pub async fn members_come_in_pages(ports: &Ports) {
    let group = ConversationId::group();
    let mut users: Vec<UserId> = (0..7).map(|_| user()).collect();
    users.push(UserId::new("+lowest").expect("a valid id"));
    users.sort();
    for user in &users {
        ports.members.enter(&group, user, &member(1, &[(1, None)], Role::Member)).await.expect("noted");
    }
    let state = Group { applied: seq(1), founded: true, title: "t".to_owned(), members: 8, admins: 0 };
    ports.members.settle(&group, &state).await.expect("settled");
    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let slice = ports.members.slice(&group, after.as_ref(), 3).await.expect("a slice");
        seen.extend(slice.members.into_iter().map(|(user, _)| user));
        pages += 1;
        if !slice.more {
            break;
        }
        after = seen.last().cloned();
        assert!(pages < 10);
    }
    assert_eq!(seen, users);
    let roster = ports.members.members(&group).await.expect("members");
    assert_eq!(roster.applied, seq(1));
    let mut all: Vec<UserId> = roster.members.into_iter().map(|(user, _)| user).collect();
    all.sort();
    assert_eq!(all, users);
}

/// How far a group's events are applied never goes back.
pub async fn groups_only_go_forward(ports: &Ports) {
    let ids: Vec<ConversationId> = (0..60).map(|_| ConversationId::group()).collect();
    let state = |applied: u64, title: &str| Group {
        applied: seq(applied),
        founded: applied > 1,
        title: title.to_owned(),
        members: applied,
        admins: 1,
    };
    assert_eq!(ports.members.group(&ids[0]).await.expect("a look"), None);
    for (given, then) in [
        (state(1, ""), state(1, "")),
        (state(4, "four"), state(4, "four")),
        (state(4, "other"), state(4, "four")),
        (state(3, "three"), state(4, "four")),
    ] {
        ports.members.settle(&ids[0], &given).await.expect("settled");
        assert_eq!(ports.members.group(&ids[0]).await.expect("a look"), Some(then));
    }
    for id in ids.iter().skip(1).step_by(2) {
        ports.members.settle(id, &state(2, "two")).await.expect("settled");
    }
    assert_eq!(ports.members.groups(&ids).await.expect("groups").len(), 31);
}

/// Marks never go back; a user's are those of the furthest device, and `read` counts as delivered.
pub async fn marks_move_forward(ports: &Ports) {
    let phone = author();
    let tablet = Author { device: device("tablet"), ..phone.clone() };
    let conversation = conversation();
    let step = async |author: &Author, delivered: Option<u64>, read: Option<u64>| {
        let mark = Mark { conversation: conversation.clone(), delivered: delivered.map(seq), read: read.map(seq) };
        let advance = ports.marks.advance(author, &mark, true).await.expect("an advance");
        let own = advance.after.own();
        assert_eq!((&own.user, &own.device), (&author.user, &author.device));
        assert_eq!(own, advance.after.told);
        (own.delivered.get(), own.read.get(), advance.moved(), advance.repeat)
    };
    assert_eq!(step(&phone, Some(5), None).await, (5, 0, true, false));
    assert_eq!(step(&phone, Some(5), None).await, (5, 0, false, true), "the same again");
    assert_eq!(step(&phone, Some(3), None).await, (5, 0, false, false), "an old one");
    assert_eq!(step(&tablet, Some(4), None).await, (5, 0, false, false), "a slower device");
    assert_eq!(step(&tablet, Some(6), Some(6)).await, (6, 6, true, false));
    assert_eq!(step(&tablet, Some(6), Some(6)).await, (6, 6, false, true));
    assert_eq!(step(&phone, Some(6), None).await, (6, 6, false, false));
    assert_eq!(step(&phone, Some(9), Some(2)).await, (9, 6, true, false));
}

/// The marks of many users and conversations in one call; those without are left out.
pub async fn marks_are_read_together(ports: &Ports) {
    let keys: Vec<(ConversationId, UserId)> = (0..110).map(|_| (conversation(), user())).collect();
    for (n, (conversation, user)) in keys.iter().enumerate().step_by(3) {
        let author = Author { user: user.clone(), device: device("phone") };
        let mark = Mark { conversation: conversation.clone(), delivered: Some(seq(n as u64 + 1)), read: None };
        ports.marks.advance(&author, &mark, true).await.expect("an advance");
    }
    let found = ports.marks.of(&keys).await.expect("marks");
    let stored = |marks: &UserMarks| marks.devices.get(&device("phone")).copied();
    assert!(found.iter().all(|(_, marks)| stored(marks) == Some(marks.told.delivered)), "of each device");
    let found: BTreeSet<_> =
        found.into_iter().map(|(c, marks)| (c, marks.told.user, marks.told.delivered.get())).collect();
    let expected = keys.into_iter().enumerate().step_by(3).map(|(n, (c, user))| (c, user, n as u64 + 1)).collect();
    assert_eq!(found, expected);
}

/// The marks of a conversation, in the order of its users, page by page.
pub async fn marks_are_read_in_pages(ports: &Ports) {
    let conversation = conversation();
    let mut users: Vec<UserId> = (0..7).map(|_| user()).collect();
    for (n, user) in users.iter().enumerate() {
        let author = Author { user: user.clone(), device: device("phone") };
        let (delivered, read) = (Some(seq(n as u64 + 2)), Some(seq(n as u64 + 1)));
        let mark = Mark { conversation: conversation.clone(), delivered, read };
        ports.marks.advance(&author, &mark, true).await.expect("an advance");
    }
    users.sort();
    let (mut found, mut sizes, mut after): (Vec<UserMarks>, _, _) = (Vec::new(), Vec::new(), None);
    loop {
        let slice = ports.marks.slice(&conversation, after.as_ref(), 3).await.expect("a slice");
        sizes.push(slice.marks.len());
        after = slice.marks.last().map(|marks| marks.told.user.clone());
        found.extend(slice.marks);
        if !slice.more {
            break;
        }
    }
    assert_eq!(sizes, [3, 3, 1]);
    assert!(found.iter().all(|marks| marks.told.delivered == marks.told.read.next()));
    assert_eq!(found.into_iter().map(|marks| marks.told.user).collect::<Vec<_>>(), users);
}

/// What was read while others are not told is the user's own; `delivered` is everybody's.
pub async fn what_is_read_without_receipts_is_kept_apart(ports: &Ports) {
    let (phone, conversation) = (author(), conversation());
    let step = async |delivered: Option<u64>, read: Option<u64>, receipts: bool| {
        let mark = Mark { conversation: conversation.clone(), delivered: delivered.map(seq), read: read.map(seq) };
        let after = ports.marks.advance(&phone, &mark, receipts).await.expect("an advance").after;
        (after.told.delivered.get(), after.told.read.get(), after.own().read.get())
    };
    assert_eq!(step(Some(4), Some(3), true).await, (4, 3, 3));
    assert_eq!(step(Some(6), Some(6), false).await, (6, 3, 6));
    assert_eq!(step(Some(7), None, true).await, (7, 3, 6));
    assert_eq!(step(Some(7), Some(5), true).await, (7, 5, 6), "on again: what is told from now on");
    let key = (conversation.clone(), phone.user.clone());
    let found = ports.marks.of(&[key]).await.expect("marks").remove(0).1;
    assert_eq!((found.told.read, found.own().read), (seq(5), seq(6)));
    let slice = ports.marks.slice(&conversation, None, 10).await.expect("a slice");
    assert_eq!(slice.marks, [found]);
}

/// Whether a user gives read receipts is as was decided last, however late an earlier decision comes.
pub async fn receipts_are_as_was_decided_last(ports: &Ports) {
    let (one, other) = (user(), user());
    let both = [one.clone(), other.clone()];
    let without = async || ports.members.without_receipts(&both).await.expect("who");
    assert_eq!(without().await, []);
    assert!(!ports.members.set_receipts(&one, false, 20).await.expect("set"));
    assert_eq!(without().await, std::slice::from_ref(&one));
    assert!(!ports.members.set_receipts(&one, true, 10).await.expect("late"), "what was decided later holds");
    assert_eq!(without().await, std::slice::from_ref(&one));
    assert!(ports.members.set_receipts(&one, true, 30).await.expect("set"));
    assert_eq!(without().await, []);
}

/// A device has one connection: the newest, and whose place it took is told. It is removed only by its own name.
pub async fn a_newer_connection_replaces_an_older_one(ports: &Ports) {
    let phone = author();
    let connection = |id: &str, since_ms| Connection { id: id.to_owned(), since_ms, until_ms: u64::from(u32::MAX) };
    let register =
        async |id: &str, since| ports.connections.register(&phone, &connection(id, since)).await.expect("an answer");
    let took_the_place_of = |id: &str, since| Registration::Registered {
        replaced: Some(connection(id, since)).filter(|_| !ports.lose_answers),
    };
    let alone = Registration::Registered { replaced: None };
    let registered = async || {
        let of = ports.connections.of(std::slice::from_ref(&phone.user)).await.expect("connections");
        of.into_iter().map(|(_, _, connection)| connection.id).collect::<Vec<_>>()
    };
    assert_eq!(register("one", 10).await, alone);
    assert_eq!(register("two", 20).await, took_the_place_of("one", 10));
    assert_eq!(register("one", 10).await, Registration::Superseded, "a handshake that its device has given up");
    assert_eq!(register("two", 20).await, alone, "the same again");
    ports.connections.remove(&phone, "one").await.expect("nothing to remove");
    assert_eq!(registered().await, ["two"]);
    ports.connections.remove(&phone, "two").await.expect("removed");
    ports.connections.remove(&phone, "two").await.expect("removed before");
    assert!(registered().await.is_empty());
    assert_eq!(register("three", 5).await, alone, "nobody is there any more");
    assert_eq!(registered().await, ["three"]);
}

/// The connections of many users in one call, each device's.
pub async fn connections_are_read_together(ports: &Ports) {
    let users: Vec<UserId> = (0..110).map(|_| user()).collect();
    let mut expected = BTreeSet::new();
    for user in users.iter().step_by(4) {
        for name in ["phone", "tablet"] {
            let author = Author { user: user.clone(), device: device(name) };
            let connection = Connection { id: fresh("x"), since_ms: 3, until_ms: u64::from(u32::MAX) };
            ports.connections.register(&author, &connection).await.expect("registered");
            expected.insert((user.clone(), author.device, connection.id));
        }
    }
    let found = ports.connections.of(&users).await.expect("connections");
    let found: BTreeSet<_> = found.into_iter().map(|(user, device, c)| (user, device, c.id)).collect();
    assert_eq!(found, expected);
}

/// A server's time for what has to do with presence.
const THEN: u64 = 1_790_000_000_000;

async fn standing(ports: &Ports, user: &UserId) -> Option<Standing> {
    let known = ports.presence.of(std::slice::from_ref(user)).await.expect("a look");
    known.into_iter().next().map(|(_, standing)| standing)
}

/// Each device of a user has a lease of its own. A renewal gives what was there before it, and so does giving up; who had
/// no lease gives up nothing.
pub async fn leases_are_taken_renewed_and_given_up(ports: &Ports) {
    let phone = author();
    let tablet = Author { device: device("tablet"), ..phone.clone() };
    assert_eq!(standing(ports, &phone.user).await, None);
    let leases = |standing: Standing| {
        standing.leases.into_iter().map(|(device, until)| (String::from(device), until)).collect::<Vec<_>>()
    };
    let of = |name: &str, until| (name.to_owned(), until);
    // A call that is made again finds its own lease.
    let found = |before: Vec<(String, u64)>, own| if ports.lose_answers { own } else { before };

    let before = ports.presence.renew(&phone, THEN + 9, THEN).await.expect("a lease");
    assert_eq!(leases(before), found(vec![], vec![of("phone", THEN + 9)]));
    let before = ports.presence.renew(&phone, THEN + 19, THEN + 10).await.expect("a lease");
    assert_eq!(leases(before), found(vec![of("phone", THEN + 9)], vec![of("phone", THEN + 19)]));
    ports.presence.renew(&tablet, THEN + 29, THEN + 20).await.expect("a lease");
    let known = standing(ports, &phone.user).await.expect("something is known");
    assert_eq!((known.seen_ms, known.told), (THEN + 20, None));
    assert_eq!(leases(known), [of("phone", THEN + 19), of("tablet", THEN + 29)]);

    let before = ports.presence.leave(&phone, THEN + 30).await.expect("gone");
    assert_eq!(leases(before), found(vec![of("phone", THEN + 19), of("tablet", THEN + 29)], vec![]));
    assert_eq!(ports.presence.leave(&phone, THEN + 40).await.expect("gone before"), Standing::default());
    let known = standing(ports, &phone.user).await.expect("something is known");
    assert_eq!((known.seen_ms, leases(known)), (THEN + 30, vec![of("tablet", THEN + 29)]));
}

/// Devices watch users, also such as were never here; the others that are named go.
pub async fn watchers_come_and_make_room(ports: &Ports) {
    let bob = author();
    let (alice, carol) = (author(), author());
    let watches = async |by: &Author, until, others: &[Author]| {
        let known = ports.presence.watch(&bob.user, by, until, others).await.expect("watched");
        known.watchers.into_iter().collect::<BTreeSet<_>>()
    };
    let of =
        |watchers: &[(&Author, u64)]| watchers.iter().map(|(by, at)| ((*by).clone(), *at)).collect::<BTreeSet<_>>();
    assert_eq!(watches(&alice, THEN + 5, &[]).await, of(&[(&alice, THEN + 5)]));
    assert_eq!(watches(&carol, THEN + 6, &[]).await, of(&[(&alice, THEN + 5), (&carol, THEN + 6)]));
    assert_eq!(watches(&carol, THEN + 7, &[alice.clone(), author()]).await, of(&[(&carol, THEN + 7)]));
    let before = ports.presence.renew(&bob, THEN + 9, THEN).await.expect("a lease");
    assert_eq!(before.watchers.into_iter().collect::<BTreeSet<_>>(), of(&[(&carol, THEN + 7)]), "whom to tell");
}

/// Others are told of a user at most once in a while, whoever asks; the same again at the same instant is once. Leases
/// that are named go.
pub async fn news_of_a_user_are_told_once_in_a_while(ports: &Ports) {
    let bob = author();
    ports.presence.renew(&bob, THEN + 9, THEN).await.expect("a lease");
    let tell = async |at_ms, here, forget: &[DeviceId]| {
        ports.presence.tell(&bob.user, Told { at_ms, here }, 50, forget).await.expect("an answer")
    };
    assert!(tell(THEN, true, &[]).await);
    assert!(tell(THEN, true, &[]).await, "the same again");
    assert!(!tell(THEN, false, &[]).await);
    assert!(!tell(THEN + 49, false, &[]).await);
    assert!(tell(THEN + 50, false, &[device("phone"), device("tablet")]).await);
    let known = standing(ports, &bob.user).await.expect("something is known");
    assert_eq!(known.told, Some(Told { at_ms: THEN + 50, here: false }));
    assert!(known.leases.is_empty());
}

/// Many users in one call; those of whom nothing is known are left out.
pub async fn presence_is_read_together(ports: &Ports) {
    let devices: Vec<Author> = (0..100).map(|_| author()).collect();
    let mut expected = BTreeSet::new();
    for phone in devices.iter().step_by(7) {
        ports.presence.renew(phone, THEN + 9, THEN).await.expect("a lease");
        expected.insert(phone.user.clone());
    }
    let users: Vec<UserId> = devices.into_iter().map(|phone| phone.user).collect();
    let found = ports.presence.of(&users).await.expect("a look");
    assert_eq!(found.into_iter().map(|(user, _)| user).collect::<BTreeSet<_>>(), expected);
}

/// How often a connection is tried that was closed, and the wait between.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

fn parcel(news: News) -> Parcel {
    Parcel::of(&author(), &conversation(), seq(4), news)
}

fn member_mark() -> MemberMark {
    MemberMark { user: user(), device: device("phone"), delivered: seq(9), read: seq(7) }
}

/// A parcel comes out of the queue unchanged, whatever characters are in it, at least once.
pub async fn what_is_published_comes_out_as_it_was(ports: &Ports) {
    let Slot::Cell(mut odd) = cell(3, 2, 10) else { panic!("a cell") };
    "\u{0} \" \\ é 👩‍👩‍👧 \u{202e} \u{fffe} \u{ffff} \u{10ffff}".clone_into(&mut odd.messages[0].body);
    let own = Parcel { audience: Audience::Own, ..parcel(News::Mark(member_mark())) };
    let riding = Parcel { marks: vec![member_mark()], ..parcel(News::Cell(odd.clone())) };
    let published = [parcel(News::Cell(odd)), parcel(News::Mark(member_mark())), own, riding];
    for parcel in &published {
        ports.courier.publish(parcel).await.expect("queued");
    }
    let taken = ports.far_end.parcels(published.len()).await;
    for parcel in &published {
        assert!(taken.contains(parcel), "{parcel:?} is not in {taken:?}");
    }
}

/// Of what many publish at once nothing is missing; no order is promised.
pub async fn what_many_publish_at_once_comes_out(ports: &Ports) {
    let published: Vec<Parcel> = (0..30).map(|_| parcel(News::Mark(member_mark()))).collect();
    let publishing = published.iter().map(|parcel| ports.courier.publish(parcel));
    futures::future::try_join_all(publishing).await.expect("queued");
    let taken = ports.far_end.parcels(published.len()).await;
    assert!(published.iter().all(|parcel| taken.contains(parcel)));
}

/// A frame reaches the connection that is named and no other; a connection that was closed, or never was, is gone.
pub async fn frames_reach_the_connection_that_is_named(ports: &Ports) {
    let (mut first, mut second) = (ports.far_end.connect().await, ports.far_end.connect().await);
    let delivery = || Delivery {
        items: vec![DeliveryItem { conversation: conversation(), cells: Vec::new(), marks: vec![member_mark()] }],
    };
    let frame = |delivery: &Delivery| serde_json::to_string(&FromServer::Delivery(delivery.clone())).expect("a frame");
    let (to_first, to_second) = (delivery(), delivery());
    assert_eq!(ports.callback.post(first.id(), &frame(&to_first)).await.expect("a post"), Posted::Taken);
    assert_eq!(ports.callback.post(second.id(), &frame(&to_second)).await.expect("a post"), Posted::Taken);
    first.hears(&to_first).await;
    second.hears(&to_second).await;
    assert_eq!(ports.callback.post("bm9ib2R5PQ==", &frame(&to_first)).await.expect("a post"), Posted::Gone);
    first.hang_up().await;
    is_gone(ports, first.id()).await;
    assert_eq!(ports.callback.post(second.id(), &frame(&to_second)).await.expect("a post"), Posted::Taken);
}

/// Whom the server closes hears no more, and others do; closing again, or what never was, is no trouble.
pub async fn a_connection_that_is_closed_is_gone(ports: &Ports) {
    let (mut first, second) = (ports.far_end.connect().await, ports.far_end.connect().await);
    for _ in 0..2 {
        ports.callback.close(first.id()).await.expect("closed");
    }
    ports.callback.close("bm9ib2R5PQ==").await.expect("nothing to close");
    first.ends().await;
    is_gone(ports, first.id()).await;
    assert_eq!(ports.callback.post(second.id(), "{}").await.expect("a post"), Posted::Taken);
}

/// The gateway may take frames for a connection for a moment after it was closed.
async fn is_gone(ports: &Ports, connection_id: &str) {
    for _ in 0..TRIES {
        if ports.callback.post(connection_id, "{}").await.expect("a post") == Posted::Gone {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("a connection that was closed is never gone");
}

fn address(token: &str) -> Address {
    let token = ProviderToken::new(token).expect("a valid token");
    let hash = TokenHash::of(Platform::Fcm, &token);
    let endpoint = format!("arn:aws:sns:us-east-1:000000000000:endpoint/GCM/x/{}", token.as_str());
    Address { platform: Platform::Fcm, style: PushStyle::Background, token: hash, endpoint }
}

async fn wakeable(ports: &Ports, author: &Author) -> Vec<Wakeable> {
    ports.devices.wakeable(&author.user).await.expect("a look")
}

async fn stands(ports: &Ports, author: &Author) -> PushStatus {
    ports.devices.awake(author, NOW).await.expect("a look")
}

/// A token is its last registrar's: nobody else is woken by it, or gives it up. A device has one registration.
pub async fn a_token_wakes_its_last_registrar_only(ports: &Ports) {
    let (alice, bob) = (author(), author());
    let (first, second) = (address(&fresh("t")), address(&fresh("t")));
    assert_eq!(stands(ports, &alice).await, PushStatus::None);
    let register = async |who: &Author, what: &Address| ports.devices.register(who, what).await.expect("done");
    assert_eq!(register(&alice, &first).await, None);
    assert_eq!(register(&alice, &first).await, None, "the same again");
    let found = wakeable(ports, &alice).await;
    assert_eq!(found.iter().map(|found| &found.registration).collect::<Vec<_>>(), [&first]);
    assert_eq!(stands(ports, &alice).await, PushStatus::Registered);
    assert_eq!(register(&bob, &first).await, None);
    assert_eq!(wakeable(ports, &alice).await, []);
    assert_eq!(stands(ports, &alice).await, PushStatus::None);
    assert_eq!(ports.devices.unregister(&alice).await.expect("done"), None);
    assert_eq!(wakeable(ports, &bob).await.len(), 1);
    assert_eq!(register(&bob, &second).await, Some(first));
    assert_eq!(wakeable(ports, &bob).await[0].registration, second);
    let other = Author { device: device("tablet"), ..bob.clone() };
    assert_eq!(register(&other, &address(&fresh("t"))).await, None);
    assert_eq!(wakeable(ports, &bob).await.len(), 2, "each device has its own");
    assert_eq!(ports.devices.unregister(&bob).await.expect("done"), Some(second));
    assert_eq!(ports.devices.unregister(&bob).await.expect("done"), None);
    assert_eq!(wakeable(ports, &bob).await.len(), 1);
}

/// A registration that died is ended if it is still the one there is, and its device is asked for another.
pub async fn a_registration_that_died_is_asked_for_anew(ports: &Ports) {
    let alice = author();
    let (first, second) = (address(&fresh("t")), address(&fresh("t")));
    ports.devices.register(&alice, &first).await.expect("done");
    ports.devices.bury(&alice, &second).await.expect("nothing to bury");
    assert_eq!(stands(ports, &alice).await, PushStatus::Registered);
    ports.devices.bury(&alice, &first).await.expect("done");
    assert_eq!(wakeable(ports, &alice).await, []);
    assert_eq!(stands(ports, &alice).await, PushStatus::Renew);
    ports.devices.register(&alice, &second).await.expect("done");
    assert_eq!(stands(ports, &alice).await, PushStatus::Registered);
}

/// What was pushed is noted on the revision before, for the token that it was pushed to; being awake is kept beside.
pub async fn pushes_are_noted_on_those_before(ports: &Ports) {
    let alice = author();
    let (first, second) = (address(&fresh("t")), address(&fresh("t")));
    ports.devices.register(&alice, &first).await.expect("done");
    let note = async |revision, token: &TokenHash| {
        let mut pushes = Pushes::default();
        pushes.revision = revision;
        ports.devices.note(&alice, token, &pushes).await.expect("an answer")
    };
    let behind = |noted: Noted| match noted {
        Noted::Behind(there) => (there.revision, there.awake_ms),
        other => panic!("{other:?}"),
    };
    assert_eq!(behind(note(2, &first.token).await), (0, 0), "nothing is before it");
    assert_eq!(note(1, &first.token).await, Noted::Done);
    assert_eq!(behind(note(3, &first.token).await), (1, 0));
    assert_eq!(note(2, &second.token).await, Noted::Gone, "another token");
    assert_eq!(ports.devices.awake(&alice, 77).await.expect("noted"), PushStatus::Registered);
    assert_eq!(note(2, &first.token).await, Noted::Done);
    assert_eq!(behind(note(4, &first.token).await), (2, 77));
    let pushes = wakeable(ports, &alice).await.remove(0).pushes;
    assert_eq!((pushes.revision, pushes.awake_ms), (2, 77));
    // Another token, and the pushes stay.
    ports.devices.register(&alice, &second).await.expect("done");
    assert_eq!(wakeable(ports, &alice).await[0].pushes, pushes);
    assert_eq!(note(3, &first.token).await, Noted::Gone);
    assert_eq!(note(3, &second.token).await, Noted::Done);
    ports.devices.unregister(&alice).await.expect("done");
    assert_eq!(note(4, &second.token).await, Noted::Gone);
}

/// A member's mute is theirs; strangers have none.
pub async fn a_member_mutes_for_themselves(ports: &Ports) {
    let (conversation, alice, bob) = (conversation(), user(), user());
    assert!(!ports.mutes.mute(&conversation, &alice, 5).await.expect("an answer"), "no member");
    ports.members.found_direct(&conversation, &alice, &bob).await.expect("founded");
    assert!(ports.mutes.mute(&conversation, &alice, 5).await.expect("an answer"));
    assert!(ports.mutes.mute(&conversation, &alice, 9).await.expect("an answer"));
    let users = [alice.clone(), user(), bob.clone()];
    let standings = ports.mutes.candidates(&conversation, &users).await.expect("standings");
    let found: BTreeSet<_> = standings.iter().map(|s| (s.user.clone(), s.muted_until_ms)).collect();
    assert_eq!(found, BTreeSet::from([(alice.clone(), 9), (bob, 0)]));
    assert!(standings.iter().all(|standing| standing.membership == Membership::from_the_start()));
    assert!(ports.mutes.mute(&conversation, &alice, 0).await.expect("an answer"));
    let member = ports.members.member(&conversation, &alice).await.expect("a look").expect("a member");
    assert_eq!(member.membership, Membership::from_the_start(), "a mute leaves the membership as it is");
    // And what happens to a group leaves the mute as it is.
    assert!(ports.mutes.mute(&conversation, &alice, 7).await.expect("an answer"));
    let out = Member { membership: member.membership.closed(seq(3)), version: seq(3), ..member };
    ports.members.enter(&conversation, &alice, &out).await.expect("entered");
    let standings = ports.mutes.candidates(&conversation, std::slice::from_ref(&alice)).await.expect("standings");
    assert_eq!((standings[0].muted_until_ms, &standings[0].membership), (7, &out.membership));
}

/// Wake-ups come out of their queue unchanged, more of them than one call of a queue takes.
pub async fn wake_ups_come_out_as_they_were(ports: &Ports) {
    let wake = |n: u64| Wake {
        envelope: Some(EnvelopeId::fresh()),
        conversation: conversation(),
        seq: seq(n),
        through: seq(n + 1),
        at_ms: n,
        users: (0..n).map(|_| user()).collect(),
        content: n.is_multiple_of(2).then(|| "\u{0} \" é \u{ffff}".to_owned()),
    };
    let wakes: Vec<(Wake, u64)> = (0..23).map(|n| (wake(n), n % 2 * 1_000)).collect();
    assert_eq!(ports.wakes.queue(&wakes).await, vec![Ok(()); wakes.len()]);
    let out = ports.far_end.wakes(wakes.len()).await;
    assert!(wakes.iter().all(|(wake, _)| out.contains(wake)));
}

/// A token has one endpoint, whoever registers it, until that is removed; then nobody is there.
pub async fn a_token_has_one_endpoint(ports: &Ports) {
    let token = ProviderToken::new(fresh("t")).expect("a valid token");
    let ask = async |owner: &Author| {
        ports.pusher.endpoint(Platform::Fcm, &token, owner).await.expect("an answer").expect("a token")
    };
    let (alice, bob) = (author(), author());
    let endpoint = ask(&alice).await;
    assert_eq!(ask(&alice).await, endpoint);
    assert_eq!(ask(&bob).await, endpoint);
    let to = Address { endpoint: endpoint.clone(), ..address(token.as_str()) };
    let push =
        Push { id: PushId::fresh(), conversation: conversation(), seq: seq(1), badge: 1, ttl_s: 60, content: None };
    assert_eq!(ports.pusher.push(&to, &push).await.expect("an answer"), Pushed::Taken);
    ports.pusher.remove(&endpoint).await.expect("removed");
    ports.pusher.remove(&endpoint).await.expect("removed before");
    assert_eq!(ports.pusher.push(&to, &push).await.expect("an answer"), Pushed::Gone);
    ask(&alice).await;
}

fn file_id() -> FileId {
    FileId { conversation: conversation(), user: user(), media: MediaId::fresh() }
}

fn upload(name: Option<&str>) -> Upload {
    let file = MediaFile { size: 7, sha256: Digest::of(b"x"), kind: "image/png".to_owned() };
    Upload { file, name: name.map(str::to_owned), begun_at: NOW }
}

/// An upload is noted in the place of the one that was known, and of no other.
pub async fn uploads_are_noted_on_those_before(ports: &Ports) {
    let (id, uploads) = (file_id(), &ports.uploads);
    let known = async || uploads.upload(&id).await.expect("an answer");
    let note =
        async |before: Option<&Upload>, upload: &Upload| uploads.note(&id, before, upload).await.expect("an answer");
    assert_eq!(known().await, None);
    let (first, second) = (upload(Some("a")), upload(Some("b")));
    assert!(note(None, &first).await);
    assert!(!note(None, &second).await);
    assert!(note(Some(&first), &second).await);
    assert!(!note(Some(&first), &upload(Some("c"))).await);
    assert_eq!(known().await, Some(second));
    uploads.forget(&id).await.expect("forgotten");
    uploads.forget(&id).await.expect("forgotten before");
    assert_eq!(known().await, None);
    let whole = upload(None);
    assert!(note(None, &whole).await);
    assert_eq!(known().await, Some(whole));
}

/// What fits in a period is counted, and what does not is not.
pub async fn a_period_is_counted_up_to_its_quota(ports: &Ports) {
    let name = user().to_string();
    let count = async |number: u64, amount| {
        let period = Period { length_s: 86_400, number: 30_000 + number };
        ports.quotas.take(&name, period, amount, 10).await.expect("an answer")
    };
    assert!(!count(1, 11).await);
    assert!(count(1, 3).await);
    if ports.lose_answers {
        // It may have been counted twice, and no more is promised.
        return;
    }
    assert!(!count(1, 8).await);
    assert!(count(1, 7).await);
    assert!(!count(1, 1).await);
    assert!(count(2, 10).await);
}

/// A file is made of its parts, which are what was announced of them; kept, it is not unsent any more.
pub async fn a_file_comes_in_parts(ports: &Ports) {
    let (id, files) = (file_id(), &ports.files);
    let bytes: Vec<u8> = (0..5 * 1024 * 1024 + 3).map(|n: u32| n.to_le_bytes()[n as usize % 4]).collect();
    let part = |n| {
        let (from, count) = part_range(bytes.len() as u64, n);
        &bytes[usize::try_from(from).expect("small")..][..usize::try_from(count).expect("small")]
    };
    let whole = Digest::of_parts(&[Digest::of(part(1)), Digest::of(part(2))]);
    assert_eq!(files.look(&id).await, Ok(None));
    assert_eq!(files.keep(&id).await, Ok(false));
    let name = files.begin(&id, "video/mp4").await.expect("begun");
    assert_eq!(files.parts(&id, &name).await, Ok(Some(Vec::new())));
    for n in [2, 1] {
        let (right, count) = (part(n), part(n).len() as u64);
        let link = files.part_link(&id, &name, n, count, &Digest::of(right)).await.expect("an address");
        let mut wrong = right.to_vec();
        wrong[0] ^= 1;
        assert_eq!(ports.far_end.put(&link, &wrong).await, 400, "other bytes");
        assert_eq!(ports.far_end.put(&link, right).await, 200);
        assert_eq!(ports.far_end.put(&link, right).await, 200, "again");
    }
    let mut listed = files.parts(&id, &name).await.expect("an answer").expect("there");
    listed.sort_by_key(|part| part.part);
    let seen: Vec<_> = listed.iter().map(|part| (part.part, part.size, part.sha256)).collect();
    let sum = |n| Some(Digest::of(part(n)));
    assert_eq!(seen, [(1, part(1).len() as u64, sum(1)), (2, 3, sum(2))]);
    assert_eq!(files.look(&id).await, Ok(None), "not before it is joined");
    assert_eq!(files.join(&id, &name, &listed).await, Ok(true));
    files.join(&id, &name, &listed).await.expect("joined before");
    assert_eq!(files.parts(&id, &name).await, Ok(None));
    let size = bytes.len() as u64;
    assert_eq!(files.look(&id).await, Ok(Some(StoredFile { size, sha256: whole, sent: false })));
    for _ in 0..2 {
        assert_eq!(files.keep(&id).await, Ok(true));
        assert_eq!(files.look(&id).await, Ok(Some(StoredFile { size, sha256: whole, sent: true })));
    }
    let link = files.get_link(&id, "video/mp4", Some("a \"b\".mp4")).await.expect("an address");
    assert_eq!(ports.far_end.get(&link).await, Some((size, whole)));
    for _ in 0..2 {
        files.remove(&id).await.expect("removed");
        assert_eq!(files.look(&id).await, Ok(None));
    }
    assert_eq!(ports.far_end.get(&link).await, None);
}

/// What is small comes as one, and nothing takes its place.
pub async fn a_file_of_one_part_is_put_once(ports: &Ports) {
    let (id, files) = (file_id(), &ports.files);
    let sha256 = Digest::of(b"a picture");
    let file = MediaFile { size: 9, sha256, kind: "image/png".to_owned() };
    let link = files.whole_link(&id, &file).await.expect("an address");
    assert_eq!(ports.far_end.put(&link, b"a_picture").await, 400);
    assert_eq!(files.look(&id).await, Ok(None));
    assert_eq!(ports.far_end.put(&link, b"a picture").await, 200);
    assert_eq!(files.look(&id).await, Ok(Some(StoredFile { size: 9, sha256, sent: false })));
    assert_eq!(files.keep(&id).await, Ok(true));
    assert_eq!(ports.far_end.put(&link, b"a picture").await, 412);
    assert_eq!(files.look(&id).await, Ok(Some(StoredFile { size: 9, sha256, sent: true })), "it stays kept");
    let link = files.get_link(&id, "image/png", None).await.expect("an address");
    assert_eq!(ports.far_end.get(&link).await, Some((9, sha256)));
}

/// An upload that is ended takes nothing any more, and comes to nothing.
pub async fn an_upload_that_is_ended_is_gone(ports: &Ports) {
    let (id, files) = (file_id(), &ports.files);
    let name = files.begin(&id, "image/png").await.expect("begun");
    let link = files.part_link(&id, &name, 1, 1, &Digest::of(b"x")).await.expect("an address");
    assert_eq!(ports.far_end.put(&link, b"x").await, 200);
    let listed = files.parts(&id, &name).await.expect("an answer").expect("there");
    for _ in 0..2 {
        files.end(&id, &name).await.expect("ended");
        assert_eq!(files.parts(&id, &name).await, Ok(None));
    }
    assert_eq!(ports.far_end.put(&link, b"x").await, 404);
    assert_eq!(files.join(&id, &name, &listed).await, Ok(false));
    assert_eq!(files.look(&id).await, Ok(None));
}
