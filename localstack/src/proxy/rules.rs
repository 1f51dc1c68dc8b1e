//! Which calls go wrong, and how: rules, chance by a seed, and the count of what struck.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::call::Call;

/// Rules at once.
const MOST_RULES: usize = 200;
/// Kinds of calls that are counted apart. There are some forty.
const MOST_TALLIES: usize = 500;
/// No call is made slower than this.
const SLOWEST_MS: f64 = 60_000.0;
/// How many standard deviations lie between the median and the 99th percentile.
const P99: f64 = 2.326_347_874;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// It takes so long at least, by a log-normal distribution, and succeeds: half of it passes before it takes effect,
    /// the rest after. With both figures equal it is always so long. Other faults may strike besides.
    Slow {
        /// Half of the calls take longer, in milliseconds.
        median_ms: f64,
        /// One of a hundred takes longer, in milliseconds.
        p99_ms: f64,
    },
    /// Refused with the service's own error for too much at once.
    Throttled,
    /// Refused with the service's own error for its own trouble; it has taken no effect.
    Failed,
    /// The same answer, and it has taken effect.
    Lost,
    /// The connection is cut before it takes effect.
    Cut,
    /// The connection is cut after it took effect, before the answer.
    Unanswered,
    /// The connection is cut in the midst of the answer.
    Torn,
}

impl Fault {
    /// What it is counted as.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slow { .. } => "slow",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Cut => "cut",
            Self::Unanswered => "unanswered",
            Self::Torn => "torn",
        }
    }
}

/// What happens to a share of some calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// As signatures name it: `dynamodb`, `sqs`, `s3`, `execute-api` (posts to connections), `sns`. All, if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// As the service names it: `PutItem`, `SendMessage`, `PostToConnection`. All, if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The share that is struck, from 0 to 1.
    pub share: f64,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    fn is_for(&self, call: &Call) -> bool {
        self.service.as_ref().is_none_or(|service| *service == call.service)
            && self.operation.as_ref().is_none_or(|operation| *operation == call.operation)
    }
}

/// The rules that shall hold from now on. What was counted stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Of chance.
    #[serde(default)]
    pub seed: u64,
    /// In their order. Of those that strike the first decides; all that make slow add up.
    pub rules: Vec<Rule>,
}

impl Wish {
    /// What is wrong with it, if something is.
    pub(crate) fn checked(self) -> Result<Self, String> {
        if self.rules.len() > MOST_RULES {
            return Err(format!("at most {MOST_RULES} rules"));
        }
        for rule in &self.rules {
            if !(0.0..=1.0).contains(&rule.share) {
                return Err(format!("a share is from 0 to 1: {}", rule.share));
            }
            if let Fault::Slow { median_ms, p99_ms } = rule.fault
                && !(median_ms > 0.0 && p99_ms >= median_ms && p99_ms <= SLOWEST_MS)
            {
                return Err(format!("0 < median_ms <= p99_ms <= {SLOWEST_MS}: {median_ms}, {p99_ms}"));
            }
        }
        Ok(self)
    }
}

/// How often an operation was called, and what struck it how often.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// The service.
    pub service: String,
    /// The operation.
    pub operation: String,
    /// All calls.
    pub calls: u64,
    /// Those that something happened to, by [`Fault::name`].
    pub faults: BTreeMap<String, u64>,
}

/// What the proxy tells of itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The rules that hold.
    pub rules: Vec<Rule>,
    /// What was called since the proxy started.
    pub tallies: Vec<Tally>,
}

/// What is to happen to one call.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    /// How long it takes at least.
    pub(super) time: Duration,
    /// What goes wrong.
    pub(super) fault: Option<Fault>,
}

/// The rules that hold, and what they have done.
#[derive(Debug)]
pub(super) struct Rules {
    held: Vec<Rule>,
    chance: StdRng,
    tallies: BTreeMap<(String, String), Tally>,
}

impl Rules {
    pub(super) fn new(wish: Wish) -> Self {
        Self { held: wish.rules, chance: StdRng::seed_from_u64(wish.seed), tallies: BTreeMap::new() }
    }

    pub(super) fn wish(&mut self, wish: Wish) {
        self.held = wish.rules;
        self.chance = StdRng::seed_from_u64(wish.seed);
    }

    pub(super) fn report(&self) -> Report {
        Report { rules: self.held.clone(), tallies: self.tallies.values().cloned().collect() }
    }

