//! The local stack: Poste on one machine, without an AWS account or a container engine.
//!
//! `cargo local up` starts an emulator of the AWS parts, builds the functions natively, deploys `infra/template.yaml`
//! to it, runs an issuer of tokens, and says where the socket is. `cargo local test` and `cargo local demo` do the same
//! around the end-to-end tests and the demonstration.
//!
//! [`Stack`] is what a running stack tells of itself, in a file; tests read it from there.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod audit;
mod bench;
mod child;
mod cli;
mod dash;
mod demo;
mod deploy;
mod emulator;
mod faults;
mod functions;
mod fuzz;
mod issuer;
mod keys;
mod older;
mod package;
mod place;
mod provider;
mod proxy;
mod python;
mod reliability;
mod say;
mod sim;
mod stack;
mod stop;
mod test;
mod tools;
mod up;
mod upgrade;
mod version;
mod workspace;

pub use cli::run;
pub use dash::Dash;
pub use proxy::{CONTROL, Fault, RESTART, ROLL_BACK, Report, Rule, Tally, UPDATE, Wish};
pub use stack::{Credentials, Queues, Stack, Tables};
