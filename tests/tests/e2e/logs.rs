//! What the functions' logs tell, and what they never hold.

use std::{collections::BTreeSet, time::Duration};

use poste_protocol::{
    Attachment, Digest, Envelope, EnvelopeId, Mark, MediaFile, MediaId, MediaState, MediaWish, Message, MessageId,
    MessagePlace, PartWish, Platform, ProviderToken, PushStatus, PushStyle, PushToken, Submission,
};
use poste_tests::{Deployment, Showing, Store, TokenWish, eventually, seq, submission};
use serde_json::{Value, json};
use uuid::Uuid;

/// How long the last function may take to log.
const SOON: Duration = Duration::from_secs(30);

/// Q1, Q2: neither what people write nor what opens a door is in any function's log: bodies, names of files, thumbnails,
/// titles, tokens of the issuer and of push services, signed addresses. Also not when something is refused.
#[tokio::test]
async fn logs_hold_no_content_and_no_keys() {
    let deployment = Deployment::here();
    if deployment.stack().emulator_pid.is_none() && !deployment.stack().logs.join("connect.log").exists() {
        println!("not played: the logs of the functions are not in {}", deployment.stack().logs.display());
        return;
    }
    let secret = |what: &str| format!("{what}{}", Uuid::now_v7().simple());
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut bobs = deployment.device(&bob, "phone").await;
    let pushed = secret("pushtoken");
    let token = ProviderToken::new(pushed.clone()).expect("well formed");
    let wish = PushToken { platform: Platform::Fcm, token, style: PushStyle::Alert };
    assert_eq!(bobs.registers(Some(wish)).await, PushStatus::Registered);
    bobs.drop_connection();

    let jwt = deployment.token(&alice, &TokenWish::default()).await;
    let mut phone = deployment.device_offline(&alice, "phone");
    phone.connect_with(&Showing::Bearer(jwt.clone())).await;
    let forged = deployment.token(&alice, &TokenWish { forged: true, ..TokenWish::default() }).await;
    let refused = deployment.handshake(Some("phone"), &Showing::Bearer(forged.clone())).await;
    assert!(refused.is_err(), "a forged token opens nothing");

    // Sent, edited and deleted; refused for its target; not even a frame.
    let (body, edit, lost, rubbish) = (secret("body"), secret("edit"), secret("lost"), secret("rubbish"));
    let (first, sent) = phone.tells(&bob, &body).await;
    let conversation = first.conversation.clone();
    let place = MessagePlace { seq: seq(sent.seq), id: first.messages[0].id };
    let edits = Message { edits: Some(place), ..Message::new(MessageId::fresh(), edit.clone()) };
    let written = phone.writes(&bob, "");
    phone.sends(&Envelope { messages: vec![edits], ..written }).await;
    let nowhere = MessagePlace { id: MessageId::fresh(), ..place };
    let edits = Message { edits: Some(nowhere), ..Message::new(MessageId::fresh(), lost.clone()) };
    let written = phone.writes(&bob, "");
    phone.submit(submission(&Envelope { messages: vec![edits], ..written })).await.expect_err("there is none");
    phone.ask_raw(&format!("{{\"action\":\"send\",\"ref\":\"x\",\"submissions\":[\"{rubbish}\"]}}")).await;
    phone.ask_raw(&format!("{{\"action\":\"{rubbish}\",\"ref\":\"y\"}}")).await;

    // A file.
    let (name, thumbnail, media) = (secret("name"), secret("thumbnail"), MediaId::fresh());
    let bytes = secret("bytes").into_bytes();
    let file = MediaFile { size: bytes.len() as u64, sha256: Digest::of(&bytes), kind: "image/png".to_owned() };
    let begin = MediaWish::Begin { to: None, file: file.clone() };
    phone.wants(&conversation, media, begin).await.expect("begun");
    let parts = vec![PartWish { part: 1, sha256: file.sha256 }];
    let links = phone.wants(&conversation, media, MediaWish::Parts { parts }).await;
    let Ok(MediaState::Links { links }) = links else { panic!("{links:?}") };
    let link = &links[0].link;
    assert_eq!(Store::new().put(link, bytes.clone()).await, 200);
    let signature = link.url.split("X-Amz-Signature=").nth(1).expect("it is signed");
    let signature = signature.split('&').next().unwrap_or_default().to_owned();
    let attached = Attachment {
        id: media,
        size: file.size,
        sha256: file.sha256,
        kind: file.kind,
        name: Some(name.clone()),
        pixels: None,
        thumbnail: Some(thumbnail.clone()),
    };
    let written = phone.writes(&bob, "");
    let caption = secret("caption");
    let shown = Message::of_media(MessageId::fresh(), caption.clone(), attached.clone());
    let shown = phone.sends(&Envelope { messages: vec![shown], ..written }).await;
    let gone = Attachment { id: MediaId::fresh(), ..attached };
    let written = phone.writes(&bob, "");
    let gone = Message::of_media(MessageId::fresh(), caption.clone(), gone);
    let gone: Submission = submission(&Envelope { messages: vec![gone], ..written });
    phone.submit(gone).await.expect_err("there is no such file");

    // Everything is delivered, or bob is woken for it.
    let provider = deployment.provider();
    eventually("bob is woken", SOON, async || (!provider.taken(&pushed).await.is_empty()).then_some(())).await;
    let mut tablet = deployment.device(&bob, "tablet").await;
    assert!(tablet.whole_log(&conversation).await.iter().any(|cell| cell.last().get() == shown.seq));

    let logs = || deployment.logs();
    eventually("the functions have logged", SOON, async || (logs().len() >= 5).then_some(())).await;
    let jwts = [jwt, forged].map(|jwt| jwt.rsplit('.').next().unwrap_or_default().to_owned());
    let secrets = [body, edit, lost, rubbish, name, thumbnail, caption, pushed, signature].into_iter().chain(jwts);
    let logs = logs();
    for secret in secrets {
        assert!(secret.len() >= 32, "long enough to be found by chance never: {secret}");
        for (function, text) in &logs {
            let logged = text.lines().find(|text| text.contains(&secret));
            assert!(logged.is_none(), "{function} has logged {secret}: {}", logged.unwrap_or_default());
        }
    }
}

