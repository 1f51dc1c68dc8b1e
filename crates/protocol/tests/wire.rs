//! What each frame looks like on the wire. A change of format shows in review as a change of a snapshot.

use poste_protocol::{
    Author, Away, Cell, Code, ConversationId, Delivery, DeliveryItem, DeviceId, Envelope, EnvelopeId, ErrorFrame,
    Event, Fetch, FromServer, GroupMember, GroupSummary, Hello, LanePlace, List, ListPage, ListPlace, Mark, MarkFrame,
    MarkResult, Marked, MarksFrame, MarksPage, MemberMark, MembersFrame, MembersPage, Message, MessageId, MessagePlace,
    MuteFrame, Muted, Number, Outcome, Page, Pages, Platform, PresenceNews, Preview, ProviderToken, PushAnswer,
    PushFrame, PushId, PushStatus, PushStyle, PushToken, RangeRefused, ReceiptsFrame, ReceiptsSet, Reference, Refusal,
    Replaced, Request, Resolved, Role, SendFrame, Sent, Seq, Submission, Summary, SyncFrame, SyncRange, Typing,
    TypingNews, UserId, UserMark, UserPresence, Verdict, Watch, Watching, Welcome, WokenBy, limits, parse,
};
use uuid::Uuid;

fn user(name: &str) -> UserId {
    UserId::new(name).expect("valid")
}

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).expect("valid")
}

fn seq(n: u64) -> Seq {
    Seq::new(n).expect("valid")
}

fn number(n: u64) -> Number {
    Number::new(n).expect("valid")
}

fn reference() -> Reference {
    Reference::new("7").expect("valid")
}

fn conversation() -> ConversationId {
    ConversationId::direct(&user("alice"), &user("bob"))
}

fn message(n: u128) -> Message {
    Message::new(MessageId(Uuid::from_u128(n)), format!("hello {n}"))
}

fn place(n: u64, id: u128) -> MessagePlace {
    MessagePlace { seq: seq(n), id: MessageId(Uuid::from_u128(id)) }
}

fn edit(n: u128) -> Message {
    Message { edits: Some(place(12, 2)), ..message(n) }
}

fn delete(n: u128) -> Message {
    Message { deletes: Some(place(13, 3)), ..Message::new(MessageId(Uuid::from_u128(n)), "") }
}

fn envelope() -> Envelope {
    Envelope {
        id: EnvelopeId(Uuid::from_u128(1)),
        conversation: conversation(),
        to: Some(user("bob")),
        number: number(1),
        messages: vec![Message { written_at: Some(1_790_000_000_000), ..message(2) }, message(3)],
    }
}

fn cell() -> Cell {
    Cell {
        seq: seq(12),
        envelope: EnvelopeId(Uuid::from_u128(1)),
        number: number(1),
        by: Author { user: user("alice"), device: device("phone") },
        at: 1_790_000_000_123,
        messages: vec![message(2), message(3)],
    }
}

fn member_mark() -> MemberMark {
    MemberMark { user: user("bob"), device: device("tablet"), delivered: seq(13), read: seq(12) }
}

fn here() -> UserPresence {
    UserPresence { user: user("bob"), until: Some(1_790_000_120_000), seen: Some(1_790_000_000_000) }
}

