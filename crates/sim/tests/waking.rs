//! The rules of waking, case by case, on the ports in memory.

use std::time::Duration;

use poste_domain::{Class, ports::Members};
use poste_protocol::{Code, Event, PushStatus, Role};
use poste_sim::scene::{After, Before, Chat, Device, SECOND, Scene, WAKE_GRACE};

/// Alice's phone, bob's phone, which can be woken, and their conversation.
fn two(scene: &Scene) -> (Device, Device, Chat) {
    let (alice, bob) = (scene.device("alice", "phone"), scene.device("bob", "phone"));
    assert_eq!(bob.registers(Some("bobs-token")), PushStatus::Registered);
    (alice, bob, scene.direct("alice", "bob"))
}

/// Alice writes, and it is delivered as far as it can be.
fn writes(scene: &Scene, alice: &Device, chat: &Chat) -> u64 {
    let place = alice.sends(&alice.writes(chat, ["hi"])).accepted();
    scene.delivers();
    scene.wakes();
    place
}

fn phone(seq: u64, badge: u64) -> (String, u64, u64) {
    ("phone".to_owned(), seq, badge)
}

/// Everything that is due within a minute.
fn a_minute_passes(scene: &Scene) {
    for _ in 0..60 {
        scene.passes(SECOND);
        scene.wakes();
    }
}

#[test]
fn who_is_away_is_woken_at_once_and_once() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    assert_eq!(alice.registers(Some("alices-token")), PushStatus::Registered);
    let message = alice.writes(&chat, ["hi"]);
    assert_eq!(alice.sends(&message).accepted(), 1);
    scene.delivers();
    scene.wakes();
    assert_eq!(scene.pushes("bob"), [phone(1, 1)]);
    // A repeat is published again, and its parcel comes twice.
    assert_eq!(alice.sends(&message).place(), 1);
    scene.delivers();
    a_minute_passes(&scene);
    assert_eq!(scene.pushes("bob"), [phone(1, 1)]);
    assert_eq!(scene.pushes("alice"), [], "nobody is woken for what they wrote");
    assert!(scene.world().wakes().is_empty());
}

#[test]
fn an_edit_and_a_delete_wake_nobody() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    writes(&scene, &alice, &chat);
    for change in [alice.edits(&chat, 1, "hello"), alice.deletes(&chat, 1)] {
        alice.sends(&change).accepted();
        scene.delivers();
        a_minute_passes(&scene);
    }
    assert_eq!(scene.pushes("bob"), [phone(1, 1)]);
}

#[test]
fn who_marks_within_the_grace_is_not_woken() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    let _line = bob.connects();
    writes(&scene, &alice, &chat);
    scene.passes(WAKE_GRACE.saturating_sub(SECOND));
    scene.wakes();
    bob.marks(&chat, Some(1), None).expect("marked");
    a_minute_passes(&scene);
    assert_eq!(scene.pushes("bob"), []);
    assert!(scene.world().wakes().is_empty());
}

#[test]
fn a_connection_that_is_dead_holds_a_push_up_for_the_grace() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    let line = bob.connects();
    line.breaks();
    writes(&scene, &alice, &chat);
    scene.passes(WAKE_GRACE.saturating_sub(SECOND));
    scene.wakes();
    assert_eq!(scene.pushes("bob"), []);
    scene.passes(SECOND);
    scene.wakes();
    assert_eq!(scene.pushes("bob"), [phone(1, 1)]);
}

#[test]
fn another_device_of_the_user_that_has_it_is_enough() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    let laptop = scene.device("bob", "laptop");
    let _line = laptop.connects();
    writes(&scene, &alice, &chat);
    laptop.marks(&chat, Some(1), None).expect("marked");
    a_minute_passes(&scene);
    assert_eq!(scene.pushes("bob"), []);
}

#[test]
fn what_is_muted_wakes_nobody_until_its_time() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    assert_eq!(bob.mutes(&chat, Some(60)).expect_err("no conversation yet").code, Code::NotMember);
    bob.sends(&bob.writes(&chat, ["first"]));
    scene.delivers();
    bob.mutes(&chat, Some(60)).expect("muted");
    assert_eq!(writes(&scene, &alice, &chat), 2);
    assert_eq!(scene.pushes("bob"), []);
    scene.passes(60 * SECOND);
    assert_eq!(writes(&scene, &alice, &chat), 3);
    assert_eq!(scene.pushes("bob"), [phone(3, 3)]);
    bob.mutes(&chat, Some(3_600)).expect("muted");
    bob.mutes(&chat, None).expect("muted no longer");
    scene.passes(60 * SECOND);
    assert_eq!(writes(&scene, &alice, &chat), 4);
    assert_eq!(scene.pushes("bob"), [phone(3, 3), phone(4, 4)]);
}

