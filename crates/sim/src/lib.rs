//! The ports of Poste in memory. The real rules run on them under seeded weather: any call may be slow, fail before
//! its effect or after it. Time is tokio's paused clock, so a run of minutes takes milliseconds and a seed replays.

mod check;
pub mod contract;
mod device;
mod memory;
mod network;
mod storm;
mod weather;

pub use check::Violation;
pub use memory::World;
pub use storm::{Report, Storm};
pub use weather::{Odds, Weather};
