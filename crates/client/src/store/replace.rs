//! A damaged file is moved aside, and a new one takes its place with what could be saved.
//!
//! The new file is complete and closed before the damaged one is touched. Moving that one aside is the step that
//! decides: before it nothing has happened, after it [`finish`] completes the rest, also after a kill.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use poste_protocol::{Author, DeviceId, UserId};
use rusqlite::Connection;

use super::Store;
use super::salvage::Salvaged;
use crate::{Recovery, StoreError};

/// Damaged files that are kept, for whoever wants to look at them. The oldest go.
const KEPT: u64 = 2;

/// What `SQLite` keeps beside a file.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn new_file(path: &Path) -> PathBuf {
    with(path, ".new")
}

fn aside(path: &Path, number: u64) -> PathBuf {
    with(path, &format!(".damaged-{number}"))
}

fn wrong(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::File { path, source }
}

fn move_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(wrong(from))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(wrong(path)),
    }
}

fn is_there(path: &Path) -> bool {
    fs::metadata(path).is_ok()
}

/// Whether the file is gone, or emptied, while its log still holds something: `SQLite` would begin anew and drop it.
pub(super) fn is_beheaded(path: &Path) -> bool {
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    bytes(path) == 0 && bytes(&with(path, "-wal")) > 0
}

/// The numbers of the damaged files that are kept, ascending.
fn kept(path: &Path) -> Vec<u64> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let prefix = format!("{}.damaged-", name.to_string_lossy());
    let number = |entry: fs::DirEntry| entry.file_name().to_string_lossy().strip_prefix(&prefix)?.parse().ok();
    let mut numbers: Vec<u64> =
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| number(entry.ok()?)).collect();
    numbers.sort_unstable();
    numbers
}

/// Replaces a damaged file. The account's lock is held.
pub(super) fn replace(path: &Path, user: &UserId, device: &DeviceId) -> Result<Recovery, StoreError> {
    let me = Author { user: user.clone(), device: device.clone() };
    let salvaged = if is_beheaded(path) { Salvaged::nothing() } else { Salvaged::read(path, &me)? };
    let number = kept(path).last().map_or(1, |last| last + 1);
    let aside = aside(path, number);
    if !is_there(path) {
        // Its log alone is left; the name stands for it.
        fs::File::create(path).map_err(wrong(path))?;
    }

    discard_new(path)?;
    let mut store = Store::prepare(Connection::open(new_file(path))?, user, device)?;
    let tx = store.begin()?;
    let recovery = salvaged.write(&tx, &me, aside.display().to_string())?;
    tx.commit()?;
    store.close()?;

    move_file(path, &aside)?;
    finish(path)?;
    Ok(recovery)
}

/// Completes a replacement that was interrupted after its decisive step; of one that was not, nothing is left.
pub(super) fn finish(path: &Path) -> Result<(), StoreError> {
    if !is_there(&new_file(path)) {
        return Ok(());
    }
    if is_there(path) {
        return discard_new(path);
    }
    let kept = kept(path);
    let last = kept.last().copied();
    for suffix in BESIDE {
        let beside = with(path, suffix);
        match last {
            // Left where it is it would be taken for the new file's.
            Some(last) if is_there(&beside) => move_file(&beside, &with(&aside(path, last), suffix))?,
            _ => remove(&beside)?,
        }
    }
    for old in kept.iter().filter(|number| Some(**number + KEPT) <= last) {
        for suffix in ["", BESIDE[0], BESIDE[1]] {
            // One more than is wanted does no harm.
            let _ = fs::remove_file(with(&aside(path, *old), suffix));
        }
    }
    move_file(&new_file(path), path)
}

fn discard_new(path: &Path) -> Result<(), StoreError> {
    let new = new_file(path);
    for suffix in ["", "-wal", "-shm", "-journal"] {
        remove(&with(&new, suffix))?;
    }
    Ok(())
}
