//! The device library for other languages, by `UniFFI`: Kotlin, Swift, Python and whatever else has a generator.
//!
//! It is the library's interface with plain values: ids are strings, numbers and times are integers. Nothing is decided
//! here. Asynchronous functions run on any event loop of the other language: the library has threads of its own.
//!
//! The other side is written from the built shared library:
//!
//! ```text
//! cargo build -p poste-bindings
//! cargo run -p poste-bindings --features generate --bin uniffi-bindgen -- \
//!     generate --library target/debug/libposte_bindings.so --language kotlin --out-dir FOLDER
//! ```

// The generated scaffolding is called from outside, and not documented.
#![allow(missing_docs, clippy::missing_safety_doc, reason = "in what is generated")]
#![allow(clippy::needless_pass_by_value, reason = "what comes over the border is owned")]

mod client;
mod error;
mod model;
mod tokens;

pub use client::{PosteClient, PosteEvents};
pub use error::PosteError;
pub use model::{
    Backlog, Change, ChangeKind, Config, Connection, Conversation, Event, Failure, Found, FoundPlace, Group,
    GroupEvent, Hit, Member, Message, OutboxEntry, OutboxState, Piece, Preview, PushPlatform, PushStatus, PushToken,
    Receipt, Recovery, Role, Seen, Start, State, WaitingChange, Window,
};
pub use tokens::{TokenFailure, TokenSource};

uniffi::setup_scaffolding!();
