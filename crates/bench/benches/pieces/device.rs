//! Pieces of the device library: its engine over `SQLite` in memory, so that no disk is waited for.

use anyhow::{Context, ensure};
use poste_client::engine::{Engine, Input, Now, Output};
use poste_client::store::Store;
use poste_client::{Target, Tuning};
use poste_protocol::Seq;
use uuid::Uuid;

use crate::Piece;
use crate::account::{Account, body, conversation, me, peer};
use crate::functions::delivery;
use crate::server::Server;

/// The account that is listed.
const ACCOUNT: Account = Account { messages: 1_100, conversations: 500, longest: 102 };
/// Cells of a delivery.
const DELIVERED: u64 = 25;
/// Cells of the page by which a device is up to date.
const PAGE: u64 = 25;

/// A device that is connected, with a server in the same thread.
struct Device {
    engine: Engine,
    server: Server,
    now: Now,
    /// What it has to say.
    outputs: Vec<Output>,
}

impl Device {
    /// It has taken in a page of conversation 0, and has nothing to do.
    fn connected() -> anyhow::Result<Self> {
        let me = me()?;
        let store = Store::in_memory(&me.user, &me.device)?;
        let engine = Engine::new(store, me, Tuning { lazy_history: false, ..Tuning::default() }, 1);
        let now = Now { wall: 1_000_000, mono: 0, boot: Uuid::nil(), since_boot: 0 };
        let mut device = Self { engine, server: Server::default(), now, outputs: Vec::new() };
        device.server.has(conversation(0)?, Seq::ZERO);
        device.server.add_page(conversation(0)?, crate::functions::cells(1, PAGE)?);
        device.engine.handle(now, Input::Network(true))?;
        device.outputs = device.engine.handle(now, Input::Connected)?;
        device.settle()?;
        ensure!(device.cursor()? == PAGE, "it is at {}", device.cursor()?);
        Ok(device)
    }

    /// Answers until it has nothing to say any more.
    fn settle(&mut self) -> anyhow::Result<()> {
        while !self.outputs.is_empty() {
            for output in std::mem::take(&mut self.outputs) {
                if let Output::Frame(frame) = output {
                    let answer = self.server.answer(&frame)?;
                    self.outputs.extend(self.engine.handle(self.now, Input::Frame(answer))?);
                }
            }
        }
        Ok(())
    }

    fn cursor(&mut self) -> anyhow::Result<u64> {
        let view = self.engine.read()?.conversation_view(&conversation(0)?)?;
        Ok(view.context("the conversation is there")?.cursor.get())
    }
}

/// Writing a message, which goes out at once.
pub(crate) struct Sending {
    device: Device,
    sent: u64,
    next: Option<(Target, String)>,
}

impl Sending {
    pub(crate) fn make() -> anyhow::Result<Self> {
        Ok(Self { device: Device::connected()?, sent: 0, next: None })
    }
}

impl Piece for Sending {
    /// The last message is acknowledged.
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.device.settle()?;
        self.next = Some((Target::User(peer(0)?), body(self.sent)));
        Ok(())
    }

    fn act(&mut self) -> anyhow::Result<()> {
        let Some((to, body)) = self.next.take() else { return Ok(()) };
        let (_, outputs) = self.device.engine.send(self.device.now, to, body)?;
        self.sent += 1;
        let goes_out = outputs.iter().any(|output| matches!(output, Output::Frame(_)));
        ensure!(goes_out, "message {} does not go out", self.sent);
        self.device.outputs = outputs;
        Ok(())
    }
}

/// Taking in what others wrote.
pub(crate) struct Taking {
    device: Device,
    cursor: u64,
    next: Option<String>,
}

impl Taking {
    pub(crate) fn make() -> anyhow::Result<Self> {
        Ok(Self { device: Device::connected()?, cursor: PAGE, next: None })
    }
}

impl Piece for Taking {
    fn prepare(&mut self) -> anyhow::Result<()> {
        self.device.settle()?;
        let here = self.device.cursor()?;
        ensure!(here == self.cursor, "{here}, and not {}", self.cursor);
        self.next = Some(serde_json::to_string(&delivery(self.cursor + 1)?)?);
        Ok(())
    }

    fn act(&mut self) -> anyhow::Result<()> {
        let Some(frame) = self.next.take() else { return Ok(()) };
        self.device.outputs = self.device.engine.handle(self.device.now, Input::Frame(frame))?;
        self.cursor += DELIVERED;
        Ok(())
    }
}

/// Listing conversations, of a file.
pub(crate) struct Listing {
    store: Store,
    /// With the file, as long as it is read.
    _folder: tempfile::TempDir,
}

impl Listing {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (path, me) = (folder.path().join("account.db"), me()?);
        ACCOUNT.make(&path)?;
        let store = Store::open(&path, &me.user, &me.device)?;
        Ok(Self { store, _folder: folder })
    }
}

impl Piece for Listing {
    fn act(&mut self) -> anyhow::Result<()> {
        let conversations = self.store.read()?.conversations()?;
        ensure!(conversations.len() as u64 == ACCOUNT.conversations, "{} conversations", conversations.len());
        Ok(())
    }
}
