//! Where devices can be woken: tokens come, are replaced and go; and what nobody wants to be woken for.
//!
//! A token belongs to whoever registered it last. An application that two accounts use has one token: what is written
//! to the earlier account must not show up with the later one.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use poste_protocol::{
    Author, Code, MuteFrame, Platform, ProviderToken, PushStatus, PushToken, Refusal, WokenBy, limits,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Failure, Trouble,
    membership::not_member,
    ports::{Address, Clock, Devices, Mutes, Pusher},
};

/// Stands for a token where the token itself must not be: 43 characters, a digest of platform and token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(String);

impl TokenHash {
    /// Of a token.
    pub fn of(platform: Platform, token: &ProviderToken) -> Self {
        let digest = Sha256::new().chain_update(platform.as_str()).chain_update([0]).chain_update(token.as_str());
        Self(URL_SAFE_NO_PAD.encode(digest.finalize()))
    }

    /// As it is stored.
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The hash as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Registers devices, and mutes conversations.
pub struct Registry {
    devices: Arc<dyn Devices>,
    pusher: Arc<dyn Pusher>,
    mutes: Arc<dyn Mutes>,
    clock: Arc<dyn Clock>,
}

impl Registry {
    /// On these ports.
    pub fn new(
        devices: Arc<dyn Devices>,
        pusher: Arc<dyn Pusher>,
        mutes: Arc<dyn Mutes>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { devices, pusher, mutes, clock }
    }

    /// Registers a device's token in place of the one before, or ends its registration.
    ///
    /// # Errors
    /// Trouble with a part: the same again is safe.
    pub async fn push(&self, author: &Author, token: Option<&PushToken>) -> Result<PushStatus, Failure> {
        let Some(PushToken { platform, token, style }) = token else {
            if let Some(ended) = self.devices.unregister(author).await? {
                self.remove(&ended.endpoint).await;
            }
            return Ok(PushStatus::None);
        };
        if !self.pusher.reaches(*platform) {
            return Ok(PushStatus::Off);
        }
        let Some(endpoint) = self.pusher.endpoint(*platform, token, author).await? else {
            return Ok(PushStatus::Renew);
        };
        let registration =
            Address { platform: *platform, style: *style, token: TokenHash::of(*platform, token), endpoint };
        let replaced = self.devices.register(author, &registration).await?;
        if let Some(replaced) = replaced.filter(|replaced| replaced.endpoint != registration.endpoint) {
            self.remove(&replaced.endpoint).await;
        }
        Ok(PushStatus::Registered)
    }

    /// A device is awake and asks whether it would be woken. Nothing if nobody can tell now.
    pub async fn awake(&self, author: &Author) -> Option<PushStatus> {
        let status = self.devices.awake(author, self.clock.now_ms()).await;
        status.inspect_err(|trouble| tracing::warn!(%trouble, "cannot tell how a device stands")).ok()
    }

    /// A push has led a device here. A line for the metric "pushes that led to a sync".
    pub fn woken(&self, author: &Author, by: &WokenBy) {
        let push = by.push.map(|push| push.to_string());
        tracing::info!(
            metric = "push_to_sync",
            woken = 1_u64,
            user = %author.user,
            device = %author.device,
            conversation = %by.conversation,
            seq = by.seq.map(poste_protocol::Seq::get),
            push,
            "woken by a push"
        );
    }

    /// Mutes a conversation for a user, or mutes it no longer.
    ///
    /// # Errors
    /// `bad_frame`, `not_member`; trouble with a part: the same again is safe.
    pub async fn mute(&self, author: &Author, frame: &MuteFrame) -> Result<(), Failure> {
        let until = frame.until.unwrap_or(0);
        if until > limits::INTEGER {
            return Err(Refusal::new(Code::BadFrame, "`until` is at most 2^53 - 1").into());
        }
        let member = self.mutes.mute(&frame.conversation, &author.user, until).await?;
        if member { Ok(()) } else { Err(not_member().into()) }
    }

    /// An endpoint that is left behind costs nothing but room at the provider.
    async fn remove(&self, endpoint: &str) {
        if let Err(trouble) = self.pusher.remove(endpoint).await {
            let trouble: Trouble = trouble;
            tracing::warn!(%trouble, "cannot remove an endpoint");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_tells_tokens_and_platforms_apart() {
        let token = |text: &str| ProviderToken::new(text).expect("valid");
        let hash = TokenHash::of(Platform::Apns, &token("abc"));
        assert_eq!(hash, TokenHash::of(Platform::Apns, &token("abc")));
        assert_ne!(hash, TokenHash::of(Platform::ApnsSandbox, &token("abc")));
        assert_ne!(hash, TokenHash::of(Platform::Apns, &token("abd")));
        assert_eq!(hash.as_str().len(), 43);
    }
}
