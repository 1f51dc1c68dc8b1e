//! The device's own time, by which messages wait. It goes on with the time since the device was started, sleep
//! included, and so takes no notice of a clock that is set. Only what passed while the device was off is taken from the
//! clock on the wall, as far as that is plausible.

use super::Now;
use crate::store::Reading;

/// A device may lie in a drawer for months. A clock that says more, says that one of its two readings was wrong.
const LONGEST_OFF: u64 = 365 * 24 * 3_600_000;

/// A clock on the wall that differs by more than this from the time since the start has been set.
const SET: u64 = 60_000;

/// The device's own time, given the last reading. It begins with what the clock on the wall says, and never goes back.
pub(super) fn time(last: Option<&Reading>, now: Now) -> u64 {
    let Some(last) = last else { return now.wall };
    let passed = if last.boot == now.boot {
        now.since_boot.saturating_sub(last.since_boot)
    } else {
        // However wrong the clock on the wall is, it was at least as long ago as the device has been on.
        let by_the_wall = now.wall.saturating_sub(last.wall);
        if by_the_wall > LONGEST_OFF { now.since_boot } else { by_the_wall.max(now.since_boot) }
    };
    last.time.saturating_add(passed)
}

/// Whether the last reading is of no use any more should the device be switched off now.
pub(super) fn is_outdated(last: Option<&Reading>, now: Now) -> bool {
    last.is_none_or(|last| {
        let (then, since) = (last.wall.wrapping_sub(last.since_boot), now.wall.wrapping_sub(now.since_boot));
        last.boot != now.boot || then.wrapping_sub(since).min(since.wrapping_sub(then)) > SET
    })
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_OFF, is_outdated, time};
    use crate::engine::Now;
    use crate::store::Reading;
    use uuid::Uuid;

    const DAY: u64 = 24 * 3_600_000;
    const WALL: u64 = 20_000 * DAY;

    fn now(wall: u64, boot: u128, since_boot: u64) -> Now {
        Now { wall, mono: 0, boot: Uuid::from_u128(boot), since_boot }
    }

    fn last() -> Reading {
        Reading { time: 5_000, boot: Uuid::from_u128(1), since_boot: DAY, wall: WALL }
    }

    #[test]
    fn within_one_start_only_the_time_since_then_counts() {
        for wall in [WALL, WALL + 40 * DAY, WALL - 40 * DAY, 0, u64::MAX] {
            assert_eq!(time(Some(&last()), now(wall, 1, DAY + 70)), 5_070, "{wall}");
        }
        assert_eq!(time(Some(&last()), now(WALL, 1, 0)), 5_000, "it never goes back");
    }

    #[test]
    fn across_a_start_the_wall_counts_as_far_as_it_is_plausible() {
        assert_eq!(time(Some(&last()), now(WALL + 3 * DAY, 2, 60)), 5_000 + 3 * DAY);
        assert_eq!(time(Some(&last()), now(WALL + LONGEST_OFF, 2, 60)), 5_000 + LONGEST_OFF);
        for wall in [0, WALL - 1, WALL + LONGEST_OFF + 1, u64::MAX] {
            assert_eq!(time(Some(&last()), now(wall, 2, 60)), 5_060, "at least since it was switched on: {wall}");
        }
    }

    #[test]
    fn a_reading_is_renewed_after_a_start_and_when_the_clock_was_set() {
        assert!(is_outdated(None, now(WALL, 1, DAY)));
        assert!(!is_outdated(Some(&last()), now(WALL + DAY, 1, 2 * DAY)));
        assert!(!is_outdated(Some(&last()), now(WALL + DAY + 60_000, 1, 2 * DAY)));
        assert!(is_outdated(Some(&last()), now(WALL + DAY + 60_001, 1, 2 * DAY)));
        assert!(is_outdated(Some(&last()), now(WALL + DAY - 60_001, 1, 2 * DAY)));
        assert!(is_outdated(Some(&last()), now(0, 1, 2 * DAY)));
        assert!(is_outdated(Some(&last()), now(WALL + 1, 2, 1)));
    }
}
