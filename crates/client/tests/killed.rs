//! A device whose process is killed over and over while it sends a file, and started again on the same account.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod stand_in;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use poste_client::{State, Target};
use poste_protocol::{ConversationId, UserId, part_count};
use rand::RngExt;
use stand_in::{StandIn, phone};

const SIZE: u64 = 31 * 1024 * 1024;

/// Where the account of the process is that is killed, and where its server.
const FOLDER: &str = "POSTE_KILLED_FOLDER";
const SOCKET: &str = "POSTE_KILLED_SOCKET";

/// So many deaths are enough; the last life is as long as it takes.
const DEATHS: usize = 25;

fn film(folder: &Path) -> PathBuf {
    folder.join("film.mp4")
}

/// A life: what is there is sent, and before that written, if it is not.
#[tokio::test]
#[ignore = "is the process that is killed"]
async fn lives() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let client = phone(&folder, std::env::var(SOCKET).unwrap()).await;
    let bob = UserId::new("bob").unwrap();
    let talk = ConversationId::direct(&UserId::new("alice").unwrap(), &bob);
    if client.history(talk.clone(), None, 10).await.unwrap().is_empty() {
        client.send_file(Target::User(bob), film(&folder), "look", None).await.unwrap();
    }
    let mut events = client.events();
    while client.history(talk.clone(), None, 10).await.unwrap()[0].state != State::Sent {
        events.next().await.unwrap();
    }
    client.close().await;
}

/// M2, C6, failure 10.
#[tokio::test]
async fn a_file_arrives_whole_and_once_whenever_its_device_is_killed() {
    let bytes: Vec<u8> = (0..SIZE).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect();
    let (mut deaths, mut in_the_midst) = (0, 0);
    while deaths < DEATHS {
        let (died, sending) = round(&bytes).await;
        (deaths, in_the_midst) = (deaths + died, in_the_midst + sending);
    }
    println!("{deaths} deaths, {in_the_midst} in the midst");
    assert!(in_the_midst > 2, "it was killed while it sent: {in_the_midst}");
}

/// One file, until it is there. Says how often the device died, and how often when a part of the file was there.
async fn round(bytes: &[u8]) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(film(folder.path()), bytes).unwrap();
    let server = StandIn::start(Duration::from_millis(3)).await;
    let (mut deaths, mut in_the_midst) = (0, 0);
    loop {
        let mut device = Command::new(std::env::current_exe().unwrap())
            .args(["lives", "--exact", "--ignored"])
            .env(FOLDER, folder.path())
            .env(SOCKET, &server.socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if deaths < DEATHS {
            tokio::time::sleep(Duration::from_millis(rand::rng().random_range(20..700))).await;
            device.kill().unwrap();
        }
        if tokio::task::spawn_blocking(move || device.wait()).await.unwrap().unwrap().success() {
            break;
        }
        deaths += 1;
        let there = server.there.lock().unwrap();
        in_the_midst += usize::from(!there.parts.is_empty() && !there.complete);
    }
    let there = server.there.lock().unwrap();
    there.check();
    assert!(there.puts <= part_count(SIZE) as usize + 3 * deaths, "it goes on where it was: {}", there.puts);
    (deaths, in_the_midst)
}
