//! `cargo local dash`: the dashboard of `infra/template.yaml` on the figures of the local stack, live, in a browser.
//!
//! The charts are those of the template, in its words. What functions measure is read from their logs, as CloudWatch
//! does it (embedded metric format); what AWS measures of queues the emulator tells; what it measures of functions
//! nobody does here, and the page says so.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::stack::{Queues, Stack};

/// Figures are added up for so long, in seconds. CloudWatch does it by the minute; here things are to be seen at once.
const BUCKET_S: u64 = 5;
/// So many of them are kept: ten minutes.
const BUCKETS: usize = 120;
/// Numbers of one figure in one of them.
const VALUES: usize = 10_000;
/// How often logs and queues are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What is read of a log at once.
const CHUNK: u64 = 1024 * 1024;
/// How long the emulator may take to tell of its queues.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);

/// The template that the stack is deployed from.
const TEMPLATE: &str = include_str!("../../infra/template.yaml");

/// A dashboard that listens.
#[derive(Debug)]
pub struct Dash {
    listener: TcpListener,
    stack: Stack,
    board: Arc<Board>,
}

impl Dash {
    /// Listens on a port of this machine, any if it is 0.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn listen(stack: Stack, port: u16) -> anyhow::Result<Self> {
        let board = Arc::new(Board { charts: charts(TEMPLATE)?, figures: Mutex::default() });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on port {port}"))?;
        Ok(Self { listener, stack, board })
    }

    /// Where the page is.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn url(&self) -> anyhow::Result<String> {
        Ok(format!("http://{}", self.listener.local_addr()?))
    }

    /// Serves the page until it is dropped.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn serve(self) -> anyhow::Result<()> {
        let routes = Router::new()
            .route("/", get(async || Html(include_str!("dash.html"))))
            .route("/figures", get(async |State(board): State<Arc<Board>>| Json(board.drawn(now_s()))))
            .with_state(self.board.clone());
        tokio::select! {
            served = axum::serve(self.listener, routes) => Ok(served?),
            watched = watch(&self.board, &self.stack) => watched,
        }
    }
}

/// What the page shows.
#[derive(Debug)]
struct Board {
    charts: Vec<Chart>,
    figures: Mutex<Figures>,
}

/// A chart of the template.
#[derive(Debug, Clone, PartialEq)]
struct Chart {
    title: String,
    series: Vec<Series>,
}

/// One of its lines.
#[derive(Debug, Clone, PartialEq)]
struct Series {
    label: String,
    stat: String,
    /// Nothing if it is not measured here.
    figure: Option<Key>,
}

/// A chart as the page gets it.
#[derive(Debug, Serialize, Deserialize)]
struct Drawn {
    title: String,
    /// Seconds of a point.
    period_s: u64,
    series: Vec<Line>,
}

/// A line as the page gets it: points from the oldest to the newest, null where there is none.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    label: String,
    here: bool,
    points: Vec<Option<f64>>,
}

/// What was measured, by whose and which it is.
#[derive(Debug, Default)]
struct Figures(BTreeMap<Key, Buckets>);

/// Whose figure, and which.
type Key = (String, String);

/// When each begins, and its numbers.
type Buckets = VecDeque<(u64, Vec<f64>)>;

impl Figures {
    fn add(&mut self, key: Key, at_s: u64, values: impl Iterator<Item = f64>) {
        let start = at_s / BUCKET_S * BUCKET_S;
        let buckets = self.0.entry(key).or_default();
        // Lines of one function's instances come nearly in order.
        let place = buckets.iter().rposition(|(known, _)| *known <= start);
        let place = match place {
            Some(place) if buckets[place].0 == start => place,
            other => {
                let place = other.map_or(0, |place| place + 1);
                buckets.insert(place, (start, Vec::new()));
                place
            }
        };
        let bucket = &mut buckets[place].1;
        let room = VALUES.saturating_sub(bucket.len());
        bucket.extend(values.take(room));
        while buckets.len() > BUCKETS {
            buckets.pop_front();
        }
    }

    /// Takes in a line of a function's log, if it holds figures.
    fn read(&mut self, function: &str, line: &str) {
        if !line.contains("\"_aws\"") {
            return;
        }
        let Ok(line) = serde_json::from_str::<Value>(line) else { return };
        let Some(at_ms) = line["_aws"]["Timestamp"].as_u64() else { return };
        let directives = line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten();
        for metric in directives.flat_map(|directive| directive["Metrics"].as_array().into_iter().flatten()) {
            let Some(name) = metric["Name"].as_str() else { continue };
            let values: Vec<f64> = match &line[name] {
                Value::Array(values) => values.iter().filter_map(Value::as_f64).collect(),
                value => value.as_f64().into_iter().collect(),
            };
            self.add((function.to_owned(), name.to_owned()), at_ms / 1_000, values.into_iter());
        }
    }

