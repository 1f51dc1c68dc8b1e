//! Sending and delivering; the limits of an envelope and of a frame.

use poste_protocol::{Code, Envelope, Message, MessageId, Outcome, limits};
use poste_tests::{Deployment, bodies, envelope, next_after, now_ms, submission};

/// How far the server's clock may be from ours: they are one on the local stack, two elsewhere.
const CLOCKS_APART_MS: u64 = 60_000;

/// L1, L3, D1, D2 (sent), O7: what one writes reaches every other device of both, and is stored before it is shown.
#[tokio::test]
async fn messages_go_both_ways_and_to_the_other_devices() {
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut tablet = deployment.device(&alice, "tablet").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let conversation = phone.with(&bob);

    let (hi, acknowledged) = phone.tells(&bob, "hi").await;
    assert_eq!((acknowledged.seq, acknowledged.repeat), (1, false));
    assert!(acknowledged.at.abs_diff(now_ms()) < CLOCKS_APART_MS, "stored now, by the server's clock");
    for other in [&mut bobs, &mut tablet] {
        let cell = other.hears(&hi).await;
        assert_eq!((cell.seq.get(), cell.at, cell.number), (1, acknowledged.at, hi.number));
        assert_eq!((&cell.by, &cell.messages), (phone.author(), &hi.messages));
        assert_eq!(admin.copies(&hi).await, [1], "what is shown is in the log");
    }

    let (hello, acknowledged) = bobs.tells(&alice, "hello").await;
    assert_eq!((acknowledged.seq, acknowledged.repeat), (2, false));
    for other in [&mut phone, &mut tablet] {
        let cell = other.hears(&hello).await;
        assert_eq!((cell.seq.get(), &cell.by), (2, bobs.author()));
    }

    let (from_tablet, acknowledged) = tablet.tells(&bob, "from the tablet").await;
    assert_eq!(acknowledged.seq, 3);
    bobs.hears(&from_tablet).await;
    phone.hears(&from_tablet).await;
    assert!(phone.heard(&conversation).iter().all(|cell| cell.by != *phone.author()), "its own is not sent back");
    assert!(bobs.heard(&conversation).iter().all(|cell| cell.by != *bobs.author()), "its own is not sent back");
}

/// L1: notes to oneself are a conversation, too.
#[tokio::test]
async fn a_note_to_oneself_reaches_the_other_device() {
    let deployment = Deployment::here();
    let alice = deployment.user("alice");
    let mut phone = deployment.device(&alice, "phone").await;
    let mut tablet = deployment.device(&alice, "tablet").await;
    let (note, acknowledged) = phone.tells(&alice, "buy stamps").await;
    assert_eq!(acknowledged.seq, 1);
    assert_eq!(tablet.hears(&note).await.by, *phone.author());
}

/// L1: an envelope is one cell, stored whole, and each of its messages has a number of its own.
#[tokio::test]
async fn an_envelope_of_25_messages_is_one_cell() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let conversation = phone.with(&bob);

    let many = phone.writes_all(&bob, &bodies("message", limits::ENVELOPE_MESSAGES));
    assert_eq!(phone.sends(&many).await.seq, 1);
    let (one, acknowledged) = phone.tells(&bob, "after it").await;
    assert_eq!(acknowledged.seq, 26);
    let cell = bobs.hears(&many).await;
    assert_eq!((cell.seq.get(), cell.last().get(), &cell.messages), (1, 25, &many.messages));
    bobs.hears(&one).await;

    let stored = deployment.admin().log(&conversation).await;
    let places: Vec<_> = stored.iter().map(|s| (s.seq, s.envelope)).collect();
    assert_eq!(places, [(1, Some(many.id)), (26, Some(one.id))]);
}

