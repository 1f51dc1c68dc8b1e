//! Where tokens come from: the application.

use std::sync::Arc;

use async_trait::async_trait;
use poste_client::{TokenError, TokenProvider};

/// No token could be had. The client waits and asks again; no message fails by it.
#[derive(Debug, thiserror::Error, uniffi::Error)]
pub enum TokenFailure {
    /// The person has to sign in again.
    #[error("sign-in refused: {reason}")]
    Refused {
        /// For people who read logs.
        reason: String,
    },
    /// The issuer could not be reached.
    #[error("no token for now: {reason}")]
    Unavailable {
        /// For people who read logs.
        reason: String,
    },
}

impl From<uniffi::UnexpectedUniFFICallbackError> for TokenFailure {
    fn from(wrong: uniffi::UnexpectedUniFFICallbackError) -> Self {
        Self::Unavailable { reason: wrong.reason }
    }
}

/// Implemented by the application.
#[uniffi::export(with_foreign)]
pub trait TokenSource: Send + Sync {
    /// A token for the socket. With `fresh`, the one given before was refused or has run out: get a new one. Called on a
    /// thread of its own, which it may block.
    fn token(&self, fresh: bool) -> Result<String, TokenFailure>;
}

pub(crate) struct Tokens(pub(crate) Arc<dyn TokenSource>);

#[async_trait]
impl TokenProvider for Tokens {
    async fn token(&self, fresh: bool) -> Result<String, TokenError> {
        let source = Arc::clone(&self.0);
        // The library's runtime has one thread, which must not wait for the application.
        match tokio::task::spawn_blocking(move || source.token(fresh)).await {
            Ok(Ok(token)) => Ok(token),
            Ok(Err(TokenFailure::Refused { reason })) => Err(TokenError::Refused(reason)),
            Ok(Err(TokenFailure::Unavailable { reason })) => Err(TokenError::Unavailable(reason)),
            Err(_) => Err(TokenError::Unavailable("the application's token source failed".into())),
        }
    }
}
