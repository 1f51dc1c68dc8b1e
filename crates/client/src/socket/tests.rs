//! The whole client over a real socket, against a small server in the same process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::{SinkExt, StreamExt};
use poste_protocol::{ConversationId, DeviceId, UserId};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use super::address;
use crate::store::Store;
use crate::transfer::tests as transfer;
use crate::{
    Client, ClientConfig, Connection, Error, Event, Events, State, StoreError, Target, TokenError, TokenProvider,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Gives `token-1`, and with every fresh one the next number.
struct Tokens(AtomicUsize);

#[async_trait]
impl TokenProvider for Tokens {
    async fn token(&self, fresh: bool) -> Result<String, TokenError> {
        let count = self.0.fetch_add(usize::from(fresh), Ordering::Relaxed) + usize::from(fresh);
        Ok(format!("token-{count}"))
    }
}

/// A server that accepts one connection at a time, if the token is good.
struct Server {
    listener: TcpListener,
    good_token: &'static str,
}

type Peer = WebSocketStream<TcpStream>;

impl Server {
    async fn start(good_token: &'static str) -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port"), good_token }
    }

    fn url(&self) -> String {
        format!("ws://{}/prod", self.listener.local_addr().expect("bound"))
    }

    /// The next connection, unless it is turned away.
    async fn next(&self) -> Option<Peer> {
        let (stream, _) = within(self.listener.accept()).await.expect("a connection");
        let good = format!("Bearer {}", self.good_token);
        // The type of the answer is the library's.
        #[allow(clippy::result_large_err)]
        let check = |request: &Request, mut response: Response| {
            assert_eq!(request.uri().to_string(), "/prod?device=phone");
            let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
            assert_eq!(header("sec-websocket-protocol"), "poste.v1");
            if header("authorization") != good {
                let mut no = ErrorResponse::new(None);
                *no.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::UNAUTHORIZED;
                return Err(no);
            }
            let chosen = "poste.v1".parse().expect("a header's value");
            response.headers_mut().insert("sec-websocket-protocol", chosen);
            Ok(response)
        };
        tokio_tungstenite::accept_hdr_async(stream, check).await.ok()
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it happens in time")
}

/// The next request with that action; others are left unanswered, but for lists.
async fn request(peer: &mut Peer, action: &str) -> Value {
    loop {
        let message = within(peer.next()).await.expect("the device is there").expect("a sound frame");
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        if frame["action"] == action {
            return frame;
        }
        if frame["action"] == "list" {
            say(peer, &json!({"type": "list", "ref": frame["ref"], "conversations": []})).await;
        }
    }
}

async fn say(peer: &mut Peer, frame: &Value) {
    peer.send(Message::text(frame.to_string())).await.expect("the device listens");
}

async fn event(events: &mut Events, which: impl Fn(&Event) -> bool) {
    while !which(&within(events.next()).await.expect("the client is open")) {}
}

fn config(folder: &tempfile::TempDir, url: String) -> ClientConfig {
    let (user, device) = (UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap());
    let tokens = Arc::new(Tokens(AtomicUsize::new(1)));
    ClientConfig::new(folder.path().join("account.db"), url, user, device, tokens)
}

fn bob() -> Target {
    Target::User(UserId::new("bob").unwrap())
}

fn accepted(frame: &Value) -> Value {
    let id = &frame["submissions"][0]["envelope"]["id"];
    let verdict = json!({"envelope": id, "outcome": "accepted", "seq": 1, "at": 1, "repeat": false});
    json!({"type": "sent", "ref": frame["ref"], "verdicts": [verdict]})
}

#[tokio::test]
async fn a_lost_connection_is_made_again_and_the_envelope_goes_again() {
    let server = Server::start("token-1").await;
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(config(&folder, server.url())).await.unwrap();
    let mut events = client.events();
    let mut peer = server.next().await.unwrap();
    let message = client.send(bob(), "over a real socket").await.unwrap();
    let first = request(&mut peer, "send").await;
    drop(peer);

    let mut peer = server.next().await.unwrap();
    let second = request(&mut peer, "send").await;
    assert_eq!(first["submissions"][0]["envelope"], second["submissions"][0]["envelope"]);
    say(&mut peer, &accepted(&second)).await;
    event(&mut events, |e| matches!(e, Event::Updated { message: m } if m.id == message.id && m.state == State::Sent))
        .await;
    client.close().await;
    assert!(matches!(client.send(bob(), "too late").await, Err(Error::Closed)));
    // Listeners end with the client.
    while within(events.next()).await.is_some() {}
}

#[tokio::test]
async fn a_refused_token_is_replaced_by_a_fresh_one() {
    let server = Server::start("token-2").await;
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(config(&folder, server.url())).await.unwrap();
    let mut events = client.events();
    assert!(server.next().await.is_none(), "the first token is refused");
    let mut peer = server.next().await.expect("the fresh one is not");
    request(&mut peer, "list").await;
    event(&mut events, |e| matches!(e, Event::Connection { state: Connection::Online })).await;
}

#[tokio::test]
async fn a_network_that_is_cut_closes_the_socket_and_its_return_connects() {
    let server = Server::start("token-1").await;
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(config(&folder, server.url())).await.unwrap();
    let mut peer = server.next().await.unwrap();
    request(&mut peer, "list").await;
    client.set_network(false).await.unwrap();
    while let Some(Ok(message)) = within(peer.next()).await {
        assert!(message.is_close(), "{message}");
    }
    client.send(bob(), "in the tunnel").await.unwrap();
    assert_eq!(client.connection().await.unwrap(), Connection::Off);
    client.set_network(true).await.unwrap();
    let mut peer = server.next().await.unwrap();
    let frame = request(&mut peer, "send").await;
    assert_eq!(frame["submissions"][0]["envelope"]["messages"][0]["body"], "in the tunnel");
}

#[tokio::test]
async fn a_caller_that_is_cancelled_cancels_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder, "ws://127.0.0.1:9".into());
    config.network = false;
    let client = Client::open(config).await.unwrap();
    let mut sending = Box::pin(client.send(bob(), "said is said"));
    // Polled once, so that it is asked for; then nobody waits for it any more.
    let _ = futures::poll!(&mut sending);
    drop(sending);
    let id = client.conversations().await.unwrap()[0].id.clone();
    assert_eq!(client.history(id, None, 10).await.unwrap()[0].body, "said is said");
}

