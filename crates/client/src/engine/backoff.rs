//! Waits that grow and are spread: exponential, with full jitter.

use rand::RngExt;

use super::Rules;

/// What doubles with every failure, up to a cap.
pub(super) fn ceiling(base: u64, cap: u64, failures: u32) -> u64 {
    base.saturating_mul(1 << failures.saturating_sub(1).min(20)).clamp(1, cap.max(1))
}

/// No server has a device wait for longer than this at a time, in milliseconds: a day, as long as a quota lasts.
const LONGEST: u64 = 24 * 3_600_000;

/// A wait that a server told, as far as it is waited: at least a moment.
pub(super) fn told(wait: u64) -> u64 {
    wait.clamp(1, LONGEST)
}

impl Rules {
    /// A random wait between nothing and a ceiling.
    pub(super) fn backoff(&mut self, failures: u32) -> u64 {
        let ceiling = ceiling(self.tuning.backoff_base, self.tuning.backoff_cap, failures);
        self.rng.random_range(0..=ceiling)
    }

    /// A wait as told by the server, and up to half of it more so that not all come back at once; or a backoff, if the
    /// server told none.
    pub(super) fn wait(&mut self, told: Option<u64>, failures: u32) -> u64 {
        match told {
            Some(wait) => {
                let wait = wait.min(LONGEST);
                wait + self.rng.random_range(0..=wait / 2)
            }
            None => self.backoff(failures),
        }
    }
}
