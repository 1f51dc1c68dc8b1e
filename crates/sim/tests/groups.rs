//! Groups, case by case, on ports in memory (L1, L4, L5, O5, I6): order of events and rights, crashes between the steps,
//! and who sees what.

use std::collections::BTreeMap;

use poste_domain::{Class, ports::Slot};
use poste_protocol::{Code, Event, Role, UserId};
use poste_sim::scene::{
    After,
    Answer::{Accepted, Repeat},
    Before, Chat, Device, SECOND, Scene, texts,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

fn group(scene: &Scene) -> (Device, Device, Chat) {
    let (alice, bob, group) = (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.group());
    alice.sends(&alice.creates(&group, "climbing", ["bob"])).accepted();
    (alice, bob, group)
}

/// What a user can get of a group, by all pages.
fn all(device: &Device, group: &Chat, limit: Option<u32>) -> Vec<u64> {
    let (mut after, mut cells) = (0, Vec::new());
    loop {
        let page = device.fetches(group, after, limit).expect("a page");
        cells.extend(page.cells.iter().flat_map(|cell| cell.seq.get()..=cell.last().get()));
        after = page.through.get();
        if !page.more {
            return cells;
        }
    }
}

/// The same, from the end.
fn all_back(device: &Device, group: &Chat, limit: Option<u32>) -> Vec<u64> {
    let (mut before, mut cells) = (None, Vec::new());
    loop {
        let page = device.reads_back(group, before, limit.unwrap_or(100));
        let numbers = page.cells.iter().flat_map(|cell| cell.seq.get()..=cell.last().get());
        cells.splice(0..0, numbers);
        if !page.more {
            return cells;
        }
        before = Some(page.after.get() + 1);
    }
}

#[test]
fn a_group_is_there_when_it_was_created() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    let members = [("alice".to_owned(), Role::Admin), ("bob".to_owned(), Role::Member)];
    assert_eq!(alice.members(&group), Ok(members.into()));
    assert_eq!(bob.sends(&bob.writes(&group, ["hi"])), Accepted(2));
    assert_eq!(texts(&alice.reads(&group, 0).cells), [(1, ""), (2, "hi")]);
    let listed = bob.lists();
    let summary = listed[0].group.clone().expect("a group");
    assert_eq!((summary.title.as_str(), summary.role, summary.members), ("climbing", Role::Member, 2));
    assert_eq!(summary.roster.get(), 1);
}

#[test]
fn nothing_but_its_creation_makes_a_group() {
    let scene = Scene::default();
    let (alice, group) = (scene.device("alice", "phone"), scene.group());
    for other in [alice.writes(&group, ["hi"]), alice.adds(&group, ["bob"]), alice.leaves(&group)] {
        assert_eq!(alice.sends(&other).code(), Code::NotMember);
    }
    assert_eq!(alice.fetches_back(&group, None, 100).expect_err("no page").code, Code::NotMember);
    assert!(scene.log(&group).is_empty() && alice.lists().is_empty());
}

#[test]
fn a_group_is_created_once() {
    let scene = Scene::default();
    let (alice, bob, group) = (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.group());
    let created = alice.creates(&group, "climbing", ["bob"]);
    assert_eq!(alice.sends(&created), Accepted(1));
    assert_eq!(alice.sends(&created), Repeat(1));
    let tablet = scene.device("alice", "tablet");
    assert_eq!(tablet.sends(&tablet.creates(&group, "mine", [])).code(), Code::NotAllowed);
    assert_eq!(bob.sends(&bob.creates(&group, "mine", [])).code(), Code::NotAllowed);
    let eve = scene.device("eve", "phone");
    assert_eq!(eve.sends(&eve.creates(&group, "mine", [])).code(), Code::NotMember, "no word that there is one");
    assert_eq!(scene.log(&group).len(), 1);
}

