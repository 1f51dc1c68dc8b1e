//! Edits and deletes, case by case: who may, what stays, and what is left of a text when its message is deleted,
//! wherever the functions halt.

use poste_domain::Class;
use poste_protocol::{Code, Message};
use poste_sim::scene::{
    After,
    Answer::{Accepted, Repeat},
    Before, Chat, DAY, Device, Moment, SECOND, Scene, aged, texts,
};

/// The calls of an envelope that edits, and of one that deletes, in their order.
const CALLS_OF_EDIT: [&str; 5] = ["log.before", "heads.place", "log.register", "log.put", "queue.publish"];
const CALLS_OF_DELETE: [&str; 5] = ["log.before", "heads.place", "log.put", "log.redact", "queue.publish"];

fn moments(calls: [&'static str; 5]) -> impl Iterator<Item = Moment> {
    calls.into_iter().flat_map(|call| [Before(call), After(call)])
}

/// Alice's phone and tablet, and her conversation with bob, in which she has written a secret.
fn secret(scene: &Scene) -> (Device, Device, Chat) {
    let (phone, tablet) = (scene.device("alice", "phone"), scene.device("alice", "tablet"));
    let chat = scene.direct("alice", "bob");
    phone.sends(&phone.writes(&chat, ["before", "a secret", "after"]));
    (phone, tablet, chat)
}

/// All that may be left of it, whoever reads.
fn nothing_is_left(scene: &Scene, chat: &Chat, when: &str) {
    assert!(!scene.stores(chat, "secret"), "{when}");
    scene.passes(2 * SECOND);
    let page = scene.device("bob", "phone").reads(chat, 0);
    let first: Vec<_> = texts(&page.cells).into_iter().take(3).collect();
    assert_eq!(first, [(1, "before"), (2, ""), (3, "after")], "{when}");
    let at = |place: u64| move |(seq, message): (u64, &Message)| (seq == place).then_some(message.deleted);
    let deleted = page.cells.iter().flat_map(|cell| (cell.seq.get()..).zip(&cell.messages)).find_map(at(2));
    assert_eq!(deleted, Some(true), "{when}");
}

#[test]
fn an_edit_that_halts_anywhere_leaves_no_text_of_what_is_deleted_meanwhile() {
    for moment in moments(CALLS_OF_EDIT) {
        for goes_on in [true, false] {
            let scene = Scene::default();
            let (phone, tablet, chat) = secret(&scene);
            let when = format!("{moment:?}, goes on: {goes_on}");
            let edit = tablet.edits(&chat, 2, "another secret");
            let halted = tablet.sends_until(moment, &edit);
            phone.sends(&phone.deletes(&chat, 2)).place();
            nothing_is_left(&scene, &chat, &when);
            if goes_on {
                halted.goes_on().place();
            } else {
                halted.ends();
            }
            nothing_is_left(&scene, &chat, &when);
            let place = tablet.sends(&edit).place();
            nothing_is_left(&scene, &chat, &when);
            assert_eq!(tablet.sends(&edit), Repeat(place), "{when}");
        }
    }
}

#[test]
fn a_delete_that_halts_anywhere_leaves_no_text_of_an_edit_that_comes_meanwhile() {
    for moment in moments(CALLS_OF_DELETE) {
        for goes_on in [true, false] {
            let scene = Scene::default();
            let (phone, tablet, chat) = secret(&scene);
            let when = format!("{moment:?}, goes on: {goes_on}");
            tablet.sends(&tablet.edits(&chat, 2, "a first secret")).place();
            let delete = phone.deletes(&chat, 2);
            let halted = phone.sends_until(moment, &delete);
            let edit = tablet.edits(&chat, 2, "another secret");
            tablet.sends(&edit).place();
            if goes_on {
                halted.goes_on().place();
                nothing_is_left(&scene, &chat, &when);
            } else {
                halted.ends();
            }
            let place = phone.sends(&delete).place();
            nothing_is_left(&scene, &chat, &when);
            assert_eq!(phone.sends(&delete), Repeat(place), "{when}");
            tablet.sends(&edit).place();
            nothing_is_left(&scene, &chat, &when);
        }
    }
}

#[test]
fn both_halt_and_go_on_in_either_order() {
    for edits_at in moments(CALLS_OF_EDIT) {
        for deletes_at in moments(CALLS_OF_DELETE) {
            for edit_first in [true, false] {
                let scene = Scene::default();
                let (phone, tablet, chat) = secret(&scene);
                let when = format!("{edits_at:?}, {deletes_at:?}, edit first: {edit_first}");
                let (edit, delete) = (tablet.edits(&chat, 2, "another secret"), phone.deletes(&chat, 2));
                let editing = tablet.sends_until(edits_at, &edit);
                let deleting = phone.sends_until(deletes_at, &delete);
                if edit_first {
                    editing.goes_on().place();
                    deleting.goes_on().place();
                } else {
                    deleting.goes_on().place();
                    nothing_is_left(&scene, &chat, &when);
                    editing.goes_on().place();
                }
                nothing_is_left(&scene, &chat, &when);
            }
        }
    }
}

#[test]
fn a_reader_puts_a_void_where_a_registered_edit_was_to_be() {
    let scene = Scene::default();
    let (phone, tablet, chat) = secret(&scene);
    let edit = tablet.edits(&chat, 2, "another secret");
    let halted = tablet.sends_until(Before("log.put"), &edit);
    phone.sends(&phone.writes(&chat, ["and so on"]));
    scene.passes(2 * SECOND);
    scene.device("bob", "phone").reads(&chat, 0);
    assert_eq!((scene.voids(&chat), halted.goes_on()), (1, Accepted(6)));
    assert!(scene.stores(&chat, "another secret"));
    phone.sends(&phone.deletes(&chat, 2));
    nothing_is_left(&scene, &chat, "placed anew");
}

#[test]
fn every_edit_of_a_message_goes_and_no_other() {
    let scene = Scene::default();
    let (phone, _, chat) = secret(&scene);
    let mut both = phone.edits(&chat, 2, "one secret");
    both.envelope.messages.extend(phone.edits(&chat, 3, "after all").envelope.messages);
    both.envelope.messages.extend(phone.edits(&chat, 2, "another secret").envelope.messages);
    both.envelope.number = phone.writes(&chat, ["x"]).envelope.number;
    phone.sends(&both);
    phone.sends(&phone.deletes(&chat, 2));
    nothing_is_left(&scene, &chat, "three edits in one envelope");
    assert!(scene.stores(&chat, "after all"));
}

#[test]
fn an_envelope_that_edits_and_deletes_brings_no_text() {
    let scene = Scene::default();
    let (phone, _, chat) = secret(&scene);
    let mut both = phone.edits(&chat, 2, "another secret");
    both.envelope.messages.extend(phone.deletes(&chat, 2).envelope.messages);
    let mut screen = scene.device("bob", "phone").connects();
    phone.sends(&both);
    nothing_is_left(&scene, &chat, "in one envelope");
    scene.delivers();
    assert!(texts(&screen.hears().cells).iter().all(|(_, text)| !text.contains("another")));
}

#[test]
fn what_is_not_there_and_what_is_not_ones_own_is_refused_for_good() {
    let scene = Scene::default();
    let (phone, tablet, chat) = secret(&scene);
    let bob = scene.device("bob", "phone");
    phone.sends_until(Before("log.put"), &phone.writes(&chat, ["never written"])).ends();
    tablet.sends(&tablet.edits(&chat, 1, "first")).place();
    let mut elsewhere = tablet.edits(&chat, 1, "x");
    if let Some(edits) = &mut elsewhere.envelope.messages[0].edits {
        edits.seq = edits.seq.next();
    }
    let refused = [
        (&bob, bob.edits(&chat, 2, "x")),
        (&bob, bob.deletes(&chat, 2)),
        (&tablet, elsewhere),
        (&tablet, tablet.edits(&chat, 4, "where nothing is")),
        (&tablet, tablet.edits(&chat, 5, "an edit of an edit")),
        (&tablet, tablet.deletes(&chat, 5)),
        (&tablet, tablet.deletes(&chat, 90)),
    ];
    for (device, change) in refused {
        for attempt in [&change, &aged(&change, 31 * DAY), &change] {
            let refusal = device.sends(attempt).refusal();
            let expected = if attempt.age_ms > 0 { Code::Expired } else { Code::NoTarget };
            assert_eq!((refusal.code, refusal.retryable), (expected, false), "{change:?}");
        }
    }
    scene.passes(2 * SECOND);
    let page = bob.reads(&chat, 0);
    assert_eq!(texts(&page.cells), [(1, "before"), (2, "a secret"), (3, "after"), (5, "first")]);
}

/// L2: a repeat is a success however old it is, and whatever became of what it changes.
#[test]
fn a_repeat_of_a_change_is_a_success() {
    let scene = Scene::default();
    scene.keeps(40 * DAY);
    let (phone, tablet, chat) = secret(&scene);
    scene.passes(30 * DAY);
    let (edit, delete) = (tablet.edits(&chat, 2, "another secret"), phone.deletes(&chat, 2));
    let place = tablet.sends(&edit).place();
    assert_eq!(tablet.sends(&edit), Repeat(place));
    let deleted = phone.sends(&delete).place();
    scene.passes(22 * DAY);
    assert!(scene.removes() > 0, "what is changed is gone");
    assert_eq!((tablet.sends(&edit), phone.sends(&delete)), (Repeat(place), Repeat(deleted)));
    assert_eq!(phone.sends(&phone.deletes(&chat, 2)).code(), Code::NoTarget);
}

#[test]
fn to_delete_again_is_a_success_and_an_edit_of_what_is_deleted_too() {
    let scene = Scene::default();
    let (phone, tablet, chat) = secret(&scene);
    phone.sends(&phone.deletes(&chat, 2)).place();
    tablet.sends(&tablet.deletes(&chat, 2)).place();
    tablet.sends(&tablet.edits(&chat, 2, "another secret")).place();
    nothing_is_left(&scene, &chat, "edited afterwards");
}

/// An edit that never was written is not written when its message is gone: it may have been deleted meanwhile.
#[test]
fn an_edit_that_stalled_for_longer_than_its_message_is_kept_is_refused() {
    let scene = Scene::default();
    scene.keeps(40 * DAY);
    let (phone, tablet, chat) = secret(&scene);
    scene.passes(39 * DAY);
    let edit = tablet.edits(&chat, 2, "another secret");
    tablet.sends_until(Before("log.put"), &edit).ends();
    phone.sends(&phone.deletes(&chat, 2)).place();
    scene.passes(12 * DAY);
    scene.removes();
    assert_eq!(tablet.sends(&edit).code(), Code::NoTarget);
    assert_eq!(tablet.sends(&edit).code(), Code::NoTarget);
    assert!(!scene.stores(&chat, "secret"));
}

#[test]
fn what_fails_or_is_made_twice_is_mended_by_the_retry() {
    for call in ["log.before", "log.put", "log.redact", "queue.publish"] {
        let scene = Scene::default();
        let (phone, _, chat) = secret(&scene);
        let delete = phone.deletes(&chat, 2);
        scene.fails(After(call), Class::Transient);
        assert_eq!(phone.sends(&delete).code(), Code::Unavailable, "{call}");
        phone.sends(&delete).place();
        nothing_is_left(&scene, &chat, call);
    }
    for call in ["log.register", "log.put", "log.redact"] {
        let scene = Scene::default();
        let (phone, _, chat) = secret(&scene);
        scene.is_made_again(call);
        phone.sends(&phone.edits(&chat, 2, "another secret")).place();
        phone.sends(&phone.deletes(&chat, 2)).place();
        nothing_is_left(&scene, &chat, call);
    }
}
