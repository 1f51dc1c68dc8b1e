//! Media, case by case, on ports in memory (M1 to M4): an upload may be broken off anywhere and goes on, what a message
//! refers to is there, and no id opens anything.

use std::time::Duration;

use poste_domain::Class;
use poste_protocol::{Code, MediaState, MediaWish, PartWish};
use poste_sim::scene::{
    Answer::{Accepted, Refused, Repeat},
    Before, Chat, Device, LocalFile, Moment, SECOND, Scene,
};

const MIB: u64 = 1024 * 1024;

/// A file of three parts.
const LONG: u64 = 12 * MIB;

/// A file of one part.
const SHORT: u64 = MIB;

struct Story {
    scene: Scene,
    alice: Device,
    bob: Device,
    chat: Chat,
}

fn story() -> Story {
    let scene = Scene::default();
    let (alice, bob) = (scene.device("alice", "phone"), scene.device("bob", "phone"));
    let chat = scene.direct("alice", "bob");
    Story { scene, alice, bob, chat }
}

/// M1, M4: what is uploaded, completed and sent comes out whole at whoever sees the message. Also as the very first
/// message to somebody.
#[test]
fn a_file_goes_first_and_its_message_after_it() {
    for size in [1, SHORT, 5 * MIB, 5 * MIB + 1, LONG] {
        let Story { scene, alice, bob, chat } = story();
        let picture = alice.picture(size);
        alice.uploads(&chat, &picture).expect("uploaded");
        let place = alice.sends(&alice.shows(&chat, &picture)).accepted();
        let seen = bob.reads(&chat, 0).cells.remove(0).messages.remove(0).media.expect("a file");
        assert_eq!((seen.id, seen.size, seen.sha256), (picture.media, size, picture.file.sha256));
        let link = bob.gets(&chat, picture.media, place).expect("an address");
        assert_eq!(scene.world().downloads(&link), Some((size, picture.file.sha256)));
        assert!(scene.world().file(&alice.file(&chat, &picture)).expect("stored").sent);
    }
}

/// M4: a message that refers to what is not stored as a whole, is somebody else's or was uploaded for another
/// conversation is refused. The same device goes on with what it writes next.
#[test]
fn a_message_without_its_file_is_refused() {
    let Story { scene, alice, bob, chat } = story();
    let picture = alice.picture(LONG);
    let refused = |device: &Device, chat: &Chat| device.sends(&device.shows(chat, &picture)).code();
    assert_eq!(refused(&alice, &chat), Code::NoMedia);
    alice.wants(&chat, picture.media, alice.beginning(&chat, &picture)).expect("begun");
    for part in 1..=2 {
        alice.puts(&alice.link(&chat, &picture, part).expect("an address"), &picture, part);
    }
    assert_eq!(refused(&alice, &chat), Code::NoMedia);
    alice.uploads(&chat, &picture).expect("uploaded");
    assert_eq!(refused(&bob, &chat), Code::NoMedia);
    assert_eq!(refused(&alice, &scene.direct("alice", "carol")), Code::NoMedia);
    assert_eq!(alice.sends(&alice.shows(&chat, &picture)), Accepted(1));
    assert_eq!(alice.sends(&alice.writes(&chat, ["so?"])), Accepted(2));
}

/// A refusal for want of a file stands, as any other: an attempt that is still alive writes nothing after it.
#[test]
fn what_was_refused_for_want_of_its_file_is_not_written_later() {
    let Story { scene, alice, bob, chat } = story();
    alice.sends(&alice.writes(&chat, ["hello"])).accepted();
    let picture = alice.picture(SHORT);
    alice.uploads(&chat, &picture).expect("uploaded");
    let shown = alice.shows(&chat, &picture);
    let slow = alice.sends_until(Before("heads.place"), &shown);
    alice.wants(&chat, picture.media, MediaWish::Abort).expect("gone");
    // The slow one has kept it already, so it stays; only the store can still lose it.
    assert!(scene.world().file(&alice.file(&chat, &picture)).is_some());
    assert_eq!(slow.goes_on(), Accepted(2));
    assert_eq!(alice.sends(&shown), Repeat(2));

    let other = alice.picture(SHORT);
    let shown = alice.shows(&chat, &other);
    assert_eq!(alice.sends(&shown).code(), Code::NoMedia);
    alice.uploads(&chat, &other).expect("uploaded");
    assert_eq!(alice.sends(&shown).code(), Code::Expired, "it goes in another envelope");
    assert_eq!(alice.sends(&alice.shows(&chat, &other)), Accepted(3));
    assert_eq!(bob.reads(&chat, 0).cells.len(), 3);
}