#[tokio::test]
async fn a_closed_client_lets_go_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let mut config = config(&folder, "ws://127.0.0.1:9".into());
        config.network = false;
        Client::open(config)
    };
    let client = open().await.unwrap();
    assert!(matches!(open().await, Err(Error::Store(StoreError::AlreadyOpen { .. }))));
    client.close().await;
    open().await.unwrap();
}

/// C2: what mobile systems ask of an application in the background.
#[tokio::test]
async fn a_suspended_client_holds_nothing_and_goes_on_when_it_is_resumed() {
    let server = Server::start("token-1").await;
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, server.url());
    let client = Client::open(config.clone()).await.unwrap();
    let mut events = client.events();
    let mut peer = server.next().await.unwrap();
    client.send(bob(), "under way").await.unwrap();
    let before = request(&mut peer, "send").await;
    let counted = client.counters().await.unwrap().submissions;
    client.suspend().await.unwrap();
    client.suspend().await.unwrap();
    while let Some(Ok(message)) = within(peer.next()).await {
        assert!(message.is_close(), "{message}");
    }
    event(&mut events, |e| matches!(e, Event::Connection { state: Connection::Off })).await;

    assert!(matches!(client.send(bob(), "no").await, Err(Error::Suspended)));
    assert!(matches!(client.outbox().await, Err(Error::Suspended)));
    assert_eq!(client.connection().await.unwrap(), Connection::Off);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "account.db" || name == "account.lock"), "{left:?}");
    // Another process, such as one that shows notifications, has the account for a while.
    let store = Store::open(&config.path, &config.user, &config.device).unwrap();
    assert!(matches!(client.resume().await, Err(Error::Store(StoreError::AlreadyOpen { .. }))));
    assert!(matches!(client.outbox().await, Err(Error::Suspended)), "and it may be tried again");
    store.close().unwrap();

    client.resume().await.unwrap();
    client.resume().await.unwrap();
    event(&mut events, |e| matches!(e, Event::Missed { count: 0 })).await;
    let mut peer = server.next().await.unwrap();
    let after = request(&mut peer, "send").await;
    assert_eq!(after["submissions"][0]["envelope"], before["submissions"][0]["envelope"]);
    assert_eq!(after["submissions"][0]["attempt"], 2);
    assert_eq!(client.counters().await.unwrap().submissions, counted + 1);
    say(&mut peer, &accepted(&after)).await;
    event(&mut events, |e| matches!(e, Event::Updated { message: m } if m.state == State::Sent)).await;
}

