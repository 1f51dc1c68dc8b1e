//! Measurements of Poste on this machine: a table, and the same as JSON. Started by `cargo local bench`, which builds
//! it with optimisation. What is measured is in a file of its own for each subject.

mod account;
mod client;
mod disk;
mod machine;
mod report;
mod server;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};

use machine::Machine;
use report::Report;

/// Measures Poste on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is measured; everything, if nothing is named.
    #[arg(value_enum)]
    subjects: Vec<Subject>,
    /// Where files are made. The disk that it is on is measured with them.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// The version of the sources.
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// Also write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// The device library alone: no network, no stack.
    Client,
}

fn main() -> anyhow::Result<()> {
    let Arguments { subjects, folder, commit, json } = Arguments::parse();
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut report = Report::new(commit, Machine::here(&folder));
    for subject in Subject::value_variants().iter().filter(|one| subjects.is_empty() || subjects.contains(one)) {
        match subject {
            Subject::Client => client::measure(&folder, &mut report)?,
        }
    }
    print!("{report}");
    if let Some(file) = json {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
