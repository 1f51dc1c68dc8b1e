//! The ports of Poste in memory. The real rules run on them under seeded weather: any call may be slow, fail before
//! its effect or after it. Time is tokio's paused clock, so a run of minutes takes milliseconds and a seed replays.

mod memory;
mod weather;

pub use memory::World;
pub use weather::{Odds, Weather};
