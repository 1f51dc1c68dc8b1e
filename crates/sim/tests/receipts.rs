//! Receipts, case by case, on ports in memory (D2, D3, D4, O7): whom a mark reaches, and what who asks is told.

use std::sync::Arc;

use async_trait::async_trait;
use poste_client::State;
use poste_domain::{
    Class, Retention, Trouble,
    marks::Marking,
    ports::{Advance, Audience, Marks, MarksSlice, News, UserMarks},
    roll::Roll,
};
use poste_protocol::{Author, Code, ConversationId, Event, Mark, Seq, UserId};
use poste_sim::{
    Odds, Weather, World,
    scene::{Answer::Accepted, Before, Chat, Device, Line, Phone, SECOND, Scene},
};

fn named(n: usize) -> String {
    format!("u{n:03}")
}

/// A group of so many members: alice and others, in the order of their numbers.
fn group_of(scene: &Scene, members: usize) -> (Device, Chat) {
    let (alice, group) = (scene.device("alice", "phone"), scene.group());
    alice.sends(&alice.creates(&group, "choir", [])).accepted();
    let others: Vec<UserId> = (1..members).map(|n| UserId::new(named(n)).expect("a name")).collect();
    for users in others.chunks(100) {
        alice.sends(&alice.does(&group, Event::Added { users: users.to_vec() })).accepted();
    }
    (alice, group)
}

/// D3, O7: above the threshold a mark reaches the own other devices and nobody else; below it everybody.
#[test]
fn marks_are_relayed_in_small_groups_only() {
    for (members, is_relayed) in [(32, true), (33, false)] {
        let scene = Scene::default();
        let (alice, group) = group_of(&scene, members);
        let head = scene.world().head_of(&group.id).get();
        let bob = scene.device("u001", "phone");
        let mut screens = [alice.connects(), bob.connects(), scene.device("u001", "desk").connects()];
        scene.delivers();
        for screen in &mut screens {
            screen.hears();
        }
        scene.counts_calls();
        bob.marks(&group, Some(head), Some(head)).expect("taken");
        scene.delivers();
        let told =
            screens.map(|mut screen| screen.hears().marks.iter().map(|mark| mark.read.get()).collect::<Vec<_>>());
        let others = if is_relayed { vec![head] } else { vec![] };
        assert_eq!(told, [others, vec![], vec![head]], "{members} members");
        assert!(is_relayed || !scene.calls().contains(&"members.query"), "nobody has to be looked up");
    }
}

/// D3: a group that grows past the threshold is large from then on, also for a function that knew it as small.
#[test]
fn a_group_that_has_grown_is_large() {
    let scene = Scene::default();
    let (alice, group) = group_of(&scene, 32);
    let bob = scene.device("u001", "phone");
    bob.marks(&group, Some(2), None).expect("taken");
    alice.sends(&alice.adds(&group, ["one-more"])).accepted();
    bob.marks(&group, Some(3), None).expect("taken");
    let parcels = scene.world().published().into_iter();
    let marks = parcels.filter(|parcel| matches!(parcel.news, News::Mark(_)));
    let audiences: Vec<_> = marks.map(|parcel| parcel.audience).collect();
    assert_eq!(audiences, [Audience::Everyone, Audience::Own]);
}

/// D3: who asks is answered exactly, also of 500 members; a page is one query of the marks, whatever it takes besides.
#[test]
fn a_page_is_one_query_of_the_marks() {
    let scene = Scene::default();
    let (alice, group) = group_of(&scene, 500);
    let place = alice.sends(&alice.writes(&group, ["who has read this?"])).accepted();
    for n in 1..500 {
        let (delivered, read) = (n % 5 > 0, n % 5 > 2);
        if delivered {
            let device = scene.device(&named(n), "phone");
            device.marks(&group, Some(place), read.then_some(place)).expect("taken");
        }
    }
    alice.receipts(&group, place).expect("warm");
    scene.counts_calls();
    let told = alice.receipts(&group, place).expect("told");
    let pages = ["heads.get", "marks.slice", "receipts.get"].repeat(3);
    assert_eq!(scene.calls(), pages, "399 marks in pages of 150");
    let expected = (1..500).filter(|n| n % 5 > 0).map(|n| {
        let read = if n % 5 > 2 { place } else { 0 };
        (named(n), place, read)
    });
    assert_eq!(told, expected.collect::<Vec<_>>());
}

