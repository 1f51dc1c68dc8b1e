//! The clocks of the device that the library runs on.

use std::time::{Duration, Instant, SystemTime};

use uuid::Uuid;

use crate::engine::Now;

pub(crate) struct Clock {
    began: Instant,
    boot: Uuid,
    /// What the clock that goes on during sleep said when that start was.
    started: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let began = Instant::now();
        match boot() {
            Some(boot) => Self { began, boot, started: Duration::ZERO },
            // A process that cannot tell whether the device was started anew takes itself for a start of its own.
            None => Self { began, boot: Uuid::new_v4(), started: sleepless().unwrap_or_default() },
        }
    }

    pub(crate) fn now(&self) -> Now {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Now {
            wall: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis),
            mono: millis(self.began.elapsed()),
            boot: self.boot,
            since_boot: millis(
                sleepless().map_or_else(|| self.began.elapsed(), |time| time.saturating_sub(self.started)),
            ),
        }
    }

    pub(crate) fn until(&self, wake: u64) -> Duration {
        Duration::from_millis(wake).saturating_sub(self.began.elapsed())
    }
}

/// Which start of the device this is. Linux and Android say it; elsewhere nothing does without unsafe code.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn boot() -> Option<Uuid> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().parse().ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn boot() -> Option<Uuid> {
    None
}

/// The time since the device was started, sleep included.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn sleepless() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    // On Apple's systems the monotonic clock goes on during sleep; on Linux it does not.
    #[cfg(target_vendor = "apple")]
    let clock = ClockId::Monotonic;
    #[cfg(not(target_vendor = "apple"))]
    let clock = ClockId::Boottime;
    Duration::try_from(clock_gettime(clock)).ok()
}

/// The standard library's clock goes on during sleep on Windows; elsewhere sleep is not counted.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn sleepless() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn two_clocks_of_one_device_agree_on_the_start() {
        let (one, other) = (Clock::new(), Clock::new());
        let (before, after) = (one.now(), other.now());
        assert!(after.since_boot >= before.since_boot);
        #[cfg(target_os = "linux")]
        assert_eq!(before.boot, after.boot);
    }
}