#[test]
fn requests() {
    let conversation = conversation();
    insta::assert_json_snapshot!([
        Request::Hello(Hello::new(reference())),
        Request::Hello(Hello {
            reference: reference(),
            push: true,
            woken_by: Some(WokenBy {
                conversation: conversation.clone(),
                seq: Some(seq(15)),
                push: Some(PushId(Uuid::from_u128(5))),
            }),
        }),
        Request::Send(SendFrame {
            reference: reference(),
            submissions: vec![
                Submission { envelope: envelope(), age_ms: 1500, attempt: 2, resolved: None },
                Submission {
                    envelope: envelope(),
                    age_ms: 0,
                    attempt: 1,
                    resolved: Some(Resolved { lane: LanePlace { number: number(4), seq: seq(40) }, through: seq(41) }),
                },
            ],
            marks: vec![Mark { conversation: conversation.clone(), delivered: Some(seq(13)), read: Some(seq(12)) }],
        }),
        Request::Send(SendFrame {
            reference: reference(),
            submissions: vec![Submission {
                envelope: Envelope { number: number(2), messages: vec![edit(4), delete(5)], ..envelope() },
                age_ms: 0,
                attempt: 1,
                resolved: None,
            }],
            marks: Vec::new(),
        }),
        Request::Fetch(Fetch {
            reference: reference(),
            conversation: conversation.clone(),
            after: Some(Seq::ZERO),
            before: None,
            limit: Some(100),
        }),
        Request::Fetch(Fetch {
            reference: reference(),
            conversation: conversation.clone(),
            after: None,
            before: Some(seq(12)),
            limit: None,
        }),
        Request::Fetch(Fetch {
            reference: reference(),
            conversation: conversation.clone(),
            after: None,
            before: None,
            limit: None,
        }),
        Request::Sync(SyncFrame {
            reference: reference(),
            ranges: vec![
                SyncRange { conversation: conversation.clone(), after: Some(Seq::ZERO), limit: None },
                SyncRange { conversation: conversation.clone(), after: None, limit: Some(30) },
            ],
            frames: Some(8),
        }),
        Request::List(List { reference: reference(), after: None, frames: Some(8), previews: Some(50) }),
        Request::List(List {
            reference: reference(),
            after: Some(ListPlace {
                active_at: 1_790_000_000_123,
                conversation: conversation.clone(),
                part: Some(conversation.clone()),
            }),
            frames: None,
            previews: None,
        }),
        Request::Mark(MarkFrame {
            reference: reference(),
            marks: vec![Mark { conversation: conversation.clone(), delivered: Some(seq(13)), read: None }],
        }),
        Request::Watch(Watch { reference: reference(), conversations: vec![conversation.clone()] }),
        Request::Away(Away {}),
        Request::Typing(Typing { conversation: conversation.clone() }),
        Request::Push(PushFrame {
            reference: reference(),
            token: Some(PushToken {
                platform: Platform::ApnsSandbox,
                token: ProviderToken::new("0a1b").expect("valid"),
                style: PushStyle::Background,
            }),
        }),
        Request::Push(PushFrame { reference: reference(), token: None }),
        Request::Mute(MuteFrame { reference: reference(), conversation, until: Some(1_790_000_000_000) }),
    ]);
}

#[test]
fn answers_and_news() {
    let lane = LanePlace { number: number(4), seq: seq(40) };
    insta::assert_json_snapshot!([
        FromServer::Welcome(Welcome {
            reference: reference(),
            user: user("alice"),
            device: device("phone"),
            now: 1,
            push: Some(PushStatus::Renew),
        }),
        FromServer::Sent(Sent {
            reference: reference(),
            verdicts: vec![
                Verdict {
                    envelope: EnvelopeId(Uuid::from_u128(1)),
                    outcome: Outcome::Accepted { seq: seq(12), at: 1_790_000_000_123, repeat: false },
                },
                Verdict {
                    envelope: EnvelopeId(Uuid::from_u128(9)),
                    outcome: Outcome::Refused {
                        error: Refusal { lane: Some(lane), ..Refusal::new(Code::LaneConflict, "renumber") },
                    },
                },
            ],
            marks: vec![MarkResult { conversation: conversation(), error: None }],
        }),
        FromServer::Page(Page {
            reference: Some(reference()),
            conversation: conversation(),
            after: seq(11),
            through: seq(13),
            cells: vec![cell()],
            floor: seq(11),
            head: seq(20),
            more: false,
            retry_after_ms: Some(1200),
        }),
        FromServer::Pages(Pages {
            reference: reference(),
            pages: vec![Page {
                reference: None,
                conversation: conversation(),
                after: seq(11),
                through: seq(13),
                cells: vec![cell()],
                floor: seq(11),
                head: seq(20),
                more: false,
                retry_after_ms: Some(1200),
            }],
            refused: vec![RangeRefused {
                conversation: conversation(),
                error: Refusal::new(Code::NotMember, "no such conversation")
            }],
            follows: true,
        }),
        FromServer::List(ListPage {
            reference: reference(),
            conversations: vec![Summary {
                conversation: conversation(),
                peer: Some(user("bob")),
                group: None,
                head: seq(20),
                floor: seq(7),
                active_at: 1_790_000_000_123,
                marks: vec![member_mark()],
                unread: 3,
                last: Some(Preview {
                    seq: seq(20),
                    by: cell().by,
                    at: 1_790_000_000_123,
                    message: Message { deleted: true, ..Message::new(MessageId(Uuid::from_u128(2)), "") },
                }),
            }],
            before: 1,
            follows: true,
            next: Some(ListPlace { active_at: 1_790_000_000_123, conversation: conversation(), part: None }),
            receipts_off: false,
            spread_ms: 30_000,
        }),
        FromServer::Marked(Marked {
            reference: reference(),
            results: vec![
                MarkResult { conversation: conversation(), error: None },
                MarkResult {
                    conversation: conversation(),
                    error: Some(Refusal::new(Code::NotMember, "not a member of this conversation")),
                },
            ],
        }),
        FromServer::Push(PushAnswer { reference: reference(), status: PushStatus::Registered }),
        FromServer::Muted(Muted { reference: reference(), conversation: conversation() }),
        FromServer::Delivery(Delivery {
            items: vec![DeliveryItem { conversation: conversation(), cells: vec![cell()], marks: vec![member_mark()] }],
        }),
        FromServer::Watching(Watching {
            reference: reference(),
            now: 1_790_000_000_123,
            renew_ms: 50_000,
            users: vec![here()],
        }),
        FromServer::Presence(PresenceNews {
            now: 1_790_000_000_123,
            users: vec![UserPresence { until: None, ..here() }],
        }),
        FromServer::Typing(TypingNews { now: 1_790_000_000_123, conversation: conversation(), user: user("bob") }),
        FromServer::Replaced(Replaced { message: "a newer connection of this device".to_owned() }),
        FromServer::Delivery(Delivery {
            items: vec![DeliveryItem {
                conversation: conversation(),
                cells: vec![Cell { messages: vec![message(3).redacted(), edit(4).redacted(), delete(5)], ..cell() }],
                marks: vec![],
            }],
        }),
        FromServer::Error(ErrorFrame {
            reference: Some(reference()),
            refusal: Refusal::new(Code::Busy, "too much at once").after_ms(250),
        }),
    ]);
}

