//! `cargo local bench`: measurements, by `crates/bench`, which is built with optimisation (this program itself is not), on
//! a stack of its own whose functions are built with the profile that goes to AWS.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde::Deserialize;

use crate::child;
use crate::emulator::HandOver;
use crate::functions::Binaries;
use crate::proxy::Rule;
use crate::up::{Options, Running};
use crate::workspace::{Workspace, cargo};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// Single pieces of the functions and of the device library: time and instructions. No stack.
    Pieces,
    /// The device library alone: no network, no stack.
    Client,
    /// The functions' binaries: their size, their start, their memory.
    Start,
    /// From one device to another at a steady rate: how long it takes, and what is billed for it.
    Delivery,
    /// What was written offline and goes out at once.
    Flush,
    /// One message to groups of 2 to 500.
    Fanout,
    /// Catching up with much that was missed, in short and in long logs.
    Sync,
    /// What else there is, and what it loses: the plain serverless chat in Node.js on the same emulator, which needs npm and
    /// its registry; ejabberd, if it is installed (nothing of the system's is touched).
    Peers,
}

impl Subject {
    fn needs_stack(self) -> bool {
        !matches!(self, Self::Pieces | Self::Client)
    }
}

/// What is wished for.
#[derive(Debug)]
pub(crate) struct Wish {
    /// What is measured; everything, if nothing is named.
    pub(crate) subjects: Vec<Subject>,
    /// Where the figures are written to as JSON, beside the table.
    pub(crate) json: Option<PathBuf>,
    /// The figures of another run.
    pub(crate) compare: Option<PathBuf>,
    /// Whether `docs/PERFORMANCE.md` is made of them.
    pub(crate) document: bool,
    /// Whether the stack has something that wakes devices.
    pub(crate) push: bool,
    /// Whether functions are built with the dev profile.
    pub(crate) dev: bool,
    /// Whose service times the parts have, instead of the emulator's alone.
    pub(crate) latency: Option<Latency>,
    /// Where files are made.
    pub(crate) folder: Option<PathBuf>,
}

/// Service times that are added between the functions and the emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Latency {
    /// Those of AWS: `localstack/latency-aws.json`.
    Aws,
}

/// A table of service times.
#[derive(Debug, Deserialize)]
struct Times {
    /// Of calls.
    rules: Vec<Rule>,
    /// Of queues, from a message to its function.
    hand_over: HandOver,
}

impl Latency {
    fn times(self) -> anyhow::Result<Times> {
        let Self::Aws = self;
        Ok(serde_json::from_str(include_str!("../latency-aws.json"))?)
    }
}

/// Builds the measurements and makes them.
pub(crate) async fn run(workspace: &Workspace, wish: &Wish) -> anyhow::Result<()> {
    let needs_stack = wish.subjects.is_empty() || wish.subjects.iter().any(|subject| subject.needs_stack());
    if !needs_stack {
        return measure(workspace, wish, None).await;
    }
    let place = workspace.bench_place()?;
    let times = wish.latency.map(Latency::times).transpose()?;
    let (proxy, hand_over) = times.map(|times| (times.rules, times.hand_over)).unzip();
    let binaries = if wish.dev { Binaries::Dev } else { Binaries::Release };
    let options = Options { binaries, push: wish.push, proxy, hand_over, ..Options::default() };
    let running = Running::start(workspace, &place, &options).await?;
    let measured = measure(workspace, wish, Some(&place.state_file())).await;
    running.stop();
    measured
}

async fn measure(workspace: &Workspace, wish: &Wish, stack: Option<&Path>) -> anyhow::Result<()> {
    let mut command = Command::new(cargo());
    command.args(["run", "--release", "--locked", "--package", "poste-bench", "--"]);
    for subject in &wish.subjects {
        command.arg(subject.to_possible_value().context("a subject has a name")?.get_name());
    }
    command.arg("--folder").arg(match &wish.folder {
        Some(folder) => std::path::absolute(folder)?,
        None => workspace.target().join("bench"),
    });
    for (option, file) in [("--json", &wish.json), ("--compare", &wish.compare)] {
        if let Some(file) = file {
            command.arg(option).arg(std::path::absolute(file)?);
        }
    }
    if wish.dev {
        command.arg("--dev");
    }
    if let Some(latency) = wish.latency {
        command.arg("--latency").arg(latency.to_possible_value().context("a latency has a name")?.get_name());
    }
    if wish.document {
        command.arg("--document").arg(workspace.root().join("docs/PERFORMANCE.md"));
    }
    if let Some(stack) = stack {
        command.arg("--stack").arg(stack);
    }
    if let Some(commit) = commit(workspace) {
        command.args(["--commit", &commit]);
    }
    let status = child::run(command.current_dir(workspace.root()).stdin(Stdio::null())).await?;
    ensure!(status.success(), "the measurements failed");
    Ok(())
}

/// The version of the sources, if git knows them.
pub(crate) fn commit(workspace: &Workspace) -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(workspace.root())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Wish as Rules;

    #[test]
    fn the_table_of_service_times_can_be_read() {
        let Times { rules, hand_over } = Latency::Aws.times().unwrap();
        assert!(hand_over.median_ms < hand_over.p99_ms);
        let rules = Rules { seed: 0, rules }.checked().unwrap().rules;
        // Times of all rules that hold add up: each call has one.
        for (service, operations) in [
            ("dynamodb", &["GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem"][..]),
            ("sqs", &["SendMessage", "ChangeMessageVisibility"]),
            ("execute-api", &["PostToConnection", "DeleteConnection"]),
        ] {
            for operation in operations {
                let is_for = |rule: &&Rule| {
                    let names = |name: &Option<String>, wanted| name.as_deref().is_none_or(|name| name == wanted);
                    names(&rule.service, service) && names(&rule.operation, operation)
                };
                assert_eq!(rules.iter().filter(is_for).count(), 1, "{service} {operation}");
            }
        }
    }
}
