//! `cargo local`: the local stack on one command. The library beside it has everything.

use std::process::ExitCode;

fn main() -> ExitCode {
    poste_local::run()
}
