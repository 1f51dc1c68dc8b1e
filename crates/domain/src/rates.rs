//! How much a device and a user may ask for in a minute, all instances of a function together.
//!
//! Who does as people do costs nothing: each instance lets a sixteenth of the rate pass by itself. Who needs more takes
//! it from a count that all instances share, a sixteenth at a time, until the rate is used up. So one who floods gets
//! what the rate says, and a sixteenth of it more for each instance that they meet.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
};

use lru::LruCache;
use poste_protocol::{Author, Code, Refusal};

use crate::{
    MEASURED,
    ports::{Period, Quotas},
};

/// A rate is for so many seconds.
const PERIOD_S: u64 = 60;

/// What an instance lets pass by itself, and takes from the count at once: this part of the rate.
const SHARES: u64 = 16;

/// Devices and users that an instance remembers.
const REMEMBERED: usize = 10_000;

/// The most in a minute; 0 is no bound.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Of a device.
    pub device: u64,
    /// Of all devices of a user together.
    pub user: u64,
}

/// Holds back who asks for too much.
pub struct Rates {
    quotas: Arc<dyn Quotas>,
    what: &'static str,
    settings: Settings,
    spent: Mutex<LruCache<String, Spent>>,
}

/// What somebody has used up of an instance's shares in a period.
#[derive(Debug, Clone, Copy)]
struct Spent {
    period: u64,
    granted: u64,
    used: u64,
    used_up: bool,
}

/// What is known without a call.
enum Known {
    Granted,
    UsedUp,
    Unknown,
}

impl Rates {
    /// Of what is counted under this name.
    pub fn new(quotas: Arc<dyn Quotas>, what: &'static str, settings: Settings) -> Self {
        let remembered = NonZeroUsize::new(REMEMBERED).unwrap_or(NonZeroUsize::MIN);
        Self { quotas, what, settings, spent: Mutex::new(LruCache::new(remembered)) }
    }

    /// Counts what a device asks for. When the count cannot be reached it is let pass: a rate is a bound on harm, and a
    /// table that fails is harm enough.
    ///
    /// # Errors
    /// `too_fast`, with the time until the rate is whole again.
    pub async fn admit(&self, author: &Author, amount: u64, now_ms: u64) -> Result<(), Refusal> {
        let Author { user, device } = author;
        let Settings { device: of_device, user: of_user } = self.settings;
        let period = Period::at(PERIOD_S, now_ms);
        // A device's id has no `/`, nor has a user's.
        for (name, most) in
            [(format!("{}/{user}/{device}", self.what), of_device), (format!("{}/{user}", self.what), of_user)]
        {
            if most > 0 && !self.take(&name, period, amount, most).await {
                tracing::info!(target: MEASURED, metric = "rates", refused = 1_u64);
                let refusal = Refusal::new(Code::TooFast, "more than one may ask for in a minute");
                return Err(refusal.after_ms(period.end_ms().saturating_sub(now_ms)));
            }
        }
        Ok(())
    }

    async fn take(&self, name: &str, period: Period, amount: u64, most: u64) -> bool {
        let share = (most / SHARES).max(1);
        match self.known(name, period, amount, share) {
            Known::Granted => return true,
            Known::UsedUp => return false,
            Known::Unknown => {}
        }
        // A share; where that is too much for what is left, just what is asked for.
        for wanted in [Some(share).filter(|share| *share > amount), Some(amount)].into_iter().flatten() {
            let taken = self.quotas.take(name, period, wanted, most).await.unwrap_or_else(|trouble| {
                tracing::warn!(%trouble, "a rate is not counted");
                true
            });
            if taken {
                return self.note(name, |spent| spent.spend(wanted, amount));
            }
        }
        self.note(name, |spent| {
            spent.used_up = true;
            false
        })
    }

    fn known(&self, name: &str, period: Period, amount: u64, share: u64) -> Known {
        let mut all = self.lock();
        let fresh = || Spent { period: period.number, granted: share, used: 0, used_up: false };
        let spent = all.get_or_insert_mut_ref(name, fresh);
        if spent.period != period.number {
            *spent = fresh();
        }
        if spent.used.saturating_add(amount) <= spent.granted {
            spent.used += amount;
            Known::Granted
        } else if spent.used_up {
            Known::UsedUp
        } else {
            Known::Unknown
        }
    }

