//! `cargo local test`: everything that has to hold before a change goes in, locally and in CI alike.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

use crate::functions::Binaries;
use crate::stack::{STACK_VARIABLE, Stack};
use crate::stop::StopSignal;
use crate::up::{Options, Running};
use crate::workspace::{Workspace, cargo};
use crate::{child, say};

/// How long one step may take. Generous: the first build of everything on two cores takes some ten minutes.
const STEP_DEADLINE: Duration = Duration::from_mins(45);
/// How much of each log is shown after a failure.
const LOG_LINES: usize = 30;

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Formatting.
    Fmt,
    /// Clippy, on everything, warnings are errors.
    Lint,
    /// Tests that need no stack.
    Unit,
    /// Tests through sockets on a deployed stack.
    E2e,
    /// The device library on a deployed stack: its process killed, its disk full, its network gone for days.
    Device,
    /// Whatever fails between the functions and the parts that they call, for a short time each.
    Faults,
}

const PARTS: [Part; 6] = [Part::Fmt, Part::Lint, Part::Unit, Part::E2e, Part::Device, Part::Faults];

/// The targets of the end-to-end tests that are parts of their own.
const DEVICE: &str = "device";
pub(crate) const FAULTS: &str = "faults";

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "formatting",
            Self::Lint => "lints",
            Self::Unit => "unit tests",
            Self::E2e => "end to end",
            Self::Device => "device in trouble",
            Self::Faults => "faults",
        }
    }

    /// What cargo is called with.
    ///
    /// Always the whole workspace, and targets by their names: cargo chooses the features of a dependency for the packages
    /// that it is called with, and would compile most of them again for another choice of packages.
    fn arguments(self, workspace: &Workspace) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Fmt => &["fmt", "--all", "--check"],
            Self::Lint => &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
            Self::Unit => &["test", "--workspace", "--locked", "--lib", "--bins"],
            Self::E2e | Self::Device | Self::Faults => &["test", "--workspace", "--locked"],
        };
        let mut arguments: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        arguments.extend(self.targets(workspace).into_iter().flat_map(|name| ["--test".to_owned(), name]));
        if matches!(self, Self::Device | Self::Faults) {
            // What was counted is worth reading, also when all is well.
            arguments.extend(["--", "--nocapture"].map(str::to_owned));
        }
        arguments
    }

    /// The targets of tests in folders of their own that belong to it.
    fn targets(self, workspace: &Workspace) -> Vec<String> {
        let targets = match self {
            Self::Unit => workspace.without_stack(),
            _ => workspace.end_to_end(),
        };
        targets.iter().filter(|name| self.has_target(name)).cloned().collect()
    }

    /// Whether a target of its kind of tests belongs to it.
    fn has_target(self, name: &str) -> bool {
        match self {
            Self::E2e => name != DEVICE && name != FAULTS,
            Self::Device => name == DEVICE,
            Self::Faults => name == FAULTS,
            Self::Unit => true,
            Self::Fmt | Self::Lint => false,
        }
    }
}

/// How a part went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outcome {
    part: Part,
    passed: bool,
    time: Duration,
}

/// Runs the parts asked for (all, if none), each to its end even after a failure. An error if any failed.
pub(crate) async fn run(
    workspace: &Workspace,
    only: &[Part],
    options: &Options,
    stop: &mut StopSignal,
) -> anyhow::Result<()> {
    let mut outcomes = Vec::new();
    for part in PARTS.into_iter().filter(|part| only.is_empty() || only.contains(part)) {
        say::line(&format!("\n== {} ==  cargo {}", part.name(), part.arguments(workspace).join(" ")));
        let started = Instant::now();
        let work = async {
            match part {
                Part::E2e | Part::Device | Part::Faults => end_to_end(workspace, part, options).await,
                _ => cargo_passes(workspace, part, None).await,
            }
        };
        let result = tokio::select! {
            result = work => result,
            signal = stop.received() => bail!("{signal}: stopped during {}", part.name()),
        };
        let passed = match result {
            Ok(passed) => passed,
            Err(error) => {
                say::error(&format!("{error:#}"));
                false
            }
        };
        let time = started.elapsed();
        say::line(&format!("== {}: {} ({}) ==", part.name(), verdict(passed), say::seconds(time)));
        outcomes.push(Outcome { part, passed, time });
    }
    say::line(&sum(&outcomes));
    match outcomes.iter().filter(|outcome| !outcome.passed).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} parts failed", outcomes.len()),
    }
}