/// L5: who may do what is checked by the server, for each event.
#[test]
fn rights_are_checked_for_each_event() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    let eve = scene.device("eve", "phone");
    let user = |name| UserId::new(name).expect("valid");
    let events = || {
        [
            Event::Titled { title: "bob's".to_owned() },
            Event::Added { users: vec![user("eve")] },
            Event::Removed { users: vec![user("alice")] },
            Event::Role { user: user("bob"), role: Role::Admin },
        ]
    };
    for event in events() {
        assert_eq!(bob.sends(&bob.does(&group, event.clone())).code(), Code::NotAllowed);
        assert_eq!(eve.sends(&eve.does(&group, event)).code(), Code::NotMember);
    }
    assert_eq!(scene.log(&group).len(), 1);
    alice.sends(&alice.gives(&group, "bob", Role::Admin)).accepted();
    for event in events() {
        bob.sends(&bob.does(&group, event)).accepted();
    }
    assert_eq!(alice.sends(&alice.writes(&group, ["?"])).code(), Code::NotMember);
    assert_eq!(bob.members(&group).expect("members").len(), 2);
}

#[test]
fn what_changes_nothing_is_a_success() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    alice.sends(&alice.adds(&group, ["bob"])).accepted();
    alice.sends(&alice.removes(&group, ["carol"])).accepted();
    alice.sends(&alice.gives(&group, "carol", Role::Admin)).accepted();
    assert_eq!(all(&bob, &group, None), [1, 2, 3, 4], "bob was in all the time");
    assert_eq!(alice.lists()[0].group.as_ref().map(|group| group.members), Some(2));
}

/// Where nobody is an admin any more everybody may do everything.
#[test]
fn a_group_without_admins_is_everybodys() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    alice.sends(&alice.leaves(&group)).accepted();
    bob.sends(&bob.adds(&group, ["carol"])).accepted();
    bob.sends(&bob.gives(&group, "bob", Role::Admin)).accepted();
    let carol = scene.device("carol", "phone");
    assert_eq!(carol.sends(&carol.adds(&group, ["eve"])).code(), Code::NotAllowed);
}

#[test]
fn a_group_has_at_most_a_thousand_members() {
    let scene = Scene::default();
    let (alice, group) = (scene.device("alice", "phone"), scene.group());
    let users = |from: usize, to: usize| (from..to).map(|n| UserId::new(format!("u{n}")).expect("valid")).collect();
    alice.sends(&alice.creates(&group, "many", [])).accepted();
    for n in 0..9 {
        alice.sends(&alice.does(&group, Event::Added { users: users(n * 100, n * 100 + 100) })).accepted();
    }
    alice.sends(&alice.does(&group, Event::Added { users: users(900, 999) })).accepted();
    assert_eq!(alice.sends(&alice.does(&group, Event::Added { users: users(999, 1000) })).code(), Code::TooMany);
    alice.sends(&alice.does(&group, Event::Added { users: users(0, 100) })).accepted();
    assert_eq!(alice.members(&group).expect("members").len(), 1_000);
    alice.sends(&alice.does(&group, Event::Removed { users: users(0, 1) })).accepted();
    alice.sends(&alice.does(&group, Event::Added { users: users(999, 1000) })).accepted();
}

/// I6: the function that sends, or delivers, or reads, has the membership of before in its memory.
#[test]
fn nothing_is_written_heard_or_read_after_a_removal() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    let mut screen = bob.connects();
    bob.sends(&bob.writes(&group, ["I am in"])).accepted();
    assert_eq!(all(&bob, &group, None), [1, 2]);
    alice.sends(&alice.writes(&group, ["fine"])).accepted();
    scene.delivers();
    assert_eq!(screen.hears().cells.len(), 2);

    alice.sends(&alice.removes(&group, ["bob"])).accepted();
    alice.sends(&alice.writes(&group, ["he is gone"])).accepted();
    assert_eq!(bob.sends(&bob.writes(&group, ["am I?"])).code(), Code::NotMember);
    scene.delivers();
    let heard = screen.hears().cells;
    assert_eq!(heard.iter().map(|cell| cell.seq.get()).collect::<Vec<_>>(), [4], "the removal, and nothing else");
    let page = bob.reads(&group, 0);
    assert_eq!((page.through.get(), page.head.get(), page.more), (4, 4, false), "not even the head");
    assert_eq!(all_back(&bob, &group, None), [1, 2, 3, 4]);
    let summary = bob.lists().remove(0);
    assert_eq!(summary.head.get(), 4);
    let told = summary.group.expect("a group");
    assert!(told.left && told.title == "climbing");
    assert_eq!(bob.members(&group).expect_err("no list").code, Code::NotMember);
    alice.marks(&group, Some(5), None).expect("marked");
    scene.delivers();
    assert_eq!(screen.hears().marks, []);
}

