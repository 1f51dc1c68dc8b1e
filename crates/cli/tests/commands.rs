//! The commands as a script sees them: what they print, where, and with which exit code. No network, no stack: an
//! account's file is all they need.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use poste_client::store::Store;
use poste_protocol::{
    Author, Cell, Code, ConversationId, DeviceId, Envelope, EnvelopeId, Number, Refusal, Seq, UserId,
};
use serde_json::Value;
use tempfile::TempDir;

/// Nobody listens here.
const NOWHERE: [&str; 4] = ["--socket", "ws://127.0.0.1:9/none", "--issuer", "http://127.0.0.1:9"];

/// What is promised to scripts.
const PROMISED: &str = include_str!("../../../docs/POSTE.md");

/// What differs from run to run.
const VARYING: [&str; 6] = ["id", "envelope", "written_at", "at", "active_at", "edited_at"];

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

/// A home with an account of alice's that is offline.
struct Home(TempDir);

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().expect("a folder"));
        let set_up = home.run(&[&["--user", "alice", "offline"], &NOWHERE[..]].concat());
        assert_eq!(set_up.code, Some(0), "{}", set_up.err);
        home
    }

    fn run(&self, words: &[&str]) -> Ran {
        self.run_in(self.0.path(), words, "")
    }

    fn run_in(&self, home: &Path, words: &[&str], input: &str) -> Ran {
        let file = self.0.path().join("input");
        std::fs::write(&file, input).expect("written");
        let input = std::fs::File::open(&file).expect("just written");
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_poste"))
            .arg("--home")
            .arg(home)
            .args(words)
            .env_remove("POSTE_HOME")
            .env_remove("POSTE_LOG")
            .stdin(Stdio::from(input))
            .output()
            .expect("the program runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Ran { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// The values that a command prints.
    fn json(&self, words: &[&str]) -> Vec<Value> {
        let ran = self.run(&[&["--json"], words].concat());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{words:?} {}", ran.out);
        values(&ran.out)
    }

    /// The error of a command that fails: its exit code and its kind.
    fn error(&self, words: &[&str]) -> (Option<i32>, String) {
        let ran = self.run(&[&["--json"], words].concat());
        assert_eq!(ran.out, "", "{words:?}");
        let [error] = &values(&ran.err)[..] else { panic!("not one line: {}", ran.err) };
        let kind = error["error"]["kind"].as_str().expect("a kind").to_owned();
        assert!(error["error"]["message"].is_string());
        assert!(PROMISED.contains(&format!("`{kind}`")), "docs/POSTE.md does not say what {kind} is");
        (ran.code, kind)
    }

    fn sends(&self, text: &str) -> String {
        let sent = self.json(&["send", "--to", "bob", text]);
        sent[0]["id"].as_str().expect("an id").to_owned()
    }

    /// A message to erin with a file.
    fn sends_file(&self, name: &str, text: &str) -> Value {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        self.json(&["send", "--to", "erin", "--file", path.to_str().expect("a plain path")]).remove(0)
    }

    /// A message to dave that was sent. Its id.
    fn stores(&self) -> String {
        let sent = self.json(&["send", "--to", "dave", "hello"]);
        let mut store = self.store();
        let tx = store.begin().expect("a change");
        let conversation = ConversationId::direct(&user("alice"), &user("dave"));
        let messages = tx.pending(&conversation, 10).expect("what waits");
        let by = Author { user: user("alice"), device: DeviceId::new("terminal").expect("a valid name") };
        let first = Seq::ZERO.next();
        let cell = Cell { seq: first, envelope: EnvelopeId::fresh(), number: Number::FIRST, by, at: 1, messages };
        tx.settle(&conversation, &user("alice"), &cell, &cell.messages[0], first).expect("in the log");
        tx.raise_cursor(&conversation, first).expect("taken in");
        tx.commit().expect("on the disk");
        sent[0]["id"].as_str().expect("an id").to_owned()
    }

    fn store(&self) -> Store {
        let device = DeviceId::new("terminal").expect("a valid name");
        let file = self.0.path().join("alice@terminal").join("account.db");
        Store::open(&file, &user("alice"), &device).expect("an account's file")
    }

    /// What waits for bob was refused.
    fn refuse(&self) {
        let mut store = self.store();
        let tx = store.begin().expect("a change");
        let conversation = ConversationId::direct(&user("alice"), &user("bob"));
        let envelope = Envelope {
            id: EnvelopeId::fresh(),
            to: Some(user("bob")),
            number: Number::FIRST,
            messages: tx.pending(&conversation, 10).expect("what waits"),
            conversation,
        };
        let json = serde_json::to_string(&envelope).expect("JSON");
        tx.put_under_way(&envelope, &json).expect("under way");
        tx.fail(envelope.id, &Refusal::new(Code::Expired, "waited for \u{1b}[31mtoo long")).expect("failed");
        tx.commit().expect("on the disk");
    }
}

fn values(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("one value a line")).collect()
}