async fn cargo_passes(workspace: &Workspace, part: Part, stack: Option<&std::path::Path>) -> anyhow::Result<bool> {
    let mut command = Command::new(cargo());
    command.args(part.arguments(workspace)).current_dir(workspace.root()).stdin(std::process::Stdio::null());
    if let Some(stack) = stack {
        command.env(STACK_VARIABLE, stack);
    }
    let status = tokio::time::timeout(STEP_DEADLINE, child::run(&mut command))
        .await
        .with_context(|| format!("it takes more than {}", say::seconds(STEP_DEADLINE)))??;
    Ok(status.success())
}

/// Runs the end-to-end tests on a stack of their own.
async fn end_to_end(workspace: &Workspace, part: Part, options: &Options) -> anyhow::Result<bool> {
    ensure!(!workspace.end_to_end().is_empty(), "there are no end-to-end tests");
    let place = workspace.test_place()?;
    let mut options = options.clone();
    if options.binaries == Binaries::Dev {
        options.binaries = Binaries::DevWith(part.targets(workspace));
    }
    if part == Part::Faults {
        if options.endpoint.is_some() {
            say::line("Not played: functions of an emulator that is not ours do not call through a proxy of ours.");
            return Ok(true);
        }
        options.proxy = Some(Vec::new());
    }
    let mut running = Running::start(workspace, &place, &options).await?;
    let state = place.state_file();
    let passed = tokio::select! {
        passed = cargo_passes(workspace, part, Some(&state)) => passed?,
        error = running.attend() => return Err(error),
    };
    if !passed {
        say::line(&logs_of(running.stack()));
    }
    running.stop();
    Ok(passed)
}

/// The last lines of all logs of a stack.
pub(crate) fn logs_of(stack: &Stack) -> String {
    let mut text = format!("\nThe logs are in {}. Their last lines:\n", stack.logs.display());
    let mut files: Vec<_> =
        std::fs::read_dir(&stack.logs).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let tail = say::tail(&file, LOG_LINES);
        if !tail.is_empty() {
            text.extend(["  ", &name, "\n", &tail]);
        }
    }
    text
}

fn verdict(passed: bool) -> &'static str {
    if passed { "passed" } else { "FAILED" }
}

fn sum(outcomes: &[Outcome]) -> String {
    let line = |Outcome { part, passed, time }: &Outcome| {
        format!("  {:<17} {:<7} {}", part.name(), verdict(*passed), say::seconds(*time))
    };
    let lines: Vec<String> = outcomes.iter().map(line).collect();
    format!(
        "
{}
",
        lines.join(
            "
"
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_names_each_part_and_how_it_went() {
        let outcome = |part, passed| Outcome { part, passed, time: Duration::from_secs(1) };
        let text = sum(&[outcome(Part::Lint, true), outcome(Part::E2e, false)]);
        assert_eq!(text, "\n  lints             passed  1.0 s\n  end to end        FAILED  1.0 s\n");
    }

    #[test]
    fn all_logs_are_shown_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("send.log"), "panicked\n").unwrap();
        std::fs::write(folder.path().join("empty.log"), "").unwrap();
        let stack = Stack { logs: folder.path().to_owned(), ..crate::stack::tests::example() };
        let text = logs_of(&stack);
        assert!(text.contains("send.log\n    panicked\n") && !text.contains("empty.log"), "{text}");
    }
}
