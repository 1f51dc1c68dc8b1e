//! The virtual environment in which the emulator and `deploy.py` run.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::workspace::Workspace;
use crate::{child, say};

/// How long installing the packages may take.
const INSTALL_DEADLINE: Duration = Duration::from_mins(10);
/// How long somebody else may take who is setting up the same environment.
const TURN_DEADLINE: Duration = Duration::from_mins(15);
/// How often is looked whether it is our turn.
const TURN_POLL: Duration = Duration::from_millis(200);
/// What the emulator needs.
const OLDEST_PYTHON: (u32, u32) = (3, 10);

/// A virtual environment that has what `requirements.txt` pins.
#[derive(Debug, Clone)]
pub(crate) struct Python {
    folder: PathBuf,
}

impl Python {
    /// The interpreter.
    pub(crate) fn interpreter(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Gives the environment; sets it up when it is missing, unfinished or made for other requirements.
    pub(crate) async fn ready(workspace: &Workspace) -> anyhow::Result<Self> {
        let requirements = workspace.localstack("requirements.txt");
        let wanted =
            fs::read_to_string(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
        let python = Self { folder: workspace.state().join("venv") };
        fs::create_dir_all(workspace.state())?;
        // A file beside it, because the environment itself may have to be removed.
        let _turn = take_turn(&python.folder.with_extension("lock")).await?;
        if python.complete(&wanted) {
            return Ok(python);
        }
        if python.folder.exists() {
            say::line("· The Python environment is unfinished or out of date: making it anew");
            fs::remove_dir_all(&python.folder).context("cannot remove the old Python environment")?;
        }
        let log = workspace.state().join("setup.log");
        say::step(
            "Installing the emulator (once; needs the Python package index)",
            python.set_up(&requirements, &wanted, &log),
        )
        .await?;
        Ok(python)
    }

    /// Written last, so that an interrupted set-up has none.
    fn marker(&self) -> PathBuf {
        self.folder.join("poste-complete")
    }

    /// Whether the set-up came to its end, for the same requirements, and its interpreter is still there (it is a link
    /// to the system's, which may have been removed by an upgrade).
    fn complete(&self, wanted: &str) -> bool {
        fs::read_to_string(self.marker()).is_ok_and(|installed| installed == wanted) && self.interpreter().exists()
    }

    async fn set_up(&self, requirements: &Path, wanted: &str, log: &Path) -> anyhow::Result<()> {
        check_version()?;
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&self.folder);
        let mut install = Command::new(self.interpreter());
        install
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"])
            .args(["--progress-bar", "off", "--requirement"])
            .arg(requirements);
        for (what, command) in [("python3 -m venv", &mut make), ("pip install", &mut install)] {
            command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file.try_clone()?);
            let status = tokio::time::timeout(INSTALL_DEADLINE, child::run(command))
                .await
                .with_context(|| format!("`{what}` takes more than {}", say::seconds(INSTALL_DEADLINE)))??;
            if !status.success() {
                bail!("`{what}` failed ({status}):\n{}", say::tail(log, 15));
            }
        }
        fs::write(self.marker(), wanted).context("cannot finish the Python environment")
    }
}

/// Waits until nobody else sets up the environment: two commands may be started at once.
async fn take_turn(file: &Path) -> anyhow::Result<File> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(file)?;
    let wait = async {
        let mut said = false;
        while lock.try_lock().is_err() {
            if !std::mem::replace(&mut said, true) {
                say::line("· Waiting for another `cargo local` that sets up the Python environment ...");
            }
            tokio::time::sleep(TURN_POLL).await;
        }
    };
    tokio::time::timeout(TURN_DEADLINE, wait)
        .await
        .with_context(|| format!("another `cargo local` has held {} too long", file.display()))?;
    Ok(lock)
}

fn check_version() -> anyhow::Result<()> {
    let (major, minor) = OLDEST_PYTHON;
    let output = Command::new("python3")
        .args(["-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"])
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("python3 is not installed. The local stack needs Python {major}.{minor} or newer, with venv.")
        }
        Err(error) => return Err(error).context("cannot run python3"),
    };
    if !output.status.success() {
        bail!(
            "python3 does not work, or lacks the module venv (on Debian and Ubuntu: the package python3-venv):\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let version = String::from_utf8_lossy(&output.stdout);
    if parse_version(&version).is_none_or(|version| version < OLDEST_PYTHON) {
        bail!("python3 is version {}, and the emulator needs {major}.{minor} or newer", version.trim());
    }
    Ok(())
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parse_version("3.9\n").unwrap() < OLDEST_PYTHON);
        assert!(parse_version("3.11").unwrap() >= OLDEST_PYTHON);
        assert_eq!(parse_version("what"), None);
    }

    #[test]
    fn only_a_finished_set_up_for_the_same_requirements_counts() {
        let folder = tempfile::tempdir().unwrap();
        let python = Python { folder: folder.path().to_owned() };
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::write(python.interpreter(), "").unwrap();
        assert!(!python.complete("a==1"), "no marker: interrupted");
        fs::write(python.marker(), "a==1").unwrap();
        assert!(python.complete("a==1"));
        assert!(!python.complete("a==2"));
        fs::remove_file(python.interpreter()).unwrap();
        assert!(!python.complete("a==1"), "the interpreter is gone");
    }
}