/// A network that is cut or comes back meanwhile is noted.
#[tokio::test]
async fn the_network_may_be_cut_and_come_back_while_the_client_is_suspended() {
    let server = Server::start("token-1").await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder, server.url());
    config.network = false;
    let client = Client::open(config).await.unwrap();
    client.suspend().await.unwrap();
    client.set_network(true).await.unwrap();
    // Hints do no harm meanwhile.
    client.foreground().await.unwrap();
    let shown = ConversationId::new("shown").unwrap();
    client.open_conversation(shown.clone()).await.unwrap();
    client.resume().await.unwrap();
    request(&mut server.next().await.unwrap(), "list").await;
    client.close_conversation(shown).await.unwrap();
    client.suspend().await.unwrap();
    client.close().await;
    assert!(matches!(client.resume().await, Err(Error::Closed)));
}

/// C1, C2: damage that shows only while the client is at work. The log's file is damaged in the middle.
#[tokio::test]
async fn a_file_that_turns_out_to_be_damaged_is_replaced_and_the_client_goes_on() {
    let server = Server::start("token-1").await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder, server.url());
    config.network = false;
    let path = config.path.clone();
    let client = Client::open(config).await.unwrap();
    for number in 0..300 {
        client.send(bob(), format!("{number} {}", "x".repeat(1_000))).await.unwrap();
    }
    client.suspend().await.unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let (begin, end) = (bytes.len() * 4 / 10, bytes.len() * 6 / 10);
    bytes[begin..end].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    client.resume().await.unwrap();
    let mut events = client.events();
    assert!(matches!(client.outbox().await, Err(Error::Store(wrong)) if wrong.is_damage()));
    event(&mut events, |e| matches!(e, Event::Missed { count: 0 })).await;
    let recovery = client.recovery().await.unwrap().expect("it was noticed");
    assert!(recovery.incomplete && recovery.messages > 100 && recovery.messages < 300, "{recovery:?}");
    assert!(std::path::Path::new(&recovery.kept).exists());
    client.recovery_noted().await.unwrap();
    assert_eq!(client.recovery().await.unwrap(), None);

    let entries = client.outbox().await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.messages.len() as u64).sum::<u64>(), recovery.messages);
    client.set_network(true).await.unwrap();
    let mut peer = server.next().await.unwrap();
    let frame = request(&mut peer, "send").await;
    assert!(frame["submissions"][0]["envelope"]["messages"][0]["body"].as_str().unwrap().starts_with("0 x"));
}

/// A disk that is full under a connected client: a clear error, nothing lost, nothing stuck.
#[tokio::test]
async fn a_full_disk_stops_nothing_for_good() {
    let server = Server::start("token-1").await;
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(config(&folder, server.url())).await.unwrap();
    let mut events = client.events();
    let mut peer = server.next().await.unwrap();
    let kept = client.send(bob(), "kept").await.unwrap();
    let first = request(&mut peer, "send").await;
    client.limit_pages(1).await;
    let refused = client.send(bob(), "y".repeat(20_000)).await.unwrap_err();
    assert!(matches!(&refused, Error::Store(wrong) if !wrong.is_damage()), "{refused}");
    // What comes in meanwhile cannot be stored, and is not acknowledged.
    let cell = json!({"seq": 1, "envelope": poste_protocol::EnvelopeId::fresh(), "number": 1, "at": 1,
        "by": {"user": "bob", "device": "laptop"},
        "messages": [{"id": poste_protocol::MessageId::fresh(), "body": "z".repeat(20_000)}]});
    let conversation = kept.conversation.clone();
    let items = json!([{"conversation": &conversation, "cells": [&cell]}]);
    say(&mut peer, &json!({"type": "delivery", "items": items})).await;
    while let Some(Ok(message)) = within(peer.next()).await {
        assert!(!message.is_text() || !message.to_text().unwrap().contains("\"mark\""), "{message}");
    }
    assert_eq!(client.history(conversation.clone(), None, 10).await.unwrap(), std::slice::from_ref(&kept));

    client.limit_pages(u32::MAX).await;
    let mut peer = server.next().await.unwrap();
    let again = request(&mut peer, "send").await;
    assert_eq!(again["submissions"][0]["envelope"], first["submissions"][0]["envelope"]);
    say(&mut peer, &accepted(&again)).await;
    event(&mut events, |e| matches!(e, Event::Updated { message: m } if m.id == kept.id && m.state == State::Sent))
        .await;
    client.send(bob(), "y".repeat(20_000)).await.unwrap();
    assert_eq!(client.recovery().await.unwrap(), None, "a full disk is no damage");
}