/// Who was removed between the look at their membership and their place writes nothing; the refusal is for good.
#[test]
fn a_message_that_is_overtaken_by_a_removal_is_refused_for_good() {
    for lanes_in_head in [10, 0] {
        let scene = Scene::new(lanes_in_head);
        let (alice, bob, group) = group(&scene);
        let hi = bob.writes(&group, ["hi"]);
        let call = if lanes_in_head > 0 { "heads.place" } else { "heads.reserve" };
        let slow = bob.sends_until(Before(call), &hi);
        let removed = alice.sends(&alice.removes(&group, ["bob"])).accepted();
        assert_eq!(slow.goes_on().code(), Code::NotMember);
        alice.sends(&alice.adds(&group, ["bob"])).accepted();
        assert!(matches!(bob.sends(&hi).code(), Code::NotMember | Code::Expired), "as it was sent it never comes");
        bob.sends(&bob.writes(&group, ["back"])).accepted();
        scene.passes(2 * SECOND);
        let cells = alice.reads(&group, removed).cells;
        assert_eq!(texts(&cells).into_iter().map(|(_, body)| body).collect::<Vec<_>>(), ["", "back"]);
    }
}

/// L2: a repeat is a success, also of what was written before its author was removed, or of their leaving.
#[test]
fn a_repeat_after_the_removal_is_a_success() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    let hi = bob.writes(&group, ["hi"]);
    scene.fails(Before("queue.publish"), Class::Transient);
    assert_eq!(bob.sends(&hi).code(), Code::Unavailable);
    alice.sends(&alice.removes(&group, ["bob"])).accepted();
    assert_eq!(bob.sends(&hi), Repeat(2));
    let leaves = alice.leaves(&group);
    scene.fails(After("queue.publish"), Class::Transient);
    assert_eq!(alice.sends(&leaves).code(), Code::Unavailable);
    assert_eq!(alice.sends(&leaves), Repeat(4));
}

/// An event that is placed and not written yet holds others up for a moment, and is then decided.
#[test]
fn an_event_that_is_cut_short_is_decided_by_the_next() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    let removes = alice.removes(&group, ["bob"]);
    let slow = alice.sends_until(Before("log.put"), &removes);
    assert_eq!(bob.sends(&bob.writes(&group, ["still here"])), Accepted(3));
    assert!(matches!(scene.log(&group)[1], Slot::Void(_)));
    assert_eq!(slow.goes_on(), Accepted(4));
    assert_eq!(all(&bob, &group, None), [1, 3, 4]);
}

/// A crash at each step of an event: whoever comes next completes it, and all see the same.
#[test]
fn an_event_is_completed_by_whoever_comes_next() {
    let moments = [
        After("heads.place"),
        Before("log.put"),
        After("log.put"),
        Before("conversations.enter"),
        After("conversations.enter"),
        Before("members.enter"),
        After("members.enter"),
        Before("groups.settle"),
        After("groups.settle"),
        Before("queue.publish"),
    ];
    for moment in moments {
        for next in 0..4 {
            let scene = Scene::default();
            let (alice, bob, group) = group(&scene);
            let carol = scene.device("carol", "phone");
            let adds = alice.adds(&group, ["carol", "dave"]);
            alice.sends_until(moment, &adds).ends();
            let written = scene.log(&group).len() > 1;
            match next {
                0 => drop(bob.sends(&bob.writes(&group, ["next"])).accepted()),
                1 => drop(bob.reads(&group, 0)),
                2 => drop(bob.lists()),
                _ => drop(bob.members(&group).expect("members")),
            }
            let members = bob.members(&group).expect("members");
            assert_eq!(members.len(), if written { 4 } else { 2 }, "{moment:?}, {next}");
            let mut screen = carol.connects();
            let place = alice.sends(&adds).place();
            scene.delivers();
            assert!(screen.hears().cells.iter().any(|cell| cell.seq.get() == place), "{moment:?}, {next}");
            assert_eq!(alice.members(&group).expect("members").len(), 4);
            assert_eq!(alice.lists()[0].group.as_ref().map(|group| group.members), Some(4), "{moment:?}, {next}");
            let seen = all(&carol, &group, None);
            assert_eq!(seen.first(), Some(&place), "{moment:?}, {next}");
        }
    }
}

