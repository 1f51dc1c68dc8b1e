//! The documents say what the types say: `docs/asyncapi.yaml` is generated from them, and the examples and tables of
//! `docs/PROTOCOL.md` are held against them.
//!
//! After a change of the wire: change `PROTOCOL.md`, then `UPDATE_DOCS=1 cargo test -p poste-protocol` writes
//! `asyncapi.yaml`, which also holds the examples of `PROTOCOL.md`.

mod examples;

use std::collections::{BTreeMap, BTreeSet};

use examples::{Example, document, examples, protocol};
use poste_protocol::{Code, ConversationId, FromServer, Request, UserId, limits};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

/// The document's version: the first number is that of the subprotocol, the second grows with additions to the wire.
const VERSION: &str = "1.0";

/// Which frame answers which request, by `action` and `type`. Each of these may also be answered by an `error`.
const ANSWERS: [(&str, &str); 13] = [
    ("hello", "welcome"),
    ("send", "sent"),
    ("fetch", "page"),
    ("sync", "pages"),
    ("list", "list"),
    ("mark", "marked"),
    ("watch", "watching"),
    ("members", "members"),
    ("push", "push"),
    ("mute", "muted"),
    ("marks", "marks"),
    ("receipts", "receipts"),
    ("media", "media"),
];

/// Requests that are not answered, not even with an error.
const UNANSWERED: [&str; 2] = ["away", "typing"];

/// What comes without being asked for, by `type`.
const UNASKED: [&str; 4] = ["delivery", "presence", "typing", "replaced"];

const SCHEMAS: &str = "/components/schemas";

#[test]
fn asyncapi_is_what_the_types_say() {
    let file = document("asyncapi.yaml");
    let text = format!(
        "# Generated from the types of crates/protocol and the examples of PROTOCOL.md, by crates/protocol/tests/asyncapi.rs.\n\
         # To write it anew: UPDATE_DOCS=1 cargo test -p poste-protocol\n{}",
        yaml(&asyncapi())
    );
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&file, &text).expect("docs/asyncapi.yaml can be written");
        return;
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    if found != text {
        let line = found.lines().zip(text.lines()).take_while(|(found, made)| found == made).count() + 1;
        panic!("docs/asyncapi.yaml is out of date from line {line} on: run with UPDATE_DOCS=1 to write it");
    }
}

#[test]
fn every_example_parses_as_what_it_claims_to_be() {
    let mut shown = BTreeSet::new();
    for Example { line, claim, value } in examples(&protocol()) {
        let at = format!("docs/PROTOCOL.md:{line}: {claim}");
        // Written back it must be the same: an example has no field that the type does not know.
        let back = match claim.as_str() {
            "Request" => {
                shown.insert(format!("action {}", value["action"]));
                let request: Request = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{at}: {e}"));
                serde_json::to_value(request)
            }
            "FromServer" => {
                shown.insert(format!("type {}", value["type"]));
                let frame: FromServer = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{at}: {e}"));
                assert_ne!(frame, FromServer::Unknown, "{at}");
                serde_json::to_value(frame)
            }
            "GatewayError" => {
                assert!(serde_json::from_value::<FromServer>(value.clone()).is_err(), "{at}");
                assert!(value["message"].is_string(), "{at}");
                Ok(value.clone())
            }
            other => panic!("{at}: a block of JSON says which type it is, and `{other}` is none"),
        };
        assert_eq!(back.expect("frames serialise"), value, "{at}");
    }
    for (tag, frame) in variants::<Request>("action", true).into_iter().map(|f| ("action", f)) {
        assert!(shown.contains(&format!("{tag} \"{}\"", frame.name)), "no example of the request `{}`", frame.name);
    }
    for (tag, frame) in variants::<FromServer>("type", false).into_iter().map(|f| ("type", f)) {
        assert!(shown.contains(&format!("{tag} \"{}\"", frame.name)), "no example of the frame `{}`", frame.name);
    }
}

