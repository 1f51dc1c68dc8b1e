//! The rules of Poste, one file each. What decides is here; what calls AWS is in `poste-aws`, behind [`ports`].
//!
//! - [`append`]: how an envelope gets its place in the log, once and for ever.
//! - [`read`]: how a page becomes a promise about a range.
//! - [`catch_up`]: pages of many conversations, posted as they are read.
//! - [`retention`]: which numbers are gone, and how that is known.
//! - [`membership`]: who may see what.
//! - [`roll`]: who is in a group, as of which event.
//! - [`marks`]: watermarks that only move forward.
//! - [`receipts`]: who has stored and read a message, for who asks.
//! - [`fanout`]: from the delivery queue to live connections.
//! - [`media`]: how files come into the store and out of it again.
//! - [`presence`]: who is here, and who is writing.
//! - [`wake`]: who is woken by a push, and when.
//! - [`registration`]: where devices can be woken.
//! - [`session`]: connections come and go.
//! - [`rates`]: how much a device and a user may ask for in a minute.
//! - [`routes`]: a frame in, a frame out.

pub mod append;
mod cache;
pub mod catch_up;
pub mod fanout;
pub mod lane;
pub mod marks;
pub mod media;
pub mod membership;
pub mod ports;
pub mod presence;
pub mod rates;
pub mod read;
pub mod receipts;
pub mod registration;
pub mod retention;
mod rights;
pub mod roll;
mod roster;
pub mod routes;
mod send;
pub mod session;
mod trouble;
pub mod wake;
mod way;

pub use lane::{Claim, Lane, LaneKey};
pub use media::FileId;
pub use membership::{Farewell, Interval, Member, Membership};
pub use registration::TokenHash;
pub use retention::{Epochs, Retention};
pub use trouble::{Class, Failure, Trouble};
pub use wake::Pushes;

/// The target of the events of `tracing` that are only measured, and are no lines of the log.
pub const MEASURED: &str = "measured";