/// O5: nothing is told to who is not in, nor of who is not, nor of places that somebody does not see.
#[test]
fn receipts_are_for_members_and_of_members() {
    let scene = Scene::default();
    let (alice, bob, carol) =
        (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.device("carol", "phone"));
    let group = scene.group();
    alice.sends(&alice.creates(&group, "t", ["bob"])).accepted();
    alice.sends(&alice.writes(&group, ["one"])).accepted();
    bob.marks(&group, Some(2), Some(2)).expect("taken");
    let of = |device: &Device, place| device.receipts(&group, place).map_err(|no| no.code);
    let told = |users: &[(&str, u64, u64)]| {
        Ok(users.iter().map(|(user, delivered, read)| ((*user).to_owned(), *delivered, *read)).collect())
    };
    assert_eq!(of(&carol, 2), Err(Code::NotMember), "a stranger");
    let nowhere = scene.group();
    assert_eq!(carol.receipts(&nowhere, 1).map_err(|no| no.code), Err(Code::NotMember), "no such group");
    assert_eq!(of(&alice, 2), told(&[("bob", 2, 2)]));
    assert_eq!(of(&alice, 3), told(&[("bob", 2, 2)]), "what is not written yet nobody has");
    alice.sends(&alice.removes(&group, ["bob"])).accepted();
    assert_eq!(of(&alice, 2), told(&[]), "who is not in any more");
    assert_eq!(of(&bob, 2), Err(Code::NotMember));
    alice.sends(&alice.writes(&group, ["without bob"])).accepted();
    alice.sends(&alice.adds(&group, ["bob"])).accepted();
    bob.marks(&group, Some(5), Some(5)).expect("taken");
    assert_eq!(of(&alice, 4), told(&[]), "what was written meanwhile they did not see, whatever their mark says");
    assert_eq!(of(&alice, 2), told(&[("bob", 5, 5)]), "and what was written before they did");
    alice.marks(&group, Some(4), Some(4)).expect("taken");
    assert_eq!(of(&bob, 5), told(&[("alice", 3, 3), ("bob", 5, 5)]), "told up to where the asker sees");
    assert_eq!(of(&bob, 4), told(&[]), "of what the asker does not see nothing is told");
}

/// D2: of a direct conversation one asks in the same way.
#[test]
fn a_direct_conversation_has_receipts_too() {
    let scene = Scene::default();
    let (alice, bob, chat) =
        (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.direct("alice", "bob"));
    assert_eq!(alice.receipts(&chat, 1).map_err(|no| no.code), Err(Code::NotMember));
    alice.sends(&alice.writes(&chat, ["hi"])).accepted();
    assert_eq!(alice.receipts(&chat, 1), Ok(Vec::new()));
    bob.marks(&chat, Some(1), None).expect("taken");
    assert_eq!(alice.receipts(&chat, 1), Ok(vec![("bob".to_owned(), 1, 0)]));
    assert_eq!(scene.device("eve", "phone").receipts(&chat, 1).map_err(|no| no.code), Err(Code::NotMember));
}

/// D2: in a large group the states of own messages move when the application asks.
#[test]
fn ticks_in_a_large_group_move_when_somebody_asks() {
    let scene = Scene::default();
    let (_, group) = group_of(&scene, 34);
    let mut phone = scene.phone("alice", "library");
    phone.goes_online();
    phone.writes_in(&group, "hello");
    let state = |phone: &mut Phone| phone.shows(&group).into_iter().find(|(body, _)| body == "hello").map(|(_, s)| s);
    let place = scene.world().head_of(&group.id).get();
    scene.device("u001", "phone").marks(&group, Some(place), None).expect("taken");
    scene.device("u002", "phone").marks(&group, Some(place), Some(place)).expect("taken");
    scene.delivers();
    phone.waits(SECOND);
    assert_eq!(state(&mut phone), Some(State::Sent));
    let told = [(named(1), State::Delivered), (named(2), State::Read)];
    assert_eq!(phone.asks_who_has("hello"), Some(told.into()));
    assert_eq!(state(&mut phone), Some(State::Read));
}

