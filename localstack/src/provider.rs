//! What stands in for SNS's pushes on the local stack: it speaks SNS's query protocol for endpoints, writes down what
//! is published, and fails as it is told to.
//!
//! The emulator takes publishes to endpoints too, but tells nobody of them, and its endpoints are never disabled. What
//! was pushed is at `GET /pushes?token=PREFIX`; `POST /fault` with `{"token": PREFIX, "fault": FAULT}` makes what
//! concerns tokens that begin so go wrong, until `fault` is null.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Publishes that are remembered; older ones are forgotten.
const REMEMBERED: usize = 50_000;

/// How long an answer takes that is told to be slow: longer than anybody waits.
const SLOW: Duration = Duration::from_secs(5);

/// The ARN of the platform application of a platform, as SNS names it.
pub(crate) fn application(platform: &str) -> String {
    format!("arn:aws:sns:us-east-1:000000000000:app/{platform}/poste-local")
}

/// A running stand-in; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Provider {
    url: String,
    server: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fault {
    /// Endpoints turn out to be disabled.
    Disabled,
    /// Too much at once.
    Throttled,
    /// 503.
    Down,
    /// Answers come too late.
    Slow,
}

#[derive(Debug, Clone)]
struct Endpoint {
    token: String,
    owner: String,
    enabled: bool,
}

#[derive(Debug, Default)]
struct Shared {
    endpoints: BTreeMap<String, Endpoint>,
    faults: BTreeMap<String, Fault>,
    published: VecDeque<Value>,
    made: u64,
}

type Form = BTreeMap<String, String>;
type Answer = (StatusCode, String);

impl Provider {
    /// Starts to listen.
    pub(crate) async fn start(bind: IpAddr, host: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::new(bind, 0)).await.context("the push provider cannot listen")?;
        let url = format!("http://{host}:{}", listener.local_addr()?.port());
        let routes = Router::new()
            .route("/", post(serve))
            .route("/pushes", get(pushes))
            .route("/fault", post(fault))
            .with_state(Arc::<Mutex<Shared>>::default());
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                crate::say::error(&format!("the push provider has ended: {error}"));
            }
        });
        Ok(Self { url, server })
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was published to tokens that begin so, and what was answered.
async fn pushes(State(shared): State<Arc<Mutex<Shared>>>, RawQuery(query): RawQuery) -> Json<Value> {
    let query: Form = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    let prefix = field(&query, "token");
    let of = |push: &&Value| push["token"].as_str().is_some_and(|token| token.starts_with(prefix));
    Json(lock(&shared).published.iter().filter(of).cloned().collect())
}

#[derive(Debug, Deserialize)]
struct FaultWish {
    token: String,
    fault: Option<Fault>,
}

async fn fault(State(shared): State<Arc<Mutex<Shared>>>, Json(wish): Json<FaultWish>) {
    let faults = &mut lock(&shared).faults;
    match wish.fault {
        Some(fault) => faults.insert(wish.token, fault),
        None => faults.remove(&wish.token),
    };
}

/// A call of SNS's query protocol.
async fn serve(State(shared): State<Arc<Mutex<Shared>>>, body: String) -> Answer {
    let form: Form = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let answer = lock(&shared).answer(&form);
    if let Some((answer, slow)) = answer {
        if slow {
            tokio::time::sleep(SLOW).await;
        }
        return answer;
    }
    error(StatusCode::BAD_REQUEST, "InvalidAction", "no such action here")
}

fn field<'a>(form: &'a Form, name: &str) -> &'a str {
    form.get(name).map(String::as_str).unwrap_or_default()
}

impl Shared {
    fn fault_of(&self, token: &str) -> Option<Fault> {
        self.faults.iter().find(|(prefix, _)| token.starts_with(prefix.as_str())).map(|(_, fault)| *fault)
    }

    /// The answer, and whether it comes too late.
    fn answer(&mut self, form: &Form) -> Option<(Answer, bool)> {
        let action = field(form, "Action");
        let arn = field(form, if action == "Publish" { "TargetArn" } else { "EndpointArn" });
        let answer = match action {
            "CreatePlatformEndpoint" => self.create(form),
            "GetEndpointAttributes" => match self.endpoints.get(arn) {
                Some(endpoint) => ok(action, &attributes(endpoint)),
                None => not_found(),
            },
            "SetEndpointAttributes" => match self.endpoints.get_mut(arn) {
                Some(endpoint) => {
                    set(endpoint, form);
                    ok(action, "")
                }
                None => not_found(),
            },
            "DeleteEndpoint" => {
                self.endpoints.remove(arn);
                ok(action, "")
            }
            "Publish" => return Some(self.publish(arn, form)),
            _ => return None,
        };
        Some((answer, false))
    }

    fn create(&mut self, form: &Form) -> Answer {
        let (application, token) = (field(form, "PlatformApplicationArn"), field(form, "Token"));
        let owner = field(form, "CustomUserData");
        let prefix = application.replace(":app/", ":endpoint/");
        let known = self.endpoints.iter().find(|(arn, endpoint)| arn.starts_with(&prefix) && endpoint.token == token);
        if let Some((arn, endpoint)) = known {
            if endpoint.owner == owner {
                return ok("CreatePlatformEndpoint", &format!("<EndpointArn>{arn}</EndpointArn>"));
            }
            let message = format!(
                "Invalid parameter: Token Reason: Endpoint {arn} already exists with the same Token, but different \
                 attributes."
            );
            return error(StatusCode::BAD_REQUEST, "InvalidParameter", &message);
        }
        self.made += 1;
        let arn = format!("{prefix}/00000000-0000-0000-0000-{:012x}", self.made);
        let endpoint = Endpoint { token: token.to_owned(), owner: owner.to_owned(), enabled: true };
        self.endpoints.insert(arn.clone(), endpoint);
        ok("CreatePlatformEndpoint", &format!("<EndpointArn>{arn}</EndpointArn>"))
    }

