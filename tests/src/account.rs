//! The device library on the deployed stack.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use poste_client::{Client, ClientConfig, TokenError, TokenProvider};
use poste_protocol::{DeviceId, UserId};

use crate::{DEADLINE, Deployment, TokenWish, eventually};

/// Tokens from the stack's issuer.
struct Issued {
    /// A client has a runtime of its own, and so has its deployment: it is made there, when the first token is wanted.
    deployment: OnceLock<Deployment>,
    user: UserId,
}

#[async_trait]
impl TokenProvider for Issued {
    async fn token(&self, _: bool) -> Result<String, TokenError> {
        let deployment = self.deployment.get_or_init(Deployment::here);
        Ok(deployment.token(&self.user, &TokenWish::default()).await)
    }
}

/// What the account of a user on a device is opened with, its file in `folder`, connected at once.
///
/// # Panics
/// When the device's id has characters that device ids do not have.
pub fn account(socket_url: &str, folder: &Path, user: &UserId, device: &str) -> ClientConfig {
    let tokens = Arc::new(Issued { deployment: OnceLock::new(), user: user.clone() });
    let device = DeviceId::new(device).expect("well formed");
    let mut config = ClientConfig::new(folder.join("account"), socket_url, user.clone(), device, tokens);
    // A second device has everything without asking for it.
    config.tuning.lazy_history = false;
    config
}

/// Opens the account of a user on a device, with its file in `folder`.
///
/// # Panics
/// When it does not open.
pub async fn open(deployment: &Deployment, folder: &Path, user: &UserId, device: &str, network: bool) -> Client {
    let mut config = account(&deployment.stack().socket_url, folder, user, device);
    config.network = network;
    Client::open(config).await.expect("the account opens")
}

/// Waits until a client's outbox is empty.
///
/// # Panics
/// When it is not by then, or does not read.
pub async fn settled(client: &Client) {
    eventually("the outbox is empty", DEADLINE * 2, async || {
        client.outbox().await.expect("readable").is_empty().then_some(())
    })
    .await;
}