    fn points(&self, key: &Key, stat: &str, now_s: u64) -> Vec<Option<f64>> {
        let last = now_s / BUCKET_S;
        let first = last.saturating_sub(BUCKETS as u64 - 1);
        let none = VecDeque::new();
        let buckets = self.0.get(key).unwrap_or(&none);
        let known: BTreeMap<u64, &Vec<f64>> =
            buckets.iter().map(|(start, values)| (*start / BUCKET_S, values)).collect();
        (first..=last).map(|bucket| known.get(&bucket).and_then(|values| statistic(stat, values))).collect()
    }
}

/// A statistic, named as CloudWatch names them.
fn statistic(stat: &str, values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(match stat {
        "Sum" => sorted.iter().sum(),
        #[expect(clippy::cast_precision_loss, reason = "ten thousand at most")]
        "SampleCount" => sorted.len() as f64,
        "Maximum" => *sorted.last()?,
        _ => {
            let percent: usize = stat.strip_prefix('p')?.parse().ok()?;
            sorted[((sorted.len() * percent.min(100)).div_ceil(100)).saturating_sub(1)]
        }
    })
}

impl Board {
    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drawn(&self, now_s: u64) -> Vec<Drawn> {
        let figures = self.figures();
        let line = |series: &Series| {
            let points = |key| figures.points(key, &series.stat, now_s);
            let points = series.figure.as_ref().map(points);
            Line { label: series.label.clone(), here: points.is_some(), points: points.unwrap_or_default() }
        };
        let chart = |chart: &Chart| Drawn {
            title: chart.title.clone(),
            period_s: BUCKET_S,
            series: chart.series.iter().map(line).collect(),
        };
        self.charts.iter().map(chart).collect()
    }
}

/// The charts of the template's dashboard.
fn charts(template: &str) -> anyhow::Result<Vec<Chart>> {
    let mut lines = template.lines();
    let Some(head) = lines.find(|line| line.trim() == "DashboardBody: !Sub |") else {
        bail!("the template has no dashboard");
    };
    let depth = |line: &str| line.len() - line.trim_start().len();
    let body: String = lines.take_while(|line| depth(line) > depth(head)).collect();
    let body: Value = serde_json::from_str(&body).context("the template's dashboard is no JSON")?;
    let widgets = body["widgets"].as_array().context("the template's dashboard has no widgets")?;
    widgets.iter().map(|widget| chart(&widget["properties"])).collect()
}

fn chart(properties: &Value) -> anyhow::Result<Chart> {
    let title = properties["title"].as_str().context("a chart has no title")?.to_owned();
    let metrics = properties["metrics"].as_array().with_context(|| format!("{title}: no metrics"))?;
    let series = metrics
        .iter()
        .map(|metric| series(metric).with_context(|| format!("{title}: {metric} is no line")))
        .collect::<anyhow::Result<_>>()?;
    Ok(Chart { title, series })
}

/// `[NAMESPACE, METRIC, DIMENSION, WHOSE, { "stat", "label" }]`.
fn series(metric: &Value) -> Option<Series> {
    let text = |place: usize| metric.get(place).and_then(Value::as_str);
    let (namespace, name, whose, how) = (text(0)?, text(1)?, text(3)?, metric.get(4)?);
    let stat = how["stat"].as_str()?.to_owned();
    let label = how["label"].as_str().unwrap_or(&stat).to_owned();
    let figure = match namespace {
        "Poste" => Some(whose.strip_prefix("${AWS::StackName}-")?),
        "AWS/SQS" => Some(whose.strip_prefix("${")?.strip_suffix(".QueueName}")?),
        _ => None,
    };
    Some(Series { label, stat, figure: figure.map(|whose| (whose.to_owned(), name.to_owned())) })
}

/// A log that is read as it grows.
struct Tail {
    function: String,
    file: PathBuf,
    read: u64,
    rest: String,
}

impl Tail {
    fn look(&mut self, board: &Board) {
        // Not there before its function has said something.
        let Ok(mut file) = File::open(&self.file) else { return };
        if file.metadata().is_ok_and(|data| data.len() < self.read) {
            // Another stack has begun.
            (self.read, self.rest) = (0, String::new());
        }
        let mut bytes = Vec::new();
        if file.seek(SeekFrom::Start(self.read)).and_then(|_| file.take(CHUNK).read_to_end(&mut bytes)).is_err() {
            return;
        }
        self.read += bytes.len() as u64;
        self.rest.push_str(&String::from_utf8_lossy(&bytes));
        let complete = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let mut figures = board.figures();
        self.rest[..complete].lines().for_each(|line| figures.read(&self.function, line));
        self.rest.drain(..complete);
        if self.rest.len() as u64 > CHUNK {
            self.rest.clear();
        }
    }
}