/// A value, without what differs from run to run.
fn form(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let is_id = |text: &str| text.len() == 36 && text.matches('-').count() == 4;
                    if (VARYING.contains(&name.as_str()) || field.as_str().is_some_and(is_id))
                        && !field.is_null()
                        && !field.as_str().is_some_and(|id| id.starts_with("d_"))
                    {
                        *field = Value::from(if field.is_number() { "TIME" } else { "ID" });
                    }
                    walk(field);
                }
            }
            Value::Array(list) => list.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

/// What is said of a file, but for its checksum.
fn without_digest(mut message: Value) -> Value {
    message["file"]["sha256"] = "SUM".into();
    message
}

#[test]
fn a_file_waits_with_its_message_and_is_shown_harmlessly() {
    let home = Home::new();
    home.sends_file("no\u{1b}[31mtes.txt", "x");
    let ran = home.run(&["show", "--with", "erin"]);
    assert!(ran.out.contains("[no␛[31mtes.txt, 1 B, text/plain, 0 % sent]  ◷"), "{}", ran.out);
    let ran = home.run(&["--json", "send", "--to", "erin"]);
    assert_eq!(ran.code, Some(2), "neither text nor file");
}

#[test]
fn every_command_has_one_form() {
    let home = Home::new();
    let mut forms = Vec::new();
    let mut note = |what: &str, values: Vec<Value>| {
        forms.extend(values.into_iter().map(|value| format!("{what}: {}", form(value))));
    };
    note("offline", home.json(&["offline"]));
    note("show, of nothing", home.json(&["show", "--with", "bob"]));
    note("conversations, of nothing", home.json(&["conversations"]));
    note("outbox, of nothing", home.json(&["outbox"]));
    note("status, of nothing", home.json(&["status"]));
    note("send", home.json(&["send", "--to", "bob", "hello"]));
    note("show", home.json(&["show", "--with", "bob"]));
    let ran = home.run(&["--json", "show", "--with", "bob", "--older"]);
    assert_eq!((ran.code, values(&ran.out).len()), (Some(1), 1), "what is here is shown all the same");
    assert!(ran.err.contains("no_connection"), "{}", ran.err);
    note("read", home.json(&["read", "--with", "bob"]));
    note("receipts off", home.json(&["receipts", "off"]));
    note("conversations", home.json(&["conversations"]));
    note("outbox", home.json(&["outbox"]));
    home.refuse();
    note("outbox, refused", home.json(&["outbox"]));
    note("status, refused", home.json(&["status"]));
    note("status --connect, offline", home.json(&["status", "--connect"]));
    let refused = home.json(&["outbox"])[0]["messages"][0]["id"].clone();
    let refused = refused.as_str().expect("an id");
    note("retry", home.json(&["retry", refused]));
    home.json(&["send", "--to", "carol", "never mind"]);
    let waits = home.json(&["show", "--with", "carol"])[0]["id"].clone();
    note("drop", home.json(&["drop", waits.as_str().expect("an id")]));
    let written = home.sends("helo");
    note("edit, offline", home.json(&["edit", &written, "hello"]));
    let (sent, changed) = (home.stores(), home.json(&["show", "--with", "bob"]));
    assert_eq!(changed.last().map(|message| message["body"].clone()), Some("hello".into()));
    note("edit", home.json(&["edit", &sent, "hello again"]));
    note("show, edited", home.json(&["show", "--with", "dave"]));
    note("outbox, edited", vec![home.json(&["outbox"]).pop().expect("an edit that waits")]);
    note("delete, offline", home.json(&["delete", &sent]));
    note("delete, never sent", home.json(&["delete", &written]));
    note("show, deleted", home.json(&["show", "--with", "dave"]));
    let sent = home.sends_file("notes.txt", "some notes");
    note("send --file", vec![without_digest(sent.clone())]);
    let folder = home.0.path().join("saved");
    std::fs::create_dir(&folder).expect("a folder");
    let id = sent["id"].as_str().expect("an id");
    let mut saved = home.json(&["download", id, "-o", folder.to_str().expect("a plain path")]);
    let path = saved[0]["path"].take();
    assert_eq!(path, folder.join("notes.txt").to_str().expect("a plain path"));
    assert_eq!(std::fs::read_to_string(folder.join("notes.txt")).expect("saved"), "some notes");
    note("download", saved);
    insta::assert_snapshot!(forms.join("\n"));
}

