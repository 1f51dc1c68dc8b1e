//! Replays what is kept of the corpora, on any toolchain. Included by the tests of the crates that have what is fuzzed.

use std::{fs, path::Path};

/// Feeds each kept input of a target, those that once did harm among them, to its body.
pub(crate) fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder that can be read").path())
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    for input in inputs {
        // Shown when the test fails: the last line names the input.
        println!("{}", input.display());
        body(&fs::read(&input).expect("a file that can be read"));
    }
}
