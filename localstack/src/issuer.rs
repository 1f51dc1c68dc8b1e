//! The issuer of tokens of the local stack: whoever asks is given a token for whomever they like.
//!
//! It stands in for an identity provider (OpenID Connect discovery, a key set) and listens on the loopback only, unless
//! told otherwise. Tests may ask for tokens that have to be refused.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::keys::{Keys, SigningAlgorithm};

/// The audience of Poste's tokens on the local stack.
pub(crate) const AUDIENCE: &str = "poste";
/// How long a token is good for when nobody asks for another time.
const DEFAULT_LIFETIME_SECONDS: i64 = 3600;

/// A running issuer; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Issuer {
    url: String,
    port: u16,
    server: JoinHandle<()>,
}

/// How the issuer is reached.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    /// The interface that it listens on.
    pub(crate) bind: IpAddr,
    /// Its host's name as functions see it.
    pub(crate) host: String,
    /// The port that it should have, if it is free.
    pub(crate) port: Option<u16>,
}

struct Shared {
    keys: Keys,
    url: String,
}

impl Issuer {
    /// Starts to listen.
    pub(crate) async fn start(keys: Keys, reach: Reach) -> anyhow::Result<Self> {
        let listener = listen(reach.bind, reach.port).await.context("the issuer cannot listen")?;
        let port = listener.local_addr()?.port();
        let url = format!("http://{}:{port}", reach.host);
        let shared = Arc::new(Shared { keys, url: url.clone() });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/.well-known/jwks.json", get(key_set))
            .route("/token", post(token))
            .with_state(shared);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                crate::say::error(&format!("the issuer has ended: {error}"));
            }
        });
        Ok(Self { url, port, server })
    }

    /// Its address, which is the `iss` of its tokens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where its keys are.
    pub(crate) fn jwks_url(&self) -> String {
        jwks_url(&self.url)
    }

    /// The port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn jwks_url(url: &str) -> String {
    format!("{url}/.well-known/jwks.json")
}

async fn listen(bind: IpAddr, wished: Option<u16>) -> std::io::Result<TcpListener> {
    if let Some(port) = wished
        && let Ok(listener) = TcpListener::bind(SocketAddr::new(bind, port)).await
    {
        return Ok(listener);
    }
    TcpListener::bind(SocketAddr::new(bind, 0)).await
}

/// What a token is asked for with.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    /// The `sub`.
    user: String,
    /// The device's id; in the token only with `bind_device`.
    device: Option<String>,
    /// Whether the token is good for that device only (claim `device`).
    #[serde(default)]
    bind_device: bool,
    #[serde(default)]
    algorithm: SigningAlgorithm,
    /// Seconds from now; negative for a token that has expired.
    expires_in: Option<i64>,
    /// Another `aud`: for a token that is not for us.
    audience: Option<String>,
    /// Another `iss`.
    issuer: Option<String>,
    /// Signed with a key that is not published.
    #[serde(default)]
    forged: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    iat: i64,
    exp: i64,
}

impl TokenRequest {
    fn claims(self, own_issuer: &str, now: i64) -> Claims {
        Claims {
            iss: self.issuer.unwrap_or_else(|| own_issuer.to_owned()),
            aud: self.audience.unwrap_or_else(|| AUDIENCE.to_owned()),
            sub: self.user,
            device: self.device.filter(|_| self.bind_device),
            iat: now,
            exp: now.saturating_add(self.expires_in.unwrap_or(DEFAULT_LIFETIME_SECONDS)),
        }
    }
}

async fn configuration(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({
        "issuer": shared.url,
        "jwks_uri": jwks_url(&shared.url),
        "token_endpoint": format!("{}/token", shared.url),
        "response_types_supported": ["token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [SigningAlgorithm::Es256, SigningAlgorithm::Rs256],
    }))
}

async fn key_set(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, (StatusCode, String)> {
    shared.keys.public().map(Json).map_err(|error| internal(&error))
}

async fn token(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<TokenRequest>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let key = if request.forged { shared.keys.forger() } else { shared.keys.of(request.algorithm) };
    let claims = request.claims(&shared.url, i64::try_from(now).unwrap_or(i64::MAX));
    let token = key.sign(&claims).map_err(|error| internal(&error))?;
    Ok(Json(json!({ "token": token, "expires_at": claims.exp })))
}

fn internal(error: &anyhow::Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> TokenRequest {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_plain_request_gives_plain_claims() {
        let claims = request(r#"{"user":"alice","device":"phone"}"#).claims("http://issuer", 1000);
        let expected = Claims {
            iss: "http://issuer".into(),
            aud: "poste".into(),
            sub: "alice".into(),
            device: None,
            iat: 1000,
            exp: 4600,
        };
        assert_eq!(claims, expected);
    }

    #[test]
    fn tests_may_ask_for_what_has_to_be_refused() {
        let claims = request(
            r#"{"user":"alice","device":"phone","bind_device":true,"expires_in":-60,
                "audience":"other","issuer":"http://elsewhere","algorithm":"RS256","forged":true}"#,
        )
        .claims("http://issuer", 1000);
        assert_eq!(claims.device.as_deref(), Some("phone"));
        assert_eq!((claims.exp, claims.aud.as_str()), (940, "other"));
        assert_eq!(claims.iss, "http://elsewhere");
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        assert!(serde_json::from_str::<TokenRequest>(r#"{"user":"a","expire_in":1}"#).is_err());
    }
}
