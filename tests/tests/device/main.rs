//! The device library in trouble, on the stack that `POSTE_STACK` names: its process is killed, its disk is full, it
//! was offline for days. `cargo local test --only device` brings a stack up and runs this on it.

mod disk;
mod killed;
mod media;
mod offline;

/// The device's program.
const MORTAL: &str = env!("CARGO_BIN_EXE_mortal");
