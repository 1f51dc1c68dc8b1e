//! The road between a device and the local stack, on which connections are cut and bytes are counted.
//!
//! It listens on a port of its own and passes on what comes to the emulator's, which serves the socket and the object
//! store. In what passes by, the emulator's address is replaced by the road's and the other way round; both are equally
//! long, so nothing else has to change. So addresses that are signed for the emulator lead over the road, too.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// How often a port is looked for whose address is as long as the emulator's.
const TRIES: usize = 100;

/// How long the rest of an address may take.
const REST: Duration = Duration::from_millis(20);

/// Bytes that are passed on at once.
const CHUNK: usize = 64 * 1024;

/// A road. Dropped, it and all connections on it end.
pub struct Road {
    address: String,
    cuts: watch::Sender<u64>,
    up: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
    listening: JoinHandle<()>,
}

impl Road {
    /// To what listens at this address (`127.0.0.1:4566`).
    ///
    /// # Panics
    /// When there is no port for it.
    pub async fn to(there: &str) -> Self {
        let mut listener = None;
        for _ in 0..TRIES {
            let candidate = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = candidate.local_addr().expect("an address").to_string();
            if address.len() == there.len() {
                listener = Some((candidate, address));
                break;
            }
        }
        let (listener, address) = listener.expect("a port whose address is as long");
        let (cuts, _) = watch::channel(0);
        let (up, down) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let listening = tokio::spawn({
            let (cuts, up, down, here, there) =
                (cuts.clone(), up.clone(), down.clone(), address.clone(), there.to_owned());
            async move {
                while let Ok((device, _)) = listener.accept().await {
                    let (mut cut, up, down) = (cuts.subscribe(), up.clone(), down.clone());
                    let (here, there) = (here.clone(), there.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = passes(device, &here, &there, &up, &down) => {}
                            _ = cut.changed() => {}
                        }
                    });
                }
            }
        });
        Self { address, cuts, up, down, listening }
    }

    /// Where it begins.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts every connection on it. New ones can be made at once.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Bytes that devices have sent, heads and sockets included.
    pub fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes that devices were sent.
    pub fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

async fn passes(device: TcpStream, here: &str, there: &str, up: &AtomicU64, down: &AtomicU64) -> io::Result<()> {
    let server = TcpStream::connect(there).await?;
    let (from_device, to_device) = device.into_split();
    let (from_server, to_server) = server.into_split();
    // Where one side has ended, nothing more comes of the other.
    tokio::select! {
        ended = pass(from_device, to_server, here, there, up) => ended,
        ended = pass(from_server, to_device, there, here, down) => ended,
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    what: &str,
    with: &str,
    count: &AtomicU64,
) -> io::Result<()> {
    let (mut held, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    loop {
        // What may be the beginning of an address waits for the rest, and not for long: it may be the end of something.
        let read = if held.is_empty() {
            from.read(&mut chunk).await?
        } else {
            let Ok(read) = tokio::time::timeout(REST, from.read(&mut chunk)).await else {
                to.write_all(&held).await?;
                to.flush().await?;
                held.clear();
                continue;
            };
            read?
        };
        if read == 0 {
            to.write_all(&held).await?;
            return to.shutdown().await;
        }
        count.fetch_add(read as u64, Ordering::Relaxed);
        held.extend_from_slice(&chunk[..read]);
        replace(&mut held, what.as_bytes(), with.as_bytes());
        let kept = (1..what.len()).rev().find(|n| held.ends_with(&what.as_bytes()[..*n])).unwrap_or(0);
        let rest = held.split_off(held.len() - kept);
        to.write_all(&held).await?;
        to.flush().await?;
        held = rest;
    }
}

fn replace(bytes: &mut [u8], what: &[u8], with: &[u8]) {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| *b == what[0]).map(|at| from + at) {
        if bytes[at..].starts_with(what) {
            bytes[at..at + what.len()].copy_from_slice(with);
            from = at + what.len();
        } else {
            from = at + 1;
        }
        if from >= bytes.len() {
            break;
        }
    }
}
