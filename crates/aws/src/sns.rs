//! Pushes through SNS platform endpoints: addresses of tokens, and the payloads of APNs and FCM.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use aws_sdk_sns::{
    Client,
    error::SdkError,
    operation::{
        create_platform_endpoint::CreatePlatformEndpointError, get_endpoint_attributes::GetEndpointAttributesError,
        publish::PublishError, set_endpoint_attributes::SetEndpointAttributesError,
    },
    types::MessageAttributeValue,
};
use poste_domain::{
    Trouble,
    ports::{Address, Push, Pushed, Pusher, Result},
};
use poste_protocol::{Author, Platform, ProviderToken, PushStyle};
use serde_json::{Value, json};

use crate::trouble::trouble;

/// Bytes of a payload that APNs and FCM take.
const PAYLOAD_BYTES: usize = 4096;

/// The text that an application shows where it is told no content: a key of its own translations.
const TEXT: &str = "poste_message";

/// How often an endpoint is made that vanishes while it is looked at.
const ROUNDS: u32 = 2;

/// What an error says between which the endpoint is that has the token already.
const EXISTS: (&str, &str) = ("Endpoint ", " already exists with the same Token");

/// Pushes through SNS.
pub struct SnsPusher {
    client: Client,
    applications: BTreeMap<Platform, String>,
}

impl SnsPusher {
    /// To these platform applications, by their ARNs.
    pub fn new(client: Client, applications: BTreeMap<Platform, String>) -> Self {
        Self { client, applications }
    }

    /// The endpoint of a token, whatever its attributes are. Making it is idempotent for the same token and attributes
    /// only; otherwise the error names the endpoint that is there. Nothing if this is no token.
    async fn found(&self, application: &str, token: &ProviderToken, owner: &str) -> Result<Option<String>> {
        let made = self
            .client
            .create_platform_endpoint()
            .platform_application_arn(application)
            .token(token.as_str())
            .custom_user_data(owner)
            .send()
            .await;
        match made {
            Ok(made) => {
                let endpoint = made.endpoint_arn.ok_or_else(|| Trouble::broken("push.create", "no ARN"))?;
                Ok(Some(endpoint))
            }
            Err(error) => match error.as_service_error() {
                Some(CreatePlatformEndpointError::InvalidParameterException(invalid)) => {
                    let message = invalid.message().unwrap_or_default();
                    match existing(message) {
                        Some(endpoint) => Ok(Some(endpoint.to_owned())),
                        None if message.contains("Token") => Ok(None),
                        None => Err(trouble("push.create", &error)),
                    }
                }
                _ => Err(trouble("push.create", &error)),
            },
        }
    }

    /// Makes sure that an endpoint is enabled, with this token and owner. `false` if it is gone.
    async fn enabled(&self, endpoint: &str, token: &ProviderToken, owner: &str) -> Result<bool> {
        let looked = self.client.get_endpoint_attributes().endpoint_arn(endpoint).send().await;
        let known = match looked {
            Ok(looked) => looked.attributes.unwrap_or_default(),
            Err(error) => match error.as_service_error() {
                Some(GetEndpointAttributesError::NotFoundException(_)) => return Ok(false),
                _ => return Err(trouble("push.look", &error)),
            },
        };
        let wanted = [("Token", token.as_str()), ("Enabled", "true"), ("CustomUserData", owner)];
        if wanted.iter().all(|(name, value)| known.get(*name).is_some_and(|known| known == value)) {
            return Ok(true);
        }
        let mut setting = self.client.set_endpoint_attributes().endpoint_arn(endpoint);
        for (name, value) in wanted {
            setting = setting.attributes(name, value);
        }
        match setting.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(SetEndpointAttributesError::is_not_found_exception) => {
                Ok(false)
            }
            Err(error) => Err(trouble("push.set", &error)),
        }
    }
}

/// The endpoint that an error names because it has the token already.
fn existing(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once(EXISTS.0)?;
    let (endpoint, _) = rest.split_once(EXISTS.1)?;
    endpoint.starts_with("arn:").then_some(endpoint)
}

/// Whether a failed publish says that there is nobody at the endpoint any more.
fn is_gone(error: &SdkError<PublishError, aws_sdk_sns::config::http::HttpResponse>) -> bool {
    match error.as_service_error() {
        Some(PublishError::EndpointDisabledException(_) | PublishError::NotFoundException(_)) => true,
        // As AWS says it of an endpoint that was deleted.
        Some(PublishError::InvalidParameterException(invalid)) => {
            invalid.message().is_some_and(|message| message.contains("No endpoint found for the target arn"))
        }
        _ => false,
    }
}

#[async_trait]
impl Pusher for SnsPusher {
    fn reaches(&self, platform: Platform) -> bool {
        self.applications.contains_key(&platform)
    }

    async fn endpoint(&self, platform: Platform, token: &ProviderToken, owner: &Author) -> Result<Option<String>> {
        let application = self.applications.get(&platform);
        let application = application.ok_or_else(|| Trouble::broken("push.create", "no application"))?;
        let owner = format!("{}/{}", owner.user, owner.device);
        for _ in 0..ROUNDS {
            let Some(endpoint) = self.found(application, token, &owner).await? else { return Ok(None) };
            if self.enabled(&endpoint, token, &owner).await? {
                return Ok(Some(endpoint));
            }
        }
        Err(Trouble::new("push.create", poste_domain::Class::Transient, "the endpoint vanishes"))
    }

