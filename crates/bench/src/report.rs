//! Figures, and how they are shown.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::aims;
use crate::machine::Machine;

/// What a screen takes for one picture at 60 a second: what takes longer is seen as a stutter.
const FRAME: Duration = Duration::from_millis(16);

/// From here on decimals say nothing.
const MANY: f64 = 10_000.0;

/// Everything that was measured, and on what.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: &'static str,
    commit: Option<String>,
    machine: Machine,
    #[serde(skip)]
    prefix: String,
    /// What has a name for programs, beside the rest.
    #[serde(flatten)]
    keys: BTreeMap<String, f64>,
    figures: Vec<Figure>,
    rates: Vec<Rate>,
    notes: Vec<String>,
}

/// One measurement, repeated. Times in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    subject: &'static str,
    what: String,
    count: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// The 99th percentile in frames of a screen (16 ms).
    p99_frames: f64,
}

impl Figure {
    /// What was measured.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// How often.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Median, 99th percentile and the longest, in milliseconds.
    pub(crate) fn times(&self) -> [f64; 3] {
        [self.p50_ms, self.p99_ms, self.max_ms]
    }
}

/// Work that was done in one go.
#[derive(Debug, Serialize)]
struct Rate {
    subject: &'static str,
    what: String,
    count: u64,
    ms: f64,
    per_second: f64,
}

