//! What the functions measure, in CloudWatch's embedded metric format: lines of the log that become metrics by
//! themselves, without a call.
//!
//! The rules say what happened as events of `tracing` that have a field `metric`. A layer adds up what [`MEASURES`] names
//! of them, whatever the log's level, and [`measured`] writes it out after a request: at most one line a second of an
//! instance, so that a busy one does not pay for a line with each request. What an instance has added up in its last
//! second is lost when it ends.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{LazyLock, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use poste_domain::MEASURED;
use serde_json::{Map, Value, json};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// The namespace in CloudWatch.
pub const NAMESPACE: &str = "Poste";

/// The dimension: the function's name, which begins with that of the deployment.
pub const DIMENSION: &str = "FunctionName";

/// Lines are at least so far apart.
const INTERVAL: Duration = Duration::from_secs(1);

/// Values of one metric in a line; CloudWatch takes no more.
const VALUES: usize = 100;

/// How a line tells what was measured since the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Their sum.
    Count,
    /// Each number by itself, so that there are percentiles.
    Amount,
    /// The same of times, in milliseconds.
    Time,
}

impl Kind {
    /// As CloudWatch calls it.
    fn unit(self) -> &'static str {
        match self {
            Self::Count | Self::Amount => "Count",
            Self::Time => "Milliseconds",
        }
    }
}

/// A metric. Its name in CloudWatch is `METRIC_FIELD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// The field `metric` of the events that it is taken from.
    pub metric: &'static str,
    /// Which of their fields.
    pub field: &'static str,
    /// How it is told.
    pub kind: Kind,
}

impl Measure {
    /// Its name in CloudWatch.
    pub fn name(&self) -> String {
        format!("{}_{}", self.metric, self.field)
    }
}

const fn measure(metric: &'static str, field: &'static str, kind: Kind) -> Measure {
    Measure { metric, field, kind }
}

/// Everything that is measured. docs/OPERATIONS.md says what each means.
pub const MEASURES: &[Measure] = &[
    measure("request", "ms", Kind::Time),
    measure("request", "refused", Kind::Count),
    measure("request", "failed", Kind::Count),
    measure("connect", "opened", Kind::Count),
    measure("connect", "replaced", Kind::Count),
    measure("send", "envelopes", Kind::Count),
    measure("send", "messages", Kind::Count),
    measure("send", "repeats", Kind::Count),
    measure("send", "refused", Kind::Count),
    measure("rates", "refused", Kind::Count),
    measure("waited", "oldest_ms", Kind::Time),
    measure("backlog", "behind", Kind::Amount),
    measure("missed", "behind", Kind::Amount),
    measure("missed", "oldest_ms", Kind::Time),
    measure("page", "ms", Kind::Time),
    measure("page", "cells", Kind::Count),
    measure("page", "gone", Kind::Count),
    measure("marks", "taken", Kind::Count),
    measure("marks", "advanced", Kind::Count),
    measure("delivery", "age_ms", Kind::Time),
    measure("delivery", "posts", Kind::Count),
    measure("delivery", "failed", Kind::Count),
    measure("wakes", "wakes", Kind::Count),
    measure("wakes", "pushed", Kind::Count),
    measure("wakes", "gone", Kind::Count),
    measure("wakes", "failed", Kind::Count),
    measure("push_to_sync", "woken", Kind::Count),
];

/// What was measured since the last line, by the position in [`MEASURES`].
#[derive(Debug, Default)]
struct Window {
    values: BTreeMap<usize, Vec<u64>>,
    written: Option<Instant>,
}

impl Window {
    fn add(&mut self, position: usize, value: u64) {
        let values = self.values.entry(position).or_default();
        let is_full = values.len() == VALUES;
        match (MEASURES[position].kind, values.last_mut()) {
            (Kind::Count, Some(sum)) => *sum = sum.saturating_add(value),
            // Beyond what a line holds the last one stands for the greatest of them: alarms look at the worst.
            (Kind::Amount | Kind::Time, Some(last)) if is_full => *last = (*last).max(value),
            _ => values.push(value),
        }
    }

    /// Whether it is time for a line.
    fn is_due(&self, now: Instant) -> bool {
        let rested = self.written.is_none_or(|written| now.duration_since(written) >= INTERVAL);
        !self.values.is_empty() && (rested || self.values.values().any(|values| values.len() == VALUES))
    }