/// A creation that is cut short is done again, by the same envelope, at whatever moment it ended.
#[test]
fn a_creation_that_is_cut_short_is_done_again() {
    for moment in [After("heads.create"), After("heads.place"), After("log.put"), After("members.enter")] {
        let scene = Scene::default();
        let (alice, bob, group) = (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.group());
        let created = alice.creates(&group, "climbing", ["bob"]);
        alice.sends_until(moment, &created).ends();
        let place = alice.sends(&created).place();
        assert_eq!(bob.sends(&bob.writes(&group, ["hi"])), Accepted(place + 1), "{moment:?}");
        assert_eq!(bob.members(&group).expect("members").len(), 2);
    }
}

/// Two admins do something at the same moment: each was allowed to after what the other had done before.
#[test]
fn of_two_admins_who_remove_each_other_one_is_left() {
    for lanes_in_head in [10, 0] {
        let scene = Scene::new(lanes_in_head);
        let (alice, bob, group) = group(&scene);
        alice.sends(&alice.gives(&group, "bob", Role::Admin)).accepted();
        let call = if lanes_in_head > 0 { "heads.place" } else { "heads.reserve" };
        let slow = alice.sends_until(Before(call), &alice.removes(&group, ["bob"]));
        bob.sends(&bob.removes(&group, ["alice"])).accepted();
        assert_eq!(slow.goes_on().code(), Code::NotMember);
        assert_eq!(bob.members(&group), Ok(vec![("bob".to_owned(), Role::Admin)]));
    }
}

/// A slow function that applies an event again undoes nothing that later events have done.
#[test]
fn who_is_slow_to_apply_undoes_nothing() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    let slow = alice.sends_until(Before("members.enter"), &alice.adds(&group, ["carol"]));
    bob.sends(&bob.writes(&group, ["completes it"])).accepted();
    let tablet = scene.device("alice", "tablet");
    tablet.sends(&tablet.removes(&group, ["carol"])).accepted();
    slow.goes_on().place();
    assert_eq!(alice.members(&group).expect("members").len(), 2);
    let carol = scene.device("carol", "phone");
    assert_eq!(all(&carol, &group, None).len(), 3, "from the adding to the removing");
    assert_eq!(alice.lists()[0].group.as_ref().map(|group| group.members), Some(2));
}

/// The ordinary way of a message costs no call more in a group: place, write, publish.
#[test]
fn a_message_costs_what_it_costs_elsewhere() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    bob.sends(&bob.writes(&group, ["warm"])).accepted();
    let usual = ["heads.place", "log.put", "queue.publish"];
    scene.counts_calls();
    bob.sends(&bob.writes(&group, ["hi"])).accepted();
    assert_eq!(scene.calls(), usual);
    scene.passes(100 * SECOND);
    scene.counts_calls();
    bob.sends(&bob.writes(&group, ["hi"])).accepted();
    assert_eq!(scene.calls(), usual, "however long ago the membership was looked at");
    scene.counts_calls();
    alice.sends(&alice.does(&group, Event::Titled { title: "bouldering".to_owned() })).accepted();
    assert_eq!(scene.calls(), ["heads.get", "members.get", "heads.place", "log.put", "groups.settle", "queue.publish"]);
    scene.counts_calls();
    bob.sends(&bob.writes(&group, ["hi"])).accepted();
    assert_eq!(scene.calls(), ["heads.place", "members.get", "log.put", "queue.publish"], "one look after an event");
    scene.counts_calls();
    bob.reads(&group, 3);
    assert_eq!(scene.calls(), ["heads.get", "groups.get", "members.get", "log.after"]);
    scene.counts_calls();
    bob.reads(&group, 3);
    assert_eq!(scene.calls(), ["heads.get", "log.after"]);
}

