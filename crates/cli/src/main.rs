//! `poste`: a client in the terminal.

mod account;
mod args;
mod commands;
mod harmless;
mod lines;
mod print;
mod screen;
mod signals;
mod time;
mod token;

use std::process::ExitCode;

use clap::Parser;

use args::Args;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("POSTE_LOG"))
        .with_writer(|| -> Box<dyn std::io::Write> {
            // On the screen of a chat there is no room for them; `2>file` keeps them.
            if screen::is_covered() { Box::new(std::io::sink()) } else { Box::new(std::io::stderr()) }
        })
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
