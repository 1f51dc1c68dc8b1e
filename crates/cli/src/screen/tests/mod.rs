//! Tests of the screen, without a terminal.

mod drawing;
mod keys;
mod properties;
mod worker;
mod world;