/// L1, C4: what is refused is refused with its own code, takes no number, and holds up nothing.
#[tokio::test]
async fn envelopes_beyond_the_limits_are_refused() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let conversation = phone.with(&bob);
    let with = |bodies: &[String]| envelope(&conversation, Some(&bob), 1, bodies);

    let none = with(&[]);
    let too_many = with(&bodies("message", limits::ENVELOPE_MESSAGES + 1));
    let empty = with(&[String::new()]);
    let mut twice = with(&bodies("message", 2));
    twice.messages[1].id = twice.messages[0].id;
    let mut too_late = with(&bodies("message", 1));
    too_late.messages[0].written_at = Some(limits::INTEGER + 1);
    let too_big = of_bytes(&with(&bodies("x", 1)), limits::ENVELOPE_BYTES + 1);
    let cases = [
        ("no message", none, Code::BadFrame),
        ("26 messages", too_many, Code::TooMany),
        ("an empty body", empty, Code::BadFrame),
        ("two messages with one id", twice, Code::BadFrame),
        ("a clock that JSON readers cannot read", too_late, Code::BadFrame),
        ("one byte over 24 KiB", too_big, Code::TooBig),
    ];
    for (what, envelope, code) in cases {
        let refusal = phone.submit(submission(&envelope)).await.expect_err(what);
        assert_eq!((refusal.code, refusal.retryable), (code, false), "{what}");
    }
    assert_eq!(deployment.admin().head(&conversation).await, None, "a refused envelope brings nothing into being");

    let largest = of_bytes(&with(&bodies("x", 1)), limits::ENVELOPE_BYTES);
    assert_eq!(phone.sends(&largest).await.seq, 1);
    let mut bobs = deployment.device(&bob, "phone").await;
    assert_eq!(bobs.whole_log(&conversation).await[0].messages, largest.messages, "the largest fits in a page");
    let again = of_bytes(&next_after(&largest, "x"), limits::ENVELOPE_BYTES);
    phone.sends(&again).await;
    assert_eq!(bobs.hears(&again).await.messages, again.messages, "the largest fits in a delivery");
}

/// The envelope with its first body grown until it has so many bytes.
fn of_bytes(envelope: &Envelope, bytes: usize) -> Envelope {
    let mut grown = envelope.clone();
    grown.messages[0].body.push_str(&"x".repeat(bytes - envelope.bytes()));
    assert_eq!(grown.bytes(), bytes);
    grown
}

/// C3, C4: a frame takes envelopes for several conversations; each has a verdict of its own.
#[tokio::test]
async fn one_refused_envelope_does_not_hold_up_the_frame() {
    let deployment = Deployment::here();
    let alice = deployment.user("alice");
    let mut phone = deployment.device(&alice, "phone").await;
    let peers: Vec<_> = (0..limits::SUBMISSIONS).map(|_| deployment.user("peer")).collect();
    let mut envelopes: Vec<_> = peers.iter().map(|peer| phone.writes(peer, "hi")).collect();
    envelopes[7].messages.clear();
    let verdicts = phone.send(envelopes.iter().map(submission).collect()).await.expect("a frame that is taken");
    for (i, verdict) in verdicts.iter().enumerate() {
        match &verdict.outcome {
            Outcome::Accepted { seq, repeat, .. } => assert_eq!((i != 7, seq.get(), *repeat), (true, 1, false)),
            Outcome::Refused { error } => assert_eq!((i, error.code), (7, Code::BadFrame)),
        }
    }
}

/// L7, Q3: bodies come back as they were; what a device's clock says orders and refuses nothing.
#[tokio::test]
async fn bodies_are_opaque_and_clocks_do_not_matter() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let bodies = [
        "\u{0}\u{1}\u{1f}\u{7f}\u{85}\u{2028}\u{2029}",
        "quotes \" and \\ and / and </script>",
        "\u{1F469}\u{200D}\u{1F680} العربية 漢字 e\u{301}",
        "\u{feff}\u{fffd}\u{10ffff}",
        "{\"action\":\"send\"}",
        " \t\r\n ",
    ];
    let clocks = [None, Some(0), Some(1), Some(limits::INTEGER), Some(now_ms() * 2), Some(now_ms())];
    let mut written = phone.writes(&bob, "");
    written.messages = bodies
        .iter()
        .zip(clocks)
        .map(|(body, written_at)| Message { written_at, ..Message::new(MessageId::fresh(), *body) })
        .collect();
    phone.sends(&written).await;
    assert_eq!(bobs.hears(&written).await.messages, written.messages, "as delivered");
    let log = bobs.whole_log(&written.conversation).await;
    assert_eq!(log[0].messages, written.messages, "as fetched");
}

/// Q3, failures 8 and 9: some characters are fine in a body and not in a message of SQS (U+FFFE, U+FFFF, and the control
/// characters). A body with them must not be stored, refused as trouble, and so retried for ever.
#[tokio::test]
async fn bodies_with_characters_that_queues_refuse() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let characters = ['\u{0}', '\u{8}', '\u{b}', '\u{1f}', '\u{7f}', '\u{9f}', '\u{fdd0}', '\u{fffe}', '\u{ffff}'];
    let mut wrong = Vec::new();
    for character in characters {
        let written = phone.writes(&bob, &format!("before {character} after"));
        match phone.submit(submission(&written)).await {
            Ok(_) => assert_eq!(bobs.hears(&written).await.messages, written.messages, "{character:?}"),
            Err(refusal) => {
                let copies = deployment.admin().copies(&written).await;
                wrong.push(format!("{character:?} is answered with {refusal}, and is in the log at {copies:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
}
