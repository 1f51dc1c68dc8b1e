//! What may happen to a call: nothing, a delay, a failure before its effect, a failure after it. The dice decide, or a
//! test arranges it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use poste_domain::{Class, Trouble};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::Notify;

/// How many of the calls that fail without an effect are turned away because there are too many.
const THROTTLED: f64 = 0.4;

/// How likely each mishap is, from 0 to 1, and how slow calls are.
#[derive(Debug, Clone, Copy)]
pub struct Odds {
    /// The call fails and has no effect.
    pub fail_before: f64,
    /// The call has its effect, and its answer is lost.
    pub fail_after: f64,
    /// The call stalls for `stall`, before or after its effect.
    pub stalled: f64,
    /// How long an ordinary call takes at most; twice, before and after its effect.
    pub usual: Duration,
    /// How long a stalled one takes at most.
    pub stall: Duration,
}

impl Odds {
    /// Every call answers at once.
    pub const CALM: Self =
        Self { fail_before: 0.0, fail_after: 0.0, stalled: 0.0, usual: Duration::ZERO, stall: Duration::ZERO };

    /// One call in ten goes wrong, and stalls outlast the readers' grace.
    pub const STORM: Self = Self {
        fail_before: 0.03,
        fail_after: 0.04,
        stalled: 0.04,
        usual: Duration::from_millis(20),
        stall: Duration::from_secs(8),
    };
}

/// Just before or just after the effect of a call, for example `log.put`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The call is made, and has had no effect.
    Before(&'static str),
    /// The call has had its effect, and is not answered.
    After(&'static str),
}

/// What is arranged for a moment.
#[derive(Debug)]
pub(crate) enum Mishap {
    /// The call fails.
    Fails(Class),
    /// The call goes no further, until it is told to.
    Halts(Arc<Halt>),
    /// The answer is lost on the way, and the SDK makes the call again.
    IsMadeAgain,
}

/// Where a call stands still.
#[derive(Debug, Default)]
pub(crate) struct Halt {
    reached: Notify,
    released: Notify,
}

impl Halt {
    /// Waits until a call has come here.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets the call go on.
    pub(crate) fn release(&self) {
        self.released.notify_one();
    }

    async fn stand(&self) {
        self.reached.notify_one();
        self.released.notified().await;
    }
}

/// Seeded weather. The same seed and the same calls give the same mishaps.
pub struct Weather {
    /// There is none: each call is its effect, and nothing else gets a turn meanwhile.
    none: bool,
    odds: Odds,
    calm: AtomicBool,
    dice: Mutex<StdRng>,
    arranged: Mutex<Vec<(Moment, Mishap)>>,
    /// The calls, where somebody counts them.
    calls: Mutex<Option<Vec<&'static str>>>,
}

impl Weather {
    /// By a seed.
    pub fn new(seed: u64, odds: Odds) -> Self {
        Self {
            none: false,
            odds,
            calm: AtomicBool::new(false),
            dice: Mutex::new(StdRng::seed_from_u64(seed)),
            arranged: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    /// No weather at all, not even a moment's wait: for measurements of what makes the calls.
    pub fn none() -> Self {
        Self { none: true, ..Self::new(0, Odds::CALM) }
    }

    /// Something happens at the next such moment, once, whatever the dice say.
    pub(crate) fn arrange(&self, moment: Moment, mishap: Mishap) {
        self.arranged.lock().expect("no panic under the lock").push((moment, mishap));
    }

    /// Counts calls from here on.
    pub(crate) fn listen(&self) {
        *self.calls.lock().expect("no panic under the lock") = Some(Vec::new());
    }

    /// The calls since.
    pub(crate) fn heard(&self) -> Vec<&'static str> {
        self.calls.lock().expect("no panic under the lock").take().unwrap_or_default()
    }

    /// Moments that were arranged and have not come.
    pub(crate) fn outstanding(&self) -> Vec<Moment> {
        self.arranged.lock().expect("no panic under the lock").iter().map(|(moment, _)| *moment).collect()
    }

    /// Moments that were arranged and have not come, which do not come any more.
    pub(crate) fn call_off(&self) -> Vec<Moment> {
        let arranged = std::mem::take(&mut *self.arranged.lock().expect("no panic under the lock"));
        arranged.into_iter().map(|(moment, _)| moment).collect()
    }

    fn due(&self, moment: Moment) -> Option<Mishap> {
        let mut arranged = self.arranged.lock().expect("no panic under the lock");
        let position = arranged.iter().position(|(at, _)| *at == moment)?;
        Some(arranged.remove(position).1)
    }

    /// No mishaps from here on.
    pub fn clear_up(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Something is so, with this likelihood.
    pub fn chance(&self, likelihood: f64) -> bool {
        likelihood > 0.0 && self.dice.lock().expect("no panic under the lock").random_bool(likelihood)
    }

    /// A whole number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.dice.lock().expect("no panic under the lock").random_range(0..bound.max(1))
    }

    /// Waits up to `longest`, as the dice say.
    pub async fn pause(&self, longest: Duration) {
        let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let wait = if millis == 0 { 0 } else { self.below(millis + 1) };
        // Even without a wait others get their turn.
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    fn odds(&self) -> Odds {
        if self.calm.load(Ordering::Relaxed) { Odds::CALM } else { self.odds }
    }

    async fn delay(&self) {
        let odds = self.odds();
        let longest = if self.chance(odds.stalled) { odds.stall } else { odds.usual };
        self.pause(longest).await;
    }

    /// A call with an effect, through the weather.
    pub(crate) async fn call<T: Send>(
        &self,
        part: &'static str,
        mut effect: impl FnMut() -> Result<T, Trouble> + Send,
    ) -> Result<T, Trouble> {
        if self.none {
            return effect();
        }
        let lost = |class, when: &str| Trouble::new(part, class, format!("lost {when} its effect"));
        if let Some(calls) = self.calls.lock().expect("no panic under the lock").as_mut() {
            calls.push(part);
        }
        self.delay().await;
        if self.chance(self.odds().fail_before) {
            let class = if self.chance(THROTTLED) { Class::Throttled } else { Class::Transient };
            return Err(lost(class, "before"));
        }
        match self.due(Moment::Before(part)) {
            Some(Mishap::Fails(class)) => return Err(lost(class, "before")),
            Some(Mishap::Halts(halt)) => halt.stand().await,
            Some(Mishap::IsMadeAgain) | None => {}
        }
        let mut outcome = effect();
        match self.due(Moment::After(part)) {
            Some(Mishap::Fails(class)) => return Err(lost(class, "after")),
            Some(Mishap::Halts(halt)) => halt.stand().await,
            Some(Mishap::IsMadeAgain) => outcome = effect(),
            None => {}
        }
        self.delay().await;
        if self.chance(self.odds().fail_after) {
            return Err(lost(Class::Transient, "after"));
        }
        outcome
    }
}