#[test]
fn nobody_is_woken_for_what_they_do_not_see() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    let guest = scene.device("carol", "phone");
    assert_eq!(guest.registers(Some("carols-token")), PushStatus::Registered);
    assert_eq!(writes(&scene, &alice, &chat), 1);
    scene.admits(&chat, "carol", &[(2, Some(2))]);
    scene.passes(10 * SECOND);
    for _ in 2..=4 {
        writes(&scene, &alice, &chat);
        a_minute_passes(&scene);
    }
    assert_eq!(scene.pushes("carol"), [phone(2, 1)]);
    let known = scene.plays(scene.world().members(&chat.id)).expect("members");
    assert_eq!(known.members.len(), 3);
}

#[test]
fn who_is_brought_into_a_group_is_woken_and_who_is_out_or_hears_of_others_is_not() {
    let scene = Scene::default();
    let (alice, group) = (scene.device("alice", "phone"), scene.group());
    for user in ["bob", "carol"] {
        assert_eq!(scene.device(user, "phone").registers(Some(&format!("{user}s-token"))), PushStatus::Registered);
    }
    let happens = |submission| {
        alice.sends(&submission).accepted();
        scene.delivers();
        a_minute_passes(&scene);
        (scene.pushes("bob"), scene.pushes("carol"))
    };
    let bobs = |seqs: &[u64]| seqs.iter().map(|n| phone(*n, *n)).collect::<Vec<_>>();
    assert_eq!(happens(alice.creates(&group, "climbing", ["bob"])), (bobs(&[1]), vec![]));
    assert_eq!(happens(alice.writes(&group, ["hi"])), (bobs(&[1, 2]), vec![]));
    assert_eq!(happens(alice.does(&group, Event::Titled { title: "sailing".to_owned() })), (bobs(&[1, 2]), vec![]));
    // What was before Carol is nothing that she could have read.
    assert_eq!(happens(alice.adds(&group, ["carol"])), (bobs(&[1, 2]), vec![phone(4, 1)]));
    assert_eq!(happens(alice.gives(&group, "bob", Role::Admin)), (bobs(&[1, 2]), vec![phone(4, 1)]));
    assert_eq!(happens(alice.removes(&group, ["bob"])), (bobs(&[1, 2]), vec![phone(4, 1)]));
    assert_eq!(happens(alice.writes(&group, ["bye"])), (bobs(&[1, 2]), vec![phone(4, 1), phone(7, 4)]));
    assert!(scene.world().wakes().is_empty());
}

#[test]
fn who_was_removed_meanwhile_is_woken_for_what_came_before() {
    let scene = Scene::default();
    let (alice, group) = (scene.device("alice", "phone"), scene.group());
    let bob = scene.device("bob", "phone");
    assert_eq!(bob.registers(Some("bobs-token")), PushStatus::Registered);
    let _line = bob.connects();
    for submission in [alice.creates(&group, "climbing", ["bob"]), alice.writes(&group, ["before"])] {
        alice.sends(&submission).accepted();
    }
    scene.delivers();
    for submission in [alice.removes(&group, ["bob"]), alice.writes(&group, ["after"])] {
        alice.sends(&submission).accepted();
    }
    scene.delivers();
    a_minute_passes(&scene);
    assert_eq!(scene.pushes("bob"), [phone(2, 2)]);
}

#[test]
fn what_was_read_with_receipts_off_is_not_unread() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    bob.sets_receipts(false);
    assert_eq!(writes(&scene, &alice, &chat), 1);
    bob.marks(&chat, Some(1), Some(1)).expect("marked");
    scene.passes(10 * SECOND);
    assert_eq!(writes(&scene, &alice, &chat), 2);
    // Alice is not told that bob has read the first; he is told of the second alone.
    assert_eq!(scene.pushes("bob"), [phone(1, 1), phone(2, 1)]);
}

#[test]
fn a_device_that_does_not_come_is_woken_now_and_then_only() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    for _ in 0..20 {
        writes(&scene, &alice, &chat);
        scene.passes(Duration::from_millis(400));
    }
    a_minute_passes(&scene);
    // One at once, and one for those that came in the ten seconds after it.
    assert_eq!(scene.pushes("bob"), [phone(1, 1), phone(20, 20)]);
    assert!(scene.world().wakes().is_empty());
    // Who was here is not held back.
    assert_eq!(bob.is_awake(), Some(PushStatus::Registered));
    scene.passes(SECOND);
    assert_eq!(writes(&scene, &alice, &chat), 21);
    assert_eq!(scene.pushes("bob").len(), 3);
}

