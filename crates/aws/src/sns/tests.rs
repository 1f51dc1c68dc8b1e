//! The real SDK against the answers that AWS documents, and the payloads.

use std::sync::{Arc, Mutex};

use aws_sdk_sns::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use poste_domain::{Class, TokenHash};
use poste_protocol::{ConversationId, DeviceId, PushId, Seq, UserId, limits};

use super::*;

const APPLICATION: &str = "arn:aws:sns:eu-west-1:123456789012:app/APNS/poste";
const ENDPOINT: &str = "arn:aws:sns:eu-west-1:123456789012:endpoint/APNS/poste/480e971c-8f7b-3a2a-bc02-6f1d7e0b2a11";

/// Answers in this order; what was asked, as its form's text.
#[derive(Debug, Clone)]
struct Script {
    answers: Arc<Mutex<Vec<(u16, String)>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = request.body().bytes().map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default();
        self.asked.lock().expect("no panic").push(body);
        let (status, answer) = self.answers.lock().expect("no panic").remove(0);
        let status = StatusCode::try_from(status).expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(answer))))
    }
}

fn scripted(answers: &[(u16, String)]) -> (SnsPusher, Script) {
    let script = Script { answers: Arc::new(Mutex::new(answers.to_vec())), asked: Arc::default() };
    let connector = SharedHttpConnector::new(script.clone());
    let config = aws_sdk_sns::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("a", "b", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build();
    let applications = BTreeMap::from([(Platform::Apns, APPLICATION.to_owned())]);
    (SnsPusher::new(aws_sdk_sns::Client::from_conf(config), applications), script)
}

/// An error in the form of the SNS API's documentation.
fn error(status: u16, code: &str, message: &str) -> (u16, String) {
    let kind = if status < 500 { "Sender" } else { "Receiver" };
    let body = format!(
        "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>{kind}</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    );
    (status, body)
}

fn answer(action: &str, result: &str) -> (u16, String) {
    let body = format!(
        "<{action}Response xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><{action}Result>{result}\
         </{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    );
    (200, body)
}

fn made() -> (u16, String) {
    answer("CreatePlatformEndpoint", &format!("<EndpointArn>{ENDPOINT}</EndpointArn>"))
}

fn exists() -> (u16, String) {
    let message = format!(
        "Invalid parameter: Token Reason: Endpoint {ENDPOINT} already exists with the same Token, but different \
         attributes."
    );
    error(400, "InvalidParameter", &message)
}

fn known(token: &str, enabled: &str, owner: &str) -> (u16, String) {
    let entry = |key: &str, value: &str| format!("<entry><key>{key}</key><value>{value}</value></entry>");
    let entries = [entry("Token", token), entry("Enabled", enabled), entry("CustomUserData", owner)].concat();
    answer("GetEndpointAttributes", &format!("<Attributes>{entries}</Attributes>"))
}

fn set() -> (u16, String) {
    answer("SetEndpointAttributes", "")
}

fn token() -> ProviderToken {
    ProviderToken::new("0a1b").expect("valid")
}

fn owner() -> Author {
    Author { user: UserId::new("alice").expect("valid"), device: DeviceId::new("phone").expect("valid") }
}

fn registration(platform: Platform, style: PushStyle) -> Address {
    Address { platform, style, token: TokenHash::of(platform, &token()), endpoint: ENDPOINT.to_owned() }
}

fn push(content: Option<String>) -> Push {
    Push {
        id: PushId(uuid::Uuid::from_u128(5)),
        conversation: ConversationId::new("c".repeat(limits::CONVERSATION_ID)).expect("valid"),
        seq: Seq::new(limits::INTEGER).expect("valid"),
        badge: 7,
        ttl_s: 86_400,
        content,
    }
}

async fn endpoint(answers: &[(u16, String)]) -> (Result<Option<String>>, Vec<String>) {
    let (pusher, script) = scripted(answers);
    let endpoint = pusher.endpoint(Platform::Apns, &token(), &owner()).await;
    let asked = script.asked.lock().expect("no panic");
    let actions = asked.iter().filter_map(|body| body.split('&').find_map(|field| field.strip_prefix("Action=")));
    (endpoint, actions.map(str::to_owned).collect())
}

#[tokio::test]
async fn an_endpoint_is_made_or_found_and_is_enabled_for_its_owner() {
    let (create, get, set_) = ("CreatePlatformEndpoint", "GetEndpointAttributes", "SetEndpointAttributes");
    let right = || known("0a1b", "true", "alice/phone");
    let gone = || error(404, "NotFound", "Endpoint does not exist");
    for (answers, asked) in [
        (vec![made(), right()], vec![create, get]),
        (vec![made(), known("0a1b", "false", "alice/phone"), set()], vec![create, get, set_]),
        (vec![exists(), right()], vec![create, get]),
        (vec![exists(), known("0a1b", "true", "bob/phone"), set()], vec![create, get, set_]),
        (vec![made(), gone(), made(), right()], vec![create, get, create, get]),
    ] {
        assert_eq!(
            endpoint(&answers).await,
            (Ok(Some(ENDPOINT.to_owned())), asked.iter().map(ToString::to_string).collect())
        );
    }
}

#[tokio::test]
async fn what_is_no_token_is_told_apart_from_trouble() {
    let no_token = "Invalid parameter: Token Reason: iOS device tokens must be no more than 400 hexadecimal characters";
    assert_eq!(endpoint(&[error(400, "InvalidParameter", no_token)]).await.0, Ok(None));
    let wrong = error(400, "InvalidParameter", "Invalid parameter: PlatformApplicationArn Reason: does not exist");
    for (answer, class) in [
        (wrong, Class::Permanent),
        (error(403, "AuthorizationError", "not authorized"), Class::Permanent),
        (error(429, "Throttled", "Rate exceeded"), Class::Throttled),
        (error(500, "InternalError", "internal"), Class::Transient),
    ] {
        assert_eq!(endpoint(&[answer]).await.0.expect_err("trouble").class, class);
    }
}

#[tokio::test]
async fn what_a_publish_comes_to() {
    let taken = answer("Publish", "<MessageId>m</MessageId>");
    let deleted = "Invalid parameter: TargetArn Reason: No endpoint found for the target arn specified";
    for (answer, expected) in [
        (taken, Ok(Pushed::Taken)),
        (error(400, "EndpointDisabled", "Endpoint is disabled"), Ok(Pushed::Gone)),
        (error(404, "NotFound", "Endpoint does not exist"), Ok(Pushed::Gone)),
        (error(400, "InvalidParameter", deleted), Ok(Pushed::Gone)),
        (error(400, "PlatformApplicationDisabled", "disabled"), Err(Class::Permanent)),
        (error(400, "InvalidParameter", "Invalid parameter: Message too long"), Err(Class::Permanent)),
        (error(429, "Throttled", "Rate exceeded"), Err(Class::Throttled)),
        (error(400, "Throttling", "Rate exceeded"), Err(Class::Throttled)),
        (error(500, "InternalError", "internal"), Err(Class::Transient)),
        ((503, "<html>".to_owned()), Err(Class::Transient)),
    ] {
        let (pusher, _) = scripted(std::slice::from_ref(&answer));
        let told = pusher.push(&registration(Platform::Apns, PushStyle::Alert), &push(None)).await;
        assert_eq!(told.map_err(|trouble| trouble.class), expected, "{answer:?}");
    }
}

#[test]
fn payloads_say_what_the_platforms_want() {
    let of = |platform, style, content: Option<&str>| {
        let registration = registration(platform, style);
        let push = push(content.map(str::to_owned));
        let message: Value = serde_json::from_str(&message(&registration, &push)).expect("JSON");
        let attributes = attributes(&registration, &push).expect("attributes");
        let attributes: BTreeMap<_, _> =
            attributes.into_iter().map(|(name, value)| (name, value.string_value.expect("text"))).collect();
        let payload = message.as_object().expect("an object").iter().find(|(name, _)| *name != "default");
        let (name, text) = payload.expect("a payload");
        let payload: Value = serde_json::from_str(text.as_str().expect("text")).expect("JSON");
        json!({ "name": name, "payload": payload, "attributes": attributes })
    };
    let (conversation, id) = ("c".repeat(limits::CONVERSATION_ID), "00000000-0000-0000-0000-000000000005");
    let seq = limits::INTEGER;
    let poste = json!({ "conversation": conversation, "seq": seq, "push": id, "badge": 7 });
    let header = |name: &str| format!("AWS.SNS.MOBILE.APNS.{name}");

    let alert = of(Platform::Apns, PushStyle::Alert, None);
    assert_eq!(alert["name"], "APNS");
    let aps = json!({
        "alert": { "loc-key": TEXT }, "badge": 7, "sound": "default", "thread-id": conversation, "mutable-content": 1
    });
    assert_eq!(alert["payload"], json!({ "aps": aps, "poste": poste }));
    assert_eq!(
        alert["attributes"],
        json!({
            header("COLLAPSE_ID"): conversation,
            header("PRIORITY"): "10",
            header("PUSH_TYPE"): "alert",
            header("TTL"): "86400",
        })
    );

    let background = of(Platform::ApnsSandbox, PushStyle::Background, None);
    assert_eq!(background["name"], "APNS_SANDBOX");
    assert_eq!(background["payload"], json!({ "aps": { "content-available": 1 }, "poste": poste }));
    assert_eq!(background["attributes"]["AWS.SNS.MOBILE.APNS_SANDBOX.TTL"], "86400");
    assert_eq!(background["attributes"][header("PUSH_TYPE")], "background");
    assert_eq!(background["attributes"][header("PRIORITY")], "5");

    let told = of(Platform::Fcm, PushStyle::Alert, Some("hi"));
    assert_eq!((&told["name"], &told["attributes"]), (&json!("GCM"), &json!({ "AWS.SNS.MOBILE.FCM.TTL": "86400" })));
    let message = &told["payload"]["fcmV1Message"]["message"];
    let data = json!({ "conversation": conversation, "seq": seq.to_string(), "push": id, "badge": "7" });
    assert_eq!(message["data"], data);
    let android = &message["android"];
    assert_eq!((&android["priority"], &android["ttl"]), (&json!("HIGH"), &json!("86400s")));
    assert_eq!((&android["collapse_key"], &android["notification"]["body"]), (&json!(conversation), &json!("hi")));
    let silent = of(Platform::Fcm, PushStyle::Background, None);
    let android = &silent["payload"]["fcmV1Message"]["message"]["android"];
    assert_eq!((&android["priority"], &android["notification"]), (&json!("NORMAL"), &Value::Null));
}

#[test]
fn no_payload_is_over_4_kilobytes() {
    let contents = [None, Some("x".repeat(120)), Some("👩‍👩‍👧".repeat(2_000)), Some("\u{1}\"\\".repeat(2_000))];
    for platform in Platform::ALL {
        for style in [PushStyle::Alert, PushStyle::Background] {
            for content in &contents {
                let message: Value =
                    serde_json::from_str(&message(&registration(platform, style), &push(content.clone())))
                        .expect("JSON");
                for payload in message.as_object().expect("an object").values() {
                    assert!(payload.as_str().expect("text").len() <= PAYLOAD_BYTES);
                }
            }
        }
    }
}
