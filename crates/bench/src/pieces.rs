//! Single pieces of the functions and of the device library (`benches/pieces`): how long each takes, by criterion, and
//! how many instructions it is, counted by valgrind, which a busy machine does not change.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::report::Report;

/// How often callgrind plays each piece; what is told is the mean.
const TIMES: u32 = 20;
/// Whose instructions are counted: the function of `benches/pieces` that plays a piece.
const COUNTED: &str = "*act_of_a_piece*";
/// Criterion tells nanoseconds.
const NANOS_PER_MICRO: f64 = 1_000.0;

/// Measures everything. What criterion and callgrind write is kept in this folder.
pub(crate) fn measure(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let folder = folder.join("pieces");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    let Pieces { program, pieces } = Pieces::build()?;
    let criterion = folder.join("criterion");
    let status = Command::new(&program)
        .arg("--bench")
        .current_dir(&folder)
        .env("CRITERION_HOME", &criterion)
        .stdin(Stdio::null())
        // What is measured is in the report; criterion says more of it, as it goes.
        .stdout(std::io::stderr())
        .status()?;
    ensure!(status.success(), "criterion failed");
    let counts = counts_instructions();
    for (name, what) in &pieces {
        let file = criterion.join(name).join("new/estimates.json");
        let text = std::fs::read_to_string(&file).with_context(|| format!("criterion wrote no {}", file.display()))?;
        report.key(format!("piece_{name}_us"), median_us(&text)?);
        if counts {
            eprintln!("  instructions: {what}");
            report.key(format!("instructions_{name}"), instructions(&program, name, &folder)?);
        }
    }
    let what = pieces.iter().map(|(name, what)| format!("  {name}: {what}")).collect::<Vec<_>>().join("\n");
    report.note(format!("single pieces (crates/bench/benches/pieces), built for speed and not for size:\n{what}"));
    if !counts {
        report.note("instructions were not counted: there is no valgrind on this machine");
    }
    Ok(())
}

/// The program, and the pieces that it has: their names, and what they are.
struct Pieces {
    program: PathBuf,
    pieces: Vec<(String, String)>,
}

impl Pieces {
    /// Builds it, and asks it.
    fn build() -> anyhow::Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["bench", "--locked", "--package", "poste-bench", "--bench", "pieces", "--", "--pieces"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        ensure!(output.status.success(), "the pieces do not build");
        Self::read(&String::from_utf8_lossy(&output.stdout))
    }

    /// Reads what it says: where it is, and then a line for each piece.
    fn read(said: &str) -> anyhow::Result<Self> {
        let mut lines = said.lines();
        let program = PathBuf::from(lines.next().context("the pieces do not say where they are")?);
        let piece = |line: &str| line.split_once('\t').map(|(name, what)| (name.to_owned(), what.to_owned()));
        let pieces: Vec<_> = lines.filter_map(piece).collect();
        ensure!(!pieces.is_empty(), "there are no pieces");
        Ok(Self { program, pieces })
    }
}

/// Whether there is something that counts instructions.
fn counts_instructions() -> bool {
    let asked = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Instructions of a piece. What callgrind has seen stays beside it, for `callgrind_annotate`.
fn instructions(program: &Path, name: &str, folder: &Path) -> anyhow::Result<f64> {
    let file = folder.join(format!("{name}.callgrind"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["--piece", name, "--times", &TIMES.to_string()])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "callgrind failed on {name}: {}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&file).with_context(|| format!("callgrind wrote no {}", file.display()))?;
    let each = collected(&text).with_context(|| format!("no count in {}", file.display()))? / f64::from(TIMES);
    ensure!(each > 0.0, "callgrind has not seen {name} begin: is {COUNTED} still what the function is called?");
    Ok(each)
}

/// What a file of callgrind's counts in all.
fn collected(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

/// The median that criterion has found, in microseconds.
fn median_us(estimates: &str) -> anyhow::Result<f64> {
    let estimates: Value = serde_json::from_str(estimates)?;
    let nanos = estimates["median"]["point_estimate"].as_f64().context("no median")?;
    Ok(nanos / NANOS_PER_MICRO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_say_is_read() -> anyhow::Result<()> {
        let pieces = Pieces::read("/target/pieces-1\nappend\tan envelope is appended\njudge\ta claim\n")?;
        assert_eq!(pieces.program, Path::new("/target/pieces-1"));
        assert_eq!(pieces.pieces[1], ("judge".to_owned(), "a claim".to_owned()));
        assert!(Pieces::read("/target/pieces-1\n").is_err(), "nothing would be measured");
        assert_eq!(collected("events: Ir\nfn=(1) a\n1 7\ntotals: 1200\n"), Some(1_200.0));
        assert_eq!(collected("events: Ir\n"), None);
        assert!((median_us(r#"{"median":{"point_estimate":2500.0}}"#)? - 2.5).abs() < 1e-9);
        assert!(median_us("{}").is_err());
        Ok(())
    }
}
