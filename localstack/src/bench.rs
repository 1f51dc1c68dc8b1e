//! `cargo local bench`: measurements, by `crates/bench`, which is built with optimisation. This program itself is not.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use clap::ValueEnum;

use crate::child;
use crate::workspace::{Workspace, cargo};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// The device library alone: no network, no stack.
    Client,
}

/// What is wished for.
#[derive(Debug)]
pub(crate) struct Wish {
    /// What is measured; everything, if nothing is named.
    pub(crate) subjects: Vec<Subject>,
    /// Where the figures are written to as JSON, beside the table.
    pub(crate) json: Option<PathBuf>,
    /// Where files are made.
    pub(crate) folder: Option<PathBuf>,
}

/// Builds the measurements and makes them.
pub(crate) async fn run(workspace: &Workspace, wish: &Wish) -> anyhow::Result<()> {
    let mut command = Command::new(cargo());
    command.args(["run", "--release", "--locked", "--package", "poste-bench", "--"]);
    for subject in &wish.subjects {
        command.arg(subject.to_possible_value().context("a subject has a name")?.get_name());
    }
    command.arg("--folder").arg(match &wish.folder {
        Some(folder) => std::path::absolute(folder)?,
        None => workspace.target().join("bench"),
    });
    if let Some(json) = &wish.json {
        command.arg("--json").arg(std::path::absolute(json)?);
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
