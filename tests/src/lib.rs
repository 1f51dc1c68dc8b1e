//! What the end-to-end tests stand on: a [`Deployment`] that runs somewhere, [`Device`]s that speak the wire to it and
//! nothing more (no outbox, no store: `poste-client` has those), and a look behind the scenes with [`Admin`].
//!
//! Nothing here sleeps for a fixed time: everything waits for a condition, with a deadline. Users have a name of their
//! own in each test, so that all tests run side by side on one stack.
//!
//! It panics where a test should fail, and says what it was waiting for.

mod account;
mod admin;
mod deployment;
mod device;
mod faults;
mod ledger;
mod letters;
mod memory;
mod mortal;
mod ports;
mod provider;
mod replica;
mod road;
mod roles;
mod store;
mod wait;

pub use account::{account, open, settled};
pub use admin::{Admin, Dead, Registered, Stored};
pub use deployment::{Deployment, Refused, Showing, TokenWish};
pub use device::{Accepted, Device};
pub use faults::{Faults, Process};
pub use ledger::{Ledger, Lists, as_shown, label, screen, waiting};
pub use letters::{bodies, envelope, next_after, number, resent, seq, submission};
pub use mortal::{Ended, Line, Mortal, Order, Told};
pub use provider::{Provider, Published};
pub use replica::{Replica, check_page};
pub use road::Road;
pub use roles::{Judged, Permission, Roles};
pub use store::{Store, checksum};
pub use wait::{DEADLINE, eventually, now_ms};