/// What a function's log says of an envelope, by the line's message.
fn said(deployment: &Deployment, function: &str, message: &str, envelope: EnvelopeId) -> Option<Value> {
    let log = deployment.logs().remove(function)?;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().find(|line| line["message"] == message && line["envelope"] == json!(envelope))
}

/// Q1: one id, which the device makes, is in the log of each function that a message comes through.
#[tokio::test]
async fn a_message_can_be_followed_from_the_device_to_the_push() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut bobs = deployment.device(&bob, "phone").await;
    let token = ProviderToken::new(format!("token{}", Uuid::now_v7().simple())).expect("well formed");
    let wish = PushToken { platform: Platform::Fcm, token, style: PushStyle::Alert };
    assert_eq!(bobs.registers(Some(wish)).await, PushStatus::Registered);
    let mut phone = deployment.device(&alice, "phone").await;
    let (heard, sent) = phone.tells(&bob, "you are here").await;
    bobs.hears(&heard).await;
    bobs.drop_connection();
    let (missed, _) = phone.tells(&bob, "you are not").await;

    let wait = async |function: &str, message: &str, envelope| {
        let what = format!("{function} says that it is {message}");
        eventually(&what, SOON, async || said(&deployment, function, message, envelope)).await
    };
    let line = wait("send", "stored", heard.id).await;
    assert_eq!((&line["seq"], &line["repeat"]), (&json!(sent.seq.to_string()), &json!(false)));
    assert_eq!((&line["user"], &line["span"]["route"]), (&json!(alice), &json!("send")));
    assert_eq!(wait("deliver", "delivered", heard.id).await["posts"], 1);
    wait("send", "stored", missed.id).await;
    wait("deliver", "delivered", missed.id).await;
    assert_eq!(wait("notify", "pushed", missed.id).await["device"], "phone");

    // The same once more is told as what it is.
    phone.sends(&heard).await;
    let is_repeat = |line: &Value| line["repeat"] == json!(true) && line["envelope"] == json!(heard.id);
    let repeated = async || {
        let log = deployment.logs().remove("send")?;
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).find(is_repeat)
    };
    eventually("the repeat is in the log", SOON, repeated).await;
}

/// Q1: what is measured is in the logs, as CloudWatch reads it from there.
#[tokio::test]
async fn what_is_measured_is_in_the_logs() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    // Each work alone in its second: what an instance adds up is written with the first request after it.
    let mut measured = BTreeSet::new();
    let wanted = [
        "request_ms",
        "connect_opened",
        "send_messages",
        "send_repeats",
        "delivery_age_ms",
        "marks_advanced",
        "backlog_behind",
        "page_ms",
        "page_cells",
    ];
    let all = async || {
        let (envelope, sent) = phone.tells(&bob, "hi").await;
        phone.sends(&envelope).await;
        let conversation = envelope.conversation;
        bobs.whole_log(&conversation).await;
        let delivered = Some(seq(sent.seq));
        bobs.mark(vec![Mark { conversation, delivered, read: None }]).await.expect("taken");
        bobs.list(None).await;
        for (function, log) in deployment.logs() {
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            for line in lines.filter(|line| line.get("_aws").is_some()) {
                assert!(line["FunctionName"].as_str().is_some_and(|name| name.ends_with(&function)), "{line}");
                for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().expect("a list") {
                    let name = metric["Name"].as_str().expect("a name");
                    assert!(line[name].is_u64() || line[name].is_array(), "{line}");
                    measured.insert(name.to_owned());
                }
            }
        }
        wanted.iter().all(|name| measured.contains(*name)).then_some(())
    };
    eventually("everything is measured", SOON, all).await;
}