/// M2: what is missing is what the store says, whoever asks and whenever; a `complete` that comes too early says it.
#[test]
fn an_upload_goes_on_where_it_stopped() {
    let Story { scene, alice, chat, .. } = story();
    let picture = alice.picture(LONG);
    let begin = || alice.wants(&chat, picture.media, alice.beginning(&chat, &picture)).expect("it goes on");
    assert_eq!(begin(), MediaState::Open { missing: vec![(1, 3)] });
    alice.puts(&alice.link(&chat, &picture, 2).expect("an address"), &picture, 2);
    assert_eq!(begin(), MediaState::Open { missing: vec![(1, 1), (3, 3)] });
    let early = alice.wants(&chat, picture.media, MediaWish::Complete).expect("an answer");
    assert_eq!(early, MediaState::Open { missing: vec![(1, 1), (3, 3)] });
    alice.uploads(&chat, &picture).expect("uploaded");
    assert_eq!(begin(), MediaState::Complete);
    assert_eq!(alice.wants(&chat, picture.media, MediaWish::Complete), Ok(MediaState::Complete));
    assert_eq!(scene.world().open_uploads(), 0);
}

/// M3: what takes too long is ended by the store, and begins anew under the same id. What was completed and not sent is
/// removed; its message is refused, and the upload begins anew. What was sent is never touched by either.
#[test]
fn what_the_store_has_cleaned_up_begins_anew() {
    let Story { scene, alice, bob, chat } = story();
    for (size, is_forgotten) in [(LONG, false), (LONG, true), (SHORT, false), (SHORT, true)] {
        let picture = alice.picture(size);
        alice.wants(&chat, picture.media, alice.beginning(&chat, &picture)).expect("begun");
        let link = alice.link(&chat, &picture, 1).expect("an address");
        let clean = || {
            scene.world().removes_what_was_not_sent();
            if is_forgotten {
                scene.world().forgets_uploads();
            }
        };
        clean();
        assert_eq!(alice.puts(&link, &picture, 1), if size == LONG { 404 } else { 200 });
        alice.uploads(&chat, &picture).expect("uploaded anew");
        clean();
        assert_eq!(alice.sends(&alice.shows(&chat, &picture)).code(), Code::NoMedia);
        alice.uploads(&chat, &picture).expect("uploaded anew");
        let place = alice.sends(&alice.shows(&chat, &picture)).accepted();
        clean();
        // A device that was put back to a backup begins once more.
        alice.uploads(&chat, &picture).expect("it is there");
        assert!(scene.world().file(&alice.file(&chat, &picture)).expect("stored").sent);
        assert!(bob.gets(&chat, picture.media, place).is_ok());
    }
}

/// Every moment between the first `begin` and the acknowledgement at which a function can end, or a part can fail before
/// or after its effect: the device that does the same again comes to one message with its file.
#[test]
fn every_crash_point_from_begin_to_send_comes_to_one_message() {
    for size in [SHORT, LONG] {
        // The calls of one smooth upload and send, each of which is then broken off before and after.
        let calls = {
            let Story { scene, alice, chat, .. } = story();
            alice.sends(&alice.writes(&chat, ["hello"])).accepted();
            let picture = alice.picture(size);
            scene.counts_calls();
            alice.uploads(&chat, &picture).expect("uploaded");
            alice.sends(&alice.shows(&chat, &picture)).accepted();
            scene.calls()
        };
        let mut played = 0;
        for step in ["begin", "parts", "complete", "send"] {
            for call in calls.iter().collect::<std::collections::BTreeSet<_>>() {
                for moment in [Moment::Before(call), Moment::After(call)] {
                    played += u32::from(is_survived(size, step, moment, Class::Transient));
                    played += u32::from(is_survived(size, step, moment, Class::Throttled));
                }
            }
        }
        assert!(played >= 40, "{played} moments were played of a file of {size} bytes");
    }
}