/// O5, I6: whoever comes and goes, everybody sees exactly the messages of their times, by every path.
#[test]
fn everybody_sees_exactly_their_times() {
    for seed in 0..150 {
        let mut dice = StdRng::seed_from_u64(seed);
        let scene = Scene::new([10, 2, 0][dice.random_range(0..3)]);
        let names = ["alice", "bob", "carol", "dave"];
        let devices = names.map(|name| scene.device(name, "phone"));
        let mut screens: Vec<_> = names.map(|name| scene.device(name, "tablet").connects()).into();
        let group = scene.group();
        let mut inside: BTreeMap<&str, bool> = names.into_iter().map(|name| (name, name == "alice")).collect();
        let mut seen: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let created = devices[0].sends(&devices[0].creates(&group, "t", [])).accepted();
        seen.entry("alice").or_default().push(created);
        for _ in 0..60 {
            let who = dice.random_range(0..4);
            let (device, name) = (&devices[who], names[who]);
            let other = names[dice.random_range(0..4)];
            let (submission, changes) = match dice.random_range(0..10) {
                0 | 1 => (device.adds(&group, [other]), Some((other, true))),
                2 => (device.removes(&group, [other]), Some((other, false))),
                3 => (device.leaves(&group), Some((name, false))),
                4 => (device.gives(&group, other, Role::Admin), None),
                _ => (device.writes(&group, ["x", "y"]), None),
            };
            let before = inside.clone();
            match device.sends(&submission) {
                Accepted(place) => {
                    assert!(before[name], "{name} was in at {place}, seed {seed}");
                    inside.extend(changes);
                    let numbers = place..place + submission.envelope.count();
                    for user in names.iter().filter(|user| before[*user] || inside[*user]) {
                        seen.entry(user).or_default().extend(numbers.clone());
                    }
                }
                other => {
                    let in_line = [(true, Code::NotAllowed), (false, Code::NotMember)]
                        .contains(&(before[name], other.clone().code()));
                    assert!(in_line, "{name}: {other:?}, seed {seed}");
                }
            }
            if dice.random_bool(0.3) {
                scene.delivers();
            }
            if dice.random_bool(0.2) {
                scene.passes(3 * SECOND);
            }
        }
        scene.passes(3 * SECOND);
        scene.delivers();
        for (who, name) in names.into_iter().enumerate() {
            let expected = seen.get(name).cloned().unwrap_or_default();
            let mut heard: Vec<u64> =
                screens[who].hears().cells.iter().flat_map(|cell| cell.seq.get()..=cell.last().get()).collect();
            heard.sort_unstable();
            heard.dedup();
            assert_eq!(heard, expected, "what {name} heard, seed {seed}");
            if expected.is_empty() {
                assert_eq!(devices[who].fetches_back(&group, None, 100).map_err(|no| no.code), Err(Code::NotMember));
                continue;
            }
            for limit in [None, Some(1), Some(4)] {
                assert_eq!(all(&devices[who], &group, limit), expected, "{name}, {limit:?}, seed {seed}");
                assert_eq!(all_back(&devices[who], &group, limit), expected, "{name}, {limit:?}, back, seed {seed}");
            }
            let frames = devices[who].syncs(&[(&group, Some(0))], 16).expect("pages");
            let pages = frames.iter().flat_map(|frame| &frame.pages);
            let synced = pages.flat_map(|page| &page.cells).flat_map(|cell| cell.seq.get()..=cell.last().get());
            assert_eq!(synced.collect::<Vec<_>>(), expected, "{name}, caught up, seed {seed}");
            let summary = devices[who].lists().remove(0);
            let told = summary.group.expect("a group");
            assert_eq!(told.left, !inside[name], "{name}, seed {seed}");
            let end = if told.left { expected.last().copied() } else { Some(scene.world().head_of(&group.id).get()) };
            assert_eq!(Some(summary.head.get()), end, "{name}, seed {seed}");
        }
    }
}

/// L5: admins delete what others wrote, as far as they see it, and edit nothing of it. Events stay.
#[test]
fn admins_delete_what_others_wrote() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    let carol = scene.device("carol", "phone");
    bob.sends(&bob.writes(&group, ["rude"])).accepted();
    alice.sends(&alice.writes(&group, ["polite"])).accepted();
    let refused = [alice.edits(&group, 2, "nice"), alice.deletes(&group, 1)].map(|change| alice.sends(&change).code());
    assert_eq!(refused, [Code::NoTarget; 2]);
    assert_eq!(bob.sends(&bob.deletes(&group, 3)).code(), Code::NoTarget);
    alice.sends(&alice.adds(&group, ["carol"])).accepted();
    assert_eq!(carol.sends(&carol.deletes(&group, 2)).code(), Code::NoTarget);
    // Known to the function as a member, she is an admin now; but that was before her time.
    alice.sends(&alice.gives(&group, "carol", Role::Admin)).accepted();
    assert_eq!(carol.sends(&carol.deletes(&group, 2)).code(), Code::NoTarget);
    bob.sends(&bob.writes(&group, ["ruder"])).accepted();
    let delete = carol.deletes(&group, 6);
    assert_eq!(carol.sends(&delete), Accepted(7));
    assert!(!scene.stores(&group, "ruder"));
    alice.sends(&alice.deletes(&group, 2)).accepted();
    assert!(!scene.stores(&group, "rude"));
    alice.sends(&alice.removes(&group, ["carol"])).accepted();
    assert_eq!(carol.sends(&delete), Repeat(7));
    assert_eq!(carol.sends(&carol.deletes(&group, 6)).code(), Code::NotMember);
}

