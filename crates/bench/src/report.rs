//! Figures, and how they are shown.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::machine::Machine;

/// What a screen takes for one picture at 60 a second: what takes longer is seen as a stutter.
const FRAME: Duration = Duration::from_millis(16);

/// Everything that was measured, and on what.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: &'static str,
    commit: Option<String>,
    machine: Machine,
    figures: Vec<Figure>,
    rates: Vec<Rate>,
    notes: Vec<String>,
}

/// One measurement, repeated. Times in milliseconds.
#[derive(Debug, Serialize)]
struct Figure {
    subject: &'static str,
    what: String,
    count: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// The 99th percentile in frames of a screen (16 ms).
    p99_frames: f64,
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
        Self { version, commit, machine, figures: Vec::new(), rates: Vec::new(), notes: Vec::new() }
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

    /// Adds what is no time.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let commit = self.commit.as_deref().unwrap_or("unknown");
        writeln!(f, "\nposte {} ({commit})\n{}\n", self.version, self.machine)?;
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
        writeln!(f, "\nOf fewer than 100 repetitions the 99th percentile is the longest.")?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
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