/// Whether the moment came at this step. If so, what follows is as it should be.
fn is_survived(size: u64, step: &str, moment: Moment, class: Class) -> bool {
    let Story { scene, alice, bob, chat } = story();
    alice.sends(&alice.writes(&chat, ["hello"])).accepted();
    let picture = alice.picture(size);
    let shown = alice.shows(&chat, &picture);
    let mut came = false;
    let mut at = |name: &str, act: &mut dyn FnMut() -> Option<Code>| {
        if name == step {
            scene.fails(moment, class);
            let code = act();
            came = scene.calls_off();
            assert!(!came || code.is_some_and(Code::retryable), "{step} {moment:?}: {code:?}");
        }
        assert_eq!(act(), None, "{step} {moment:?}: {name}");
    };
    let wish = |wish: MediaWish| alice.wants(&chat, picture.media, wish).err().map(|refusal| refusal.code);
    at("begin", &mut || wish(alice.beginning(&chat, &picture)));
    at("parts", &mut || alice.link(&chat, &picture, 1).err().map(|refusal| refusal.code));
    if let Ok(MediaState::Open { missing }) = alice.wants(&chat, picture.media, alice.beginning(&chat, &picture)) {
        for part in missing.into_iter().flat_map(|(first, last)| first..=last) {
            assert_eq!(alice.puts(&alice.link(&chat, &picture, part).expect("an address"), &picture, part), 200);
        }
    }
    at("complete", &mut || wish(MediaWish::Complete));
    at("send", &mut || match alice.sends(&shown) {
        Accepted(_) | Repeat(_) => None,
        refused @ Refused(_) => Some(refused.code()),
    });
    scene.passes(5 * SECOND);
    let cells = bob.reads(&chat, 0).cells;
    let with_file: Vec<_> = cells.iter().filter(|cell| cell.messages[0].media.is_some()).collect();
    assert_eq!(with_file.len(), 1, "{step} {moment:?}");
    let link = bob.gets(&chat, picture.media, with_file[0].seq.get()).expect("an address");
    assert_eq!(scene.world().downloads(&link), Some((size, picture.file.sha256)), "{step} {moment:?}");
    came
}

/// Two devices' attempts at one upload (a phone and the backup it was restored to) end in one file.
#[test]
fn who_begins_at_the_same_time_shares_one_upload() {
    let Story { scene, alice, chat, .. } = story();
    let picture = alice.picture(LONG);
    let slow = alice.wants_until(Before("uploads.note"), &chat, picture.media, alice.beginning(&chat, &picture));
    alice.wants(&chat, picture.media, alice.beginning(&chat, &picture)).expect("begun");
    alice.puts(&alice.link(&chat, &picture, 1).expect("an address"), &picture, 1);
    assert_eq!(slow.goes_on(), Ok(MediaState::Open { missing: vec![(2, 3)] }));
    assert_eq!(scene.world().open_uploads(), 1, "the other one is ended");
    let slow = alice.wants_until(Before("files.join"), &chat, picture.media, {
        for part in 2..=3 {
            alice.puts(&alice.link(&chat, &picture, part).expect("an address"), &picture, part);
        }
        MediaWish::Complete
    });
    assert_eq!(alice.wants(&chat, picture.media, MediaWish::Complete), Ok(MediaState::Complete));
    assert_eq!(slow.goes_on(), Ok(MediaState::Complete));
}

