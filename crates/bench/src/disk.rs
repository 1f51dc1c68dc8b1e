//! The disk without us: what a flush of a few bytes takes, which is the least that anything durable can take.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::report::timed;

/// What is appended before each flush: about what a small transaction writes.
const BYTES: [u8; 4096] = [7; 4096];

/// The times of `count` flushes (fsync) of a file that each time is a little longer, and goes afterwards.
pub(crate) fn flushes(path: &Path, count: usize) -> anyhow::Result<Vec<Duration>> {
    let mut file = File::create(path)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let (flushed, time) = timed(|| file.write_all(&BYTES).and_then(|()| file.sync_all()));
        flushed?;
        times.push(time);
    }
    std::fs::remove_file(path)?;
    Ok(times)
}

/// Takes a file out of the system's memory, so that it is read from the disk again. Says whether the system does that.
pub(crate) fn forget(path: &Path) -> anyhow::Result<bool> {
    let file = File::open(path)?;
    // Only what is on the disk can be forgotten.
    file.sync_all()?;
    Ok(drop_from_memory(&file))
}

#[cfg(target_os = "linux")]
fn drop_from_memory(file: &File) -> bool {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn drop_from_memory(_: &File) -> bool {
    false
}