#[test]
fn the_device_is_added_to_the_address() {
    let device = DeviceId::new("phone").unwrap();
    assert_eq!(address("wss://x.example/prod", &device).unwrap().to_string(), "wss://x.example/prod?device=phone");
    assert_eq!(address("ws://h/p?a=b", &device).unwrap().to_string(), "ws://h/p?a=b&device=phone");
    for bad in ["http://x", "x", "", "ws://a b"] {
        assert!(matches!(address(bad, &device), Err(Error::Address(_))), "{bad}");
    }
}

/// The next request about a file, which must be this one; answered with this state.
async fn media(peer: &mut Peer, op: &str, state: &Value) -> Value {
    let frame = request(peer, "media").await;
    assert_eq!(frame["op"], op, "{frame}");
    let mut answer = json!({"type": "media", "ref": frame["ref"], "media": frame["media"]});
    answer.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
    say(peer, &answer).await;
    frame
}

#[tokio::test]
async fn a_file_goes_up_and_comes_down_over_real_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = transfer::bytes(6 * 1024 * 1024);
    let path = folder.path().join("film.mp4");
    std::fs::write(&path, &bytes).unwrap();
    let all = bytes.clone();
    let store = transfer::Store::new(move |request| {
        let gives = request.line.starts_with("GET");
        transfer::Reply::whole(200, if gives { all.clone() } else { Vec::new() })
    });

    let server = Server::start("token-1").await;
    let client = Client::open(config(&folder, server.url())).await.unwrap();
    let mut events = client.events();
    let mut peer = server.next().await.unwrap();
    let message = client.send_file(bob(), &path, "look", None).await.unwrap();
    let begin = media(&mut peer, "begin", &json!({"state": "open", "missing": [[1, 2]]})).await;
    assert_eq!(begin["sha256"], json!(transfer::digest(&bytes)));
    let link = |part: u32| json!({"part": part, "url": store.address, "expires_s": 900});
    media(&mut peer, "parts", &json!({"state": "links", "links": [link(1), link(2)]})).await;
    media(&mut peer, "complete", &json!({"state": "complete"})).await;
    let send = request(&mut peer, "send").await;
    say(&mut peer, &accepted(&send)).await;
    event(&mut events, |e| matches!(e, Event::Progress { id, up: true, .. } if *id == message.id)).await;
    event(&mut events, |e| matches!(e, Event::Updated { message: m } if m.id == message.id && m.state == State::Sent))
        .await;
    let mut lengths: Vec<_> = store.seen.lock().unwrap().iter().map(|request| request.body.len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [1024 * 1024, 5 * 1024 * 1024]);

    let talk = message.conversation.clone();
    assert_eq!(client.download(talk.clone(), message.id).await.unwrap(), path, "its own is where it was");
    std::fs::remove_file(&path).unwrap();
    let coming = tokio::spawn({
        let (client, talk) = (client.clone(), talk.clone());
        async move { client.download(talk, message.id).await }
    });
    let link = json!({"url": store.address, "expires_s": 900});
    media(&mut peer, "get", &json!({"state": "link", "link": link})).await;
    let here = within(coming).await.unwrap().unwrap();
    assert!(std::fs::read(&here).unwrap() == bytes);
    assert!(here.starts_with(folder.path().join("account.files")));
    assert_eq!(client.download(talk.clone(), message.id).await.unwrap(), here, "without a request");

    // While it is suspended nothing moves, and what was asked for is answered.
    std::fs::remove_file(&here).unwrap();
    let coming = tokio::spawn({
        let client = client.clone();
        async move { client.download(talk, message.id).await }
    });
    request(&mut peer, "media").await;
    client.suspend().await.unwrap();
    assert!(within(coming).await.unwrap().is_err());
    client.resume().await.unwrap();
    client.close().await;
}