#[test]
fn the_table_of_codes_is_that_of_the_code() {
    let of_the_code: Vec<Vec<String>> = codes()
        .iter()
        .map(|name| {
            let code: Code = serde_json::from_value(json!(name)).expect("a name that the type gives parses");
            vec![format!("`{name}`"), if code.retryable() { "yes" } else { "no" }.to_owned()]
        })
        .collect();
    assert_eq!(table(&protocol(), "## Errors", 2), of_the_code);
}

#[test]
fn the_table_of_limits_is_that_of_the_code() {
    macro_rules! limits {
        ($($name:ident),+) => { vec![$((stringify!($name), u64::try_from(limits::$name).expect("no limit is negative"))),+] };
    }
    let of_the_code = limits![
        FRAME_BYTES,
        ENVELOPE_BYTES,
        ENVELOPE_MESSAGES,
        SUBMISSIONS,
        MARKS,
        LISTED,
        PREVIEWS,
        PREVIEW_BYTES,
        PAGE_MESSAGES,
        RANGES,
        FRAMES,
        MARKS_RELAYED,
        WATCHED,
        GROUP_MEMBERS,
        EVENT_USERS,
        TITLE,
        MEMBERS,
        MEDIA_BYTES,
        MEDIA_PARTS,
        PART_BYTES,
        PART_LINKS,
        MISSING_RUNS,
        MEDIA_KIND,
        MEDIA_NAME,
        THUMBNAIL_BYTES,
        USER_ID,
        DEVICE_ID,
        CONVERSATION_ID,
        PUSH_TOKEN,
        REFERENCE,
        INTEGER
    ];
    let source = include_str!("../src/limits.rs");
    let declared: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    let listed: Vec<&str> = of_the_code.iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, declared, "the list above has every limit of limits.rs, in its order");
    let rows: Vec<Vec<String>> =
        of_the_code.iter().map(|(name, value)| vec![format!("`{name}`"), value.to_string()]).collect();
    assert_eq!(table(&protocol(), "## Limits", 2), rows);
}

#[test]
fn the_test_vectors_of_direct_conversations_hold() {
    let user = |name: &str| UserId::new(name).expect("a user id");
    let rows = table(&protocol(), "## Direct conversations", 2);
    assert!(rows.len() >= 2);
    for row in rows {
        let users: Vec<&str> = row[0].split(", ").map(|name| name.trim_matches('`')).collect();
        let [one, other] = users[..] else { panic!("two users: {row:?}") };
        assert_eq!(format!("`{}`", ConversationId::direct(&user(one), &user(other))), row[1]);
    }
}

