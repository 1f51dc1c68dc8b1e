//! `cargo local fuzz`: everything that reads what comes from outside, with inputs that are made to break it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::workspace::Workspace;
use crate::{child, say, tools};

/// How long building the targets may take; the first time everything is built for fuzzing.
const BUILD: Duration = Duration::from_mins(45);

/// Seconds that a target may take beyond those that it is given, to build and to end.
const BEYOND: Duration = Duration::from_mins(5);

/// Bytes of an input: as much as a frame.
const LONGEST: usize = poste_protocol::limits::FRAME_BYTES;

/// The targets of the folder `fuzz`, by name.
pub(crate) fn targets(folder: &Path) -> anyhow::Result<Vec<String>> {
    let files = fs::read_dir(folder.join("targets")).context("there are no targets")?;
    let mut names = Vec::new();
    for file in files {
        let path = file?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Fuzzes these targets (all, if none) for so many seconds each. An error if one finds something.
pub(crate) async fn run(workspace: &Workspace, wanted: &[String], seconds: u64) -> anyhow::Result<()> {
    let folder = workspace.root().join("fuzz");
    let known = targets(&folder)?;
    let unknown: Vec<&String> = wanted.iter().filter(|name| !known.contains(name)).collect();
    ensure!(unknown.is_empty(), "there is no target {unknown:?}: there are {}", known.join(", "));
    let has_nightly = Command::new("rustup").args(["run", "nightly", "cargo", "--version"]).output();
    ensure!(
        has_nightly.is_ok_and(|told| told.status.success()),
        "fuzzing takes a nightly toolchain: `rustup toolchain install nightly`"
    );
    let program = tools::FUZZ.program(workspace).await?;
    let fuzz = |deed: &str| {
        let mut command = Command::new("rustup");
        command
            .args(["run", "nightly"])
            .arg(&program)
            // What is ours has no unsafe code: the sanitizer of addresses would only cost half of the runs.
            .args([deed, "--sanitizer", "none", "--fuzz-dir"])
            .arg(&folder)
            .arg("--target-dir")
            .arg(workspace.target().join("fuzz/build"))
            .current_dir(workspace.root())
            // Those of the toolchain that runs us.
            .env_remove("CARGO")
            .env_remove("RUSTUP_TOOLCHAIN")
            .stdin(Stdio::null());
        command
    };
    let built =
        tokio::time::timeout(BUILD, child::run(&mut fuzz("build"))).await.context("building takes too long")??;
    ensure!(built.success(), "the targets cannot be built");
    let mut found = Vec::new();
    for name in known.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        say::line(&format!("\n== {name}: {seconds} s =="));
        // What is found to be new is kept beside the kept corpus, not in it.
        let fresh = workspace.target().join("fuzz/corpus").join(name);
        fs::create_dir_all(&fresh).with_context(|| format!("cannot make {}", fresh.display()))?;
        let mut command = fuzz("run");
        command.arg(name).arg(&fresh).arg(folder.join("corpus").join(name)).args([
            "--".to_owned(),
            format!("-max_total_time={seconds}"),
            format!("-max_len={LONGEST}"),
            // One input may take so many seconds.
            "-timeout=10".to_owned(),
            "-print_final_stats=1".to_owned(),
        ]);
        let time = Duration::from_secs(seconds) + BEYOND;
        let status = tokio::time::timeout(time, child::run(&mut command))
            .await
            .with_context(|| format!("{name} does not end"))??;
        if !status.success() {
            found.push(name.as_str());
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    bail!(
        "{} found something: see fuzz/artifacts. Mend it, and keep the input in fuzz/corpus, where tests replay it",
        found.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A target that is not in the manifest, or has no corpus, would be fuzzed by nobody and replayed by nobody.
    #[test]
    fn each_target_is_built_and_has_a_corpus() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        let names = targets(&folder).unwrap();
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let paths = manifest.lines().filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""));
        assert_eq!(paths.collect::<BTreeSet<_>>(), names.iter().map(String::as_str).collect());
        let mut bytes = 0;
        for name in &names {
            let inputs = fs::read_dir(folder.join("corpus").join(name)).unwrap();
            let sizes: Vec<u64> = inputs.map(|input| input.unwrap().metadata().unwrap().len()).collect();
            assert!(!sizes.is_empty(), "{name} has no corpus");
            bytes += sizes.iter().sum::<u64>();
        }
        assert!(bytes < 300 * 1024, "{bytes} bytes: minimise the corpora");
    }
}
