//! The folder in which one stack lives: its lock, its state file, its logs, its keys.
//!
//! Who runs a stack holds an exclusive lock on `lock` in its folder. The kernel drops the lock with the process, however
//! that ends, so a lock that is held means a stack that runs, and a state file without a held lock is a left-over. No
//! process id has to be trusted.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::stack::Stack;

/// The folder of one stack.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    folder: PathBuf,
}

/// Held while a stack runs in a place.
#[derive(Debug)]
pub(crate) struct Occupied {
    place: Place,
    // Released by closing.
    _lock: File,
}

/// What is found in a place.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// Nobody runs a stack here.
    Nothing,
    /// Somebody is starting or stopping one here.
    Starting,
    /// Somebody runs this one.
    Running(Box<Stack>),
}

impl Place {
    /// The place in a folder, which is made if need be.
    pub(crate) fn new(folder: PathBuf) -> anyhow::Result<Self> {
        let place = Self { folder };
        fs::create_dir_all(place.logs()).with_context(|| format!("cannot make {}", place.logs().display()))?;
        Ok(place)
    }

    /// The state file.
    pub(crate) fn state_file(&self) -> PathBuf {
        self.folder.join("stack.json")
    }

    /// The folder of the logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// The folder of the issuer's keys.
    pub(crate) fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// A folder for what need not outlive a run.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.folder.join("scratch")
    }

    /// The ports that the last run had.
    pub(crate) fn ports_file(&self) -> PathBuf {
        self.folder.join("ports.json")
    }

    fn lock_file(&self) -> anyhow::Result<File> {
        let path = self.folder.join("lock");
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }

    /// Looks who is here; removes a state file that nobody stands behind.
    pub(crate) fn look(&self) -> anyhow::Result<Found> {
        let lock = self.lock_file()?;
        match lock.try_lock() {
            Ok(()) => {
                self.remove_state()?;
                Ok(Found::Nothing)
            }
            Err(TryLockError::WouldBlock) => {
                Ok(Stack::read(&self.state_file()).map_or(Found::Starting, |stack| Found::Running(Box::new(stack))))
            }
            Err(TryLockError::Error(error)) => Err(error).context("cannot lock"),
        }
    }

    /// Takes the place for a new stack: clears what an earlier one has left, logs included.
    pub(crate) fn occupy(&self) -> anyhow::Result<Occupied> {
        let lock = self.lock_file()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => match self.look()? {
                Found::Running(stack) => bail!("{}", already_running(&stack)),
                _ => bail!("a stack is just being started or stopped here; try again in a moment"),
            },
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock"),
        }
        self.remove_state()?;
        for folder in [self.logs(), self.scratch()] {
            if folder.exists() {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
            }
            fs::create_dir_all(&folder)?;
        }
        Ok(Occupied { place: self.clone(), _lock: lock })
    }

    fn remove_state(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.state_file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("cannot remove an old state file")
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        if let Err(error) = self.place.remove_state() {
            crate::say::error(&format!("{error:#}"));
        }
        // Copies of the functions' binaries: hundreds of megabytes that nobody reads again.
        let _ = fs::remove_dir_all(self.place.scratch());
    }
}

/// What a second `up` is told.
fn already_running(stack: &Stack) -> String {
    format!(
        "a stack is already running here (process {}):\n  socket  {}\n  issuer  {}\n  \
         Stop it with `cargo local down`, or with Ctrl-C where it runs.",
        stack.pid, stack.socket_url, stack.issuer
    )
}

/// Writes a file that only its owner may read: whole or not at all.
pub(crate) fn write_private(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    let beside = file.with_extension("new");
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&beside);
        let mut new = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
        new.write_all(content)?;
        new.sync_all()?;
        fs::rename(&beside, file)
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::tests::example;

    fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().join("stack")).unwrap();
        (folder, place)
    }

    #[test]
    fn a_state_file_without_a_lock_is_stale_and_removed() {
        let (_folder, place) = place();
        // The process id is alive: it is our own. That alone must not count.
        Stack { pid: std::process::id(), ..example() }.write(&place.state_file()).unwrap();
        assert_eq!(place.look().unwrap(), Found::Nothing);
        assert!(!place.state_file().exists());
    }

    #[test]
    fn a_second_one_is_told_who_is_there() {
        let (_folder, place) = place();
        let occupied = place.occupy().unwrap();
        assert_eq!(place.look().unwrap(), Found::Starting);
        assert!(place.occupy().unwrap_err().to_string().contains("try again"));

        example().write(&place.state_file()).unwrap();
        assert_eq!(place.look().unwrap(), Found::Running(Box::new(example())));
        let told = place.occupy().unwrap_err().to_string();
        assert!(told.contains(&example().socket_url) && told.contains("cargo local down"), "{told}");

        drop(occupied);
        assert!(!place.state_file().exists());
        assert!(place.occupy().is_ok());
    }

    #[test]
    fn occupying_clears_old_logs() {
        let (_folder, place) = place();
        let log = place.logs().join("send.log");
        fs::write(&log, "old").unwrap();
        let _occupied = place.occupy().unwrap();
        assert!(place.logs().exists() && !log.exists());
    }

    #[test]
    fn private_files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, place) = place();
        write_private(&place.state_file(), b"x").unwrap();
        let mode = fs::metadata(place.state_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
