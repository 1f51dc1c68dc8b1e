//! A proxy between the functions and the emulator, on which calls are slow, refused or cut, as rules say.
//!
//! The functions' calls of the AWS parts go through it, and nothing else: neither what devices do nor the API by which
//! functions get their work. It passes on what comes, with its `Host`, so that signatures hold. Which rules hold is
//! changed while it runs, and what struck is counted, at `/_poste/faults` ([`Wish`], [`Report`]). A `POST` to
//! `/_poste/restart` has the emulator end and start again with what it held; one to `/_poste/update` or
//! `/_poste/roll-back` has another version deployed, where there are two.

mod call;
mod rules;

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context as Task, Poll, ready};
use std::time::{Duration, Instant};

use anyhow::Context;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Sleep;

use call::{Call, Reply};
pub use rules::{Fault, Report, Rule, Tally, Wish};
use rules::{Plan, Rules};

/// Where it is told which rules hold, and tells what struck.
pub const CONTROL: &str = "/_poste/faults";
/// Where the emulator is restarted; answered when it is up again.
pub const RESTART: &str = "/_poste/restart";
/// Where this version is deployed in place of an older one; answered when it is.
pub const UPDATE: &str = "/_poste/update";
/// Where the older version is deployed again.
pub const ROLL_BACK: &str = "/_poste/roll-back";
/// Whoever asks for something that concerns the whole stack waits for what is under way.
const ASKED: usize = 1;
/// Connections at once; more wait.
const CONNECTIONS: usize = 1_024;
/// The longest call, without what a rule adds. Functions give up long before.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// What a function sends in one call, at most: SQS takes 1 MiB, and everything else less.
const LARGEST_REQUEST: usize = 4 << 20;
/// What comes back, at most: DynamoDB gives 16 MiB in one answer.
const LARGEST_ANSWER: usize = 32 << 20;
/// The emulator closes connections that nobody uses after 5 s; one is not used again shortly before.
const IDLE: Duration = Duration::from_secs(3);
/// After the first half of an answer that is torn, so that it is on its way when the connection ends.
const TEAR: Duration = Duration::from_millis(5);
/// What concerns one connection, and not the call.
const HOP_BY_HOP: [HeaderName; 2] = [CONNECTION, TRANSFER_ENCODING];

/// A running proxy; dropped, it ends with its connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    url: String,
    shared: Arc<Shared>,
    asked: mpsc::Receiver<Asked>,
    server: JoinHandle<()>,
}

/// What can be asked of who runs the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// The emulator ends and starts again.
    Restart,
    /// This version takes the place of an older one.
    Update,
    /// The older one takes the place of this version.
    RollBack,
}

/// Somebody asks for something.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What.
    pub(crate) deed: Deed,
    /// To be told that it is done. Dropped, it tells that it is not.
    pub(crate) done: oneshot::Sender<()>,
}