    async fn push(&self, registration: &Address, push: &Push) -> Result<Pushed> {
        let attributes = attributes(registration, push)?;
        let published = self
            .client
            .publish()
            .target_arn(&registration.endpoint)
            .message_structure("json")
            .message(message(registration, push))
            .set_message_attributes(Some(attributes))
            .send()
            .await;
        match published {
            Ok(_) => Ok(Pushed::Taken),
            Err(error) if is_gone(&error) => Ok(Pushed::Gone),
            Err(error) => Err(trouble("push.publish", &error)),
        }
    }

    async fn remove(&self, endpoint: &str) -> Result<()> {
        // Idempotent: an endpoint that is not there is no error.
        let removed = self.client.delete_endpoint().endpoint_arn(endpoint).send().await;
        removed.map(|_| ()).map_err(|error| trouble("push.remove", &error))
    }
}

/// SNS's own attributes of a push: how long it is worth delivering, and what APNs has in headers.
fn attributes(registration: &Address, push: &Push) -> Result<HashMap<String, MessageAttributeValue>> {
    let apns = match registration.platform {
        Platform::Apns => Some("APNS"),
        Platform::ApnsSandbox => Some("APNS_SANDBOX"),
        Platform::Fcm => None,
    };
    let ttl = format!("AWS.SNS.MOBILE.{}.TTL", apns.unwrap_or("FCM"));
    let mut attributes = vec![(ttl, push.ttl_s.to_string())];
    if apns.is_some() {
        // Apple refuses background pushes of the highest priority.
        let priority = if registration.style == PushStyle::Alert { "10" } else { "5" };
        attributes.extend([
            ("AWS.SNS.MOBILE.APNS.PUSH_TYPE".to_owned(), registration.style.as_str().to_owned()),
            ("AWS.SNS.MOBILE.APNS.PRIORITY".to_owned(), priority.to_owned()),
            ("AWS.SNS.MOBILE.APNS.COLLAPSE_ID".to_owned(), push.conversation.to_string()),
        ]);
    }
    let attribute = |(name, value): (String, String)| {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
        Ok((name, value.map_err(|error| Trouble::broken("push.publish", error))?))
    };
    attributes.into_iter().map(attribute).collect()
}

/// The message of `MessageStructure=json`: a payload under its platform's name, as text.
fn message(registration: &Address, push: &Push) -> String {
    let content = push.content.as_deref();
    let mut payload = payload(registration, push, content).to_string();
    if payload.len() > PAYLOAD_BYTES {
        payload = self::payload(registration, push, None).to_string();
    }
    let platform = match registration.platform {
        Platform::Apns => "APNS",
        Platform::ApnsSandbox => "APNS_SANDBOX",
        Platform::Fcm => "GCM",
    };
    // `default` has to be there; it is for those to whom nothing else applies, which is nobody.
    json!({ "default": "poste", platform: payload }).to_string()
}

fn payload(registration: &Address, push: &Push, content: Option<&str>) -> Value {
    match registration.platform {
        Platform::Apns | Platform::ApnsSandbox => apns(registration.style, push, content),
        Platform::Fcm => fcm(registration.style, push, content),
    }
}

fn apns(style: PushStyle, push: &Push, content: Option<&str>) -> Value {
    let Push { id, conversation, seq, badge, .. } = push;
    let aps = match style {
        PushStyle::Alert => json!({
            "alert": content.map_or_else(|| json!({ "loc-key": TEXT }), |content| json!({ "body": content })),
            "badge": badge,
            "sound": "default",
            "thread-id": conversation,
            // Lets the application put its own words in place of these before they are shown.
            "mutable-content": 1,
        }),
        // Nothing else may be beside it.
        PushStyle::Background => json!({ "content-available": 1 }),
    };
    json!({ "aps": aps, "poste": { "conversation": conversation, "seq": seq, "push": id, "badge": badge } })
}

/// FCM's HTTP v1 message. The values of `data` are text there.
fn fcm(style: PushStyle, push: &Push, content: Option<&str>) -> Value {
    let Push { id, conversation, seq, badge, ttl_s, .. } = push;
    let data = json!({
        "conversation": conversation,
        "seq": seq.to_string(),
        "push": id,
        "badge": badge.to_string(),
    });
    let ttl = format!("{ttl_s}s");
    let android = match style {
        PushStyle::Alert => {
            let mut notification = json!({
                "tag": conversation, "sound": "default", "notification_count": badge.min(&u64::from(u16::MAX))
            });
            match content {
                Some(content) => notification["body"] = content.into(),
                None => notification["body_loc_key"] = TEXT.into(),
            }
            json!({ "collapse_key": conversation, "priority": "HIGH", "ttl": ttl, "notification": notification })
        }
        PushStyle::Background => json!({ "collapse_key": conversation, "priority": "NORMAL", "ttl": ttl }),
    };
    json!({ "fcmV1Message": { "message": { "data": data, "android": android } } })
}

#[cfg(test)]
mod tests;
