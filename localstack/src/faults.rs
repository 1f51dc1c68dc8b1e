//! `cargo local faults`: everything that may fail between the functions and the parts that they call, one after another,
//! while people write; and a long run that looks at the functions' memory. The figures go into `docs/RELIABILITY.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::ensure;
use serde::Deserialize;

use crate::functions::Binaries;
use crate::reliability::{Document, figures, made};
use crate::stack::STACK_VARIABLE;
use crate::test::{FAULTS, logs_of};
use crate::up::{Options, Running};
use crate::workspace::{Workspace, cargo};
use crate::{child, say};

/// What the proxy counts, in the order of the table.
const COUNTED: [&str; 7] = ["slow", "throttled", "failed", "lost", "cut", "unanswered", "torn"];

/// What is played.
#[derive(Debug)]
pub(crate) struct Wish {
    /// How long people write under each fault; nothing: the table is not played.
    pub(crate) seconds: Option<u64>,
    /// Of the choices.
    pub(crate) seed: Option<u64>,
    /// How long the long run is; nothing: there is none.
    pub(crate) soak: Option<u64>,
}

/// What the test tells of one trouble.
#[derive(Debug, Deserialize)]
struct Row {
    trouble: String,
    struck: u64,
    counted: BTreeMap<String, u64>,
    messages: u64,
    files: u64,
    rest_seconds: f64,
    late: u64,
    voids: u64,
}

#[derive(Debug, Deserialize)]
struct Table {
    seed: u64,
    seconds: u64,
    devices: u64,
    took_seconds: f64,
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Memory {
    function: String,
    processes: u64,
    first_quarter: u64,
    last_quarter: u64,
    most: u64,
}

#[derive(Debug, Deserialize)]
struct Soak {
    minutes: f64,
    messages: u64,
    struck: u64,
    functions: Vec<Memory>,
}

/// Plays it on a stack of its own, and writes down what came of it.
pub(crate) async fn run(workspace: &Workspace, wish: &Wish, options: &Options) -> anyhow::Result<()> {
    let place = workspace.test_place()?;
    let mut options = Options { proxy: Some(Vec::new()), ..options.clone() };
    if options.binaries == Binaries::Dev {
        options.binaries = Binaries::DevWith(vec![FAULTS.to_owned()]);
    }
    let mut running = Running::start(workspace, &place, &options).await?;
    let state = place.state_file();
    let played = tokio::select! {
        played = play(workspace, &state, wish) => played,
        error = running.attend() => Err(error),
    };
    if played.is_err() {
        say::line(&logs_of(running.stack()));
    }
    running.stop();
    played
}

async fn play(workspace: &Workspace, stack: &Path, wish: &Wish) -> anyhow::Result<()> {
    let file = workspace.state().join("reliability.json");
    let document = Document::of(workspace, "faults");
    if let Some(seconds) = wish.seconds {
        let mut variables = vec![
            ("POSTE_FAULTS", "all".to_owned()),
            ("POSTE_FAULTS_SECONDS", seconds.to_string()),
            ("POSTE_FAULTS_REPORT", file.display().to_string()),
        ];
        variables.extend(wish.seed.map(|seed| ("POSTE_SEED", seed.to_string())));
        test(workspace, stack, "nothing_is_lost_whatever_fails", &variables).await?;
        let table: Table = figures(&file)?;
        document.write("faults", &shown(&table, &made(workspace)))?;
    }
    if let Some(minutes) = wish.soak {
        let variables =
            [("POSTE_SOAK_MINUTES", minutes.to_string()), ("POSTE_SOAK_REPORT", file.display().to_string())];
        test(workspace, stack, "memory_stays_flat", &variables).await?;
        let soak: Soak = figures(&file)?;
        document.write("soak", &shown_soak(&soak, &made(workspace)))?;
    }
    document.says_where();
    Ok(())
}

/// Plays a test of the target `faults` on a stack.
pub(crate) async fn test(
    workspace: &Workspace,
    stack: &Path,
    name: &str,
    variables: &[(&str, String)],
) -> anyhow::Result<()> {
    let mut command = Command::new(cargo());
    command
        .args(["test", "--workspace", "--locked", "--test", FAULTS, "--", "--nocapture", name])
        .current_dir(workspace.root())
        .env(STACK_VARIABLE, stack)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    let status = child::run(&mut command).await?;
    ensure!(status.success(), "{name} failed: something was lost, doubled or out of order, or did not come to rest");
    Ok(())
}

/// The table, for people.
fn shown(table: &Table, made: &str) -> String {
    let Table { seed, seconds, devices, took_seconds, rows } = table;
    let mut text = format!(
        "Made with `cargo local faults --seconds {seconds} --seed {seed}` in {:.0} minutes on {made}. {devices} devices of \
         three people write for {seconds} s under each fault.\n\n\
         | fault | struck | messages | lost | doubled | out of order | at rest after | late | unused numbers |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        took_seconds / 60.0
    );
    for Row { trouble, struck, messages, files, rest_seconds, late, voids, .. } in rows {
        let files = if *files == 0 { String::new() } else { format!(" ({files} files)") };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {trouble} | {struck} | {messages}{files} | 0 | 0 | 0 | {rest_seconds:.1} s | {late} | {voids} |"
        );
    }
    let sum = |of: fn(&Row) -> u64| rows.iter().map(of).sum::<u64>();
    let (struck, messages) = (sum(|row| row.struck), sum(|row| row.messages));
    let (late, voids) = (sum(|row| row.late), sum(|row| row.voids));
    let _ = writeln!(text, "| **all** | **{struck}** | **{messages}** | **0** | **0** | **0** | | {late} | {voids} |");
    let mut counted: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (kind, times) in rows.iter().flat_map(|row| &row.counted) {
        if let Some((call, fault)) = kind.rsplit_once(' ') {
            *counted.entry(call).or_default().entry(fault).or_default() += times;
        }
    }
    let _ = writeln!(text, "\nWhat the proxy counted, by call:\n\n| call | {} |", COUNTED.join(" | "));
    let _ = writeln!(text, "|---|{}", "--:|".repeat(COUNTED.len()));
    for (call, faults) in counted {
        let cells = COUNTED.map(|fault| faults.get(fault).map_or_else(String::new, u64::to_string));
        let _ = writeln!(text, "| {call} | {} |", cells.join(" | "));
    }
    text
}

