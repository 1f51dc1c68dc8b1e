//! The ports of Poste in memory. The real rules run on them under seeded weather: any call may be slow, fail before
//! its effect or after it. Time is tokio's paused clock, so a run of minutes takes milliseconds and a seed replays.

mod check;
mod chronicle;
pub mod contract;
mod device;
mod functions;
mod history;
mod memory;
mod mutation;
mod network;
pub mod scene;
mod storm;
mod weather;

pub use check::Violation;
pub use chronicle::Chronicle;
pub use memory::{Made, World};
pub use mutation::Mutation;
pub use storm::{Report, Storm};
pub use weather::{Moment, Odds, Weather};
