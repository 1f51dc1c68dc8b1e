//! The device library on the deployed stack.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use poste_client::{Client, ClientConfig, TokenError, TokenProvider};
use poste_protocol::{DeviceId, UserId};

use crate::{Deployment, TokenWish};

/// Tokens from the stack's issuer.
struct Issued {
    deployment: Deployment,
    user: UserId,
}

#[async_trait]
impl TokenProvider for Issued {
    async fn token(&self, _: bool) -> Result<String, TokenError> {
        Ok(self.deployment.token(&self.user, &TokenWish::default()).await)
    }
}

/// Opens the account of a user on a device, with its file in `folder`.
///
/// # Panics
/// When it does not open.
pub async fn open(deployment: &Deployment, folder: &Path, user: &UserId, device: &str, network: bool) -> Client {
    // A client has a runtime of its own, and so has its deployment.
    let tokens = Arc::new(Issued { deployment: Deployment::here(), user: user.clone() });
    let device = DeviceId::new(device).expect("well formed");
    let mut config =
        ClientConfig::new(folder.join("account"), &deployment.stack().socket_url, user.clone(), device, tokens);
    config.network = network;
    Client::open(config).await.expect("the account opens")
}
