//! Posting frames to live connections, through API Gateway's callback endpoint.

use async_trait::async_trait;
use aws_sdk_apigatewaymanagement::{
    Client,
    operation::{delete_connection::DeleteConnectionError, post_to_connection::PostToConnectionError},
    primitives::Blob,
};
use poste_domain::ports::{Callback, Posted, Result};

use crate::trouble::trouble;

/// The callback endpoint.
pub struct GatewayCallback {
    client: Client,
}

impl GatewayCallback {
    /// On a client whose endpoint is that of the API's stage.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Callback for GatewayCallback {
    async fn post(&self, connection_id: &str, frame: &str) -> Result<Posted> {
        let posted = self.client.post_to_connection().connection_id(connection_id).data(Blob::new(frame)).send().await;
        match posted {
            Ok(_) => Ok(Posted::Taken),
            Err(error) if error.as_service_error().is_some_and(PostToConnectionError::is_gone_exception) => {
                Ok(Posted::Gone)
            }
            Err(error) => Err(trouble("callback.post", &error)),
        }
    }

    async fn close(&self, connection_id: &str) -> Result<()> {
        match self.client.delete_connection().connection_id(connection_id).send().await {
            Err(error) if !error.as_service_error().is_some_and(DeleteConnectionError::is_gone_exception) => {
                Err(trouble("callback.close", &error))
            }
            _ => Ok(()),
        }
    }
}