/// The memory, for people.
fn shown_soak(soak: &Soak, made: &str) -> String {
    let Soak { minutes, messages, struck, functions } = soak;
    let mut text = format!(
        "Made with `cargo local faults --only-soak --soak {minutes:.0}` on {made}: {messages} messages, {struck} faults on \
         the way, none lost, doubled or out of order.\n\n\
         | function | processes | first quarter | last quarter | most |\n|---|--:|--:|--:|--:|\n"
    );
    #[expect(clippy::cast_precision_loss, reason = "megabytes with one digit")]
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for Memory { function, processes, first_quarter, last_quarter, most } in functions {
        let _ = writeln!(
            text,
            "| `{function}` | {processes} | {:.1} MiB | {:.1} MiB | {:.1} MiB |",
            mib(*first_quarter),
            mib(*last_quarter),
            mib(*most)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_what_struck_and_sums_it_up() {
        let row = |trouble: &str, struck, counted: &[(&str, u64)]| Row {
            trouble: trouble.to_owned(),
            struck,
            counted: counted.iter().map(|(kind, times)| ((*kind).to_owned(), *times)).collect(),
            messages: 10,
            files: 0,
            rest_seconds: 1.25,
            late: 0,
            voids: 1,
        };
        let rows = vec![
            row("dynamodb: throttled", 5, &[("dynamodb PutItem throttled", 3), ("dynamodb Query throttled", 2)]),
            row("everything", 4, &[("dynamodb PutItem cut", 4)]),
        ];
        let text = shown(&Table { seed: 1, seconds: 2, devices: 6, took_seconds: 90.0, rows }, "a machine");
        assert!(text.contains("| dynamodb: throttled | 5 | 10 | 0 | 0 | 0 | 1.2 s | 0 | 1 |"), "{text}");
        assert!(text.contains("| **all** | **9** | **20** |"), "{text}");
        assert!(text.contains("| dynamodb PutItem |  | 3 |  |  | 4 |  |  |"), "{text}");
    }
}