    fn note(&self, name: &str, note: impl FnOnce(&mut Spent) -> bool) -> bool {
        // It may have been forgotten meanwhile, for so many others came.
        self.lock().get_mut(name).is_none_or(note)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<String, Spent>> {
        self.spent.lock().expect("nothing panics while it holds the lock")
    }
}

impl Spent {
    fn spend(&mut self, granted: u64, amount: u64) -> bool {
        self.granted = self.granted.saturating_add(granted);
        self.used = self.used.saturating_add(amount);
        true
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures::executor::block_on;
    use poste_protocol::{DeviceId, UserId};

    use super::*;
    use crate::{Trouble, ports};

    /// Counts as a table does; and how often it is asked. Broken, it does not answer.
    #[derive(Default)]
    struct Counted {
        taken: Mutex<std::collections::BTreeMap<(String, u64), u64>>,
        asked: Mutex<u64>,
        broken: bool,
    }

    #[async_trait]
    impl Quotas for Counted {
        async fn take(&self, name: &str, period: Period, amount: u64, most: u64) -> ports::Result<bool> {
            *self.asked.lock().expect("whole") += 1;
            if self.broken {
                return Err(Trouble::broken("quotas.take", "no answer"));
            }
            let mut all = self.taken.lock().expect("whole");
            let taken = all.entry((name.to_owned(), period.number)).or_default();
            let fits = *taken + amount <= most;
            *taken += if fits { amount } else { 0 };
            Ok(fits)
        }
    }

    fn author(device: &str) -> Author {
        Author { user: UserId::new("alice").expect("valid"), device: DeviceId::new(device).expect("valid") }
    }

    /// How many of so many requests pass.
    fn passed(rates: &[Rates], device: &str, requests: usize, now_ms: u64) -> usize {
        let author = author(device);
        let admitted = |n: &usize| block_on(rates[n % rates.len()].admit(&author, 1, now_ms)).is_ok();
        (0..requests).filter(admitted).count()
    }

    fn instances(count: usize, counted: &Arc<Counted>, settings: Settings) -> Vec<Rates> {
        (0..count).map(|_| Rates::new(counted.clone(), "send", settings)).collect()
    }

    #[test]
    fn who_floods_gets_the_rate_whatever_instances_they_meet() {
        let counted = Arc::new(Counted::default());
        let rates = instances(5, &counted, Settings { device: 160, user: 0 });
        let passed_first = passed(&rates, "phone", 1_000, 0);
        assert_eq!(passed_first, 160 + 5 * 10, "the rate, and a sixteenth for each instance");
        let asked = *counted.asked.lock().expect("whole");
        assert!(asked <= 16 + 5 * 2 * 10, "{asked} calls for a thousand requests");
        assert_eq!(passed(&rates, "phone", 100, 59_999), 0, "until the minute is over");
        assert_eq!(*counted.asked.lock().expect("whole"), asked, "and nobody is asked for it");
        assert_eq!(passed(&rates, "phone", 100, 60_000), 100);
    }

    #[test]
    fn devices_share_what_their_user_may() {
        let counted = Arc::new(Counted::default());
        let rates = instances(1, &counted, Settings { device: 160, user: 320 });
        let each: Vec<_> = ["a", "b", "c"].map(|device| passed(&rates, device, 1_000, 0)).to_vec();
        assert_eq!(each, [170, 170, 0]);
    }

    #[test]
    fn who_does_as_people_do_costs_nothing() {
        let counted = Arc::new(Counted::default());
        let rates = instances(1, &counted, Settings { device: 600, user: 1_200 });
        assert_eq!(passed(&rates, "phone", 37, 0), 37);
        assert_eq!(*counted.asked.lock().expect("whole"), 0);
    }

    #[test]
    fn the_refusal_says_when_to_come_back() {
        let counted = Arc::new(Counted::default());
        let rates = instances(1, &counted, Settings { device: 16, user: 0 });
        let refusal = block_on(rates[0].admit(&author("phone"), 100, 61_000)).expect_err("too much");
        assert_eq!((refusal.code, refusal.retryable, refusal.retry_after_ms), (Code::TooFast, true, Some(59_000)));
        assert!(block_on(rates[0].admit(&author("phone"), 1, 61_000)).is_ok(), "less still fits");
    }

    #[test]
    fn without_the_count_everybody_passes() {
        let counted = Arc::new(Counted { broken: true, ..Counted::default() });
        let rates = instances(1, &counted, Settings { device: 16, user: 16 });
        assert_eq!(passed(&rates, "phone", 100, 0), 100);
    }
}