impl Deed {
    fn at(path: &str) -> Option<Self> {
        match path {
            RESTART => Some(Self::Restart),
            UPDATE => Some(Self::Update),
            ROLL_BACK => Some(Self::RollBack),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Shared {
    ask: mpsc::Sender<Asked>,
    http: reqwest::Client,
    rules: Mutex<Rules>,
    emulator: OnceLock<String>,
    push: OnceLock<String>,
}

/// The connection ends here, without a word.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}

impl std::error::Error for Cut {}

impl Proxy {
    /// Starts to listen, on the loopback. Nothing can go through before it is told where [to](Self::leads_to).
    pub(crate) async fn start(rules: Vec<Rule>) -> anyhow::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(address).await.context("the proxy cannot listen")?;
        let url = format!("http://{}", listener.local_addr()?);
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(IDLE)
            .timeout(CALL_DEADLINE)
            .build()?;
        let rules = Mutex::new(Rules::new(Wish { seed: 0, rules }));
        let (ask, asked) = mpsc::channel(ASKED);
        let shared = Arc::new(Shared { http, rules, ask, emulator: OnceLock::new(), push: OnceLock::new() });
        let server = tokio::spawn(listen(listener, shared.clone()));
        Ok(Self { url, shared, asked, server })
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Says where the emulator is, and what stands in for SNS. Once.
    pub(crate) fn leads_to(&self, emulator: &str, push: &str) {
        let _ = self.shared.emulator.set(emulator.to_owned());
        let _ = self.shared.push.set(push.to_owned());
    }

    /// Waits until somebody asks for something that concerns the whole stack.
    pub(crate) async fn asked(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    // Dropped with this task, it takes them along.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    connection(stream, shared).await;
                    drop(place);
                });
            }
            // Out of files, for a moment.
            Err(_) => tokio::time::sleep(TEAR).await,
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // An error would cost speed, and nothing else.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { shared.serve(request).await }
    });
    // A connection that is cut ends with an error, which is what was wanted.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Answer>, Cut> {
        let (head, body) = request.into_parts();
        let reading = axum::body::to_bytes(axum::body::Body::new(body), LARGEST_REQUEST);
        let body = tokio::time::timeout(CALL_DEADLINE, reading).await.map_err(|_| Cut)?.map_err(|_| Cut)?;
        if head.uri.path() == CONTROL {
            return Ok(self.control(&head.method, &body));
        }
        if let (Some(deed), &Method::POST) = (Deed::at(head.uri.path()), &head.method) {
            let (done, is_done) = oneshot::channel();
            self.ask.send(Asked { deed, done }).await.map_err(|_| Cut)?;
            is_done.await.map_err(|_| Cut)?;
            return Ok(Reply::plain(StatusCode::OK, "text/plain", String::new()).into());
        }
        let call = Call::of(&head, &body);
        let plan = self.rules().plan(&call);
        let began = Instant::now();
        // Half of the time is over before the call takes effect, and half comes after.
        tokio::time::sleep(plan.time / 2).await;
        let answer = self.follow(&plan, &call, head, body).await;
        tokio::time::sleep(plan.time.saturating_sub(began.elapsed())).await;
        answer
    }

    async fn follow(
        &self,
        plan: &Plan,
        call: &Call,
        head: hyper::http::request::Parts,
        body: Bytes,
    ) -> Result<Response<Answer>, Cut> {
        match plan.fault {
            Some(Fault::Throttled) => return Ok(call.throttled().into()),
            Some(Fault::Failed) => return Ok(call.failed().into()),
            Some(Fault::Cut) => return Err(Cut),
            _ => {}
        }
        let (head, body) = self.pass_on(call, head, body).await?;
        match plan.fault {
            Some(Fault::Lost) => Ok(call.failed().into()),
            Some(Fault::Unanswered) => Err(Cut),
            Some(Fault::Torn) => Ok(Response::from_parts(head, Answer::torn(&body))),
            _ => Ok(Response::from_parts(head, Answer::whole(body))),
        }
    }

    /// Has the call made. Where nobody answers, there is no answer here either.
    async fn pass_on(
        &self,
        call: &Call,
        mut head: hyper::http::request::Parts,
        body: Bytes,
    ) -> Result<(hyper::http::response::Parts, Bytes), Cut> {
        let there = if call.is_push() { &self.push } else { &self.emulator };
        let there = there.get().ok_or(Cut)?;
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("{there}{path}");
        for name in HOP_BY_HOP {
            head.headers.remove(name);
        }
        let sent = self.http.request(head.method, url).headers(head.headers).body(body).send().await;
        let mut answer = sent.map_err(|_| Cut)?;
        let mut built = Response::builder().status(answer.status()).body(()).map_err(|_| Cut)?;
        *built.headers_mut() = std::mem::take(answer.headers_mut());
        for name in HOP_BY_HOP {
            built.headers_mut().remove(name);
        }
        let mut content = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| Cut)? {
            if content.len() + chunk.len() > LARGEST_ANSWER {
                return Err(Cut);
            }
            content.extend_from_slice(&chunk);
        }
        Ok((built.into_parts().0, content.into()))
    }

    /// What tests and commands ask of the proxy itself.
    fn control(&self, method: &Method, body: &[u8]) -> Response<Answer> {
        let mut rules = self.rules();
        if method == Method::PUT {
            match serde_json::from_slice::<Wish>(body).map_err(|wrong| wrong.to_string()).and_then(Wish::checked) {
                Ok(wish) => rules.wish(wish),
                Err(wrong) => return Reply::plain(StatusCode::BAD_REQUEST, "text/plain", wrong).into(),
            }
        } else if method != Method::GET {
            return Reply::plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain", String::new()).into();
        }
        match serde_json::to_string(&rules.report()) {
            Ok(report) => Reply::plain(StatusCode::OK, "application/json", report).into(),
            Err(wrong) => Reply::plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", wrong.to_string()).into(),
        }
    }
}