/// L5: who is no admin any more where the delete gets its place deletes nothing, also if that is its second place.
#[test]
fn a_delete_that_is_overtaken_deletes_nothing() {
    for halts in [Before("heads.place"), Before("log.put")] {
        let scene = Scene::default();
        let (alice, bob, group) = group(&scene);
        alice.sends(&alice.gives(&group, "bob", Role::Admin)).accepted();
        alice.sends(&alice.writes(&group, ["rude"])).accepted();
        let delete = bob.deletes(&group, 3);
        let slow = bob.sends_until(halts, &delete);
        alice.sends(&alice.gives(&group, "bob", Role::Member)).accepted();
        assert_eq!(bob.sends(&delete).code(), Code::NoTarget);
        assert_eq!(slow.goes_on().code(), Code::Expired, "refused for good, whatever for");
        assert!(scene.stores(&group, "rude"));
    }
}

/// O5: who was removed edits and deletes nothing, not even their own.
#[test]
fn who_was_removed_changes_nothing() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    bob.sends(&bob.writes(&group, ["hello"])).accepted();
    let edit = bob.edits(&group, 2, "bye");
    let slow = bob.sends_until(Before("heads.place"), &edit);
    alice.sends(&alice.removes(&group, ["bob"])).accepted();
    assert_eq!(slow.goes_on().code(), Code::NotMember);
    for change in [edit, bob.edits(&group, 2, "adieu"), bob.deletes(&group, 2)] {
        assert_eq!(bob.sends(&change).code(), Code::NotMember);
    }
    assert_eq!(texts(&alice.reads(&group, 1).cells), [(2, "hello"), (3, "")]);
    alice.sends(&alice.adds(&group, ["bob"])).accepted();
    bob.sends(&bob.edits(&group, 2, "back")).accepted();
}

/// O5: who was removed may mark what they saw, and is told nothing by marks of what came after.
#[test]
fn marks_of_who_was_removed_end_where_they_left() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    alice.sends(&alice.removes(&group, ["bob"])).accepted();
    alice.sends(&alice.writes(&group, ["among us"])).accepted();
    bob.marks(&group, Some(2), None).expect("they saw it");
    let beyond = [3, 4].map(|seq| bob.marks(&group, Some(seq), None).expect_err("beyond").code);
    assert_eq!(beyond, [Code::BadFrame; 2]);
}

/// D1: a large group is delivered to in parts, each with one read of its connections; everybody hears once, also if a
/// part could not be queued at first.
#[test]
fn a_large_group_is_delivered_to_in_parts() {
    let scene = Scene::default();
    let (alice, bob, group) = group(&scene);
    let others = ["carol", "dave", "eve", "frank", "grace"];
    alice.sends(&alice.adds(&group, others)).accepted();
    scene.delivers();
    let devices: Vec<Device> = others.iter().map(|name| scene.device(name, "phone")).collect();
    let mut lines: Vec<_> = devices.iter().chain([&bob]).map(Device::connects).collect();
    alice.sends(&alice.writes(&group, ["hello"])).accepted();
    scene.counts_calls();
    scene.delivers();
    let calls = scene.calls();
    let count = |name: &str| calls.iter().filter(|call| **call == name).count();
    // Two to a part here: alice and bob, carol and dave, eve and frank, grace. All parts came in one batch.
    assert_eq!((count("queue.publish"), count("connections.get"), count("callback.post")), (4, 1, 6), "{calls:?}");
    for line in &mut lines {
        assert_eq!(texts(&line.hears().cells), [(3, "hello")]);
    }

    alice.sends(&alice.writes(&group, ["again"])).accepted();
    scene.fails(Before("queue.publish"), Class::Transient);
    scene.delivers();
    scene.delivers();
    for line in &mut lines {
        let heard = line.hears().cells;
        assert!(!heard.is_empty() && texts(&heard).iter().all(|text| *text == (4, "again")));
    }
}