/// The first `columns` cells of each row of the table whose cells begin with a backquote, in a section.
fn table(markdown: &str, heading: &str, columns: usize) -> Vec<Vec<String>> {
    markdown
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').skip(1).take(columns).map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// A frame as a schema: what its tag says, its type's name, what it is for, and its shape.
struct Frame {
    name: String,
    of: String,
    summary: String,
    schema: Value,
}

/// How the server reads (`from_devices`) or writes its types.
fn generator(from_devices: bool) -> SchemaGenerator {
    let settings = SchemaSettings::draft07().with(|settings| settings.definitions_path = SCHEMAS.into());
    if from_devices { settings.for_deserialize() } else { settings.for_serialize() }.into_generator()
}

fn definitions<T: schemars::JsonSchema>(from_devices: bool) -> Map<String, Value> {
    let mut generator = generator(from_devices);
    generator.subschema_for::<T>();
    generator.take_definitions(true)
}

/// The frames that an enum of frames is made of. What stands for later versions is none.
fn variants<T: schemars::JsonSchema>(tag: &str, from_devices: bool) -> Vec<Frame> {
    let all = definitions::<T>(from_devices);
    let name = T::schema_name();
    let frames = all[name.as_ref()]["oneOf"].as_array().expect("an enum of frames").clone();
    frames
        .into_iter()
        .filter_map(|schema| {
            let name = schema["properties"][tag]["const"].as_str().expect("each frame has its tag").to_owned();
            let of = schema["allOf"][0]["$ref"].as_str().and_then(|at| at.rsplit('/').next()).map(str::to_owned);
            let summary = schema["description"].as_str().unwrap_or_default().to_owned();
            (name != "unknown").then(|| Frame { name, of: of.expect("each frame has a type"), summary, schema })
        })
        .collect()
}

/// The codes of errors that are sent, in the order of the type.
fn codes() -> Vec<String> {
    let all = definitions::<Code>(false);
    let codes = all["Code"]["oneOf"].as_array().expect("an enum with docs");
    let names = codes.iter().map(|code| code["const"].as_str().expect("a code has a name").to_owned());
    names.filter(|name| name != "unknown").collect()
}

/// The schemas of all types below the frames.
fn schemas() -> Map<String, Value> {
    let mut all = definitions::<Request>(true);
    for (name, schema) in definitions::<FromServer>(false) {
        if let Some(other) = all.get(&name) {
            assert_eq!(*other, schema, "{name} is read and written alike");
        }
        all.insert(name, schema);
    }
    all.remove("Request");
    all.remove("FromServer");
    // It stands for codes of later versions and is never sent.
    let codes = all.get_mut("Code").and_then(|code| code["oneOf"].as_array_mut()).expect("an enum with docs");
    codes.retain(|code| code["const"] != "unknown");
    all
}

fn asyncapi() -> Value {
    let requests = variants::<Request>("action", true);
    let frames = variants::<FromServer>("type", false);
    let examples = examples(&protocol());
    let example_of = |claim: &str, tag: &str, name: &str| -> Vec<Value> {
        let of_it = examples.iter().filter(|example| example.claim == claim && example.value[tag] == name);
        of_it.map(|example| json!({ "payload": example.value })).collect()
    };
    let mut messages = Map::new();
    for (claim, tag, frame) in
        requests.iter().map(|f| ("Request", "action", f)).chain(frames.iter().map(|f| ("FromServer", "type", f)))
    {
        let mut message = json!({
            "name": frame.name,
            "summary": frame.summary,
            "payload": frame.schema,
            "examples": example_of(claim, tag, &frame.name),
        });
        let alone = if claim == "Request" { UNANSWERED.as_slice() } else { UNASKED.as_slice() };
        if !alone.contains(&frame.name.as_str()) {
            message["correlationId"] = json!({ "$ref": "#/components/correlationIds/ref" });
        }
        assert!(messages.insert(frame.of.clone(), message).is_none(), "{} is the type of one frame", frame.of);
    }
    let gateway = examples.iter().filter(|example| example.claim == "GatewayError");
    messages.insert(
        "GatewayError".to_owned(),
        json!({
            "summary": "The gateway could not pass a request on. Which one cannot be told: treat all that wait as unanswered.",
            "payload": {
                "type": "object",
                "properties": {
                    "message": { "type": "string" },
                    "connectionId": { "type": "string" },
                    "requestId": { "type": "string" }
                },
                "required": ["message"]
            },
            "examples": gateway.map(|example| json!({ "payload": example.value })).collect::<Vec<_>>(),
        }),
    );

    let on_the_socket = |name: &str| json!({ "$ref": format!("#/channels/socket/messages/{name}") });
    let socket = json!({ "$ref": "#/channels/socket" });
    let type_of = |frames: &[Frame], name: &str| -> String {
        frames.iter().find(|frame| frame.name == name).unwrap_or_else(|| panic!("no frame `{name}`")).of.clone()
    };
    let answers = BTreeMap::from(ANSWERS);
    let mut operations = Map::new();
    for request in &requests {
        let mut operation = json!({
            "action": "receive",
            "summary": request.summary,
            "channel": socket,
            "messages": [on_the_socket(&request.of)],
        });
        if !UNANSWERED.contains(&request.name.as_str()) {
            let answer =
                answers.get(request.name.as_str()).unwrap_or_else(|| panic!("what answers `{}`?", request.name));
            operation["reply"] = json!({
                "channel": socket,
                "messages": [on_the_socket(&type_of(&frames, answer)), on_the_socket(&type_of(&frames, "error"))]
            });
        }
        operations.insert(request.name.clone(), operation);
    }
    let unasked = UNASKED.iter().map(|name| (*name, type_of(&frames, name)));
    for (name, of) in unasked.chain([("gatewayError", "GatewayError".to_owned())]) {
        // A request may have the same name.
        let name = if operations.contains_key(name) { format!("{name}News") } else { name.to_owned() };
        operations.insert(name, json!({ "action": "send", "channel": socket, "messages": [on_the_socket(&of)] }));
    }
    let answered: BTreeSet<&str> = ANSWERS.iter().map(|(_, answer)| *answer).chain(["error"]).chain(UNASKED).collect();
    let known: BTreeSet<&str> = frames.iter().map(|frame| frame.name.as_str()).collect();
    assert_eq!(answered, known, "each frame of the server is the answer to something, or comes by itself");

    let channel_messages: Map<String, Value> = messages
        .keys()
        .map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") })))
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Poste",
            "version": VERSION,
            "description": "What devices and the server say to each other. PROTOCOL.md tells the same to people, with the rules that no schema can say. Operations are the server's: it receives requests and sends the rest.",
            "license": { "name": "Apache-2.0" }
        },
        "defaultContentType": "application/json",
        "servers": {
            "aws": {
                "host": "{api}.execute-api.{region}.amazonaws.com",
                "pathname": "/{stage}",
                "protocol": "wss",
                "description": "A deployment on AWS; its address is the output SocketUrl of the stack.",
                "variables": {
                    "api": { "description": "The API's id." },
                    "region": { "description": "Where it is deployed." },
                    "stage": { "default": "prod" }
                },
                "security": [{ "$ref": "#/components/securitySchemes/token" }]
            }
        },
        "channels": {
            "socket": {
                "address": null,
                "title": "The socket",
                "description": "One WebSocket per device. Text frames of JSON, at most 32 KiB each way.",
                "messages": channel_messages,
                "bindings": {
                    "ws": {
                        "query": {
                            "type": "object",
                            "properties": { "device": { "$ref": "#/components/schemas/DeviceId" } }
                        },
                        "headers": {
                            "type": "object",
                            "properties": {
                                "Authorization": { "type": "string", "description": "Bearer TOKEN" },
                                "Sec-WebSocket-Protocol": {
                                    "type": "string",
                                    "description": "For browsers, in place of Authorization: poste.v1, bearer.TOKEN"
                                }
                            }
                        }
                    }
                }
            }
        },
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas(),
            "correlationIds": {
                "ref": { "description": "An answer repeats its request's.", "location": "$message.payload#/ref" }
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } }
        }
    })
}

