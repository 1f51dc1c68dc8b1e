//! `poste`: a client in the terminal.

mod account;
mod args;
mod commands;
mod files;
mod groups;
mod harmless;
mod lines;
mod print;
mod screen;
mod signals;
mod time;
mod token;

use std::process::ExitCode;

use clap::Parser;
use poste_client::{Error, NoFile, StoreError, TokenError};

use account::Unavailable;
use args::Args;
use commands::Usage;

/// Something could not be done.
const FAILED: u8 = 1;

/// The command line asks for what cannot be. The number that clap uses.
const USAGE: u8 = 2;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        // What is not understood may still say how it wants its answer.
        Err(wrong) if wrong.use_stderr() && std::env::args_os().any(|word| word == "--json") => {
            print::error(true, "usage", wrong.to_string().trim_end());
            return ExitCode::from(USAGE);
        }
        Err(wrong) => wrong.exit(),
    };
    let json = args.json;
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
            print::error(json, kind(&wrong), &format!("{wrong:#}"));
            ExitCode::from(if wrong.is::<Usage>() { USAGE } else { FAILED })
        }
    }
}

/// What kind of trouble it is, for programs.
fn kind(wrong: &anyhow::Error) -> &'static str {
    if wrong.is::<Usage>() {
        return "usage";
    }
    if let Some(unavailable) = wrong.downcast_ref::<Unavailable>() {
        return unavailable.kind();
    }
    match wrong.downcast_ref() {
        Some(TokenError::Refused(_)) => return "sign_in_refused",
        Some(TokenError::Unavailable(_)) => return "no_connection",
        None => {}
    }
    match wrong.downcast_ref() {
        Some(Error::Store(_)) => "store",
        Some(Error::UnknownConversation) => "unknown_conversation",
        Some(Error::Message { .. }) => "message",
        Some(Error::EmptyBody | Error::BodyTooBig { .. } | Error::BadEvent(_)) => "body",
        Some(Error::File { .. } | Error::BadFile(_)) => "file",
        Some(Error::NoAnswer | Error::NoFile(NoFile::NoAnswer)) => "no_connection",
        Some(Error::NoFile(_)) => "no_file",
        Some(Error::NotInGroup) => "not_in_group",
        _ if wrong.is::<StoreError>() => "store",
        _ => "failed",
    }
}