    /// Decides what happens to a call, and counts it.
    pub(super) fn plan(&mut self, call: &Call) -> Plan {
        let mut plan = Plan { time: Duration::ZERO, fault: None };
        let mut struck = Vec::new();
        for rule in self.held.iter().filter(|rule| rule.is_for(call)) {
            // Drawn for each rule, whatever struck before: what one rule does is the same whatever others do.
            if !self.chance.random_bool(rule.share) {
                continue;
            }
            match rule.fault {
                Fault::Slow { median_ms, p99_ms } => plan.time += time(&mut self.chance, median_ms, p99_ms),
                fault if plan.fault.is_none() => plan.fault = Some(fault),
                _ => continue,
            }
            struck.push(rule.fault.name());
        }
        let known = self.tallies.contains_key(&(call.service.clone(), call.operation.clone()));
        let other = || ("other".to_owned(), "other".to_owned());
        let kind = Some((call.service.clone(), call.operation.clone()));
        let kind = kind.filter(|_| known || self.tallies.len() < MOST_TALLIES).unwrap_or_else(other);
        let tally = self.tallies.entry(kind.clone()).or_insert_with(|| {
            let (service, operation) = kind;
            Tally { service, operation, ..Tally::default() }
        });
        tally.calls += 1;
        for name in struck {
            *tally.faults.entry(name.to_owned()).or_default() += 1;
        }
        plan
    }
}

/// Draws a time from the log-normal distribution with this median and this 99th percentile.
fn time(chance: &mut StdRng, median_ms: f64, p99_ms: f64) -> Duration {
    let sigma = (p99_ms / median_ms).ln() / P99;
    // Box and Muller; 1 minus a number below 1 has a logarithm.
    let (u, v): (f64, f64) = (1.0 - chance.random::<f64>(), chance.random());
    let normal = (-2.0 * u.ln()).sqrt() * (TAU * v).cos();
    let ms = median_ms * (sigma * normal).exp();
    Duration::from_secs_f64(ms.min(SLOWEST_MS) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(operation: &str) -> Call {
        Call { service: "dynamodb".into(), operation: operation.into() }
    }

    fn rule(operation: Option<&str>, share: f64, fault: Fault) -> Rule {
        Rule { service: None, operation: operation.map(Into::into), share, fault }
    }

    fn rules(rules: Vec<Rule>, seed: u64) -> Rules {
        Rules::new(Wish { seed, rules })
    }

    #[test]
    fn a_share_is_struck_and_the_same_by_the_same_seed() {
        let struck = |seed| {
            let mut rules = rules(vec![rule(None, 0.25, Fault::Cut)], seed);
            (0..1_000).map(|_| rules.plan(&call("PutItem")).fault.is_some()).collect::<Vec<_>>()
        };
        let count = struck(1).iter().filter(|struck| **struck).count();
        assert!((200..300).contains(&count), "{count}");
        assert_eq!(struck(1), struck(1));
        assert_ne!(struck(1), struck(2));
    }

    #[test]
    fn the_first_that_strikes_decides_and_times_add_up() {
        let slow = Fault::Slow { median_ms: 10.0, p99_ms: 10.0 };
        let mut rules = rules(
            vec![
                rule(None, 1.0, slow),
                rule(Some("Query"), 1.0, Fault::Throttled),
                rule(None, 1.0, slow),
                rule(None, 1.0, Fault::Lost),
            ],
            0,
        );
        let time = Duration::from_millis(20);
        assert_eq!(rules.plan(&call("Query")), Plan { time, fault: Some(Fault::Throttled) });
        assert_eq!(rules.plan(&call("GetItem")), Plan { time, fault: Some(Fault::Lost) });
        let report = rules.report();
        let counted = |name| report.tallies.iter().filter_map(|tally| tally.faults.get(name)).sum::<u64>();
        assert_eq!([counted("slow"), counted("throttled"), counted("lost")], [4, 1, 1]);
    }

    #[test]
    fn times_have_the_median_and_the_percentile_that_were_wished() {
        let mut chance = StdRng::seed_from_u64(3);
        let mut times: Vec<_> = (0..20_000).map(|_| time(&mut chance, 4.0, 20.0)).collect();
        times.sort();
        let at = |share: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let index = (20_000.0 * share) as usize;
            times[index].as_secs_f64() * 1_000.0
        };
        assert!((3.8..4.2).contains(&at(0.5)), "{}", at(0.5));
        assert!((17.0..23.0).contains(&at(0.99)), "{}", at(0.99));
    }

    #[test]
    fn kinds_of_calls_are_bounded() {
        let mut rules = rules(Vec::new(), 0);
        for n in 0..2 * MOST_TALLIES {
            rules.plan(&call(&format!("Operation{n}")));
        }
        assert_eq!(rules.report().tallies.len(), MOST_TALLIES + 1);
    }

    #[test]
    fn nonsense_is_refused() {
        let slow = |median_ms, p99_ms| rule(None, 1.0, Fault::Slow { median_ms, p99_ms });
        for wrong in [rule(None, 1.5, Fault::Cut), slow(0.0, 1.0), slow(2.0, 1.0), slow(1.0, 1e9), slow(f64::NAN, 1.0)]
        {
            assert!(Wish { seed: 0, rules: vec![wrong.clone()] }.checked().is_err(), "{wrong:?}");
        }
        assert!(serde_json::from_str::<Wish>(r#"{"rules":[{"share":1,"fault":"cut","operaton":"x"}]}"#).is_err());
    }
}