    /// The line, and the window is empty again.
    fn line(&mut self, function: &str, at_ms: u64) -> Value {
        let mut metrics = Vec::new();
        let mut line = Map::new();
        for (position, mut values) in std::mem::take(&mut self.values) {
            let measure = MEASURES[position];
            metrics.push(json!({ "Name": measure.name(), "Unit": measure.kind.unit() }));
            let value = if values.len() == 1 { json!(values.remove(0)) } else { json!(values) };
            line.insert(measure.name(), value);
        }
        line.insert(DIMENSION.to_owned(), json!(function));
        let told = json!([{ "Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": metrics }]);
        line.insert("_aws".to_owned(), json!({ "Timestamp": at_ms, "CloudWatchMetrics": told }));
        Value::Object(line)
    }
}

/// Of the whole process, as the log is.
static WINDOW: LazyLock<Mutex<Window>> = LazyLock::new(Mutex::default);

/// Adds up what is measured.
pub(crate) struct Meter;

impl<S: Subscriber> Layer<S> for Meter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Ok(mut window) = WINDOW.lock() else { return };
        for (position, measure) in MEASURES.iter().enumerate() {
            if measure.metric == fields.metric
                && let Some((_, value)) = fields.numbers.iter().find(|(name, _)| *name == measure.field)
            {
                window.add(position, *value);
            }
        }
    }
}

/// What of an event is measured.
#[derive(Default)]
struct Fields {
    metric: String,
    numbers: Vec<(&'static str, u64)>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "metric" {
            value.clone_into(&mut self.metric);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.numbers.push((field.name(), value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.numbers.push((field.name(), u64::try_from(value).unwrap_or_default()));
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// Does the work of one invocation, measures how long it took, and writes a line if it is time for one.
pub async fn measured<T>(work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = work.await;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(target: MEASURED, metric = "request", ms);
    write_if_due();
    done
}

fn write_if_due() {
    let Ok(mut window) = WINDOW.lock() else { return };
    let now = Instant::now();
    if !window.is_due(now) {
        return;
    }
    window.written = Some(now);
    let function = std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let line = window.line(&function, u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    // A line that cannot be written is a line of the log that is lost, as any other.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(name: &str) -> usize {
        MEASURES.iter().position(|measure| measure.name() == name).expect("a metric")
    }

    #[test]
    fn a_line_is_what_cloudwatch_reads() {
        let mut window = Window::default();
        for ms in [3, 5] {
            window.add(position("request_ms"), ms);
        }
        for repeats in [1, 0, 2] {
            window.add(position("send_repeats"), repeats);
        }
        assert_eq!(
            window.line("poste-send", 1_700_000_000_000),
            json!({
                "_aws": {
                    "Timestamp": 1_700_000_000_000_u64,
                    "CloudWatchMetrics": [{
                        "Namespace": "Poste",
                        "Dimensions": [["FunctionName"]],
                        "Metrics": [
                            { "Name": "request_ms", "Unit": "Milliseconds" },
                            { "Name": "send_repeats", "Unit": "Count" },
                        ],
                    }],
                },
                "FunctionName": "poste-send",
                "request_ms": [3, 5],
                "send_repeats": 3,
            })
        );
        assert!(window.values.is_empty());
    }

    #[test]
    fn lines_are_a_second_apart_unless_one_is_full() {
        let mut window = Window::default();
        let now = Instant::now();
        assert!(!window.is_due(now), "nothing was measured");
        window.add(position("request_ms"), 1);
        assert!(window.is_due(now), "the first");
        window.written = Some(now);
        assert!(!window.is_due(now + INTERVAL / 2));
        assert!(window.is_due(now + INTERVAL));
        for ms in 0..1_000 {
            window.add(position("request_ms"), ms);
        }
        assert!(window.is_due(now), "full");
        let values = &window.values[&position("request_ms")];
        assert_eq!((values.len(), values.last()), (VALUES, Some(&999)), "bounded, and the worst is in it");
    }

    #[test]
    fn events_are_added_up_whatever_the_logs_level() {
        use tracing_subscriber::layer::SubscriberExt as _;
        let subscriber = tracing_subscriber::registry().with(Meter);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: MEASURED, metric = "wakes", wakes = 2_usize, pushed = 1_u64, late = 7_u64, "woke");
            tracing::info!(metric = "nothing", pushed = 9_u64);
        });
        let window = WINDOW.lock().expect("no panic under the lock");
        assert_eq!(window.values.get(&position("wakes_wakes")), Some(&vec![2]));
        assert_eq!(window.values.get(&position("wakes_pushed")), Some(&vec![1]));
    }
}
