//! `docs/SEMANTICS.md` says the truth: its examples, as tests (`build.rs` makes them; lines are those of the document),
//! and the tests that it names are there.

use std::{fs, path::Path};

use poste_client::State::{Failed, Pending, Received, Sent};
use poste_domain::Class;
use poste_protocol::{Code, Event, MediaState, MediaWish, Resolved, Role};
use poste_sim::scene::{
    After,
    Answer::{Accepted, Refused, Repeat},
    Before, DAY, SECOND, Scene, WAKE_GRACE, aged, texts,
};

include!(concat!(env!("OUT_DIR"), "/semantics.rs"));

const DOCUMENT: &str = include_str!("../../../docs/SEMANTICS.md");

/// Rows of tables that name a file of tests and, behind a colon each, tests in it.
#[test]
fn the_tests_that_it_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut named = 0;
    for row in DOCUMENT.lines().filter(|line| line.starts_with('|')) {
        let mut file = None;
        for quoted in row.split('`').skip(1).step_by(2) {
            if Path::new(quoted).extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(root.join(quoted));
                file = Some(text.unwrap_or_else(|error| panic!("{quoted}: {error}")));
            } else if let Some(text) = file.as_ref().filter(|_| quoted.matches('_').count() > 1) {
                assert!(text.contains(&format!("fn {quoted}(")), "there is no test {quoted}: {row}");
                named += 1;
            }
        }
    }
    assert!(named > 0, "it names tests");
}

/// What is printed bold at the beginning of a paragraph is a promise.
#[test]
fn every_promise_has_an_example() {
    let mut open: Option<&str> = None;
    for line in DOCUMENT.lines() {
        if line == "```rust" {
            open = None;
        } else if line.starts_with("**") || line.starts_with('#') {
            assert_eq!(open, None, "without an example");
            open = line.starts_with("**").then_some(line);
        }
    }
}
