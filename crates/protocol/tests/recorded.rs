//! Versions understand each other: devices of an earlier one are understood by the server of today, and the server of
//! today by them.
//!
//! `recorded/VERSION` has a frame a line, as it was on the wire: `requests.jsonl` of devices, `frames.jsonl` of the server.
//! With `RECORD=1` the present version is recorded, from the examples of `docs/PROTOCOL.md` and the snapshots. That is a
//! step of a release; what was released is not recorded again.

#[expect(dead_code, reason = "where an example stands is told by another test")]
mod examples;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use examples::{examples, protocol};
use poste_protocol::{FromServer, Request, parse};
use serde_json::Value;

const FILES: [(&str, &str); 2] = [("requests.jsonl", "action"), ("frames.jsonl", "type")];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded")
}

/// The first two numbers of the present version.
fn present() -> &'static str {
    env!("CARGO_PKG_VERSION").rsplit_once('.').expect("a version has three numbers").0
}

/// All lines of a file, of each version, with where they are.
fn recorded(file: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for version in fs::read_dir(folder()).expect("something was recorded") {
        let path = version.expect("a folder").path().join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        found.extend((1..).zip(text.lines()).map(|(n, line)| (format!("{}:{n}", path.display()), line.to_owned())));
    }
    found
}

/// Every example and snapshot that has this tag, as one line each.
fn samples(tag: &str) -> BTreeSet<String> {
    let snapshots = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")).expect("snapshots");
    let taken = snapshots.flat_map(|file| {
        let text = fs::read_to_string(file.expect("a file").path()).expect("a snapshot");
        let json = text.splitn(3, "---\n").nth(2).expect("a snapshot has a heading").to_owned();
        let frames: Vec<Value> = serde_json::from_str(&json).expect("a list of frames");
        frames
    });
    let shown = examples(&protocol()).into_iter().map(|example| example.value);
    shown.chain(taken).filter(|frame| frame[tag].is_string()).map(|frame| frame.to_string()).collect()
}

#[test]
fn the_present_version_is_recorded() {
    let folder = folder().join(present());
    if std::env::var_os("RECORD").is_some_and(|value| value == "1") {
        fs::create_dir_all(&folder).expect("a folder");
        for (file, tag) in FILES {
            let lines: String = samples(tag).into_iter().map(|line| line + "\n").collect();
            fs::write(folder.join(file), lines).expect("it can be written");
        }
    }
    for (file, _) in FILES {
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
        assert!(!text.is_empty(), "{} is not recorded: run with RECORD=1", present());
    }
}

#[test]
fn devices_of_earlier_versions_are_understood() {
    for (at, line) in recorded("requests.jsonl") {
        let request: Request = parse(&line).unwrap_or_else(|error| panic!("{at}: {}", error.refusal));
        keeps(&at, &value(&line), &serde_json::to_value(request).expect("plain fields"));
    }
}

#[test]
fn devices_of_earlier_versions_understand_the_server() {
    for (at, line) in recorded("frames.jsonl") {
        let frame: FromServer = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_ne!(frame, FromServer::Unknown, "{at}: it is not said any more");
        // What a device of that version reads in what the server of today says: the same.
        keeps(&at, &value(&line), &serde_json::to_value(frame).expect("plain fields"));
    }
}

fn value(line: &str) -> Value {
    serde_json::from_str(line).expect("JSON")
}

/// Nothing that was said is gone, or is another thing now. There may be more.
fn keeps(at: &str, before: &Value, now: &Value) {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            for (name, before) in before {
                let now = now.get(name).unwrap_or_else(|| panic!("{at}: `{name}` is gone"));
                keeps(&format!("{at}, {name}"), before, now);
            }
        }
        (Value::Array(before), Value::Array(now)) => {
            assert_eq!(before.len(), now.len(), "{at}");
            before.iter().zip(now).for_each(|(before, now)| keeps(at, before, now));
        }
        _ => assert_eq!(before, now, "{at}"),
    }
}

#[test]
fn what_is_gone_or_has_become_another_thing_is_found() {
    let changed = |before: Value, now: Value| std::panic::catch_unwind(|| keeps("", &before, &now)).is_err();
    let before = || serde_json::json!({"a": {"b": [1]}, "c": "x"});
    assert!(!changed(before(), serde_json::json!({"a": {"b": [1], "new": 1}, "c": "x", "more": null})));
    assert!(changed(before(), serde_json::json!({"a": {}, "c": "x"})));
    assert!(changed(before(), serde_json::json!({"a": {"b": ["1"]}, "c": "x"})));
    assert!(changed(before(), serde_json::json!({"a": {"b": [1]}, "d": "x"})));
}
