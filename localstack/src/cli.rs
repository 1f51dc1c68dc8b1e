//! The command line.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};

use crate::bench::{self, Latency, Subject, Wish};
use crate::dash::Dash;
use crate::functions::Binaries;
use crate::stack::Stack;
use crate::stop::StopSignal;
use crate::test::Part;
use crate::up::{Options, Running, down, welcome};
use crate::workspace::Workspace;
use crate::{audit, demo, faults, fuzz, say, sim, test, upgrade};

/// Poste on this machine, without an AWS account.
#[derive(Debug, Parser)]
#[command(name = "cargo local", bin_name = "cargo local")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the stack, say where it is, and keep it up until Ctrl-C.
    Up {
        #[command(flatten)]
        stack: StackArgs,
    },
    /// Start the stack, show two devices and a tunnel on it, and stop it.
    Demo {
        /// Keep the stack up afterwards, to chat on.
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        stack: StackArgs,
    },
    /// Run all checks and tests, the end-to-end tests on a fresh stack of their own.
    Test {
        /// Only these parts.
        #[arg(long, value_name = "PART", value_delimiter = ',')]
        only: Vec<Part>,
        #[command(flatten)]
        stack: StackArgs,
    },
    /// Let everything fail between the functions and the parts that they call, one fault after another, on a stack of its
    /// own, while people write; write down what struck in docs/RELIABILITY.md. Fails if anything is lost.
    Faults {
        /// How long people write under each fault.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        seconds: u64,
        /// Repeats the choices of a run.
        #[arg(long)]
        seed: Option<u64>,
        /// Afterwards a long run that looks at the functions' memory, in minutes; 60 if not said how long.
        #[arg(long, value_name = "MINUTES", num_args = 0..=1, default_missing_value = "60")]
        soak: Option<u64>,
        /// Only that.
        #[arg(long, requires = "soak")]
        only_soak: bool,
        /// Build the functions as for AWS: slow to build, fast to run.
        #[arg(long)]
        release: bool,
    },
    /// Update a stack of its own from an older revision to this one and back while people write, on the device libraries
    /// of both; write down what came of it in docs/RELIABILITY.md. Fails if anything is lost.
    Upgrade {
        /// The revision to begin with, as git knows it; checked out and built below the target folder, where it is kept.
        #[arg(long, value_name = "REVISION")]
        from: String,
        /// How long people write under each version.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        seconds: u64,
        /// Repeats the choices of a run.
        #[arg(long)]
        seed: Option<u64>,
        /// Afterwards play the older revision's end-to-end tests against the functions of this one.
        #[arg(long)]
        tests: bool,
    },
    /// Play whole runs of devices and functions in bad weather, by seeds, without a stack.
    Sim {
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        first: u64,
    },
    /// Measure, with optimisation, on a stack of its own with functions as they go to AWS; show the figures as a table.
    Bench {
        /// Only these.
        #[arg(value_enum)]
        subjects: Vec<Subject>,
        /// Also write them to this file, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Hold the figures beside those of another run, written with --json.
        #[arg(long, value_name = "FILE")]
        compare: Option<PathBuf>,
        /// Also make docs/PERFORMANCE.md of them; for a run of everything.
        #[arg(long)]
        document: bool,
        /// With functions of the dev profile, which are quick to build: for what is counted. Their times and sizes say nothing.
        #[arg(long)]
        dev: bool,
        /// With the service times of AWS between the functions and the emulator.
        #[arg(long, value_name = "WHOSE")]
        latency: Option<Latency>,
        /// With pushes, which a deployment has if it is given a platform application.
        #[arg(long)]
        push: bool,
        /// Where files are made, and so the disk that is measured; target/bench if not said.
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
    /// Show what the running stack measures, live, in a browser: the charts of the template's dashboard.
    Dash {
        /// Where the page is.
        #[arg(long, default_value_t = 8090)]
        port: u16,
    },
    /// Hold the dependencies against licences, duplicates, sources and known advisories (`deny.toml`).
    Audit,
    /// Try to break whatever reads what comes from outside, with a nightly toolchain.
    Fuzz {
        /// Only these; the folder fuzz/targets has their names.
        targets: Vec<String>,
        /// How long each.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Stop the stack that `up` or `demo --keep` runs.
    Down,
}

#[derive(Debug, Args)]
struct StackArgs {
    /// Use the emulator that runs at this address (LocalStack, or one that is compatible) instead of starting one.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Where sockets are at that emulator; {api} stands for the API's id.
    #[arg(long, value_name = "URL", requires = "endpoint")]
    socket_url: Option<String>,
    /// Where functions post to connections at that emulator; {api} stands for the API's id.
    #[arg(long, value_name = "URL", requires = "endpoint")]
    callback_url: Option<String>,
    /// The host of the token issuer as functions see it (in containers: host.docker.internal).
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    issuer_host: String,
    /// The interface that the token issuer listens on. It gives a token to everybody who can reach it.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::from(Ipv4Addr::LOCALHOST))]
    issuer_bind: IpAddr,
    /// Build the functions as for AWS: slow to build, fast to run.
    #[arg(long)]
    release: bool,
    /// Deploy what `cargo lambda build` left in target/lambda.
    #[arg(long, conflicts_with = "release")]
    prebuilt: bool,
    /// Put a proxy between the functions and the emulator, on which calls can be made slow or fail (src/proxy.rs).
    #[arg(long, conflicts_with = "endpoint")]
    proxy: bool,
    /// `RUST_LOG` of the functions.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

impl From<StackArgs> for Options {
    fn from(arguments: StackArgs) -> Self {
        Self {
            binaries: match (arguments.release, arguments.prebuilt) {
                (true, _) => Binaries::Release,
                (_, true) => Binaries::Prebuilt,
                _ => Binaries::Dev,
            },
            log_level: arguments.log,
            endpoint: arguments.endpoint,
            socket_url: arguments.socket_url,
            callback_url: arguments.callback_url,
            issuer_host: arguments.issuer_host,
            issuer_bind: arguments.issuer_bind,
            push: true,
            proxy: arguments.proxy.then(Vec::new),
            hand_over: None,
            older: None,
        }
    }
}

/// The program: reads the command line, runs the command, and gives the exit code.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(execute(cli.command)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(&format!("\nerror: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    // From here on a signal no longer kills us: what was started is stopped in order.
    let mut stop = StopSignal::listen()?;
    match command {
        Command::Up { stack } => {
            let mut running = start(&workspace, &stack.into(), &mut stop).await?;
            say::line(&welcome(running.stack(), &workspace.place()?));
            let result = running.until_stopped(&mut stop).await;
            running.stop();
            result
        }
        Command::Demo { keep, stack } => {
            let mut running = start(&workspace, &stack.into(), &mut stop).await?;
            let played = tokio::select! {
                played = demo::play(running.stack()) => played,
                signal = stop.received() => Err(anyhow::anyhow!("{signal}: stopped")),
            };
            let result = if keep && played.is_ok() {
                say::line(&welcome(running.stack(), &workspace.place()?));
                let [one, other] = demo::chat_commands(running.stack());
                say::line(&format!("\nTo chat, run these in two terminals:\n\n  {one}\n\n  {other}"));
                running.until_stopped(&mut stop).await
            } else {
                played
            };
            running.stop();
            result
        }
        Command::Test { only, stack } => test::run(&workspace, &only, &stack.into(), &mut stop).await,
        Command::Faults { seconds, seed, soak, only_soak, release } => {
            let wish = faults::Wish { seconds: (!only_soak).then_some(seconds), seed, soak };
            let binaries = if release { Binaries::Release } else { Binaries::Dev };
            let options = Options { binaries, ..Options::default() };
            tokio::select! {
                played = faults::run(&workspace, &wish, &options) => played,
                signal = stop.received() => Err(anyhow::anyhow!("{signal}: stopped")),
            }
        }
        Command::Upgrade { from, seconds, seed, tests } => {
            let wish = upgrade::Wish { from, seconds, seed, tests };
            tokio::select! {
                played = upgrade::run(&workspace, &wish) => played,
                signal = stop.received() => Err(anyhow::anyhow!("{signal}: stopped")),
            }
        }
        Command::Sim { seeds, first } => {
            let folder = workspace.target().join("sim");
            // A signal ends it at once: there is nothing to stop.
            tokio::select! {
                played = tokio::task::spawn_blocking(move || sim::play(first..first.saturating_add(seeds), &folder)) => played?,
                signal = stop.received() => {
                    say::error(&format!("{signal}: stopped"));
                    std::process::exit(1);
                }
            }
        }
        Command::Bench { subjects, json, compare, document, dev, latency, push, folder } => {
            let wish = Wish { subjects, json, compare, document, push, dev, latency, folder };
            tokio::select! {
                measured = bench::run(&workspace, &wish) => measured,
                signal = stop.received() => Err(anyhow::anyhow!("{signal}: stopped")),
            }
        }
        Command::Dash { port } => {
            let stack =
                Stack::read(&workspace.place()?.state_file()).context("no stack is up; `cargo local up` starts one")?;
            let dash = Dash::listen(stack, port).await?;
            say::line(&format!("The dashboard is at {}. Ctrl-C stops it.", dash.url()?));
            tokio::select! {
                served = dash.serve() => served,
                _ = stop.received() => Ok(()),
            }
        }
        Command::Audit => tokio::select! {
            held = audit::run(&workspace) => held,
            signal = stop.received() => Err(anyhow::anyhow!("{signal}: stopped")),
        },
        Command::Fuzz { targets, seconds } => tokio::select! {
            fuzzed = fuzz::run(&workspace, &targets, seconds) => fuzzed,
            signal = stop.received() => Err(anyhow::anyhow!("{signal}: stopped")),
        },
        Command::Down => down(&workspace.place()?).await,
    }
}

/// Brings the stack up, unless a signal comes before it is.
async fn start(workspace: &Workspace, options: &Options, stop: &mut StopSignal) -> anyhow::Result<Running> {
    let place = workspace.place()?;
    tokio::select! {
        running = Running::start(workspace, &place, options) => running,
        // What was started so far stops with the future that is dropped.
        signal = stop.received() => bail!("{signal}: stopped before the stack was up"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn parts_of_the_tests_can_be_chosen() {
        let cli = Cli::parse_from(["local", "test", "--only", "lint,unit"]);
        let Command::Test { only, .. } = cli.command else { panic!("not test") };
        assert_eq!(only, [Part::Lint, Part::Unit]);
    }

    #[test]
    fn subjects_of_measurements_can_be_chosen() {
        let cli = Cli::parse_from(["local", "bench", "client", "--json", "figures.json"]);
        let Command::Bench { subjects, json, .. } = cli.command else { panic!("not bench") };
        assert_eq!((subjects, json), (vec![Subject::Client], Some("figures.json".into())));
    }
}
