//! A long file takes no more memory than a short one. A process of its own, so that nothing else is counted.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod stand_in;

use std::time::Duration;

use poste_client::{Event, State, Target};
use poste_protocol::UserId;
use stand_in::{StandIn, phone};

const MIB: u64 = 1024 * 1024;

/// What the process may have had in memory at once: library, server and store, and the program itself.
const MOST: u64 = 64 * MIB;

/// The most that the process has had in memory, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_long_file_takes_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mp4");
    std::fs::File::create(&path).unwrap().set_len(200 * MIB).unwrap();
    let server = StandIn::start(Duration::ZERO).await;
    let client = phone(folder.path(), server.socket.clone()).await;
    let mut events = client.events();
    let before = peak();
    let bob = Target::User(UserId::new("bob").unwrap());
    let message = client.send_file(bob, &path, "", None).await.unwrap();
    loop {
        match tokio::time::timeout(Duration::from_mins(2), events.next()).await.unwrap().unwrap() {
            Event::Updated { message: m } if m.id == message.id && m.state == State::Sent => break,
            _ => {}
        }
    }
    let after = peak();
    println!("{} MiB before, {} MiB after", before / MIB, after / MIB);
    assert!(after < MOST, "{} MiB", after / MIB);
    server.there.lock().unwrap().check();
    client.close().await;
}
