//! Faults between the functions and the parts that they call, on the deployed stack: each is played while people write,
//! then it ends, everything comes to rest, and what each device was told to write is held against the logs and against
//! what all devices show. `cargo local faults` plays the whole table and writes `docs/RELIABILITY.md`; `cargo local test
//! --only faults` plays a short one. And an update of the stack, which `cargo local upgrade` plays.
//!
//! `POSTE_FAULTS=all` plays all, `POSTE_FAULTS_SECONDS` says for how long each, `POSTE_SEED` repeats the choices (not the
//! instants, which are the machine's), and `POSTE_FAULTS_REPORT` names a file for the figures.

mod older;
mod people;
mod soak;
mod table;
mod upgrade;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use poste_tests::{Deployment, Faults};
use rand::{SeedableRng, rngs::StdRng};
use serde::Serialize;

use people::{PAUSE, People};
use table::Trouble;

/// How long people write under each, unless `POSTE_FAULTS_SECONDS` says otherwise.
const SECONDS: u64 = 2;

/// Held by the test that runs: a fault is everybody's.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What came of one trouble.
#[derive(Debug, Serialize)]
struct Row {
    /// What went wrong.
    trouble: String,
    /// How often it struck.
    struck: u64,
    /// What the proxy counted, as `service operation fault`.
    counted: BTreeMap<String, u64>,
    /// What `send` returned for.
    messages: usize,
    /// Of these, files.
    files: usize,
    /// How long it took until everything was sent and on every device, after the end of the trouble.
    rest_seconds: f64,
    /// Devices that learned of something only with their next connection.
    late: usize,
    /// Numbers of the logs that were reserved and never used.
    voids: u64,
}

/// All of it.
#[derive(Debug, Serialize)]
struct Table {
    seed: u64,
    seconds: u64,
    devices: usize,
    took_seconds: f64,
    rows: Vec<Row>,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Writes figures to the file that a variable names, if it does.
fn report(variable: &str, figures: &impl Serialize) {
    if let Some(file) = std::env::var_os(variable) {
        let json = serde_json::to_vec_pretty(figures).expect("figures have only plain fields");
        std::fs::write(file, json).expect("the report is written");
    }
}

/// I1, I2, I4, I5, I9, D6, O4, C5, failures 1, 2, 4, 8, 9 and 10: whatever fails between functions and parts, what was
/// accepted is stored once, in the order of writing, and on all devices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whatever_fails() {
    let _alone = ALONE.lock().await;
    let seed = number("POSTE_SEED").unwrap_or_else(rand::random::<u64>);
    let seconds = number("POSTE_FAULTS_SECONDS").unwrap_or(SECONDS);
    let all = std::env::var("POSTE_FAULTS").is_ok_and(|which| which == "all");
    println!("POSTE_SEED={seed} POSTE_FAULTS_SECONDS={seconds}");
    let deployment = Deployment::here();
    let faults = Faults::of(&deployment);
    let mut chance = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    let mut rows = Vec::new();
    for trouble in if all { table::all() } else { table::short() } {
        let time = Duration::from_secs(seconds);
        let row = Box::pin(play(&deployment, &faults, &trouble, time, &mut chance)).await;
        println!(
            "{:<58} struck {:>5}, {:>4} messages, at rest after {:>5.1} s, {} late, {} voids",
            row.trouble, row.struck, row.messages, row.rest_seconds, row.late, row.voids
        );
        assert!(row.struck > 0, "it did not strike: {}", row.trouble);
        rows.push(row);
    }
    let took_seconds = began.elapsed().as_secs_f64();
    report("POSTE_FAULTS_REPORT", &Table { seed, seconds, devices: people::DEVICES, took_seconds, rows });
}

/// One trouble, from the beginning to rest.
async fn play(deployment: &Deployment, faults: &Faults, trouble: &Trouble, time: Duration, chance: &mut StdRng) -> Row {
    let folder = tempfile::tempdir().expect("a folder");
    let mut people = People::gather(deployment, folder.path(), trouble, &[]).await;
    let before = faults.struck().await;
    faults.hold(rand::RngExt::random(chance), trouble.rules.clone()).await;
    let struck = people.live(deployment, faults, trouble, time, PAUSE, chance).await;
    faults.end().await;

    let ended = Instant::now();
    let after = faults.struck().await;
    let counted: BTreeMap<String, u64> = after
        .into_iter()
        .map(|(kind, times)| (kind.join(" "), times - before.get(&kind).copied().unwrap_or(0)))
        .filter(|(_, times)| *times > 0)
        .collect();
    let late = people.come_to_rest().await;
    let rest_seconds = ended.elapsed().as_secs_f64();
    let voids = people.judge(deployment).await;
    people.is_woken(deployment).await;
    let row = Row {
        trouble: trouble.name.clone(),
        struck: struck + counted.values().sum::<u64>(),
        counted,
        messages: people.written(),
        files: people.files(),
        rest_seconds,
        late,
        voids,
    };
    people.leave().await;
    row
}
