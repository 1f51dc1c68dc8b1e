//! `poste`: a client in the terminal.

mod account;
mod args;
mod chat;
mod commands;
mod harmless;
mod print;
mod token;

use std::process::ExitCode;

use clap::Parser;

use args::Args;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("POSTE_LOG"))
        .with_writer(std::io::stderr)
        .init();
    match commands::run(args).await {
        Ok(code) => code,
        Err(wrong) if print::nobody_reads(&wrong) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("poste: {}", harmless::line(&format!("{wrong:#}")));
            ExitCode::FAILURE
        }
    }
}
