//! What is in the queues when a new version is deployed was written by the one before: `recorded/VERSION` has a message a
//! line, as each version writes them. A change adds lines for what is new; what was released is not changed.

use std::fs;
use std::path::Path;

use poste_domain::ports::{Parcel, Wake};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Reads each line of a file of each version. Written back it is the same: nothing of it was passed over.
fn replay<T: Serialize + DeserializeOwned>(file: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let mut lines = 0;
    for version in fs::read_dir(folder).expect("something was recorded") {
        let path = version.expect("a folder").path().join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for line in text.lines() {
            let message: T = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let before: Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(serde_json::to_value(message).expect("plain fields"), before);
            lines += 1;
        }
    }
    assert!(lines > 0, "no {file}");
}

#[test]
fn parcels_of_earlier_versions_are_delivered() {
    replay::<Parcel>("parcels.jsonl");
}

#[test]
fn wakes_of_earlier_versions_wake() {
    replay::<Wake>("wakes.jsonl");
}
