//! A server and a store of a few lines, in the process of the test: they do all that they are asked for, and remember it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::{SinkExt, StreamExt};
use poste_client::{Client, ClientConfig, TokenError, TokenProvider};
use poste_protocol::{DeviceId, Digest, UserId, part_count};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

/// What there is.
#[derive(Debug, Default)]
pub(crate) struct There {
    /// The parts of the one file, by their numbers.
    pub(crate) parts: BTreeMap<u32, Digest>,
    /// How many came, those that were there already included.
    pub(crate) puts: usize,
    /// The file was put together.
    pub(crate) complete: bool,
    /// By envelope: the messages in it, in the order of the log.
    pub(crate) log: Vec<(String, Vec<Value>)>,
}

/// Where they are.
pub(crate) struct StandIn {
    /// What they have been told.
    pub(crate) there: Arc<Mutex<There>>,
    /// For devices.
    pub(crate) socket: String,
}

impl StandIn {
    /// Starts them. The store takes so long for every 64 KiB.
    pub(crate) async fn start(slow: Duration) -> Self {
        let there = Arc::new(Mutex::new(There::default()));
        let store = store(Arc::clone(&there), slow);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = format!("ws://{}/x", listener.local_addr().unwrap());
        let told = Arc::clone(&there);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&told), store.clone()));
            }
        });
        Self { there, socket }
    }
}

/// Alice's phone, whose account is in this folder.
pub(crate) async fn phone(folder: &Path, socket: String) -> Client {
    let (user, device) = (UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap());
    let config = ClientConfig::new(folder.join("account.db"), socket, user, device, Arc::new(Anybody));
    Client::open(config).await.unwrap()
}

struct Anybody;

#[async_trait]
impl TokenProvider for Anybody {
    async fn token(&self, _: bool) -> Result<String, TokenError> {
        Ok("token".into())
    }
}

/// A store that keeps of every part its checksum. Its address.
fn store(there: Arc<Mutex<There>>, slow: Duration) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let there = Arc::clone(&there);
            std::thread::spawn(move || take(&stream, &there, slow));
        }
    });
    address
}

/// Takes parts until the connection is gone; half a part is none.
fn take(mut stream: &TcpStream, there: &Mutex<There>, slow: Duration) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).ok().filter(|read| *read > 0)?;
        }
        let part = head.strip_prefix("PUT /")?.split(' ').next()?.parse().ok()?;
        let length =
            head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut rest: u64 = length?;
        let mut sum = Sha256::new();
        let mut chunk = vec![0; 64 * 1024];
        while rest > 0 {
            let most = chunk.len().min(usize::try_from(rest).ok()?);
            reader.read_exact(&mut chunk[..most]).ok()?;
            sum.update(&chunk[..most]);
            rest -= most as u64;
            std::thread::sleep(slow);
        }
        let mut told = there.lock().unwrap();
        told.puts += 1;
        told.parts.insert(part, Digest::from_bytes(sum.finalize().into()));
        drop(told);
        stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

async fn serve(stream: tokio::net::TcpStream, there: Arc<Mutex<There>>, store: String) {
    // The type of the answer is the library's.
    #[allow(clippy::result_large_err, clippy::unnecessary_wraps)]
    let choose = |_: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        response.headers_mut().insert("sec-websocket-protocol", "poste.v1".parse().unwrap());
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, choose).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let said = answer(&mut there.lock().unwrap(), &serde_json::from_str(&text).unwrap(), &store);
        if socket.send(Message::text(said.to_string())).await.is_err() {
            return;
        }
    }
}

fn answer(there: &mut There, frame: &Value, store: &str) -> Value {
    let mut answer = match (frame["action"].as_str().unwrap(), frame["op"].as_str()) {
        ("list", _) => json!({"type": "list", "conversations": []}),
        ("media", Some("begin")) if there.complete => json!({"type": "media", "state": "complete"}),
        ("media", Some("begin")) => {
            let all = 1..=part_count(frame["size"].as_u64().unwrap());
            let missing: Vec<_> = all.filter(|part| !there.parts.contains_key(part)).map(|part| [part, part]).collect();
            json!({"type": "media", "state": "open", "missing": missing})
        }
        ("media", Some("parts")) => {
            let url = |part: &Value| format!("{store}{}", part["part"]);
            let link = |part: &Value| json!({"part": part["part"], "url": url(part), "expires_s": 900});
            let links: Vec<_> = frame["parts"].as_array().unwrap().iter().map(link).collect();
            json!({"type": "media", "state": "links", "links": links})
        }
        ("media", _) => {
            there.complete = true;
            json!({"type": "media", "state": "complete"})
        }
        ("send", _) => {
            assert!(there.complete, "a message before its file");
            let envelope = &frame["submissions"][0]["envelope"];
            let id = envelope["id"].to_string();
            let known = there.log.iter().position(|(known, _)| *known == id);
            let place = known.unwrap_or_else(|| {
                there.log.push((id, envelope["messages"].as_array().unwrap().clone()));
                there.log.len() - 1
            });
            let verdict = json!({"envelope": envelope["id"], "outcome": "accepted", "seq": place + 1, "at": 1,
                "repeat": known.is_some()});
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

impl There {
    /// The file as it was put together, and the one message that refers to it.
    pub(crate) fn check(&self) {
        let sum = Digest::of_parts(&self.parts.values().copied().collect::<Vec<_>>());
        let messages: Vec<&Value> = self.log.iter().flat_map(|(_, messages)| messages).collect();
        let ids: BTreeSet<String> = messages.iter().map(|message| message["id"].to_string()).collect();
        assert_eq!((messages.len(), ids.len()), (1, 1), "once");
        assert_eq!(messages[0]["media"]["sha256"], json!(sum), "what is there is what the message says");
    }
}