/// D3: a mark rides along with an envelope; neither fails the other.
#[test]
fn marks_ride_along_with_envelopes() {
    let scene = Scene::default();
    let (alice, bob, chat) =
        (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.direct("alice", "bob"));
    alice.sends(&alice.writes(&chat, ["hi"])).accepted();
    let both = bob.sends_and_marks(&bob.writes(&chat, ["hello"]), &chat, Some(1), Some(1));
    assert_eq!(both, (Accepted(2), None));
    assert_eq!(alice.receipts(&chat, 1), Ok(vec![("bob".to_owned(), 1, 1)]));
    let (answer, refused) = bob.sends_and_marks(&bob.writes(&chat, ["and"]), &chat, Some(9), None);
    assert_eq!((answer, refused.map(|no| no.code)), (Accepted(3), Some(Code::BadFrame)), "beyond the head");
    scene.fails(Before("marks.advance"), Class::Transient);
    let (answer, refused) = bob.sends_and_marks(&bob.writes(&chat, ["so"]), &chat, Some(2), None);
    assert_eq!((answer, refused.map(|no| no.code)), (Accepted(4), Some(Code::Unavailable)));
    scene.fails(Before("log.put"), Class::Transient);
    let (answer, refused) = bob.sends_and_marks(&bob.writes(&chat, ["on"]), &chat, Some(2), None);
    assert_eq!((answer.code(), refused), (Code::Unavailable, None));
}

/// D3: who answers has read it: both are told at once, by one parcel and one frame. What others may not hear goes by itself.
#[test]
fn a_mark_shares_the_parcel_of_what_is_written_with_it() {
    let scene = Scene::default();
    let (alice, bob, chat) =
        (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.direct("alice", "bob"));
    let mut screen = alice.connects();
    alice.sends(&alice.writes(&chat, ["hi"])).accepted();
    scene.delivers();
    let marks_in_parcels = || scene.world().published().iter().map(|parcel| parcel.marks.len()).collect::<Vec<_>>();
    let before = marks_in_parcels().len();
    let both = bob.sends_and_marks(&bob.writes(&chat, ["hello"]), &chat, Some(1), Some(1));
    assert_eq!(both, (Accepted(2), None));
    assert_eq!(marks_in_parcels()[before..], [1]);
    scene.delivers();
    let heard = screen.hears();
    assert_eq!((heard.cells.len(), heard.marks.len()), (1, 1));
    assert_eq!((heard.marks[0].delivered.get(), heard.marks[0].read.get()), (1, 1));
    // The queue fails: neither may be said to be taken.
    scene.fails(Before("queue.publish"), Class::Transient);
    let (answer, refused) = bob.sends_and_marks(&bob.writes(&chat, ["and"]), &chat, Some(2), Some(2));
    assert_eq!((answer.code(), refused.map(|no| no.code)), (Code::Unavailable, Some(Code::Unavailable)));
    bob.sets_receipts(false);
    let before = marks_in_parcels().len();
    bob.sends_and_marks(&bob.writes(&chat, ["not told"]), &chat, Some(3), Some(3));
    assert!(marks_in_parcels()[before..].iter().all(|riding| *riding == 0), "others hear less than the own devices");
}

/// Marks of which nothing is heard.
struct Stuck;

#[async_trait]
impl Marks for Stuck {
    async fn advance(&self, _: &Author, _: &Mark, _: bool) -> Result<Advance, Trouble> {
        std::future::pending().await
    }

    async fn of(&self, _: &[(ConversationId, UserId)]) -> Result<Vec<(ConversationId, UserMarks)>, Trouble> {
        std::future::pending().await
    }

    async fn slice(&self, _: &ConversationId, _: Option<&UserId>, _: u32) -> Result<MarksSlice, Trouble> {
        std::future::pending().await
    }
}

/// D2: marks that take long do not hold up an acknowledgement.
#[test]
fn slow_marks_hold_up_no_acknowledgement() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime of one thread").block_on(async {
        let world = Arc::new(World::new(Weather::new(0, Odds::CALM), 10));
        let w = || world.clone();
        let roll = Roll::new(w(), w(), w(), w(), Retention::FOREVER);
        let marking = Marking::new(w(), Arc::new(Stuck), w(), w(), roll, w());
        let author = Author { user: "alice".parse().expect("a name"), device: "phone".parse().expect("a name") };
        let conversation = ConversationId::direct(&author.user, &author.user);
        world.admit_all(&conversation, std::slice::from_ref(&author.user));
        let marks = [Mark { conversation, delivered: Some(Seq::ZERO), read: None }];
        let began = tokio::time::Instant::now();
        let (done, taken) = marking.beside(&author, &marks, async { "stored" }).await;
        assert_eq!((done, began.elapsed().as_millis()), ("stored", 100));
        assert_eq!(taken[0].news.as_ref().map_err(|no| no.code), Err(Code::Unavailable));
    });
}

