//! An older revision of this project, checked out and built below the target folder, for trying updates from it and back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::functions::{self, Binaries};
use crate::version::Version;
use crate::workspace::Workspace;
use crate::{package, say};

/// The end-to-end tests of any revision.
pub(crate) const END_TO_END: &str = "e2e";
/// The client in the terminal.
const POSTE: &str = "poste";

/// An older revision that is built.
#[derive(Debug)]
pub(crate) struct Older {
    /// Its commit, in the short form.
    pub(crate) commit: String,
    /// What is deployed of it.
    pub(crate) version: Version,
    /// Its client in the terminal, which has its device library.
    pub(crate) poste: PathBuf,
    /// Its sources.
    pub(crate) checkout: Workspace,
}

impl Older {
    /// Checks a revision out and builds it. Both are kept: a second time there is nothing to do.
    pub(crate) async fn ready(workspace: &Workspace, revision: &str) -> anyhow::Result<Self> {
        let commit = git(workspace, &["rev-parse", "--verify", "--end-of-options", &format!("{revision}^{{commit}}")])
            .with_context(|| format!("git knows no revision `{revision}`"))?;
        let folder = workspace.target().join("upgrade").join(&commit);
        let sources = folder.join("source");
        if !sources.exists() {
            check_out(workspace, &commit, &sources)?;
        }
        let checkout = workspace.checkout(sources);
        let template = fs::read_to_string(checkout.template())
            .with_context(|| format!("{revision} has no {}", checkout.template().display()))?;
        let mut names = package::functions(&template)?;
        names.push(POSTE.to_owned());
        let programs = folder.join("programs");
        if !programs.exists() {
            let what = format!("Building {revision}, with its functions and its client");
            // With the features that tests want, what it depends on is there already, for the tests of now.
            let with_tests = Binaries::DevWith(vec![END_TO_END.to_owned()]);
            let built = say::step(&what, functions::binaries(&checkout, &with_tests, &names)).await?;
            // Elsewhere, for the next build of now takes the same names.
            whole(&programs, |unfinished| {
                built.iter().try_for_each(|(name, file)| fs::copy(file, unfinished.join(name)).map(drop))
            })?;
        }
        let mut binaries: BTreeMap<String, PathBuf> =
            names.into_iter().map(|name| (name.clone(), programs.join(name))).collect();
        let poste = binaries.remove(POSTE).context("it was added above")?;
        let commit = git(workspace, &["rev-parse", "--short", &commit])?;
        Ok(Self { commit, version: Version { template, binaries, older: true }, poste, checkout })
    }
}

/// Writes the sources of a commit into a folder. Not a worktree of git: nothing has to be tidied up in the repository.
fn check_out(workspace: &Workspace, commit: &str, folder: &Path) -> anyhow::Result<()> {
    whole(folder, |unfinished| {
        let mut archive = Command::new("git");
        archive.args(["archive", "--format=tar", commit]).current_dir(workspace.root());
        let mut archive = archive.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let files = archive.stdout.take().ok_or_else(|| std::io::Error::other("git has no output"))?;
        let unpacked = Command::new("tar").arg("-x").current_dir(unfinished).stdin(files).status()?;
        let ended = archive.wait()?;
        if !unpacked.success() || !ended.success() {
            return Err(std::io::Error::other("`git archive | tar -x` failed"));
        }
        Ok(())
    })
}

/// Makes a folder that is whole or not there.
fn whole(folder: &Path, fill: impl FnOnce(&Path) -> std::io::Result<()>) -> anyhow::Result<()> {
    let unfinished = folder.with_extension("unfinished");
    let make = || {
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;
        fill(&unfinished)?;
        fs::rename(&unfinished, folder)
    };
    make().with_context(|| format!("cannot make {}", folder.display()))
}

/// What git says to a question.
fn git(workspace: &Workspace, question: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").args(question).current_dir(workspace.root()).output().context("cannot run git")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`git {}` failed: {}", question.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_whole_or_not_there() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("folder");
        let fails = whole(&folder, |unfinished| {
            fs::write(unfinished.join("half"), "")?;
            Err(std::io::Error::other("no more"))
        });
        assert!(fails.is_err() && !folder.exists());
        whole(&folder, |unfinished| fs::write(unfinished.join("all"), "")).unwrap();
        assert!(folder.join("all").exists() && !folder.join("half").exists());
    }
}
