//! A device in a process of its own (`src/bin/mortal.rs`), seen from the test that starts and kills it: what it is
//! ordered to do, and what it tells of it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use poste_client::State;
use poste_protocol::{ConversationId, MessageId, UserId};
use serde::{Deserialize, Serialize};

use crate::{memory::memory, wait::DEADLINE};

/// What the device is to do. One line of JSON each; they are done one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Open the account. Answered twice: before, and when it is open.
    Open {
        /// Whether to connect at once.
        network: bool,
    },
    /// Write a message.
    Write {
        /// To whom.
        to: UserId,
        /// What its body begins with.
        label: u64,
        /// How long the body is at least.
        bytes: usize,
    },
    /// Send a file.
    WriteFile {
        /// To whom.
        to: UserId,
        /// Which.
        path: PathBuf,
    },
    /// Fetch the file of a message.
    Download {
        /// Of which conversation.
        conversation: ConversationId,
        /// Of which message.
        id: MessageId,
    },
    /// Everything that is here has been read.
    Read,
    /// Cut the network, or bring it back.
    Network {
        /// Whether there is one.
        on: bool,
    },
    /// Tell what is on the screen.
    Show,
    /// Wait, and let the library do what it does.
    Pause {
        /// So long.
        ms: u64,
    },
    /// Let no file grow by more than that beyond the largest there is, as a full disk would; with nothing, no file can
    /// be written to at all.
    FillDisk {
        /// Bytes.
        room: Option<u64>,
    },
    /// There is room again.
    FreeDisk,
    /// Close the account. Answered twice: before, and when it is closed.
    Close,
}

/// What the device tells: one line of JSON for each order, at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// It is about to open or to close the account.
    Begun,
    /// It has done what it was ordered.
    Done,
    /// `send` has returned.
    Wrote {
        /// The message's id.
        id: MessageId,
    },
    /// A file is here.
    Saved {
        /// Where.
        path: PathBuf,
    },
    /// A call was refused.
    Refused {
        /// Whether for trouble with the file.
        store: bool,
        /// What the error says.
        why: String,
    },
    /// What is on the screen.
    Shown {
        /// Each conversation's list, as `history` gives it.
        lists: BTreeMap<ConversationId, Vec<Line>>,
        /// Everything in the outbox, looked at before the lists.
        outbox: Vec<MessageId>,
        /// How many envelopes are under way.
        under_way: usize,
        /// Frames sent since the account was opened.
        frames: u64,
    },
}

/// A message on the screen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its id.
    pub id: MessageId,
    /// Its place in the log.
    pub seq: Option<u64>,
    /// How far it has come.
    pub state: State,
    /// Whether this user wrote it.
    pub own: bool,
    /// What its body begins with.
    pub label: u64,
}

/// How a device's process ended.
#[derive(Debug)]
pub struct Ended {
    /// It was the signal that ended it, and not itself.
    pub killed: bool,
    /// What it had told and nobody had read.
    pub rest: Vec<Told>,
}

/// A device's process. Dropped, it is killed.
#[derive(Debug)]
pub struct Mortal {
    child: Child,
    orders: ChildStdin,
    told: Receiver<Told>,
}

impl Mortal {
    /// Starts `binary`, which finds its stack as tests do.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(binary: &str, folder: &Path, user: &UserId, device: &str) -> Self {
        Self::spawn(&mut Command::new(binary), folder, user, device)
    }

    /// The same on the stack that a state file tells of.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_on(binary: &str, stack: &Path, folder: &Path, user: &UserId, device: &str) -> Self {
        Self::spawn(Command::new(binary).env("POSTE_STACK", stack), folder, user, device)
    }

    fn spawn(command: &mut Command, folder: &Path, user: &UserId, device: &str) -> Self {
        let mut child = command
            .arg(folder)
            .args([user.as_str(), device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the device's process starts");
        let orders = child.stdin.take().expect("it has a pipe for orders");
        let output = child.stdout.take().expect("it has a pipe for answers");
        let (tell, told) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let line = line.expect("what it tells is text");
                match serde_json::from_str(&line) {
                    // Nobody listens any more: then nobody wants to know.
                    Ok(told) => drop(tell.send(told)),
                    // What was being told when it was killed, it had not told.
                    Err(wrong) => assert!(wrong.is_eof(), "the device tells {line:?}: {wrong}"),
                }
            }
        });
        Self { child, orders, told }
    }

    /// Gives orders, and does not wait for the answers. One who is dead hears nothing.
    ///
    /// # Panics
    /// Never, for orders.
    pub fn order<'a>(&mut self, orders: impl IntoIterator<Item = &'a Order>) {
        let mut lines = Vec::new();
        for order in orders {
            serde_json::to_writer(&mut lines, order).expect("an order has only plain fields");
            lines.push(b'\n');
        }
        let _ = self.orders.write_all(&lines);
    }

    /// The next answer; nothing when the process has ended.
    ///
    /// # Panics
    /// When it lives and tells nothing.
    pub fn hear(&self) -> Option<Told> {
        match self.told.recv_timeout(DEADLINE) {
            Ok(told) => Some(told),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("waited {DEADLINE:?} for what the device's process tells"),
        }
    }

    /// The next answer, if one comes in that time.
    pub fn hear_within(&self, time: Duration) -> Option<Told> {
        self.told.recv_timeout(time).ok()
    }

    /// Gives one order and waits until it is done.
    ///
    /// # Panics
    /// When the process has ended.
    pub fn does(&mut self, order: &Order) -> Told {
        let twice = matches!(order, Order::Open { .. } | Order::Close);
        self.order([order]);
        if twice {
            assert_eq!(self.hear(), Some(Told::Begun), "it begins with {order:?}");
        }
        self.hear().unwrap_or_else(|| panic!("the device's process has ended and not done this: {order:?}"))
    }

    /// The most memory that it has had so far, in bytes; 0 where the system does not tell (only Linux does).
    pub fn largest_memory(&self) -> u64 {
        memory(self.child.id(), "VmHWM")
    }

    /// Kills it (SIGKILL).
    ///
    /// # Panics
    /// When the system does not let us.
    pub fn kill(mut self) -> Ended {
        self.child.kill().expect("it can be killed");
        let status = self.child.wait().expect("it can be waited for");
        // The pipe ends when the reader has passed on all there was.
        Ended { killed: status.signal() == Some(9), rest: self.told.iter().collect() }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