#[test]
fn later_versions_are_understood_as_far_as_possible() {
    assert_eq!(
        serde_json::from_str::<FromServer>(r#"{"type":"hologram","x":1}"#).expect("parses"),
        FromServer::Unknown
    );
    let page = r#"{"type":"page","ref":"1","conversation":"c","after":0,"through":0,"cells":[],"head":0,"more":false,
        "colour":"blue"}"#;
    assert!(matches!(serde_json::from_str(page).expect("parses"), FromServer::Page(_)));
    let error = r#"{"type":"error","code":"moon_phase","message":"wrong moon","retryable":true}"#;
    let FromServer::Error(error) = serde_json::from_str(error).expect("parses") else { panic!("an error") };
    assert_eq!(error.refusal.code, Code::Unknown);
    assert!(error.refusal.retryable);
}

#[test]
fn bad_frames_are_named_and_keep_their_ref() {
    for (text, code, reference) in [
        ("", Code::BadFrame, None),
        ("{", Code::BadFrame, None),
        ("[]", Code::BadFrame, None),
        (r#"["7","c",0]"#, Code::BadFrame, None),
        ("\"fetch\"", Code::BadFrame, None),
        (r#"{"action":"fetch","ref":"7"}"#, Code::BadFrame, Some("7")),
        (r#"{"action":"fetch","ref":"7","conversation":"a b","after":0}"#, Code::BadFrame, Some("7")),
        (r#"{"action":"fetch","ref":"7","conversation":"ab","after":-1}"#, Code::BadFrame, Some("7")),
        (r#"{"action":"fetch","ref":"7","conversation":"ab","after":9007199254740992}"#, Code::BadFrame, Some("7")),
        (r#"{"action":"fetch","ref":{"a":1},"conversation":"ab","after":0}"#, Code::BadFrame, None),
        (r#"{"action":"fetch","ref":"","conversation":"ab","after":0}"#, Code::BadFrame, None),
        ("{\"action\":\"fetch\",\"ref\":\"7\",\"conversation\":\"a\u{1}\",\"after\":0}", Code::BadFrame, None),
        (&"[".repeat(1000), Code::BadFrame, None),
        (&format!(r#"{{"ref":"7","x":{}1{}}}"#, "[".repeat(500), "]".repeat(500)), Code::BadFrame, Some("7")),
        (&" ".repeat(limits::FRAME_BYTES + 1), Code::TooBig, None),
    ] {
        let error = parse::<Fetch>(text).expect_err(text);
        assert_eq!(error.refusal.code, code, "{text}");
        assert_eq!(error.reference.as_ref().map(Reference::as_str), reference, "{text}");
        assert!(!error.refusal.retryable, "{text}");
    }
}

#[test]
fn push_tokens_are_held_against_their_form_and_are_not_shown() {
    for bad in ["", "a b", "é", "a\n", &"x".repeat(limits::PUSH_TOKEN + 1)] {
        let quoted = serde_json::to_string(bad).expect("a string");
        assert!(serde_json::from_str::<ProviderToken>(&quoted).is_err(), "{bad:?}");
    }
    let token = ProviderToken::new("secret".repeat(10)).expect("valid");
    assert_eq!(format!("{token:?}"), "ProviderToken(60 characters)");
}

#[test]
fn envelopes_are_held_against_the_limits() {
    assert!(envelope().check().is_ok());
    let code = |envelope: Envelope| envelope.check().expect_err("refused").code;
    assert_eq!(code(Envelope { messages: vec![], ..envelope() }), Code::BadFrame);
    assert_eq!(code(Envelope { messages: vec![message(2), message(2)], ..envelope() }), Code::BadFrame);
    assert_eq!(
        code(Envelope { messages: vec![Message { body: String::new(), ..message(2) }], ..envelope() }),
        Code::BadFrame
    );
    let with = |message: Message| Envelope { messages: vec![message], ..envelope() };
    for good in [edit(4), delete(4)] {
        assert!(with(good).check().is_ok());
    }
    for bad in [
        Message { body: String::new(), ..edit(4) },
        Message { body: "why".to_owned(), ..delete(4) },
        Message { deletes: Some(place(13, 3)), ..edit(4) },
        Message { edits: Some(place(0, 2)), ..edit(4) },
        delete(4).redacted(),
    ] {
        assert_eq!(code(with(bad)), Code::BadFrame);
    }
    let written_at = Some(limits::INTEGER + 1);
    assert_eq!(code(Envelope { messages: vec![Message { written_at, ..message(2) }], ..envelope() }), Code::BadFrame);
    let many = |n: u128| Envelope { messages: (0..n).map(message).collect(), ..envelope() };
    assert!(many(25).check().is_ok());
    assert_eq!(code(many(26)), Code::TooMany);
    let big =
        |bytes: usize| Envelope { messages: vec![Message { body: "x".repeat(bytes), ..message(2) }], ..envelope() };
    let frame = big(1).bytes() - 1;
    assert!(big(limits::ENVELOPE_BYTES - frame).check().is_ok());
    assert_eq!(code(big(limits::ENVELOPE_BYTES - frame + 1)), Code::TooBig);
}

#[test]
fn the_largest_cell_fits_a_page_in_a_frame() {
    let mut largest = envelope();
    let room = limits::ENVELOPE_BYTES + 1
        - Envelope { messages: vec![Message { body: "x".into(), ..message(2) }], ..envelope() }.bytes();
    largest.messages = vec![Message { body: "x".repeat(room), ..message(2) }];
    assert!(largest.check().is_ok());
    let longest_user = user(&"u".repeat(limits::USER_ID));
    let page = FromServer::Page(Page {
        reference: Some(Reference::new("\u{1}".repeat(limits::REFERENCE)).expect("valid")),
        conversation: ConversationId::new("c".repeat(limits::CONVERSATION_ID)).expect("valid"),
        after: seq(limits::INTEGER),
        through: seq(limits::INTEGER),
        cells: vec![Cell {
            seq: seq(limits::INTEGER),
            number: number(limits::INTEGER),
            by: Author { user: longest_user, device: device(&"d".repeat(limits::DEVICE_ID)) },
            at: u64::MAX,
            messages: largest.messages,
            ..cell()
        }],
        floor: seq(limits::INTEGER),
        head: seq(limits::INTEGER),
        more: true,
        retry_after_ms: Some(u64::MAX),
    });
    let bytes = serde_json::to_string(&page).expect("serialises").len();
    assert!(bytes <= limits::FRAME_BYTES, "{bytes}");
}

/// Every event of a group, and what else there is about groups.
#[test]
fn groups() {
    let group = ConversationId::of_group(Uuid::from_u128(7));
    let users = || vec![user("bob"), user("carol")];
    let events = [
        Event::Created { title: "climbing".into(), members: users() },
        Event::Created { title: "alone".into(), members: Vec::new() },
        Event::Titled { title: "bouldering".into() },
        Event::Added { users: users() },
        Event::Removed { users: users() },
        Event::Left,
        Event::Role { user: user("bob"), role: Role::Admin },
    ];
    let messages = events.map(|event| Message { body: String::new(), event: Some(event), ..message(2) });
    for message in &messages {
        let envelope =
            Envelope { conversation: group.clone(), to: None, messages: vec![message.clone()], ..envelope() };
        assert_eq!(envelope.check(), Ok(()));
        let elsewhere = Envelope { conversation: conversation(), ..envelope.clone() };
        assert_eq!(elsewhere.check().map_err(|no| no.code), Err(Code::BadFrame));
        let not_alone = Envelope { messages: vec![message.clone(), message_three()], ..envelope };
        assert_eq!(not_alone.check().map_err(|no| no.code), Err(Code::BadFrame));
    }
    let unknown: Event = serde_json::from_str(r#"{"type":"merged","with":"x"}"#).expect("a later event");
    assert_eq!(unknown, Event::Unknown);
    let page = MembersPage {
        reference: reference(),
        conversation: group.clone(),
        roster: seq(4),
        title: "climbing".into(),
        members: vec![GroupMember { user: user("alice"), role: Role::Admin }],
        next: Some(user("alice")),
    };
    let frame = MembersFrame { reference: reference(), conversation: group, after: Some(user("alice")) };
    let summary = GroupSummary { title: "climbing".into(), role: Role::Member, left: true, members: 0, roster: seq(4) };
    insta::assert_json_snapshot!((messages, Request::Members(frame), FromServer::Members(page), summary));
}

fn message_three() -> Message {
    message(3)
}

/// A page of members with ids at their longest fits in a frame.
#[test]
fn members_fit_in_a_frame() {
    let member = |_| GroupMember { user: user(&"x".repeat(limits::USER_ID)), role: Role::Member };
    let page = MembersPage {
        reference: Reference::new("x".repeat(limits::REFERENCE)).expect("valid"),
        conversation: ConversationId::of_group(Uuid::from_u128(7)),
        roster: seq(limits::INTEGER),
        title: "\u{1f600}".repeat(limits::TITLE),
        members: (0..limits::MEMBERS).map(member).collect(),
        next: Some(user(&"x".repeat(limits::USER_ID))),
    };
    let bytes = serde_json::to_string(&FromServer::Members(page)).expect("a frame").len();
    assert!(bytes <= limits::FRAME_BYTES, "{bytes}");
}

/// The largest event fits in an envelope.
#[test]
fn events_fit_in_an_envelope() {
    let name = |n: usize| user(&format!("{n:0>width$}", width = limits::USER_ID));
    let users: Vec<UserId> = (0..limits::EVENT_USERS).map(name).collect();
    let event = Some(Event::Created { title: "\u{1f600}".repeat(limits::TITLE), members: users });
    let message = Message { body: String::new(), event, ..message(2) };
    let conversation = ConversationId::of_group(Uuid::from_u128(7));
    let envelope = Envelope { conversation, to: None, messages: vec![message], ..envelope() };
    assert_eq!(envelope.check(), Ok(()));
}

/// Who has stored and read what.
#[test]
fn receipts() {
    let frame =
        MarksFrame { reference: reference(), conversation: conversation(), seq: seq(12), after: Some(user("bob")) };
    let page = MarksPage {
        reference: reference(),
        conversation: conversation(),
        seq: seq(12),
        marks: vec![UserMark { user: user("bob"), delivered: seq(13), read: seq(12) }],
        next: Some(user("bob")),
    };
    let off = Request::Receipts(ReceiptsFrame { reference: reference(), on: false });
    let set = FromServer::Receipts(ReceiptsSet { reference: reference(), on: false });
    let list = ListPage {
        reference: reference(),
        conversations: Vec::new(),
        before: 0,
        follows: false,
        next: None,
        receipts_off: true,
        spread_ms: 0,
    };
    insta::assert_json_snapshot!((Request::Marks(frame), FromServer::Marks(page), off, set, FromServer::List(list)));
}

/// A `send` without marks, and its answer, are what they were before marks rode along.
#[test]
fn marks_ride_optionally() {
    let frame: SendFrame = serde_json::from_str(r#"{"ref":"7","submissions":[]}"#).expect("parses");
    assert_eq!(frame.marks, []);
    assert!(!serde_json::to_string(&frame).expect("a frame").contains("marks"));
    let sent: Sent = serde_json::from_str(r#"{"ref":"7","verdicts":[]}"#).expect("parses");
    assert_eq!(sent.marks, []);
}

/// A page of marks with ids at their longest fits in a frame.
#[test]
fn marks_fit_in_a_frame() {
    let far = seq(limits::INTEGER);
    let mark = |_| UserMark { user: user(&"x".repeat(limits::USER_ID)), delivered: far, read: far };
    let page = MarksPage {
        reference: Reference::new("x".repeat(limits::REFERENCE)).expect("valid"),
        conversation: ConversationId::new("c".repeat(limits::CONVERSATION_ID)).expect("valid"),
        seq: far,
        marks: (0..limits::MEMBERS).map(mark).collect(),
        next: Some(user(&"x".repeat(limits::USER_ID))),
    };
    let bytes = serde_json::to_string(&FromServer::Marks(page)).expect("a frame").len();
    assert!(bytes <= limits::FRAME_BYTES, "{bytes}");
}
