//! The functions' binaries: how large they are, how long they take from nothing to the first poll of the runtime's API and
//! to the answer to the first request, and what memory they have then.
//!
//! This process plays the runtime's API; everything else is that of the stack.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use poste_protocol::{DeviceId, List, Number, Reference, Request, SendFrame, Submission, UserId};

use crate::account::body;
use crate::delivery::megabytes;
use crate::local::Local;
use crate::processes::resident;
use crate::report::{Report, percentile};
use crate::wire::letter;

/// What the figures are of.
const SUBJECT: &str = "start";
/// Starts of each function.
const STARTS: usize = 20;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The request that the runtime hands out, and whose answer is waited for.
const REQUEST: &str = "8476a536-e9f4-11e8-9739-2dfe598c3fcd";

/// Measures everything.
pub(crate) async fn measure(local: &Local, report: &mut Report) -> anyhow::Result<()> {
    let runtime = Runtime::start().await?;
    for (name, executable) in &local.stack().executables {
        let (size, zipped) = sizes(executable)?;
        report.key(format!("binary_{name}_mb"), megabytes(size));
        report.key(format!("zip_{name}_mb"), megabytes(zipped));
        report.most("zip_mb", megabytes(zipped));
        let environment = environment(local, name).await.with_context(|| format!("the environment of {name}"))?;
        let (mut inits, mut firsts, mut memory) = (Vec::new(), Vec::new(), 0);
        for n in 1..=STARTS {
            let event = event(name, n as u64)?;
            let started =
                runtime.run(executable, &environment, event).await.with_context(|| format!("{name} starts"))?;
            inits.push(started.init);
            firsts.extend(started.first);
            memory = memory.max(started.resident);
        }
        inits.sort_unstable();
        report.most("init_ms", percentile(&inits, 50).as_secs_f64() * 1_000.0);
        report.most("rss_mb", megabytes(memory));
        report.key(format!("rss_{name}_mb"), megabytes(memory));
        report.add(SUBJECT, format!("{name}: spawned until its first poll"), inits);
        if !firsts.is_empty() {
            firsts.sort_unstable();
            report.most("first_request_ms", percentile(&firsts, 50).as_secs_f64() * 1_000.0);
            report.add(SUBJECT, format!("{name}: spawned until its first request is done"), firsts);
        }
    }
    Ok(())
}

/// Bytes of a binary, and of the same as it is uploaded.
fn sizes(executable: &Path) -> anyhow::Result<(u64, u64)> {
    let mut content = Vec::new();
    std::fs::File::open(executable)?.read_to_end(&mut content)?;
    let mut zipped = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    zipped.write_all(&content)?;
    Ok((content.len() as u64, zipped.finish()?.len() as u64))
}

/// What a function is deployed with, and what the runtime adds.
async fn environment(local: &Local, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let deployed = local.stack().functions.get(name).context("it is not deployed")?;
    let mut environment: BTreeMap<String, String> = serde_json::from_value(local.function(deployed).await?)?;
    let keys = &local.stack().admin;
    let more = [
        ("AWS_LAMBDA_FUNCTION_NAME", deployed.clone()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256".to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1".to_owned()),
        ("AWS_REGION", local.stack().region.clone()),
        ("AWS_ENDPOINT_URL", local.stack().endpoint.clone()),
        ("AWS_ACCESS_KEY_ID", keys.access_key_id.clone()),
        ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key.clone()),
    ];
    environment.extend(more.map(|(name, value)| (name.to_owned(), value)));
    Ok(environment)
}

/// The first request of a function, for those on everybody's way: a message; the list of conversations.
fn event(name: &str, n: u64) -> anyhow::Result<Option<Value>> {
    let (alice, bob) = (Local::user("cold")?, UserId::new("bob")?);
    let reference = Reference::new(format!("r{n}")).map_err(anyhow::Error::msg)?;
    let request = match name {
        "send" => {
            let envelope = letter(&alice, &bob, Number::FIRST.get(), &[body(n)])?;
            let submission = Submission { envelope, age_ms: 0, attempt: 1, resolved: None };
            Request::Send(SendFrame { reference, submissions: vec![submission], marks: Vec::new() })
        }
        "sync" => Request::List(List { reference, after: None, frames: Some(1), previews: None }),
        _ => return Ok(None),
    };
    let body = serde_json::to_string(&request)?;
    let route = serde_json::to_value(&request)?["action"].clone();
    Ok(Some(json!({
        "requestContext": {
            "routeKey": route,
            "eventType": "MESSAGE",
            "connectionId": "cold",
            "connectedAt": 1,
            "requestTimeEpoch": 1,
            "authorizer": { "user": alice, "device": DeviceId::new("phone")?, "expires": "99999999999999" },
        },
        "body": body,
        "isBase64Encoded": false,
    })))
}