    fn publish(&mut self, arn: &str, form: &Form) -> (Answer, bool) {
        let Some(endpoint) = self.endpoints.get(arn).cloned() else {
            let message = "Invalid parameter: TargetArn Reason: No endpoint found for the target arn specified";
            return (error(StatusCode::BAD_REQUEST, "InvalidParameter", message), false);
        };
        let fault = self.fault_of(&endpoint.token);
        if fault == Some(Fault::Disabled)
            && let Some(endpoint) = self.endpoints.get_mut(arn)
        {
            endpoint.enabled = false;
        }
        let answer = match fault {
            _ if !endpoint.enabled || fault == Some(Fault::Disabled) => {
                error(StatusCode::BAD_REQUEST, "EndpointDisabled", "Endpoint is disabled")
            }
            Some(Fault::Throttled) => error(StatusCode::TOO_MANY_REQUESTS, "Throttled", "Rate exceeded"),
            Some(Fault::Down) => (StatusCode::SERVICE_UNAVAILABLE, "down".to_owned()),
            _ => ok("Publish", "<MessageId>00000000-0000-0000-0000-000000000000</MessageId>"),
        };
        let attribute = |n: usize| {
            let name = form.get(&format!("MessageAttributes.entry.{n}.Name"))?;
            Some((name.clone(), form.get(&format!("MessageAttributes.entry.{n}.Value.StringValue"))?.clone()))
        };
        let named: BTreeMap<String, String> = (1..).map_while(attribute).collect();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.published.len() == REMEMBERED {
            self.published.pop_front();
        }
        self.published.push_back(json!({
            "at_ms": u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            "token": endpoint.token,
            "owner": endpoint.owner,
            "status": if fault == Some(Fault::Slow) { 0 } else { answer.0.as_u16() },
            "message": serde_json::from_str::<Value>(field(form, "Message")).unwrap_or_default(),
            "attributes": named,
        }));
        (answer, fault == Some(Fault::Slow))
    }
}

fn set(endpoint: &mut Endpoint, form: &Form) {
    for n in 1.. {
        let Some(key) = form.get(&format!("Attributes.entry.{n}.key")) else { return };
        let value = field(form, &format!("Attributes.entry.{n}.value"));
        match key.as_str() {
            "Token" => value.clone_into(&mut endpoint.token),
            "CustomUserData" => value.clone_into(&mut endpoint.owner),
            "Enabled" => endpoint.enabled = value == "true",
            _ => {}
        }
    }
}

fn attributes(endpoint: &Endpoint) -> String {
    let entry = |key: &str, value: &str| format!("<entry><key>{key}</key><value>{value}</value></entry>");
    let entries = [
        entry("Token", &endpoint.token),
        entry("Enabled", if endpoint.enabled { "true" } else { "false" }),
        entry("CustomUserData", &endpoint.owner),
    ];
    format!("<Attributes>{}</Attributes>", entries.concat())
}

fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "NotFound", "Endpoint does not exist")
}

fn ok(action: &str, result: &str) -> Answer {
    let text = format!(
        "<{action}Response xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></{action}Response>"
    );
    (StatusCode::OK, text)
}

fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    let kind = if status.is_client_error() { "Sender" } else { "Receiver" };
    let text = format!(
        "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>{kind}</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
    );
    (status, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(shared: &mut Shared, fields: &[(&str, &str)]) -> Answer {
        let form = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        shared.answer(&form).expect("a known action").0
    }

    #[test]
    fn a_token_has_one_endpoint_and_the_error_names_it() {
        let mut shared = Shared::default();
        let application = application("GCM");
        let mut create = |owner| {
            let fields = [
                ("Action", "CreatePlatformEndpoint"),
                ("PlatformApplicationArn", &application),
                ("Token", "t"),
                ("CustomUserData", owner),
            ];
            call(&mut shared, &fields)
        };
        let (_, made) = create("alice");
        assert_eq!(create("alice").1, made);
        let (status, text) = create("bob");
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            text.contains("endpoint/GCM/poste-local/00000000-0000-0000-0000-000000000001 already exists"),
            "{text}"
        );
    }

    #[test]
    fn faults_are_for_the_tokens_that_they_name() {
        let mut shared = Shared::default();
        shared.endpoints.insert("e".into(), Endpoint { token: "abc".into(), owner: "o".into(), enabled: true });
        let publish = [("Action", "Publish"), ("TargetArn", "e"), ("Message", "{}")];
        assert_eq!(call(&mut shared, &publish).0, StatusCode::OK);
        shared.faults.insert("ab".into(), Fault::Down);
        assert_eq!(call(&mut shared, &publish).0, StatusCode::SERVICE_UNAVAILABLE);
        shared.faults.insert("ab".into(), Fault::Disabled);
        assert_eq!(call(&mut shared, &publish).0, StatusCode::BAD_REQUEST);
        shared.faults.clear();
        assert!(call(&mut shared, &publish).1.contains("EndpointDisabled"), "until it is enabled");
        assert_eq!(shared.published.len(), 4);
    }
}
