//! What the platforms' notification services are given, and their bad days: the stand-in of the local stack.

use std::time::Duration;

use poste_local::Stack;
use poste_protocol::Seq;
use serde_json::{Value, json};

use crate::{DEADLINE, Deployment, eventually};

/// The stand-in for SNS's pushes.
pub struct Provider {
    url: String,
    http: reqwest::Client,
}

/// A publish that the stand-in was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// When, by the machine's clock.
    pub at_ms: u64,
    /// To which token.
    pub token: String,
    /// Whether it was taken.
    pub taken: bool,
    /// Of which conversation.
    pub conversation: String,
    /// The message's number.
    pub seq: u64,
    /// The badge.
    pub badge: u64,
    /// The whole message, by platform.
    pub message: Value,
    /// SNS's attributes.
    pub attributes: Value,
}

impl Provider {
    /// That of a stack.
    ///
    /// # Panics
    /// When no HTTP client can be made.
    pub fn of(stack: &Stack) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("an HTTP client");
        Self { url: stack.push_provider.clone(), http }
    }

    /// What concerns tokens that begin so goes wrong from here on: `disabled`, `throttled`, `down`, `slow`, or nothing.
    ///
    /// # Panics
    /// When the stand-in does not answer.
    pub async fn fails(&self, token: &str, fault: Option<&str>) {
        let wish = json!({ "token": token, "fault": fault });
        let answer = self.http.post(format!("{}/fault", self.url)).json(&wish).send().await;
        answer.and_then(reqwest::Response::error_for_status).expect("the provider takes a fault");
    }

    /// Every publish to tokens that begin so, in order.
    ///
    /// # Panics
    /// When the stand-in does not answer.
    pub async fn asked(&self, token: &str) -> Vec<Published> {
        let answer = self.http.get(format!("{}/pushes?token={token}", self.url)).send().await;
        let pushes: Vec<Value> = answer.expect("the provider answers").json().await.expect("JSON");
        pushes.iter().map(published).collect()
    }

    /// What was taken for tokens that begin so.
    pub async fn taken(&self, token: &str) -> Vec<Published> {
        let mut asked = self.asked(token).await;
        asked.retain(|published| published.taken);
        asked
    }

    /// Waits until a push for a message was taken.
    ///
    /// # Panics
    /// When none comes.
    pub async fn takes(&self, token: &str, seq: u64, within: Duration) -> Published {
        let what = format!("a push of {seq} to {token}");
        eventually(&what, within, async || self.taken(token).await.into_iter().find(|push| push.seq == seq)).await
    }
}

fn published(push: &Value) -> Published {
    let message = &push["message"];
    let payload = ["APNS", "APNS_SANDBOX", "GCM"].iter().find_map(|name| message[*name].as_str()).unwrap_or("{}");
    let payload: Value = serde_json::from_str(payload).expect("a payload is JSON");
    // FCM's data are text, APNs' are what they are.
    let data =
        if payload["poste"].is_object() { &payload["poste"] } else { &payload["fcmV1Message"]["message"]["data"] };
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default();
    Published {
        at_ms: number(&push["at_ms"]),
        token: push["token"].as_str().unwrap_or_default().to_owned(),
        taken: push["status"] == 200,
        conversation: data["conversation"].as_str().unwrap_or_default().to_owned(),
        seq: Seq::new(number(&data["seq"])).expect("a number").get(),
        badge: number(&data["badge"]),
        message: push["message"].clone(),
        attributes: push["attributes"].clone(),
    }
}

impl Deployment {
    /// What stands in for the platforms' notification services.
    pub fn provider(&self) -> Provider {
        Provider::of(self.stack())
    }
}
