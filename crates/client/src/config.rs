//! What a client is opened with.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use poste_protocol::{DeviceId, UserId};

/// Where tokens come from. Called on the library's own runtime, before a connection is made.
#[async_trait]
pub trait TokenProvider: Send + Sync + 'static {
    /// A token for the socket. With `fresh`, the one given before was refused or has run out: get a new one.
    async fn token(&self, fresh: bool) -> Result<String, TokenError>;
}

/// No token could be had. The client waits and asks again; no message fails by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The person has to sign in again.
    #[error("sign-in refused: {0}")]
    Refused(String),
    /// The issuer could not be reached.
    #[error("no token for now: {0}")]
    Unavailable(String),
}

/// What a client is opened with.
#[derive(Clone)]
pub struct ClientConfig {
    /// The account's `SQLite` file. Its folder is made if it is missing.
    pub path: PathBuf,
    /// `ws://` or `wss://`, without the query: the device is added.
    pub socket_url: String,
    /// Who the account belongs to.
    pub user: UserId,
    /// This installation.
    pub device: DeviceId,
    /// Where tokens come from.
    pub tokens: Arc<dyn TokenProvider>,
    /// Whether others may see that the person is here, and the person sees others: both or neither. See
    /// [`Client::set_visible`](crate::Client::set_visible).
    pub visible: bool,
    /// Whether to connect at once. `false` leaves the network cut until `set_network(true)`.
    pub network: bool,
    /// The folder for downloaded files, and for nothing else; one beside the account's file if there is none. The system
    /// may remove what is in it.
    pub cache: Option<PathBuf>,
    /// Waits and bounds; the defaults are meant for production.
    pub tuning: Tuning,
}

impl ClientConfig {
    /// A configuration with the default tuning that connects at once.
    pub fn new(
        path: impl Into<PathBuf>,
        socket_url: impl Into<String>,
        user: UserId,
        device: DeviceId,
        tokens: Arc<dyn TokenProvider>,
    ) -> Self {
        Self {
            path: path.into(),
            socket_url: socket_url.into(),
            user,
            device,
            tokens,
            visible: true,
            network: true,
            cache: None,
            tuning: Tuning::default(),
        }
    }

    /// Where downloaded files are.
    pub(crate) fn cache_folder(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| self.path.with_extension("files"))
    }
}

/// Waits, in milliseconds, and bounds of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// A request that is not answered by then closes the connection.
    pub request_deadline: u64,
    /// So long may a handshake take, the token included.
    pub connect_deadline: u64,
    /// The first backoff's ceiling; doubled with every failure.
    pub backoff_base: u64,
    /// No backoff's ceiling is above this.
    pub backoff_cap: u64,
    /// The first wait of a connection whose place another connection of the same device took, about; doubled each time
    /// that this happens, up to the second number. It ends when a person looks at the application.
    pub replaced_wait: (u64, u64),
    /// After so long without a frame either way a `hello` keeps the connection. The gateway's limit is ten minutes.
    pub keep_alive: u64,
    /// The connection is renewed after a random time between these two. The gateway's limit is two hours.
    pub renew_between: (u64, u64),
    /// Receipts are told at most once in this time, in a frame of their own or along with what is sent.
    pub mark_interval: u64,
    /// A receipt that is due waits so long for something that it may ride along with.
    pub mark_patience: u64,
    /// While a person goes on writing, others are told once in this time.
    pub typing_interval: u64,
    /// Somebody who was said to write is shown as writing for so long, unless it is said again.
    pub typing_shown: u64,
    /// At most one `watch` frame in this time.
    pub watch_interval: u64,
    /// How long a cell that leaves a gap waits for what is missing before the gap is fetched.
    pub gap_wait: u64,
    /// Whether a conversation of which nothing is on this device is entered at its end, and its history is fetched
    /// when the application asks for it ([`Client::older`](crate::Client::older)). If not, every conversation is read
    /// from its beginning, without being asked. What has begun one way goes on that way.
    pub lazy_history: bool,
    /// Last messages that a device asks for with its first list, at most 50: so many conversations are on the screen with
    /// something to read before a page of them is here. One that has anything of a log does not ask.
    pub previews: u32,
    /// Frames that a list of conversations is answered with at most, 1 to 16.
    pub list_frames: u32,
    /// Messages that a page of history is asked for, about.
    pub history_page: u32,
    /// Requests for pages under way at a time, each of many conversations.
    pub syncs: usize,
    /// Frames that each of them is answered with at most, 1 to 16.
    pub sync_frames: u32,
    /// Parts of files that are sent at a time. So much is sent again when the network goes, and is in memory.
    pub parts: usize,
    /// Pages of history under way at a time.
    pub fetches: usize,
    /// `send` frames under way at a time.
    pub send_frames: usize,
    /// Whether a refused envelope holds back what was written after it in its conversation, until it was retried or
    /// dropped. If not, later messages go on past it, and what is retried comes after them: then the log does not have
    /// everything in the order in which it was written. Other conversations are never held back.
    pub hold_back: bool,
    /// Cells beyond the cursor that are kept in memory, per conversation.
    pub buffered_cells: usize,
    /// How long a device whose lane conflicts waits for a last number that was reserved and never written.
    pub conflict_patience: u64,
    /// Bytes that downloaded files may take on this device; those that were not looked at for longest go first. A file
    /// that is longer stays alone.
    pub cache_bytes: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        const MINUTE: u64 = 60_000;
        Self {
            request_deadline: 10_000,
            connect_deadline: 15_000,
            backoff_base: 500,
            backoff_cap: 30_000,
            replaced_wait: (MINUTE, 30 * MINUTE),
            keep_alive: 5 * MINUTE,
            renew_between: (90 * MINUTE, 110 * MINUTE),
            mark_interval: 1_000,
            mark_patience: 250,
            typing_interval: 4_000,
            typing_shown: 6_000,
            watch_interval: 1_000,
            gap_wait: 50,
            lazy_history: true,
            previews: 50,
            list_frames: 16,
            history_page: 100,
            syncs: 2,
            sync_frames: 8,
            parts: 2,
            fetches: 4,
            send_frames: 4,
            hold_back: true,
            buffered_cells: 64,
            conflict_patience: 10_000,
            cache_bytes: 512 * 1024 * 1024,
        }
    }
}