/// How a start went.
struct Started {
    init: Duration,
    /// Until the first request was done, if there was one.
    first: Option<Duration>,
    /// Bytes.
    resident: u64,
}

/// What the function does.
enum Seen {
    Polled(Instant),
    Answered(Instant, String),
    Failed(String),
}

/// The runtime's API.
struct Runtime {
    address: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
    seen: Mutex<mpsc::Receiver<Seen>>,
}

struct Shared {
    /// The next request.
    event: Mutex<Option<Value>>,
    seen: mpsc::Sender<Seen>,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Runtime {
    async fn start() -> anyhow::Result<Self> {
        let (tell, seen) = mpsc::channel(8);
        let shared = Arc::new(Shared { event: Mutex::new(None), seen: tell });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(answered))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(failed))
            .route("/2018-06-01/runtime/init/error", post(failed))
            .with_state(shared.clone());
        let serving = tokio::spawn(async move {
            // It ends with the task.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { address, shared, serving, seen: Mutex::new(seen) })
    }

    /// Starts a function, gives it a request if there is one, and ends it.
    async fn run(
        &self,
        executable: &Path,
        environment: &BTreeMap<String, String>,
        event: Option<Value>,
    ) -> anyhow::Result<Started> {
        let wants_answer = event.is_some();
        *self.shared.event.lock().await = event;
        let mut seen = self.seen.lock().await;
        let mut command = Command::new(executable);
        command.env_clear().envs(environment).env("AWS_LAMBDA_RUNTIME_API", &self.address);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let began = Instant::now();
        let process = Process(command.spawn()?);
        let (mut init, mut first, mut polls) = (None, None, 0);
        // After an answer it polls again: then nothing of it is on its way any more.
        while polls < 1 + usize::from(wants_answer) {
            let next = tokio::time::timeout(PATIENCE, seen.recv()).await.context("it does not go on")?;
            match next.context("the runtime has ended")? {
                Seen::Polled(at) => {
                    polls += 1;
                    init = init.or(Some(at - began));
                }
                Seen::Answered(at, answer) => {
                    ensure!(!answer.contains("\\\"code\\\""), "it refuses: {answer}");
                    first = Some(at - began);
                }
                Seen::Failed(why) => anyhow::bail!("it fails: {why}"),
            }
        }
        ensure!(first.is_some() == wants_answer, "it asks for the next request without an answer to the first");
        let resident = resident(process.0.id())?;
        drop(process);
        Ok(Started { init: init.context("it polled")?, first, resident })
    }
}

/// A function's process; dropped, it ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let at = Instant::now();
    // Taken before it is told: who hears of the poll may put out the event of the next process.
    let event = shared.event.lock().await.take();
    let _ = shared.seen.send(Seen::Polled(at)).await;
    let Some(event) = event else { return std::future::pending().await };
    let headers = AppendHeaders([
        ("lambda-runtime-aws-request-id", REQUEST),
        ("lambda-runtime-deadline-ms", "99999999999999"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:cold"),
    ]);
    (headers, Json(event))
}

// Both take text, whatever type the function says it has: the runtime's API does not ask.
async fn answered(State(shared): State<Arc<Shared>>, answer: String) -> StatusCode {
    let _ = shared.seen.send(Seen::Answered(Instant::now(), answer)).await;
    StatusCode::ACCEPTED
}

async fn failed(State(shared): State<Arc<Shared>>, why: String) -> StatusCode {
    let _ = shared.seen.send(Seen::Failed(why)).await;
    StatusCode::ACCEPTED
}