/// Looks at logs and queues, for ever.
async fn watch(board: &Board, stack: &Stack) -> anyhow::Result<()> {
    let tail = |function: &String| Tail {
        function: function.clone(),
        file: stack.logs.join(format!("{function}.log")),
        read: 0,
        rest: String::new(),
    };
    let mut tails: Vec<Tail> = stack.functions.keys().map(tail).collect();
    let http = reqwest::Client::builder().no_proxy().timeout(TELL_TIMEOUT).build()?;
    loop {
        for tail in &mut tails {
            tail.look(board);
        }
        // Another emulator tells nothing of them: then there is nothing to see.
        if let Ok(queues) = look_at_queues(&http, &stack.endpoint).await {
            let mut figures = board.figures();
            for (name, url) in named(&stack.queues) {
                let Some(queue) = queues.get(url) else { continue };
                for (metric, field) in
                    [("ApproximateNumberOfMessagesVisible", "visible"), ("ApproximateAgeOfOldestMessage", "oldest_s")]
                {
                    figures.add((name.to_owned(), metric.to_owned()), now_s(), queue[field].as_f64().into_iter());
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look_at_queues(http: &reqwest::Client, endpoint: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    Ok(http.get(format!("{endpoint}/_poste/queues")).send().await?.error_for_status()?.json().await?)
}

/// The queues by their names in the template.
fn named(queues: &Queues) -> [(&'static str, &str); 4] {
    [
        ("DeliveryQueue", &queues.delivery),
        ("DeliveryDeadLetters", &queues.delivery_dead_letters),
        ("PushQueue", &queues.push),
        ("PushDeadLetters", &queues.push_dead_letters),
    ]
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charts_are_those_of_the_template() {
        let charts = charts(TEMPLATE).unwrap();
        assert!(charts.len() > 10);
        let all: Vec<_> = charts.iter().flat_map(|chart| &chart.series).collect();
        assert!(all.iter().any(|series| series.figure.is_none()), "AWS alone measures some");
        // Each is a figure that there is.
        let measured: Vec<String> =
            poste_aws::metrics::MEASURES.iter().map(poste_aws::metrics::Measure::name).collect();
        let functions = crate::package::functions(TEMPLATE).unwrap();
        for (whose, name) in all.iter().filter_map(|series| series.figure.as_ref()) {
            let is_queue = name.starts_with("Approximate");
            assert!(is_queue || (measured.contains(name) && functions.contains(whose)), "{whose} {name}");
            assert!(TEMPLATE.contains(&format!("\n  {whose}:\n")) || functions.contains(whose), "{whose}");
        }
    }

    #[test]
    fn figures_are_read_from_logs() {
        let mut figures = Figures::default();
        let line = |at_ms: u64, values: &str| {
            format!(
                "{{\"_aws\":{{\"Timestamp\":{at_ms},\"CloudWatchMetrics\":[{{\"Metrics\":[{{\"Name\":\"request_ms\"}}]}}]}},\
                 \"request_ms\":{values}}}"
            )
        };
        figures.read("send", &line(10_000_000, "[1,2,30]"));
        figures.read("send", &line(10_002_000, "4"));
        figures.read("send", &line(9_995_000, "7"));
        figures.read("send", "{\"message\":\"of another kind\"}");
        figures.read("send", "no JSON, though it says \"_aws\"");
        let key = ("send".to_owned(), "request_ms".to_owned());
        let last = |stat: &str| figures.points(&key, stat, 10_004).split_off(BUCKETS - 2);
        assert_eq!(last("SampleCount"), [Some(1.0), Some(4.0)]);
        assert_eq!(last("Sum"), [Some(7.0), Some(37.0)]);
        assert_eq!(last("p50"), [Some(7.0), Some(2.0)]);
        assert_eq!(last("p99"), [Some(7.0), Some(30.0)]);
        assert_eq!(last("Maximum"), [Some(7.0), Some(30.0)]);
        assert_eq!(figures.points(&key, "Sum", 100_000), vec![None; BUCKETS]);
    }

    #[test]
    fn figures_are_bounded() {
        let mut figures = Figures::default();
        let key = ("send".to_owned(), "x".to_owned());
        for n in 0..1_000 {
            figures.add(key.clone(), n * BUCKET_S, std::iter::repeat_n(1.0, 2 * VALUES));
        }
        assert_eq!(figures.0[&key].len(), BUCKETS);
        assert!(figures.0[&key].iter().all(|(_, values)| values.len() == VALUES));
    }
}
