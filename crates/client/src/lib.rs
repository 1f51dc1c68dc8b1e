//! The device library of Poste: what an application embeds to write and read messages with or without a network.
//!
//! Layers, each of which knows only the ones before it:
//!
//! 1. [`store`]: one `SQLite` file per account. Everything that must survive a kill is in it.
//! 2. [`engine`]: the rules, without I/O of their own. Given the time and an input they change the store in one
//!    transaction and say what is to be sent and what the application should know. No sockets, no clock.
//! 3. `socket`, `transfer` and `runtime`: a thread that owns engine and store, and a thread with the sockets and files
//!    on their way.
//! 4. [`Client`]: the handle that applications use. Owned types only, so that it can cross a language border.
//!
//! What [`Client::send`] returned for is on disk. It leaves the outbox only as acknowledged by the server, or as
//! failed and visible, with [`Client::retry`] and [`Client::drop_message`]. What a damaged disk does to it is told by
//! [`Client::recovery`].

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that fails says where"))]

mod client;
mod clock;
mod config;
pub mod engine;
mod error;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod model;
mod runtime;
mod socket;
pub mod store;
mod transfer;

pub use client::{Client, Events};
pub use config::{ClientConfig, TokenError, TokenProvider, Tuning};
pub use error::{Error, NoFile, StoreError};
pub use files::Prepared;
pub use model::{
    Attached, Backlog, Change, ChangeKind, Connection, Conversation, Counters, Event, Failure, Found, FoundPlace,
    GroupView, Hit, Member, Message, OutboxEntry, OutboxState, Piece, Preview, Receipt, Recovery, Seen, Start, State,
    Target, WaitingChange, Window,
};
