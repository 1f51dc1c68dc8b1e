//! A long file takes no more memory than a short one. A process of its own, so that nothing else is counted.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{SinkExt, StreamExt};
use poste_client::{Client, ClientConfig, Event, State, Target, TokenError, TokenProvider};
use poste_protocol::{DeviceId, UserId};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

const MIB: u64 = 1024 * 1024;

/// What the process may have had in memory at once: library, server and store, and the program itself.
const MOST: u64 = 64 * MIB;

struct Anybody;

#[async_trait]
impl TokenProvider for Anybody {
    async fn token(&self, _: bool) -> Result<String, TokenError> {
        Ok("token".into())
    }
}

/// A store that takes everything and keeps nothing. Its address.
fn store() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/x", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || swallow(&stream));
        }
    });
    address
}

fn swallow(mut stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
            return;
        }
        if let Some(bytes) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = bytes.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).unwrap();
            stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    }
}

/// The answer to a request, as a server gives it that does all that it is asked for.
fn answer(frame: &Value, store: &str) -> Value {
    let mut answer = match (frame["action"].as_str().unwrap(), frame["op"].as_str()) {
        ("list", _) => json!({"type": "list", "conversations": []}),
        ("media", Some("begin")) => {
            let parts = frame["size"].as_u64().unwrap().div_ceil(5 * MIB);
            json!({"type": "media", "state": "open", "missing": [[1, parts]]})
        }
        ("media", Some("parts")) => {
            let link = |part: &Value| json!({"part": part["part"], "url": store, "expires_s": 900});
            let links: Vec<_> = frame["parts"].as_array().unwrap().iter().map(link).collect();
            json!({"type": "media", "state": "links", "links": links})
        }
        ("media", _) => json!({"type": "media", "state": "complete"}),
        ("send", _) => {
            let envelope = &frame["submissions"][0]["envelope"]["id"];
            let verdict = json!({"envelope": envelope, "outcome": "accepted", "seq": 1, "at": 1, "repeat": false});
            json!({"type": "sent", "verdicts": [verdict]})
        }
        // Pages and marks are not what this is about.
        _ => json!({"type": "error", "code": "busy", "message": "later", "retryable": true, "retry_after_ms": 60_000}),
    };
    answer["ref"] = frame["ref"].clone();
    if frame["media"].is_string() {
        answer["media"] = frame["media"].clone();
    }
    answer
}

async fn serve(listener: tokio::net::TcpListener, store: String) {
    let (stream, _) = listener.accept().await.unwrap();
    // The type of the answer is the library's.
    #[allow(clippy::result_large_err, clippy::unnecessary_wraps)]
    let choose = |_: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        response.headers_mut().insert("sec-websocket-protocol", "poste.v1".parse().unwrap());
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, choose).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let said = answer(&serde_json::from_str(&text).unwrap(), &store);
        socket.send(Message::text(said.to_string())).await.unwrap();
    }
}

/// The most that the process has had in memory, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn a_long_file_takes_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mp4");
    std::fs::File::create(&path).unwrap().set_len(200 * MIB).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/x", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, store()));
    let (user, device) = (UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap());
    let config = ClientConfig::new(folder.path().join("account.db"), url, user, device, Arc::new(Anybody));
    let client = Client::open(config).await.unwrap();
    let mut events = client.events();
    let before = peak();
    let bob = Target::User(UserId::new("bob").unwrap());
    let message = client.send_file(bob, &path, "", None).await.unwrap();
    let mut told = 0;
    loop {
        match tokio::time::timeout(Duration::from_mins(2), events.next()).await.unwrap().unwrap() {
            Event::Progress { .. } => told += 1,
            Event::Updated { message: m } if m.id == message.id && m.state == State::Sent => break,
            _ => {}
        }
    }
    let after = peak();
    println!("{} MiB before, {} MiB after, {told} times progress", before / MIB, after / MIB);
    assert!(after < MOST, "{} MiB", after / MIB);
    client.close().await;
}