/// M3: the limits of the deployment, and of the wire.
#[test]
fn what_is_not_taken_is_said() {
    let Story { scene, alice, chat, .. } = story();
    let refused =
        |picture: &LocalFile| alice.wants(&chat, picture.media, alice.beginning(&chat, picture)).expect_err("refused");
    assert_eq!(refused(&alice.picture(2 * 1024 * MIB + 1)).code, Code::TooBig);
    let mut odd = alice.picture(SHORT);
    odd.file.kind = "jpeg".to_owned();
    assert_eq!(refused(&odd).code, Code::BadFrame);
    odd.file.kind = "image/jpeg".to_owned();
    odd.file.size = 0;
    assert_eq!(refused(&odd).code, Code::BadFrame);
    for _ in 0..5 {
        let large = alice.picture(2 * 1024 * MIB);
        for _ in 0..2 {
            alice
                .wants(&chat, large.media, alice.beginning(&chat, &large))
                .expect("within the quota, and counted once");
        }
    }
    let late = refused(&alice.picture(1));
    assert_eq!(late.code, Code::OverQuota);
    scene.passes(Duration::from_millis(late.retry_after_ms.expect("when to come back")));
    alice.uploads(&chat, &alice.picture(1)).expect("another day");
}

/// The id of one file is not another's, and bytes that were not announced are not taken.
#[test]
fn a_file_is_what_was_announced() {
    let Story { alice, chat, .. } = story();
    let picture = alice.picture(LONG);
    alice.wants(&chat, picture.media, alice.beginning(&chat, &picture)).expect("begun");
    let mut other = alice.picture(LONG);
    other.media = picture.media;
    let conflict = alice.wants(&chat, other.media, alice.beginning(&chat, &other)).expect_err("another file");
    assert_eq!(conflict.code, Code::MediaConflict);

    // The file changed while it was uploaded: the parts are some of each.
    for (part, of) in [(1, &picture), (2, &other), (3, &picture)] {
        assert_eq!(alice.puts(&alice.link(&chat, of, part).expect("an address"), of, part), 200);
    }
    let conflict = alice.wants(&chat, picture.media, MediaWish::Complete).expect_err("not what was announced");
    assert_eq!(conflict.code, Code::MediaConflict);
    assert_eq!(alice.sends(&alice.shows(&chat, &picture)).code(), Code::NoMedia);
    alice.uploads(&chat, &picture).expect("begun anew");

    let short = alice.picture(SHORT);
    alice.wants(&chat, short.media, alice.beginning(&chat, &short)).expect("begun");
    let mut wrong = alice.picture(SHORT);
    wrong.media = short.media;
    assert_eq!(alice.link(&chat, &wrong, 1).expect_err("another checksum").code, Code::MediaConflict);
    let link = alice.link(&chat, &short, 1).expect("an address");
    assert_eq!(alice.puts(&link, &wrong, 1), 400);
    let none = MediaWish::Parts { parts: Vec::new() };
    assert_eq!(alice.wants(&chat, short.media, none).expect_err("no parts").code, Code::TooMany);
    let parts = vec![PartWish { part: 2, sha256: short.file.sha256 }];
    assert_eq!(alice.wants(&chat, short.media, MediaWish::Parts { parts }).expect_err("no such").code, Code::BadFrame);
}

