//! Tokens from the local stack's issuer: `POST {issuer}/token`.

use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use poste_client::{TokenError, TokenProvider};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::account::Settings;

/// How long tokens are asked for, in seconds: longer than a connection lives.
const LIFETIME: u64 = 3 * 3600;

/// How long the issuer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The issuer, and the token it gave last.
pub(crate) struct Issuer {
    http: reqwest::Client,
    address: String,
    who: serde_json::Value,
    last: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct Issued {
    token: String,
}

impl Issuer {
    pub(crate) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().context("an HTTP client")?;
        let address = format!("{}/token", settings.issuer.trim_end_matches('/'));
        let who = json!({"user": settings.user, "device": settings.device, "expires_in": LIFETIME});
        Ok(Self { http, address, who, last: Mutex::new(None) })
    }
}

#[async_trait]
impl TokenProvider for Issuer {
    async fn token(&self, fresh: bool) -> Result<String, TokenError> {
        let mut last = self.last.lock().await;
        if let Some(token) = last.as_ref().filter(|_| !fresh) {
            return Ok(token.clone());
        }
        let unavailable = |wrong: reqwest::Error| TokenError::Unavailable(wrong.to_string());
        let answer = self.http.post(&self.address).json(&self.who).send().await.map_err(unavailable)?;
        if answer.status().is_client_error() {
            return Err(TokenError::Refused(format!("the issuer answered {}", answer.status())));
        }
        let issued: Issued = answer.error_for_status().map_err(unavailable)?.json().await.map_err(unavailable)?;
        *last = Some(issued.token.clone());
        Ok(issued.token)
    }
}
