//! Measurements of Poste on this machine: a table, and the same as JSON. Started by `cargo local bench`, which builds
//! it with optimisation and brings the stack up. What is measured is in a file of its own for each subject.

mod account;
mod aims;
mod client;
mod delivery;
mod disk;
mod exchange;
mod fanout;
mod flush;
mod html;
mod local;
mod machine;
mod markdown;
mod peers;
mod pieces;
mod prices;
mod processes;
mod report;
mod server;
mod start;
mod sync;
mod usage;
mod wire;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, ValueEnum};

use local::Local;
use machine::Machine;
use prices::PRICES;
use report::{Report, compared, read_keys};

/// Measures Poste on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is measured; everything, if nothing is named.
    #[arg(value_enum)]
    subjects: Vec<Subject>,
    /// Where files are made. The disk that it is on is measured with them.
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// The state file of the stack; all but `pieces` and `client` need one.
    #[arg(long, value_name = "FILE")]
    stack: Option<PathBuf>,
    /// The version of the sources.
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// Also write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Hold them beside those of this file.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// The functions are of the dev profile, which is to be said.
    #[arg(long)]
    dev: bool,
    /// Whose service times were added between the functions and the emulator: what the numbers' names begin with.
    #[arg(long, value_name = "WHOSE")]
    latency: Option<String>,
    /// Also write the document about them to this file.
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Single pieces, and their instructions.
    Pieces,
    /// The device library alone: no network, no stack.
    Client,
    /// The functions' binaries.
    Start,
    /// From one device to another.
    Delivery,
    /// What was written offline.
    Flush,
    /// Groups.
    Fanout,
    /// Catching up.
    Sync,
    /// Others.
    Peers,
}

fn main() -> anyhow::Result<()> {
    if let Some(receiver) = peers::Receiver::ordered()? {
        return receiver.run();
    }
    let Arguments { subjects, folder, stack, commit, json, compare, dev, latency, document } = Arguments::parse();
    // Read before hours go by.
    let compare = compare.map(|file| {
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        read_keys(&text).with_context(|| format!("{} is no report", file.display()))
    });
    let before = compare.transpose()?;
    // Those of an earlier run would only take room.
    let accounts = folder.join("accounts");
    if accounts.exists() {
        std::fs::remove_dir_all(&accounts).with_context(|| format!("cannot remove {}", accounts.display()))?;
    }
    std::fs::create_dir_all(&accounts).with_context(|| format!("cannot make {}", accounts.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let local = stack.map(|file| Local::read(&file)).transpose()?;
    let mut report = Report::new(commit, Machine::here(&folder));
    if dev {
        report.note("functions of the dev profile: their times, sizes and CPU say nothing");
    }
    if let Some(whose) = latency {
        report.note(format!("with the service times of localstack/latency-{whose}.json"));
        report.prefix(format!("{whose}_"));
    }
    report.note(format!("prices: {}, {} (crates/bench/prices.json)", PRICES.region, PRICES.date));
    for subject in Subject::value_variants().iter().filter(|one| subjects.is_empty() || subjects.contains(one)) {
        eprintln!("· measuring: {subject:?}");
        // Whatever was measured before is over.
        if let Some(local) = &local {
            runtime.block_on(local.settle())?;
        }
        let stack = || local.as_ref().context("this needs a stack: run `cargo local bench`");
        match subject {
            Subject::Pieces => pieces::measure(&folder, &mut report)?,
            Subject::Client => client::measure(&folder, &mut report)?,
            Subject::Start => runtime.block_on(start::measure(stack()?, &mut report))?,
            Subject::Delivery => runtime.block_on(delivery::measure(stack()?, &accounts, &mut report))?,
            Subject::Flush => runtime.block_on(flush::measure(stack()?, &accounts, &mut report))?,
            Subject::Fanout => runtime.block_on(fanout::measure(stack()?, &mut report))?,
            Subject::Peers => runtime.block_on(peers::measure(stack()?, &folder, &accounts, &mut report)),
            Subject::Sync => runtime.block_on(sync::measure(stack()?, &accounts, &mut report))?,
        }
    }
    print!("{report}");
    if let Some(before) = before {
        println!("\n{}", compared(&before, report.keys()));
    }
    let write = |file: &Path, text: String| {
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    let page = folder.join("report.html");
    write(&page, html::page(&report))?;
    println!("\nWith plots: {}", page.display());
    if let Some(file) = json {
        write(&file, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(file) = document {
        write(&file, markdown::document(&report))?;
    }
    Ok(())
}
