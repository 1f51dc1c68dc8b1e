//! Many devices, on the deployed stack. One test at a time, and none beside them: they count what things cost, and leave
//! others little room.

mod crowd;
mod storm;

/// Held by the test that runs.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
