//! The examples of `docs/PROTOCOL.md`.

use std::path::PathBuf;

use serde_json::Value;

pub(crate) fn document(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "docs", name].iter().collect()
}

pub(crate) fn protocol() -> String {
    std::fs::read_to_string(document("PROTOCOL.md")).expect("docs/PROTOCOL.md is part of the repository")
}

/// A block of JSON in a document: where it is, the type it claims to be (the second word after the fence), and it.
pub(crate) struct Example {
    pub(crate) line: usize,
    pub(crate) claim: String,
    pub(crate) value: Value,
}

pub(crate) fn examples(markdown: &str) -> Vec<Example> {
    let mut found = Vec::new();
    let mut lines = markdown.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(claim) = line.trim().strip_prefix("```json") else { continue };
        let text: String =
            lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect::<Vec<_>>().join("\n");
        let line = number + 1;
        let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("docs/PROTOCOL.md:{line}: {error}"));
        found.push(Example { line, claim: claim.trim().to_owned(), value });
    }
    assert!(!found.is_empty(), "docs/PROTOCOL.md has examples");
    found
}
