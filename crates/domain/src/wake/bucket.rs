//! How fast one instance of a function may push: a token bucket, which a provider that asks for less empties.

/// Tokens are counted in thousandths, so that whole numbers do.
const TOKEN: u64 = 1_000;

/// A bucket that fills by so many tokens a second and holds those of one second.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: u64,
    thousandths: u64,
    at_ms: u64,
    closed_until_ms: u64,
}

impl Bucket {
    /// A full one. At least one token a second.
    pub(crate) fn new(per_second: u64) -> Self {
        let per_second = per_second.max(1);
        Self { per_second, thousandths: per_second * TOKEN, at_ms: 0, closed_until_ms: 0 }
    }

    /// Takes a token, or says for how many milliseconds there is none.
    pub(crate) fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        if now_ms < self.closed_until_ms {
            return Err(self.closed_until_ms - now_ms);
        }
        let passed = now_ms.saturating_sub(self.at_ms);
        let most = self.per_second * TOKEN;
        self.thousandths = passed.saturating_mul(self.per_second).saturating_add(self.thousandths).min(most);
        self.at_ms = self.at_ms.max(now_ms);
        if self.thousandths < TOKEN {
            return Err((TOKEN - self.thousandths).div_ceil(self.per_second));
        }
        self.thousandths -= TOKEN;
        Ok(())
    }

    /// The provider asks for less: nothing for a while, and then slowly again.
    pub(crate) fn close(&mut self, now_ms: u64, for_ms: u64) {
        self.closed_until_ms = self.closed_until_ms.max(now_ms + for_ms);
        self.thousandths = 0;
        self.at_ms = self.at_ms.max(self.closed_until_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_sees_more_than_twice_the_rate_and_no_minute_more_than_the_rate() {
        let mut bucket = Bucket::new(7);
        let (mut now, mut taken) = (1_000_000, Vec::new());
        while now < 1_060_000 {
            match bucket.take(now) {
                Ok(()) => taken.push(now),
                Err(wait) => now += wait,
            }
        }
        // A full bucket at first, then as fast as it fills.
        assert!((60 * 7..=61 * 7).contains(&taken.len()), "{}", taken.len());
        assert!(taken.iter().all(|at| taken.iter().filter(|other| (*at..at + 1_000).contains(other)).count() <= 14));
    }

    #[test]
    fn a_provider_that_asks_for_less_gets_less() {
        let mut bucket = Bucket::new(10);
        assert_eq!(bucket.take(5_000), Ok(()));
        bucket.close(5_000, 2_000);
        assert_eq!(bucket.take(5_500), Err(1_500));
        assert_eq!(bucket.take(7_000), Err(100), "empty");
        assert_eq!(bucket.take(7_100), Ok(()));
        assert_eq!(bucket.take(7_100), Err(100));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_away() {
        let mut bucket = Bucket::new(1);
        assert_eq!(bucket.take(5_000), Ok(()));
        assert!(bucket.take(4_000).is_err());
        assert_eq!(bucket.take(6_000), Ok(()));
    }
}