#[test]
fn a_push_that_is_under_way_leaves_what_comes_meanwhile_to_the_next() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    let other = scene.direct("carol", "bob");
    alice.sends(&alice.writes(&chat, ["hi"])).accepted();
    scene.delivers();
    let slow = scene.wakes_until(Before("push.push"));
    let carols = scene.device("carol", "phone");
    assert_eq!(writes(&scene, &carols, &other), 1);
    assert_eq!(scene.pushes("bob"), []);
    slow.goes_on();
    // What was held meanwhile is still there after the push was noted.
    assert_eq!(scene.pushes("bob"), [phone(1, 1)]);
    assert_eq!(writes(&scene, &alice, &chat), 2);
    a_minute_passes(&scene);
    assert_eq!(scene.pushes("bob"), [phone(1, 1), phone(2, 3)]);
    assert!(scene.world().wakes().is_empty());
    drop(bob);
}

#[test]
fn being_put_off_uses_up_few_receives() {
    let scene = Scene::default();
    let (alice, _, chat) = two(&scene);
    writes(&scene, &alice, &chat);
    // Forty people write to one who does not come, and a device remembers eight conversations.
    for n in 0..40 {
        let name = format!("user{n}");
        let (friend, theirs) = (scene.device(&name, "phone"), scene.direct(&name, "bob"));
        writes(&scene, &friend, &theirs);
    }
    for _ in 0..20 {
        writes(&scene, &alice, &chat);
    }
    for _ in 0..3 {
        a_minute_passes(&scene);
    }
    assert!(scene.world().wakes().is_empty());
    let (pushes, receives) = (scene.pushes("bob").len(), scene.world().most_receives());
    assert!(pushes <= 2 + 40 / 8, "{pushes} pushes");
    assert!(receives <= 2 + 40 / 8, "{receives} receives");
}

#[test]
fn a_token_that_died_is_asked_for_anew() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    scene.world().token_dies(bob.author());
    writes(&scene, &alice, &chat);
    assert_eq!(scene.pushes("bob"), []);
    assert_eq!(bob.is_awake(), Some(PushStatus::Renew));
    assert_eq!(bob.registers(Some("another")), PushStatus::Registered);
    assert_eq!(bob.is_awake(), Some(PushStatus::Registered));
    assert_eq!(writes(&scene, &alice, &chat), 2);
    assert_eq!(scene.pushes("bob"), [phone(2, 2)]);
    assert_eq!(bob.registers(None), PushStatus::None);
    assert_eq!(bob.is_awake(), Some(PushStatus::None));
    scene.passes(60 * SECOND);
    writes(&scene, &alice, &chat);
    assert_eq!(scene.pushes("bob").len(), 1);
}

#[test]
fn a_token_is_its_last_registrars() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    let carols = scene.device("carol", "phone");
    // Carol signs in where bob was signed in. Even if the function ends before bob's registration was taken away.
    scene.fails(After("devices.register"), Class::Transient);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| carols.registers(Some("bobs-token"))));
    assert!(refused.is_err(), "told that it failed");
    writes(&scene, &alice, &chat);
    assert_eq!(scene.pushes("bob"), []);
    assert_eq!(scene.pushes("carol"), [], "bob's messages are not carol's");
    assert_eq!(bob.is_awake(), Some(PushStatus::None));
    assert_eq!(carols.registers(Some("bobs-token")), PushStatus::Registered);
}

#[test]
fn a_wake_up_that_cannot_be_queued_brings_the_parcel_again_and_holds_up_no_post() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    let tablet = scene.device("alice", "tablet");
    let mut line = tablet.connects();
    scene.fails(Before("wakes.queue"), Class::Transient);
    assert_eq!(writes(&scene, &alice, &chat), 1);
    assert_eq!(line.hears().cells.len(), 1, "posted all the same");
    assert_eq!(scene.pushes("bob"), []);
    scene.delivers();
    scene.wakes();
    assert_eq!(scene.pushes("bob"), [phone(1, 1)]);
    drop(bob);
}

#[test]
fn what_the_provider_did_not_take_is_pushed_again_unless_it_is_marked_or_old() {
    let scene = Scene::default();
    let (alice, bob, chat) = two(&scene);
    for class in [Class::Throttled, Class::Transient] {
        scene.fails(Before("push.push"), class);
        let place = writes(&scene, &alice, &chat);
        assert_eq!(scene.world().wakes().len(), 1);
        a_minute_passes(&scene);
        assert_eq!(scene.pushes("bob").last(), Some(&phone(place, place)));
    }
    // Marked meanwhile.
    let pushed = scene.pushes("bob").len();
    scene.fails(Before("push.push"), Class::Transient);
    assert_eq!(writes(&scene, &alice, &chat), 3);
    bob.marks(&chat, Some(3), None).expect("marked");
    a_minute_passes(&scene);
    assert_eq!(scene.pushes("bob").len(), pushed);
    // Too old.
    scene.fails(Before("push.push"), Class::Transient);
    assert_eq!(writes(&scene, &alice, &chat), 4);
    scene.passes(Duration::from_hours(24));
    scene.wakes();
    assert_eq!(scene.pushes("bob").len(), pushed);
    assert!(scene.world().wakes().is_empty());
}
