//! The stack that the tests run on, and the way in: tokens and handshakes.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use poste_local::Stack;
use poste_protocol::{DeviceId, UserId};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        Error, client::IntoClientRequest, handshake::client::Request, http::HeaderValue, http::header::AUTHORIZATION,
        http::header::SEC_WEBSOCKET_PROTOCOL,
    },
};
use uuid::Uuid;

use crate::{
    Admin, Device,
    wait::{DEADLINE, eventually},
};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Nothing was asked for so long: what was to be done is done.
const QUIET: Duration = Duration::from_secs(1);
/// Five hundred connections have ended by then.
const SETTLED: Duration = Duration::from_mins(3);

/// The deployed stack. One per test: its clients belong to the test's runtime.
#[derive(Clone)]
pub struct Deployment {
    stack: Arc<Stack>,
    http: reqwest::Client,
}

/// What a token should be like. The default is a good one.
#[derive(Debug, Clone, Default)]
pub struct TokenWish {
    /// `ES256` (default) or `RS256`.
    pub algorithm: Option<&'static str>,
    /// Seconds from now; negative for one that has run out.
    pub expires_in: Option<i64>,
    /// Another audience.
    pub audience: Option<&'static str>,
    /// Another issuer.
    pub issuer: Option<&'static str>,
    /// Good for this device only.
    pub bound_to: Option<&'static str>,
    /// Signed with a key that the issuer does not publish.
    pub forged: bool,
}

/// What a connecting client shows.
#[derive(Debug, Clone)]
pub enum Showing {
    /// `Authorization: Bearer TOKEN`.
    Bearer(String),
    /// `Authorization` with this value.
    Authorization(String),
    /// `Sec-WebSocket-Protocol` with this value.
    Subprotocols(String),
    /// Nothing.
    Nothing,
}

/// A handshake that was refused.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// The answer's body, if it had one.
    pub body: String,
}

impl Deployment {
    /// The stack that `POSTE_STACK` names.
    ///
    /// # Panics
    /// When there is none: a test that needs a stack must not pass without.
    pub fn here() -> Self {
        let Some(file) = std::env::var_os("POSTE_STACK").map(PathBuf::from) else {
            panic!("no stack to test (POSTE_STACK is not set): run `cargo local test`")
        };
        let stack = Stack::read(&file).unwrap_or_else(|error| panic!("{error:#}: run `cargo local test`"));
        // The stack is on this machine: no proxy of the environment has anything to do with it.
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("an HTTP client");
        Self { stack: Arc::new(stack), http }
    }

    /// What the stack tells of itself.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// A look into tables and queues.
    pub fn admin(&self) -> Admin {
        Admin::new(self.stack.clone())
    }