/// What a user is told of another's marks, in every way that there is.
fn told_of(device: &Device, chat: &Chat, user: &str) -> [(u64, u64); 2] {
    let list = device.lists();
    let marks = list.iter().filter(|summary| summary.conversation == chat.id).flat_map(|summary| &summary.marks);
    let mut listed =
        marks.filter(|mark| mark.user.as_str() == user).map(|mark| (mark.delivered.get(), mark.read.get()));
    let asked = device.receipts(chat, 1).expect("a member");
    let mut asked = asked.into_iter().filter(|(name, ..)| name == user).map(|(_, delivered, read)| (delivered, read));
    [listed.next().expect("a mark"), asked.next().expect("a mark")]
}

/// D4, O7: with receipts off, what is read is told to the own devices and nobody else; what was told before stays told.
#[test]
fn without_receipts_nobody_is_told_what_was_read() {
    let scene = Scene::default();
    let (alice, bob, chat) =
        (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.direct("alice", "bob"));
    alice.sends(&alice.writes(&chat, ["a", "b", "c", "d", "e"])).accepted();
    bob.marks(&chat, Some(2), Some(2)).expect("taken");
    let (mut screen, mut desk) = (alice.connects(), scene.device("bob", "desk").connects());
    scene.delivers();
    screen.hears();
    desk.hears();
    bob.sets_receipts(false);
    // Only what was read has moved: others hear nothing, not even that something has.
    bob.marks(&chat, Some(3), None).expect("taken");
    bob.marks(&chat, None, Some(3)).expect("taken");
    scene.delivers();
    let marks = |line: &mut Line| {
        let marks = line.hears().marks;
        marks.into_iter().map(|mark| (mark.delivered.get(), mark.read.get())).collect::<Vec<_>>()
    };
    assert_eq!(marks(&mut screen), [(3, 2)]);
    assert_eq!(marks(&mut desk), [(3, 3)]);
    assert_eq!(told_of(&alice, &chat, "bob"), [(3, 2); 2]);
    assert_eq!(told_of(&bob, &chat, "bob"), [(3, 3); 2]);
    bob.marks(&chat, None, Some(4)).expect("taken");
    scene.delivers();
    assert_eq!(marks(&mut screen), [(4, 2)], "that it is delivered is told");
    assert_eq!(marks(&mut desk), [(4, 4)]);
    bob.sets_receipts(true);
    assert_eq!(told_of(&alice, &chat, "bob"), [(4, 2); 2], "what was read meanwhile stays untold");
    bob.marks(&chat, None, Some(5)).expect("taken");
    assert_eq!(told_of(&alice, &chat, "bob"), [(5, 5); 2]);
}

/// D4: who gives none gets none, in no way; who gets none is not even told that something was read.
#[test]
fn who_gives_no_receipts_gets_none() {
    let scene = Scene::default();
    let (alice, bob, chat) =
        (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.direct("alice", "bob"));
    alice.sends(&alice.writes(&chat, ["a", "b", "c"])).accepted();
    alice.sets_receipts(false);
    let (mut screen, mut tablet) = (alice.connects(), scene.device("alice", "tablet").connects());
    bob.marks(&chat, Some(2), Some(1)).expect("taken");
    scene.delivers();
    let heard = screen.hears().marks;
    assert_eq!((heard.len(), heard[0].delivered.get(), heard[0].read.get()), (1, 2, 0));
    bob.marks(&chat, None, Some(2)).expect("taken");
    scene.delivers();
    assert_eq!(screen.hears().marks, []);
    assert_eq!(told_of(&alice, &chat, "bob"), [(2, 0); 2]);
    tablet.hears();
    alice.marks(&chat, Some(3), Some(3)).expect("taken");
    scene.delivers();
    assert_eq!(tablet.hears().marks[0].read.get(), 3, "the own devices are told");
    assert_eq!(told_of(&bob, &chat, "alice"), [(3, 0); 2]);
    assert_eq!(told_of(&bob, &chat, "bob"), [(2, 2); 2]);
    alice.sets_receipts(true);
    assert_eq!(told_of(&alice, &chat, "bob"), [(2, 2); 2]);
}

/// D4: it holds from the moment of its confirmation, also where a function has looked a moment before.
#[test]
fn off_is_off_when_it_is_confirmed() {
    let scene = Scene::default();
    let (alice, bob, chat) =
        (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.direct("alice", "bob"));
    alice.sends(&alice.writes(&chat, ["a", "b"])).accepted();
    for (on, read, told) in [(true, 1, 1), (false, 2, 1)] {
        bob.sets_receipts(on);
        bob.marks(&chat, None, Some(read)).expect("taken");
        assert_eq!(told_of(&alice, &chat, "bob"), [(read, told); 2]);
    }
    assert!(bob.lists().iter().all(|summary| summary.marks.len() <= 2));
}
