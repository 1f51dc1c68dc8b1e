//! Times as people read them, in UTC. They order nothing.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400_000;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What the clock says, in Unix milliseconds.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time of day of Unix milliseconds: `12:03:59`.
pub(crate) fn of_day(millis: u64) -> String {
    let seconds = millis % DAY / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The same without seconds: `12:03`.
pub(crate) fn short(millis: u64) -> String {
    let minutes = millis % DAY / 60_000;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The day of Unix milliseconds, as a number that tells days apart.
pub(crate) fn day(millis: u64) -> u64 {
    millis / DAY
}

/// The date of Unix milliseconds: `21 Nov 2026`.
pub(crate) fn date(millis: u64) -> String {
    let (year, month, day) = civil(day(millis));
    format!("{day} {} {year}", MONTHS[month])
}

/// When something last happened, in at most six columns: a time of today, a day, or a year.
pub(crate) fn last(millis: u64, now: u64) -> String {
    let (year, month, of_month) = civil(day(millis));
    match (day(millis) == day(now), civil(day(now)).0 == year) {
        (true, _) => short(millis),
        (false, true) => format!("{of_month} {}", MONTHS[month]),
        (false, false) => year.to_string(),
    }
}

/// Year, month from 0, day of the month, of a day since 1 January 1970, in the Gregorian calendar.
fn civil(day: u64) -> (u64, usize, u64) {
    // Years are counted from 1 March, so that the leap day is the last of a year; eras are 400 years, of one length.
    // After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 2 } else { from_march - 10 };
    let year = year_of_era + era * 400 + u64::from(month < 2);
    (year, usize::try_from(month).unwrap_or(0), of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1 Jan 1970"),
            (951_782_400_000, "29 Feb 2000"),
            (951_868_800_000, "1 Mar 2000"),
            (1_798_761_599_000, "31 Dec 2026"),
            (4_107_542_400_000, "1 Mar 2100"),
        ];
        for (millis, said) in cases {
            assert_eq!(date(millis), said);
        }
        assert_eq!((of_day(3_723_000).as_str(), short(3_723_000).as_str()), ("01:02:03", "01:02"));
    }

    #[test]
    fn what_was_long_ago_is_told_roughly() {
        let now = 1_795_348_800_000;
        assert_eq!(last(now + 60_000, now), "12:01");
        assert_eq!(last(now - DAY, now), "21 Nov");
        assert_eq!(last(now - 400 * DAY, now), "2025");
        assert_eq!(last(u64::from(u32::MAX), now), "1970");
    }

    #[test]
    fn no_time_is_too_far_away() {
        // The integers of the wire end at 2^53 - 1.
        assert_eq!(date((1 << 53) - 1), "12 Oct 287396");
        let _ = last(u64::MAX, 0);
    }
}