    /// What was asked of the emulator so far, by what it is: calls of tables and queues, posts to connections. Nothing of
    /// an emulator without our launcher, which counts.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn requests(&self) -> Option<BTreeMap<String, u64>> {
        self.told("requests").await
    }

    /// Waits until nothing is asked of the emulator any more: what others have left behind, such as the ends of hundreds of
    /// connections, is done with then. Does not wait where requests are not counted.
    ///
    /// # Panics
    /// When it does not come to rest.
    pub async fn settles(&self) {
        let mut last: Option<Option<BTreeMap<String, u64>>> = None;
        eventually("the stack comes to rest", SETTLED, async || {
            tokio::time::sleep(QUIET).await;
            // What does not answer is not at rest.
            let now = Some(self.asked("requests").await.ok()?);
            (std::mem::replace(&mut last, now.clone()) == now).then_some(())
        })
        .await;
    }

    /// What the emulator's launcher tells under a name, if it is ours.
    pub(crate) async fn told<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.asked(name).await.expect("the emulator answers")
    }

    async fn asked<T: DeserializeOwned>(&self, name: &str) -> reqwest::Result<Option<T>> {
        let answer = self.http.get(format!("{}/_poste/{name}", self.stack.endpoint)).send().await?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        Ok(answer.json().await.ok())
    }

    /// What the functions have logged so far, by their names. One that has logged nothing is missing.
    pub fn logs(&self) -> BTreeMap<String, String> {
        let Stack { logs, functions, .. } = &*self.stack;
        let read = |name: &String| Some((name.clone(), fs::read_to_string(logs.join(format!("{name}.log"))).ok()?));
        functions.keys().filter_map(read).collect()
    }

    /// A user that no other test has.
    ///
    /// # Panics
    /// When the name has characters that user ids do not have.
    #[allow(clippy::unused_self)] // Users belong to a deployment.
    pub fn user(&self, name: &str) -> UserId {
        UserId::new(format!("{name}-{}", Uuid::now_v7())).expect("a well-formed name")
    }

    /// A token from the stack's issuer.
    ///
    /// # Panics
    /// When the issuer does not give one.
    pub async fn token(&self, user: &UserId, wish: &TokenWish) -> String {
        let mut request = json!({ "user": user });
        let mut ask = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                request[name] = value;
            }
        };
        ask("algorithm", wish.algorithm.map(Into::into));
        ask("expires_in", wish.expires_in.map(Into::into));
        ask("audience", wish.audience.map(Into::into));
        ask("issuer", wish.issuer.map(Into::into));
        ask("forged", wish.forged.then(|| true.into()));
        if let Some(device) = wish.bound_to {
            ask("device", Some(device.into()));
            ask("bind_device", Some(true.into()));
        }
        let answer = self.http.post(format!("{}/token", self.stack.issuer)).json(&request).send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status).expect("the issuer gives a token");
        let answer: Value = answer.json().await.expect("the issuer answers with JSON");
        answer["token"].as_str().expect("the issuer's answer has a token").to_owned()
    }

    /// Tries to open a socket. Gives the subprotocol that was chosen, too.
    ///
    /// # Errors
    /// The HTTP answer, if the handshake was refused by one.
    ///
    /// # Panics
    /// When it fails in another way.
    pub async fn handshake(
        &self,
        device: Option<&str>,
        showing: &Showing,
    ) -> Result<(Socket, Option<String>), Refused> {
        let query = device.map(|device| format!("?device={device}")).unwrap_or_default();
        let request = request(&format!("{}{query}", self.stack.socket_url), showing);
        let opening = tokio::time::timeout(DEADLINE, connect_async_with_config(request, None, true));
        match opening.await.expect("the handshake is answered in time") {
            Ok((socket, response)) => {
                let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
                let chosen = chosen.map(|value| value.to_str().expect("a readable subprotocol").to_owned());
                Ok((socket, chosen))
            }
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
                Err(Refused { status: answer.status().as_u16(), body })
            }
            Err(error) => panic!("the handshake fails: {error}"),
        }
    }

    /// A device that is connected with a fresh token.
    ///
    /// # Panics
    /// When it cannot be.
    pub async fn device(&self, user: &UserId, device: &str) -> Device {
        let mut device = self.device_offline(user, device);
        device.connect().await;
        device
    }

    /// A device that is not connected yet.
    ///
    /// # Panics
    /// When the id has characters that device ids do not have.
    pub fn device_offline(&self, user: &UserId, device: &str) -> Device {
        Device::new(self.clone(), user.clone(), DeviceId::new(device).expect("a well-formed device id"))
    }

    /// A token with this header and these claims and no signature worth the name.
    ///
    /// # Panics
    /// Never, for JSON values.
    pub fn unsigned_token(header: &Value, claims: &Value, signature: &[u8]) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).expect("JSON"));
        format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
    }
}

fn request(url: &str, showing: &Showing) -> Request {
    let mut request = url.into_client_request().expect("a URL");
    let value = |text: &str| HeaderValue::from_str(text).expect("a header's value");
    let (name, value) = match showing {
        Showing::Bearer(token) => (AUTHORIZATION, value(&format!("Bearer {token}"))),
        Showing::Authorization(text) => (AUTHORIZATION, value(text)),
        Showing::Subprotocols(text) => (SEC_WEBSOCKET_PROTOCOL, value(text)),
        Showing::Nothing => return request,
    };
    request.headers_mut().insert(name, value);
    request
}
