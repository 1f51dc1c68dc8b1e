//! Malformed frames of every kind. Each gets an error with its code, with its `ref` where that could be read, and
//! leaves the connection usable.

use poste_protocol::{Code, FromServer, Outcome, Reference, limits};
use poste_tests::{DEADLINE, Deployment, Device, eventually};
use serde_json::{Value, json};

/// What a case expects.
struct Case {
    what: &'static str,
    frame: String,
    code: Code,
    reference: Option<&'static str>,
}

fn case(what: &'static str, frame: &impl ToString, code: Code, reference: Option<&'static str>) -> Case {
    Case { what, frame: frame.to_string(), code, reference }
}

/// The issue's list, failure mode 8 of others (a frame nobody can read must not freeze the rest).
#[tokio::test]
async fn each_malformed_frame_gets_its_error_and_the_connection_lives() {
    let deployment = Deployment::here();
    let alice = deployment.user("alice");
    let mut phone = deployment.device(&alice, "phone").await;
    let kinds = [not_frames(), references(), actions(), sends(), fetches_lists_and_marks(), sizes()];
    let cases: Vec<Case> = kinds.into_iter().flatten().collect();
    assert!(cases.len() > 90, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let answer = phone.ask_raw(&case.frame).await;
        let (code, reference) = match &answer {
            FromServer::Error(error) => (Some(error.refusal.code), error.reference.as_ref().map(Reference::as_str)),
            _ => (None, None),
        };
        if (code, reference) != (Some(case.code), case.reference) {
            let frame: String = case.frame.chars().take(200).collect();
            wrong.push(format!(
                "{}: expected {:?} with ref {:?}, got {answer:?}\n    for {frame}",
                case.what, case.code, case.reference
            ));
        }
        assert_eq!(phone.hello().await.user, alice, "the connection is usable after {}", case.what);
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Not JSON, or not an object with an action.
fn not_frames() -> Vec<Case> {
    let bad = |what, frame: &str| case(what, &frame, Code::BadFrame, None);
    vec![
        bad("words", "hello there"),
        bad("a blank", " "),
        bad("half an object", r#"{"action":"hello","ref":"r""#),
        bad("something after the object", r#"{"action":"hello","ref":"r"} x"#),
        bad("two objects", r#"{"action":"hello","ref":"r"}{"action":"hello","ref":"r"}"#),
        bad("a trailing comma", r#"{"action":"hello","ref":"r",}"#),
        bad("single quotes", "{'action':'hello','ref':'r'}"),
        bad("no quotes", "{action:hello}"),
        bad("a comment", r#"{"action":"hello","ref":"r"/* */}"#),
        bad("a byte order mark", "\u{feff}{\"action\":\"hello\",\"ref\":\"r\"}"),
        bad("a raw control character", "{\"action\":\"hello\",\"ref\":\"a\u{1}b\"}"),
        bad("a raw NUL", "{\"action\":\"hello\",\"ref\":\"r\"}\u{0}"),
        bad("a raw line feed in a string", "{\"action\":\"hello\",\"ref\":\"a\nb\"}"),
        bad("a bad escape", r#"{"action":"hello","ref":"\x"}"#),
        bad("half a surrogate pair", r#"{"action":"hello","ref":"\ud800"}"#),
        bad("a number", "5"),
        bad("a string", r#""hello""#),
        bad("null", "null"),
        bad("a truth", "true"),
        bad("a list", r#"["hello"]"#),
        bad("an empty list", "[]"),
        bad("an empty object", "{}"),
        bad("not a number", r#"{"action":"hello","ref":"r","x":NaN}"#),
        bad("base64", "eyJhY3Rpb24iOiJoZWxsbyJ9"),
        bad("XML", "<action>hello</action>"),
        bad("deep nesting", &"[".repeat(500)),
        bad("deep nesting that ends", &format!("{}{}", "[".repeat(500), "]".repeat(500))),
    ]
}

/// References that are none.
fn references() -> Vec<Case> {
    let bad =
        |what, reference: Value| case(what, &json!({ "action": "hello", "ref": reference }), Code::BadFrame, None);
    vec![
        case("no ref", &json!({ "action": "hello" }), Code::BadFrame, None),
        bad("ref null", Value::Null),
        bad("ref a number", json!(1)),
        bad("ref a list", json!(["r"])),
        bad("ref an object", json!({ "r": "r" })),
        bad("ref empty", json!("")),
        bad("ref of 65 characters", json!("r".repeat(65))),
        bad("ref of 20,000 characters", json!("r".repeat(20_000))),
        case("ref twice", &r#"{"action":"hello","ref":"a","ref":"b"}"#, Code::BadFrame, None),
        case(
            "deep nesting in ref",
            &format!(r#"{{"action":"hello","ref":{}"r"{}}}"#, "[".repeat(200), "]".repeat(200)),
            Code::BadFrame,
            None,
        ),
    ]
}

/// Actions that are none. The ref is readable in each.
fn actions() -> Vec<Case> {
    let with = |what, action: Value, code| case(what, &json!({ "action": action, "ref": "r" }), code, Some("r"));
    let unknown = |what, action: &str| with(what, json!(action), Code::UnknownAction);
    let bad = |what, action: Value| with(what, action, Code::BadFrame);
    vec![
        case("no action", &json!({ "ref": "r" }), Code::BadFrame, Some("r")),
        bad("action null", Value::Null),
        bad("action a number", json!(5)),
        bad("action a list", json!(["send"])),
        bad("action an object", json!({ "action": "send" })),
        bad("action a truth", json!(true)),
        unknown("an unknown action", "dance"),
        unknown("an empty action", ""),
        unknown("an action in capitals", "SEND"),
        unknown("an action with a blank", "send "),
        unknown("an action with a NUL", "send\u{0}"),
        unknown("a very long action", &"a".repeat(10_000)),
        unknown("the name of a type", "sent"),
        unknown("the default route", "$default"),
        unknown("an expression", "$request.body.action"),
        unknown("a path", "../send"),
        case("an unknown action without a ref", &json!({ "action": "dance" }), Code::UnknownAction, None),
    ]
}

/// An envelope as JSON, to be spoilt.
fn envelope() -> Value {
    json!({
        "id": "01890a5d-ac96-774b-bcce-b302099a8057", "conversation": "d_x", "to": "bob", "number": 1,
        "messages": [{ "id": "01890a5d-ac96-774b-bcce-b302099a8058", "body": "hi" }]
    })
}

fn send(submissions: &Value) -> Value {
    json!({ "action": "send", "ref": "r", "submissions": submissions })
}

/// Sends that are wrong as a whole.
fn sends() -> Vec<Case> {
    let bad = |what, frame: Value| case(what, &frame, Code::BadFrame, Some("r"));
    let spoilt = |what, pointer: &str, value: Value| {
        let mut submission = json!({ "envelope": envelope(), "age_ms": 0, "attempt": 1 });
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        submission.pointer_mut(parent).expect("a field of the submission")[field] = value;
        bad(what, send(&json!([submission])))
    };
    let without = |what, pointer: &str| {
        let mut submission = json!({ "envelope": envelope() });
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        let parent = submission.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
        assert!(parent.remove(field).is_some());
        bad(what, send(&json!([submission])))
    };
    let mut deep = json!("x");
    for _ in 0..120 {
        deep = json!([deep]);
    }
    vec![
        bad("no submissions", json!({ "action": "send", "ref": "r" })),
        bad("submissions null", send(&Value::Null)),
        bad("submissions an object", send(&json!({}))),
        bad("submissions a string", send(&json!("[]"))),
        bad("a submission that is null", send(&json!([null]))),
        bad("a submission that is a list", send(&json!([[]]))),
        bad("a submission without an envelope", send(&json!([{}]))),
        bad("an envelope instead of a submission", send(&json!([envelope()]))),
        case("no submission", &send(&json!([])), Code::TooMany, Some("r")),
        case(
            "17 submissions",
            &send(&json!(vec![json!({ "envelope": envelope() }); limits::SUBMISSIONS + 1])),
            Code::TooMany,
            Some("r"),
        ),
        bad("two envelopes for one conversation", send(&json!(vec![json!({ "envelope": envelope() }); 2]))),
        spoilt("envelope null", "/envelope", Value::Null),
        spoilt("envelope a string", "/envelope", json!("hi")),
        without("no id", "/envelope/id"),
        spoilt("an id that is none", "/envelope/id", json!("1")),
        spoilt("an id that is a number", "/envelope/id", json!(1)),
        spoilt("an id that is too long", "/envelope/id", json!("01890a5d-ac96-774b-bcce-b302099a80570")),
        without("no conversation", "/envelope/conversation"),
        spoilt("conversation null", "/envelope/conversation", Value::Null),
        spoilt("conversation empty", "/envelope/conversation", json!("")),
        spoilt("conversation with a blank", "/envelope/conversation", json!("a b")),
        spoilt("conversation with a NUL", "/envelope/conversation", json!("a\u{0}b")),
        spoilt("conversation with a control character", "/envelope/conversation", json!("a\u{1b}b")),
        spoilt("conversation of 65 characters", "/envelope/conversation", json!("c".repeat(65))),
        spoilt("conversation in other letters", "/envelope/conversation", json!("gespräch")),
        spoilt("to a number", "/envelope/to", json!(5)),
        spoilt("to empty", "/envelope/to", json!("")),
        spoilt("to with a control character", "/envelope/to", json!("bob\u{7}")),
        spoilt("to of 129 characters", "/envelope/to", json!("b".repeat(129))),
        without("no number", "/envelope/number"),
        spoilt("number 0", "/envelope/number", json!(0)),
        spoilt("number negative", "/envelope/number", json!(-1)),
        spoilt("number a fraction", "/envelope/number", json!(1.5)),
        spoilt("number as text", "/envelope/number", json!("1")),
        spoilt("number 2^53", "/envelope/number", json!(limits::INTEGER + 1)),
        spoilt("number 2^64", "/envelope/number", json!(18_446_744_073_709_551_616_f64)),
        spoilt("number null", "/envelope/number", Value::Null),
        without("no messages", "/envelope/messages"),
        spoilt("messages null", "/envelope/messages", Value::Null),
        spoilt("messages an object", "/envelope/messages", json!({})),
        spoilt("a message that is text", "/envelope/messages", json!(["hi"])),
        without("a message without an id", "/envelope/messages/0/id"),
        without("a message without a body", "/envelope/messages/0/body"),
        spoilt("a message with a bad id", "/envelope/messages/0/id", json!("x")),
        spoilt("a body that is null", "/envelope/messages/0/body", Value::Null),
        spoilt("a body that is an object", "/envelope/messages/0/body", json!({ "text": "hi" })),
        spoilt("deep nesting for a body", "/envelope/messages/0/body", deep),
        spoilt("written_at as text", "/envelope/messages/0/written_at", json!("now")),
        spoilt("written_at negative", "/envelope/messages/0/written_at", json!(-1)),
        spoilt("age_ms negative", "/age_ms", json!(-1)),
        spoilt("age_ms a fraction", "/age_ms", json!(0.5)),
        spoilt("age_ms null", "/age_ms", Value::Null),
        spoilt("attempt too large", "/attempt", json!(4_294_967_296_u64)),
        case(
            "half a surrogate pair in a body",
            &send(&json!([{ "envelope": envelope() }])).to_string().replace("\"hi\"", "\"\\ud800\""),
            Code::BadFrame,
            Some("r"),
        ),
    ]
}

/// Fetches, lists and marks that are wrong as a whole.
fn fetches_lists_and_marks() -> Vec<Case> {
    let bad = |what, mut frame: Value| {
        frame["ref"] = json!("r");
        case(what, &frame, Code::BadFrame, Some("r"))
    };
    let mark = json!({ "conversation": "d_x", "read": 1 });
    let marks = |marks: Value| json!({ "action": "mark", "ref": "r", "marks": marks });
    vec![
        bad("sync of nothing", json!({ "action": "sync" })),
        bad(
            "sync of a cursor as text",
            json!({ "action": "sync", "ranges": [{ "conversation": "d_x", "after": "0" }] }),
        ),
        bad(
            "sync of one conversation twice",
            json!({ "action": "sync", "ranges": [{ "conversation": "d_x" }, { "conversation": "d_x", "after": 0 }] }),
        ),
        bad("fetch of nothing", json!({ "action": "fetch" })),
        bad("fetch in both directions", json!({ "action": "fetch", "conversation": "d_x", "after": 0, "before": 9 })),
        bad("fetch before a negative number", json!({ "action": "fetch", "conversation": "d_x", "before": -1 })),
        bad("fetch before a text", json!({ "action": "fetch", "conversation": "d_x", "before": "9" })),
        bad("fetch with a negative cursor", json!({ "action": "fetch", "conversation": "d_x", "after": -1 })),
        bad("fetch with a cursor of 2^53", json!({ "action": "fetch", "conversation": "d_x", "after": 1_u64 << 53 })),
        bad("fetch with a cursor as text", json!({ "action": "fetch", "conversation": "d_x", "after": "0" })),
        bad("fetch of a bad id", json!({ "action": "fetch", "conversation": "d x", "after": 0 })),
        bad("fetch of a list", json!({ "action": "fetch", "conversation": ["d_x"], "after": 0 })),
        bad(
            "fetch with a negative limit",
            json!({ "action": "fetch", "conversation": "d_x", "after": 0, "limit": -1 }),
        ),
        bad(
            "fetch with a huge limit",
            json!({ "action": "fetch", "conversation": "d_x", "after": 0, "limit": 1_u64 << 32 }),
        ),
        bad(
            "fetch with a limit as text",
            json!({ "action": "fetch", "conversation": "d_x", "after": 0, "limit": "1" }),
        ),
        bad("list after a number", json!({ "action": "list", "after": 5 })),
        bad("list after a bad id", json!({ "action": "list", "after": "a b" })),
        bad("list after nothing", json!({ "action": "list", "after": "" })),
        bad("mark without marks", json!({ "action": "mark" })),
        bad("marks null", marks(Value::Null)),
        bad("marks an object", marks(mark.clone())),
        bad("a mark that is null", marks(json!([null]))),
        bad("a mark of nothing", marks(json!([{ "read": 1 }]))),
        bad("a mark with a bad id", marks(json!([{ "conversation": "\u{0}", "read": 1 }]))),
        bad("a mark that is negative", marks(json!([{ "conversation": "d_x", "read": -1 }]))),
        bad("a mark as text", marks(json!([{ "conversation": "d_x", "delivered": "1" }]))),
        bad("a mark of 2^53", marks(json!([{ "conversation": "d_x", "delivered": 1_u64 << 53 }]))),
        case("no range", &json!({ "action": "sync", "ref": "r", "ranges": [] }), Code::TooMany, Some("r")),
        case("no mark", &marks(json!([])), Code::TooMany, Some("r")),
        case("51 marks", &marks(json!(vec![mark; limits::MARKS + 1])), Code::TooMany, Some("r")),
    ]
}

/// Frames that are too big. (API Gateway itself closes a connection for a frame over 32 KiB; the emulator lets it
/// through to the function, which refuses it.)
fn sizes() -> Vec<Case> {
    let padded = |action: &str, bytes: usize| {
        let frame = json!({ "action": action, "ref": "r", "submissions": [], "conversation": "d_x", "after": 0,
            "marks": [], "padding": "" })
        .to_string();
        frame.replace(r#""padding":"""#, &format!(r#""padding":"{}""#, "x".repeat(bytes - frame.len())))
    };
    let over = limits::FRAME_BYTES + 1;
    vec![
        case("a hello that is too big", &padded("hello", over), Code::TooBig, None),
        case("a send that is too big", &padded("send", over), Code::TooBig, None),
        case("a fetch that is too big", &padded("fetch", over), Code::TooBig, None),
        case("a mark that is too big", &padded("mark", 100_000), Code::TooBig, None),
        case("an unknown action that is too big", &padded("dance", over), Code::TooBig, None),
        case("words that are too many", &"x".repeat(over), Code::TooBig, None),
        case("a send of just 32 KiB", &padded("send", limits::FRAME_BYTES), Code::TooMany, Some("r")),
    ]
}

/// The design, section 5: unknown fields are ignored, so that old servers live with new clients.
#[tokio::test]
async fn unknown_fields_are_ignored() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut envelope = envelope();
    envelope["conversation"] = json!(phone.with(&bob));
    envelope["to"] = json!(bob);
    envelope["colour"] = json!("blue");
    envelope["messages"][0]["reply_to"] = json!({ "seq": 1 });
    let frame = json!({
        "action": "send", "ref": "r", "later": { "a": [1, 2] },
        "submissions": [{ "envelope": envelope, "age_ms": 0, "attempt": 1, "priority": "high" }]
    });
    match phone.ask_raw(&frame.to_string()).await {
        FromServer::Sent(sent) => assert!(matches!(sent.verdicts[0].outcome, Outcome::Accepted { .. }), "{sent:?}"),
        other => panic!("{other:?}"),
    }
    let shortest = r#"{"ref":"é","action":"hello"}"#;
    assert!(matches!(phone.ask_raw(shortest).await, FromServer::Welcome(_)));
    let longest = json!({ "action": "hello", "ref": "é".repeat(limits::REFERENCE) });
    assert!(matches!(phone.ask_raw(&longest.to_string()).await, FromServer::Welcome(_)));
}

/// Marks that are refused one by one, in a frame that is fine.
#[tokio::test]
async fn one_bad_mark_does_not_hold_up_the_others() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let (hi, _) = phone.tells(&bob, "hi").await;
    let conversation = hi.conversation;
    let frame = json!({ "action": "mark", "ref": "r", "marks": [
        { "conversation": conversation },
        { "conversation": "d_nowhere", "read": 1 },
        { "conversation": conversation, "delivered": 2 },
        { "conversation": conversation, "delivered": 1 },
    ]});
    match bobs.ask_raw(&frame.to_string()).await {
        FromServer::Marked(marked) => {
            let codes: Vec<_> = marked.results.iter().map(|r| r.error.as_ref().map(|e| e.code)).collect();
            let expected = [Some(Code::BadFrame), Some(Code::NotMember), Some(Code::BadFrame), None];
            assert_eq!(codes, expected);
        }
        other => panic!("{other:?}"),
    }
    phone.hears_mark(&conversation, 1, 0).await;
}

/// D6: the gateway's own routes cannot be reached by a frame: nobody's connection is registered or removed by one.
#[tokio::test]
async fn the_gateways_own_routes_are_no_actions() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let admin = deployment.admin();
    let before = eventually("bob is registered", DEADLINE, async || {
        let connections = admin.connections(&bob).await;
        (!connections.is_empty()).then_some(connections)
    })
    .await;
    for action in ["$connect", "$disconnect"] {
        // Some gateways answer that there is no such action, and some nothing at all.
        bobs.say(&json!({ "action": action, "ref": action }).to_string()).await;
    }
    bobs.hello().await;
    assert_eq!(admin.connections(&bob).await, before, "the connection is registered as it was");
    is_heard(&mut phone, &mut bobs).await;
}

async fn is_heard(from: &mut Device, to: &mut Device) {
    let (hi, _) = from.tells(&to.user().clone(), "hi").await;
    to.hears(&hi).await;
}