#[test]
fn every_command_and_field_is_described() {
    let help = Home::new().run(&["--help"]).out;
    let commands = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let commands: Vec<_> = commands.map_while(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(commands.len() > 10, "{help}");
    for command in commands.iter().filter(|command| **command != "help") {
        let described = [" ", "`"].iter().any(|end| PROMISED.contains(&format!("| `{command}{end}")));
        assert!(described, "docs/POSTE.md does not describe {command}");
    }
    for line in include_str!("snapshots/commands__every_command_has_one_form.snap").lines() {
        let Some(Value::Object(fields)) = line.split_once(": ").and_then(|(_, json)| serde_json::from_str(json).ok())
        else {
            continue;
        };
        for field in fields.keys() {
            let described = PROMISED.contains(&format!("`{field}`"))
                || ["{", " "].iter().any(|before| {
                    [",", "}", ":"].iter().any(|after| PROMISED.contains(&format!("{before}{field}{after}")))
                });
            assert!(described, "docs/POSTE.md does not name {field}");
        }
    }
}

#[test]
fn errors_are_values_too_and_exit_codes_tell_them_apart() {
    let home = Home::new();
    let id = home.sends("hello");
    let unknown = "00000000-0000-7000-8000-000000000000";
    let cases: [(&[&str], _); 15] = [
        (&["retry", unknown], (1, "message")),
        (&["retry", &id], (1, "message")),
        (&["drop", unknown], (1, "message")),
        (&["edit", unknown, "x"], (1, "message")),
        (&["edit", &id, ""], (1, "body")),
        (&["delete", unknown], (1, "message")),
        (&["download", unknown], (1, "message")),
        (&["download", &id], (1, "message")),
        (&["send", "--to", "bob", "--file", "/nowhere"], (1, "file")),
        (&["read", "--with", "carol"], (1, "unknown_conversation")),
        (&["send", "--to", "bob", ""], (1, "body")),
        (&["chat"], (2, "usage")),
        (&["send", "--to", "no name", "x"], (2, "usage")),
        (&["show", "--with", "bob", "--before", "-1"], (2, "usage")),
        (&["--user", "nobody", "outbox"], (1, "no_account")),
    ];
    for (words, (code, kind)) in cases {
        assert_eq!(home.error(words), (Some(code), kind.to_owned()), "{words:?}");
    }
    let login = home.error(&[&["--user", "alice", "login"], &NOWHERE[..]].concat());
    assert_eq!(login, (Some(1), "no_connection".to_owned()));
    home.run(&[&["--user", "bob", "offline"], &NOWHERE[..]].concat());
    assert_eq!(home.error(&["outbox"]), (Some(1), "several_accounts".to_owned()));
}

#[test]
fn an_account_in_use_is_said_to_be() {
    let home = Home::new();
    home.sends("hello");
    let _open = home.store();
    assert_eq!(home.error(&["send", "--to", "bob", "x"]), (Some(1), "in_use".to_owned()));
    assert_eq!(home.json(&["show", "--with", "bob"]).len(), 1, "reading goes on beside it");
}

#[test]
fn what_is_not_acknowledged_in_time_has_its_own_exit_code() {
    let home = Home::new();
    let ran = home.run(&[&["--user", "alice", "--json", "online", "--wait", "0"], &NOWHERE[..]].concat());
    assert_eq!(ran.code, Some(1), "nobody there");
    let error = &values(&ran.err)[0];
    assert_eq!(error["error"]["kind"], "no_connection");
    let ran = home.run(&["--json", "send", "--to", "bob", "--wait", "0", "hello"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(3), ""));
    assert_eq!(values(&ran.out)[0]["state"], "pending");
}

#[test]
fn no_form_steers_the_terminal() {
    let home = Home::new();
    home.sends("\u{1b}[2J\u{9b}31m\u{202e}\u{200b}\nnext");
    home.refuse();
    for words in
        [["show", "--with", "bob"].as_slice(), &["outbox"], &["show", "--with", "bob", "--json"], &["outbox", "--json"]]
    {
        let ran = home.run(words);
        let steers = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{200b}".contains(c);
        assert!(!ran.out.contains(steers), "{words:?}: {:?}", ran.out);
    }
    let body = home.json(&["show", "--with", "bob"])[0]["body"].clone();
    assert_eq!(body, "\u{1b}[2J\u{9b}31m\u{202e}\u{200b}\nnext", "what JSON says is what was written");
}

#[test]
fn a_chat_without_a_terminal_goes_by_lines() {
    let home = Home::new();
    let ran = home.run_in(home.0.path(), &["chat", "--with", "bob"], "hello\n//a slash\n/help\n/quit\nnot this\n");
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains("hello  ◷") && ran.out.contains("/a slash  ◷") && !ran.out.contains("not this"));
    assert!(ran.err.contains("2 messages wait"));
    let ran = home.run_in(home.0.path(), &["chat", "--with", "bob", "--json"], "more\n");
    let bodies: Vec<_> = values(&ran.out).iter().map(|value| value["body"].clone()).collect();
    assert_eq!((bodies, ran.err.as_str()), (vec!["hello".into(), "/a slash".into(), "more".into()], ""));
}

#[test]
fn a_message_can_come_from_a_pipe() {
    let home = Home::new();
    let ran = home.run_in(home.0.path(), &["--json", "send", "--to", "bob", "-"], "two\nlines\n");
    assert_eq!(values(&ran.out)[0]["body"], "two\nlines\n");
}

#[cfg(unix)]
#[test]
fn watching_ends_when_it_is_told_to() {
    use std::io::{BufRead, BufReader};

    let home = Home::new();
    home.run(&["online", "--wait", "0"]);
    let mut watch = Command::new(env!("CARGO_BIN_EXE_poste"))
        .arg("--home")
        .arg(home.0.path())
        .args(["--json", "watch"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert_eq!(values(&first)[0]["event"], "connection");
    let told = Command::new("kill").args(["-TERM", &watch.id().to_string()]).status().expect("the program runs");
    assert!(told.success());
    assert_eq!(watch.wait().expect("it ends").code(), Some(0));
}
