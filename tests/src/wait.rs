//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long anything may take that takes milliseconds on an idle machine. Generous: CI builds beside the tests.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(25);

/// Looks until there is something.
///
/// # Panics
/// When there is nothing by then.
pub async fn eventually<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < within, "waited {within:?} for this: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// This machine's clock, in Unix milliseconds. The local stack goes by the same one.
///
/// # Panics
/// Before 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    u64::try_from(since.as_millis()).expect("before the year 584556019")
}