/// The body of an answer: whole, or its first half and then the connection's end.
struct Answer {
    left: Option<Bytes>,
    tear: Option<Pin<Box<Sleep>>>,
}

impl Answer {
    fn whole(body: Bytes) -> Self {
        Self { left: Some(body).filter(|body| !body.is_empty()), tear: None }
    }

    fn torn(body: &Bytes) -> Self {
        Self { tear: Some(Box::pin(tokio::time::sleep(TEAR))), ..Self::whole(body.slice(..body.len() / 2)) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(bytes) = self.left.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(tear) = &mut self.tear else { return Poll::Ready(None) };
        ready!(tear.as_mut().poll(task));
        Poll::Ready(Some(Err(Cut)))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_none() && self.tear.is_none()
    }
}

impl From<Reply> for Response<Answer> {
    fn from(reply: Reply) -> Self {
        let mut response = Response::new(Answer::whole(reply.body.into()));
        *response.status_mut() = reply.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
        for (name, value) in reply.headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::routing::any;

    use super::*;

    const ANSWER: &str = "a whole answer";

    /// Something that counts what reaches it, and what it was addressed as.
    struct There {
        url: String,
        reached: Arc<AtomicUsize>,
        hosts: Arc<Mutex<Vec<String>>>,
        server: JoinHandle<()>,
    }

    impl There {
        async fn start() -> Self {
            let (reached, hosts) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
            let answer = {
                let (reached, hosts) = (reached.clone(), hosts.clone());
                move |headers: axum::http::HeaderMap, body: String| async move {
                    reached.fetch_add(1, Ordering::Relaxed);
                    hosts.lock().unwrap().push(headers["host"].to_str().unwrap().to_owned());
                    assert_eq!(body, "{}");
                    ANSWER
                }
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let routes = Router::new().fallback(any(answer));
            let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
            Self { url, reached, hosts, server }
        }
    }

    async fn call(proxy: &Proxy, target: &str) -> Result<(u16, String), reqwest::Error> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http
            .post(proxy.url())
            .header("x-amz-target", target)
            .header("authorization", "AWS4-HMAC-SHA256 Credential=K/20261123/us-east-1/dynamodb/aws4_request, S=1")
            .body("{}")
            .send()
            .await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    async fn wish(proxy: &Proxy, wish: &serde_json::Value) -> (u16, String) {
        let url = format!("{}{CONTROL}", proxy.url());
        let answer = reqwest::Client::new().put(url).body(wish.to_string()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What becomes of one call, and whether it takes effect.
    async fn struck(fault: Fault) -> (Result<(u16, String), reqwest::Error>, usize, Report) {
        let there = There::start().await;
        let rule = Rule { service: Some("dynamodb".into()), operation: None, share: 1.0, fault };
        let proxy = Proxy::start(vec![rule]).await.unwrap();
        proxy.leads_to(&there.url, "http://127.0.0.1:1");
        let outcome = call(&proxy, "DynamoDB_20120810.PutItem").await;
        let report = proxy.shared.rules().report();
        there.server.abort();
        (outcome, there.reached.load(Ordering::Relaxed), report)
    }

    #[tokio::test]
    async fn what_no_rule_is_for_passes_with_its_host() {
        let there = There::start().await;
        let rule = Rule { service: Some("sqs".into()), operation: None, share: 1.0, fault: Fault::Failed };
        let proxy = Proxy::start(vec![rule]).await.unwrap();
        proxy.leads_to(&there.url, "http://127.0.0.1:1");
        assert_eq!(call(&proxy, "DynamoDB_20120810.PutItem").await.unwrap(), (200, ANSWER.to_owned()));
        let host = proxy.url().strip_prefix("http://").unwrap();
        assert_eq!(*there.hosts.lock().unwrap(), [host], "a signature covers it");
        there.server.abort();
        let report = proxy.shared.rules().report();
        assert_eq!((report.tallies[0].calls, report.tallies[0].faults.len()), (1, 0));
    }

    #[tokio::test]
    async fn each_fault_takes_effect_or_not_as_it_says() {
        for (fault, status, effects) in [
            (Fault::Throttled, Some(400), 0),
            (Fault::Failed, Some(500), 0),
            (Fault::Lost, Some(500), 1),
            (Fault::Cut, None, 0),
            (Fault::Unanswered, None, 1),
            (Fault::Torn, None, 1),
            (Fault::Slow { median_ms: 1.0, p99_ms: 1.0 }, Some(200), 1),
        ] {
            let (outcome, reached, report) = struck(fault).await;
            assert_eq!(outcome.as_ref().ok().map(|(status, _)| *status), status, "{fault:?}: {outcome:?}");
            assert_eq!(reached, effects, "{fault:?}");
            let tally = &report.tallies[0];
            assert_eq!((&*tally.service, &*tally.operation), ("dynamodb", "PutItem"));
            assert_eq!(tally.faults.get(fault.name()), Some(&1), "{tally:?}");
        }
    }

    #[tokio::test]
    async fn a_slow_call_takes_its_time_and_succeeds() {
        let began = Instant::now();
        let (outcome, ..) = struck(Fault::Slow { median_ms: 80.0, p99_ms: 80.0 }).await;
        assert_eq!(outcome.unwrap().1, ANSWER);
        assert!(began.elapsed() >= Duration::from_millis(80));
    }

    #[tokio::test]
    async fn rules_are_changed_while_it_runs() {
        let there = There::start().await;
        let proxy = Proxy::start(Vec::new()).await.unwrap();
        proxy.leads_to(&there.url, "http://127.0.0.1:1");
        assert_eq!(call(&proxy, "DynamoDB_20120810.GetItem").await.unwrap().0, 200);
        let rules = serde_json::json!([{ "operation": "GetItem", "share": 1.0, "fault": "failed" }]);
        assert_eq!(wish(&proxy, &serde_json::json!({ "seed": 1, "rules": rules })).await.0, 200);
        assert_eq!(call(&proxy, "DynamoDB_20120810.GetItem").await.unwrap().0, 500);
        assert_eq!(call(&proxy, "DynamoDB_20120810.PutItem").await.unwrap().0, 200);
        let (status, told) = wish(&proxy, &serde_json::json!({ "seed": 1, "rules": [] })).await;
        assert_eq!(status, 200);
        assert_eq!(call(&proxy, "DynamoDB_20120810.GetItem").await.unwrap().0, 200);
        let report: Report = serde_json::from_str(&told).unwrap();
        assert_eq!(report.tallies.iter().map(|tally| tally.calls).sum::<u64>(), 3);
        let (status, why) = wish(&proxy, &serde_json::json!({ "rules": [{ "share": 2.0, "fault": "cut" }] })).await;
        assert_eq!(status, 400, "{why}");
        there.server.abort();
    }

    #[tokio::test]
    async fn who_asks_for_a_deed_is_answered_when_it_is_done_and_cut_off_when_it_is_not() {
        for (path, deed, does) in
            [(RESTART, Deed::Restart, true), (UPDATE, Deed::Update, true), (ROLL_BACK, Deed::RollBack, false)]
        {
            let mut proxy = Proxy::start(Vec::new()).await.unwrap();
            let asking = reqwest::Client::new().post(format!("{}{path}", proxy.url())).send();
            let doing = async {
                let asked = proxy.asked().await;
                assert_eq!(asked.deed, deed);
                if does {
                    asked.done.send(()).unwrap();
                }
            };
            let (answer, ()) = tokio::join!(asking, doing);
            assert_eq!(answer.ok().map(|answer| answer.status().as_u16()), does.then_some(200), "{path}");
        }
    }

    #[tokio::test]
    async fn nobody_answers_where_the_emulator_is_gone() {
        let proxy = Proxy::start(Vec::new()).await.unwrap();
        proxy.leads_to("http://127.0.0.1:1", "http://127.0.0.1:1");
        assert!(call(&proxy, "DynamoDB_20120810.GetItem").await.is_err());
    }
}