/// Fields that come first, in this order; the others follow by name.
const FIRST: [&str; 17] = [
    "asyncapi",
    "info",
    "defaultContentType",
    "servers",
    "channels",
    "operations",
    "components",
    "$ref",
    "title",
    "name",
    "version",
    "summary",
    "description",
    "action",
    "type",
    "const",
    "allOf",
];

/// Plain YAML: block style, fields in a fixed order, every string in double quotes as JSON writes it (which is YAML).
/// Written here because a crate for so little would decide on quotes and order by its version.
fn yaml(value: &Value) -> String {
    lines(value).iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn lines(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| (FIRST.iter().position(|f| f == name).unwrap_or(FIRST.len()), *name));
            sorted.into_iter().flat_map(|(name, value)| field(name, value)).collect()
        }
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .flat_map(|item| lines(item).into_iter().zip(["- "].into_iter().chain(std::iter::repeat("  "))))
            .map(|(line, before)| format!("{before}{line}"))
            .collect(),
        flat => vec![flat.to_string()],
    }
}

fn field(name: &str, value: &Value) -> Vec<String> {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let key = if plain { name.to_owned() } else { json!(name).to_string() };
    match value {
        // Docs of Rust: one paragraph may be several lines, and links are written with brackets.
        Value::String(docs) if name == "description" || name == "summary" => {
            let docs = docs.replace('\n', " ").replace("[`", "`").replace("`]", "`");
            vec![format!("{key}: {}", json!(docs))]
        }
        Value::Object(fields) if !fields.is_empty() => below(&key, value),
        Value::Array(items) if !items.is_empty() => below(&key, value),
        flat => vec![format!("{key}: {flat}")],
    }
}

fn below(key: &str, value: &Value) -> Vec<String> {
    let inside = lines(value).into_iter().map(|line| format!("  {line}"));
    std::iter::once(format!("{key}:")).chain(inside).collect()
}