impl Report {
    pub(crate) fn new(commit: Option<String>, machine: Machine) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let prefix = String::new();
        Self {
            version,
            commit,
            machine,
            prefix,
            keys: BTreeMap::new(),
            figures: Vec::new(),
            rates: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a number that has a name.
    pub(crate) fn key(&mut self, name: impl Into<String>, value: f64) {
        self.keys.insert(format!("{}{}", self.prefix, name.into()), value);
    }

    /// What the names of all further numbers begin with.
    pub(crate) fn prefix(&mut self, prefix: String) {
        self.prefix = prefix;
    }

    /// Adds a number that has a name, unless a greater one bears it.
    pub(crate) fn most(&mut self, name: &str, value: f64) {
        let known = self.keys.get(&format!("{}{name}", self.prefix)).copied().unwrap_or(value);
        self.key(name, known.max(value));
    }

    /// Adds the median of some times, in milliseconds, under a name.
    pub(crate) fn key_p50(&mut self, name: impl Into<String>, times: &mut [Duration]) {
        times.sort_unstable();
        self.key(name, millis(percentile(times, 50)));
    }

    /// Adds a measurement: one time for each repetition, at least one.
    pub(crate) fn add(&mut self, subject: &'static str, what: impl Into<String>, mut times: Vec<Duration>) {
        times.sort_unstable();
        let p99 = percentile(&times, 99);
        self.figures.push(Figure {
            subject,
            what: what.into(),
            count: times.len(),
            p50_ms: millis(percentile(&times, 50)),
            p99_ms: millis(p99),
            max_ms: millis(percentile(&times, 100)),
            p99_frames: p99.as_secs_f64() / FRAME.as_secs_f64(),
        });
    }

    /// Adds what was done in one go: how much, and how long it took.
    pub(crate) fn add_rate(&mut self, subject: &'static str, what: impl Into<String>, count: u64, time: Duration) {
        let per_second = u32::try_from(count).map_or(f64::NAN, f64::from) / time.as_secs_f64();
        self.rates.push(Rate { subject, what: what.into(), count, ms: millis(time), per_second });
    }

    /// What was measured, and on what.
    pub(crate) fn heading(&self) -> String {
        let commit = self.commit.as_deref().unwrap_or("unknown");
        format!("poste {} ({commit}); {}", self.version, self.machine)
    }

    /// The measurements that were repeated.
    pub(crate) fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// What is no time.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The numbers that have a name.
    pub(crate) fn keys(&self) -> &BTreeMap<String, f64> {
        &self.keys
    }

    /// Adds what is no time.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n", self.heading())?;
        let names = self.figures.iter().map(|figure| &figure.what).chain(self.rates.iter().map(|rate| &rate.what));
        let width = names.map(String::len).max().unwrap_or_default();
        writeln!(
            f,
            "{:<width$}  {:>6}  {:>9}  {:>9}  {:>9}  p99 in frames of 16 ms",
            "milliseconds", "count", "p50", "p99", "max"
        )?;
        for Figure { what, count, p50_ms, p99_ms, max_ms, p99_frames, .. } in &self.figures {
            writeln!(f, "{what:<width$}  {count:>6}  {p50_ms:>9.3}  {p99_ms:>9.3}  {max_ms:>9.3}  {p99_frames:>6.2}")?;
        }
        writeln!(f, "\n{:<width$}  {:>6}  {:>9}  {:>9}", "in one go", "count", "ms", "a second")?;
        for Rate { what, count, ms, per_second, .. } in &self.rates {
            writeln!(f, "{what:<width$}  {count:>6}  {ms:>9.0}  {per_second:>9.0}")?;
        }
        writeln!(f, "\n{:<34}  {:>10}  aim", "", "")?;
        for (name, value) in &self.keys {
            writeln!(f, "{name:<34}  {:>10}  {}", number(*value), aims::shown(name, *value))?;
        }
        writeln!(f, "\nOf fewer than 100 repetitions the 99th percentile is the longest.")?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

/// The numbers of a report that was written before.
pub(crate) fn read_keys(text: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let report: BTreeMap<String, serde_json::Value> = serde_json::from_str(text)?;
    Ok(report.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect())
}

/// Two runs side by side: what both have a number for.
pub(crate) fn compared(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> String {
    let both = now.iter().filter_map(|(name, now)| Some((name, before.get(name)?, now)));
    let line = |(name, before, now): (&String, &f64, &f64)| {
        let ratio = if *before == 0.0 { String::new() } else { format!("x{:.2}", now / before) };
        format!("{name:<34}  {:>10}  {:>10}  {ratio}", number(*before), number(*now))
    };
    let head = format!("{:<34}  {:>10}  {:>10}", "", "before", "now");
    std::iter::once(head).chain(both.map(line)).collect::<Vec<_>>().join("\n")
}

/// A number with as many decimals as say something.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < MANY { format!("{value:.3}") } else { format!("{value:.0}") }
}

/// How long something takes.
pub(crate) fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = act();
    (done, began.elapsed())
}

/// What so many of a hundred times are not above. The times are sorted, and at least one.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_are_held_side_by_side() -> anyhow::Result<()> {
        let mut report = Report::new(None, Machine::here(std::path::Path::new("/")));
        report.key("ack_p50_ms", 5.0);
        report.key("new", 1.0);
        report.key("instructions_append", 54_321.25);
        let written = read_keys(&serde_json::to_string(&report)?)?;
        assert_eq!(&written, report.keys(), "flat, and nothing but numbers");
        let before = [("ack_p50_ms", 10.0), ("old", 1.0), ("instructions_append", 108_642.5)];
        let before = BTreeMap::from(before.map(|(name, value)| (name.to_owned(), value)));
        let text = compared(&before, report.keys());
        assert!(text.contains("5.000  x0.50") && text.contains(" 54321  x0.50"), "{text}");
        assert!(!text.contains("new") && !text.contains("old"), "{text}");
        Ok(())
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let machine = Machine::here(std::path::Path::new("/"));
        let mut report = Report::new(None, machine);
        report.add("client", "a call", (1..=200).rev().map(Duration::from_millis).collect());
        let figure = &report.figures[0];
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(
            close(figure.p50_ms, 100.0) && close(figure.p99_ms, 198.0) && close(figure.max_ms, 200.0),
            "{figure:?}"
        );
        assert!(close(figure.p99_frames, 198.0 / 16.0), "{figure:?}");
        assert!(report.to_string().contains("a call"));
        report.add_rate("client", "much", 500, Duration::from_millis(250));
        assert!(close(report.rates[0].per_second, 2_000.0) && report.to_string().contains("much"));
        report.add("client", "one", vec![FRAME]);
        assert!(close(report.figures[1].p99_frames, 1.0));
        assert_eq!(percentile(&[FRAME, FRAME * 2, FRAME * 3], 50), FRAME * 2);
    }
}
