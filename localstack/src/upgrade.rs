//! `cargo local upgrade`: from an older revision to this one and back, on a running stack, while people write on the
//! device libraries of both. The figures go into `docs/RELIABILITY.md`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::faults;
use crate::functions::Binaries;
use crate::older::{END_TO_END, Older};
use crate::proxy::UPDATE;
use crate::reliability::{Document, figures, made};
use crate::stack::STACK_VARIABLE;
use crate::test::{FAULTS, logs_of};
use crate::up::{Options, Running};
use crate::workspace::{Workspace, cargo};
use crate::{child, say};

/// How long a deployment may take that a test did not ask for.
const DEPLOYMENT: Duration = Duration::from_mins(7);

/// What is played.
#[derive(Debug)]
pub(crate) struct Wish {
    /// The revision to begin with.
    pub(crate) from: String,
    /// How long people write under each version.
    pub(crate) seconds: u64,
    /// Of the choices.
    pub(crate) seed: Option<u64>,
    /// Whether the older revision's end-to-end tests are played against the functions of now.
    pub(crate) tests: bool,
}

#[derive(Debug, Deserialize)]
struct Phase {
    functions: String,
    seconds: f64,
    messages: u64,
    of_older: u64,
    refused: u64,
    again: u64,
    connections: u64,
    silence_ms: u64,
    wait_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Upgrade {
    seed: u64,
    seconds: u64,
    devices: u64,
    older_devices: u64,
    took_seconds: f64,
    messages: u64,
    of_older: u64,
    files: u64,
    late: u64,
    voids: u64,
    phases: Vec<Phase>,
}

/// Plays it on a stack of its own, and writes down what came of it. An error if anything was lost.
pub(crate) async fn run(workspace: &Workspace, wish: &Wish) -> anyhow::Result<()> {
    let older = Older::ready(workspace, &wish.from).await?;
    let place = workspace.upgrade_place()?;
    let options = Options {
        binaries: Binaries::DevWith(vec![FAULTS.to_owned()]),
        proxy: Some(Vec::new()),
        older: Some(older.version.clone()),
        ..Options::default()
    };
    let mut running = Running::start(workspace, &place, &options).await?;
    let proxy = running.stack().proxy.clone().context("it was asked for a proxy")?;
    let state = place.state_file();
    let playing = async {
        play(workspace, &state, wish, &older).await?;
        if wish.tests { tests_of(&older, workspace, &state, &proxy).await } else { Ok(()) }
    };
    let played = tokio::select! {
        played = playing => played,
        error = running.attend() => Err(error),
    };
    if played.is_err() {
        say::line(&logs_of(running.stack()));
    }
    running.stop();
    played
}

async fn play(workspace: &Workspace, stack: &Path, wish: &Wish, older: &Older) -> anyhow::Result<()> {
    let file = workspace.state().join("upgrade.json");
    let mut variables = vec![
        ("POSTE_OLDER", older.poste.display().to_string()),
        ("POSTE_UPGRADE_SECONDS", wish.seconds.to_string()),
        ("POSTE_UPGRADE_REPORT", file.display().to_string()),
    ];
    variables.extend(wish.seed.map(|seed| ("POSTE_SEED", seed.to_string())));
    faults::test(workspace, stack, "nothing_is_lost_in_an_update", &variables).await?;
    let upgrade: Upgrade = figures(&file)?;
    let shown = shown(&upgrade, &older.commit, &made(workspace));
    say::line(&format!("\n{shown}"));
    let document = Document::of(workspace, "upgrade");
    document.write("upgrade", &shown)?;
    document.says_where();
    Ok(())
}

/// Plays the older revision's end-to-end tests against the functions of now.
async fn tests_of(older: &Older, workspace: &Workspace, stack: &Path, proxy: &str) -> anyhow::Result<()> {
    let http = reqwest::Client::builder().no_proxy().timeout(DEPLOYMENT).build()?;
    let update = async {
        http.post(format!("{proxy}{UPDATE}")).send().await?.error_for_status()?;
        Ok(())
    };
    say::step("Deploying this version again", update).await?;
    say::line(&format!("\n== the end-to-end tests of {} against the functions of now ==", older.commit));
    let mut command = Command::new(cargo());
    command
        .args(["test", "--workspace", "--locked", "--test", END_TO_END])
        .current_dir(older.checkout.root())
        .env("CARGO_TARGET_DIR", workspace.target())
        .env(STACK_VARIABLE, stack)
        .stdin(Stdio::null());
    let status = child::run(&mut command).await?;
    ensure!(status.success(), "tests of {} fail against the functions of now", older.commit);
    Ok(())
}

/// What came of it, for people.
fn shown(upgrade: &Upgrade, commit: &str, made: &str) -> String {
    let Upgrade { seed, seconds, devices, older_devices, took_seconds, messages, of_older, files, late, voids, phases } =
        upgrade;
    let mut text = format!(
        "Made with `cargo local upgrade --from {commit} --seconds {seconds} --seed {seed}` in {:.0} minutes on {made}. \
         {devices} devices with the library of this version and {older_devices} with that of {commit} write, {seconds} s \
         under each version and all the time between: {messages} messages, {of_older} of them with the older library, and \
         {files} files. None lost, doubled or out of order; {late} devices late, {voids} unused numbers.\n\n\
         | functions | time | acknowledged | older library | requests refused | envelopes sent again | connections made | \
         longest silence | longest wait |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        took_seconds / 60.0
    );
    for phase in phases {
        let Phase { functions, seconds, messages, of_older, refused, again, connections, silence_ms, wait_ms } = phase;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {functions} | {seconds:.1} s | {messages} | {of_older} | {refused} | {again} | {connections} | \
             {silence_ms} ms | {wait_ms} ms |"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_is_a_line() {
        let phase = |functions: &str| Phase {
            functions: functions.to_owned(),
            seconds: 1.25,
            messages: 10,
            of_older: 2,
            refused: 3,
            again: 4,
            connections: 0,
            silence_ms: 500,
            wait_ms: 900,
        };
        let upgrade = Upgrade {
            seed: 1,
            seconds: 20,
            devices: 6,
            older_devices: 2,
            took_seconds: 90.0,
            messages: 20,
            of_older: 4,
            files: 12,
            late: 0,
            voids: 1,
            phases: vec![phase("of the older version"), phase("of this version")],
        };
        let text = shown(&upgrade, "abc", "a machine");
        assert!(text.contains("--from abc --seconds 20 --seed 1"), "{text}");
        assert!(text.contains("| of this version | 1.2 s | 10 | 2 | 3 | 4 | 0 | 500 ms | 900 ms |"), "{text}");
    }
}
