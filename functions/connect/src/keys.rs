//! The issuer's keys, fetched when needed and kept.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jsonwebtoken::jwk::JwkSet;

/// How long keys are good without a look: bounds how long a withdrawn key still counts.
const GOOD_FOR: Duration = Duration::from_mins(10);

/// The shortest time between two looks for an unknown key, so that forged key ids do not become load on the issuer.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// A look at the issuer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The largest set of keys that is read.
const LARGEST: usize = 256 * 1024;

/// The keys could not be had: not the token's fault.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The issuer did not answer, or not well.
    #[error("the issuer's keys are out of reach: {0}")]
    Unreachable(#[from] reqwest::Error),
    /// What it answered are no keys.
    #[error("the issuer's keys are malformed: {0}")]
    Malformed(String),
}

/// The keys that an issuer publishes at an address.
pub struct Keys {
    url: String,
    client: reqwest::Client,
    known: Mutex<Option<(Instant, Arc<JwkSet>)>>,
}

impl Keys {
    /// Of this address.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(url: String) -> Result<Self, KeysError> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { url, client, known: Mutex::new(None) })
    }

    /// The keys, looked up anew if they are old or lack `key_id`.
    ///
    /// # Errors
    /// When they are needed and cannot be had.
    pub async fn with(&self, key_id: &str) -> Result<Arc<JwkSet>, KeysError> {
        let known = self.known.lock().expect("nothing panics while it holds the lock").clone();
        if let Some((since, keys)) = known {
            let age = since.elapsed();
            let suffices = keys.find(key_id).is_some();
            if (suffices && age < GOOD_FOR) || age < BETWEEN_LOOKS {
                return Ok(keys);
            }
        }
        let keys = Arc::new(self.fetch().await?);
        *self.known.lock().expect("nothing panics while it holds the lock") = Some((Instant::now(), keys.clone()));
        Ok(keys)
    }

    async fn fetch(&self) -> Result<JwkSet, KeysError> {
        let mut answer = self.client.get(&self.url).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                return Err(KeysError::Malformed("too large".to_owned()));
            }
        }
        serde_json::from_slice(&body).map_err(|error| KeysError::Malformed(error.to_string()))
    }
}