/// M3: only who sees the message gets its file; for everybody else an id is nothing.
#[test]
fn a_file_is_for_who_sees_its_message() {
    let scene = Scene::default();
    let (alice, bob, carol) =
        (scene.device("alice", "phone"), scene.device("bob", "phone"), scene.device("carol", "phone"));
    let group = scene.group();
    alice.sends(&alice.creates(&group, "choir", ["bob"])).accepted();
    let picture = alice.picture(SHORT);
    alice.uploads(&group, &picture).expect("uploaded");
    let place = alice.sends(&alice.shows(&group, &picture)).accepted();
    let code = |device: &Device, chat: &Chat, place| device.gets(chat, picture.media, place).map_err(|no| no.code);
    assert!(code(&bob, &group, place).is_ok());
    assert_eq!(code(&carol, &group, place), Err(Code::NotMember));
    alice.sends(&alice.adds(&group, ["carol"])).accepted();
    assert_eq!(code(&carol, &group, place), Err(Code::NoMedia), "it was before her time");
    assert_eq!(code(&bob, &group, place + 1), Err(Code::NoMedia), "another message");
    assert_eq!(code(&bob, &scene.direct("alice", "bob"), place), Err(Code::NotMember));
    let begun = bob.wants(&group, picture.media, MediaWish::Complete).map_err(|no| no.code);
    assert_eq!(begun, Err(Code::NoMedia), "it is alice's, and bob has none of this name");

    // Who is removed still sees what was before, and uploads nothing.
    alice.sends(&alice.removes(&group, ["bob"])).accepted();
    assert!(code(&bob, &group, place).is_ok());
    let own = bob.picture(SHORT);
    assert_eq!(bob.uploads(&group, &own).expect_err("he is out").code, Code::NotMember);
}

/// An upload that was begun while in ends with being in.
#[test]
fn who_is_removed_uploads_no_more() {
    let scene = Scene::default();
    let (alice, bob) = (scene.device("alice", "phone"), scene.device("bob", "phone"));
    let group = scene.group();
    alice.sends(&alice.creates(&group, "choir", ["bob"])).accepted();
    let picture = bob.picture(LONG);
    bob.wants(&group, picture.media, bob.beginning(&group, &picture)).expect("begun");
    alice.sends(&alice.removes(&group, ["bob"])).accepted();
    scene.passes(60 * SECOND);
    assert_eq!(bob.link(&group, &picture, 1).expect_err("he is out").code, Code::NotMember);
}

/// L5: a delete for everyone removes the file, whatever ends in between; and what is deleted stays a repeat.
#[test]
fn a_delete_removes_the_file() {
    for moment in [
        None,
        Some(Moment::Before("files.remove")),
        Some(Moment::After("files.remove")),
        Some(Moment::Before("log.redact")),
    ] {
        let Story { scene, alice, bob, chat } = story();
        let picture = alice.picture(SHORT);
        alice.uploads(&chat, &picture).expect("uploaded");
        let shown = alice.shows(&chat, &picture);
        let place = alice.sends(&shown).accepted();
        let delete = alice.deletes(&chat, place);
        if let Some(moment) = moment {
            alice.sends_until(moment, &delete).ends();
        }
        alice.sends(&delete).place();
        assert_eq!(scene.world().file(&alice.file(&chat, &picture)), None);
        assert_eq!(bob.gets(&chat, picture.media, place).expect_err("gone").code, Code::NoMedia);
        assert_eq!(bob.reads(&chat, 0).cells[0].messages[0].media, None);
        assert_eq!(alice.sends(&shown), Repeat(place));
    }
}

/// What is not wanted any more is removed; what was sent is not.
#[test]
fn an_upload_can_be_ended() {
    let Story { scene, alice, chat, .. } = story();
    for size in [SHORT, LONG] {
        let picture = alice.picture(size);
        let end = || alice.wants(&chat, picture.media, MediaWish::Abort);
        alice.wants(&chat, picture.media, alice.beginning(&chat, &picture)).expect("begun");
        assert_eq!((end(), end()), (Ok(MediaState::Gone), Ok(MediaState::Gone)));
        assert_eq!(scene.world().open_uploads(), 0);
        alice.uploads(&chat, &picture).expect("begun anew");
        assert_eq!(end(), Ok(MediaState::Gone));
        assert_eq!(scene.world().file(&alice.file(&chat, &picture)), None);
        alice.uploads(&chat, &picture).expect("begun anew");
        alice.sends(&alice.shows(&chat, &picture)).accepted();
        assert_eq!(end(), Ok(MediaState::Gone));
        assert!(scene.world().file(&alice.file(&chat, &picture)).is_some());
    }
}
