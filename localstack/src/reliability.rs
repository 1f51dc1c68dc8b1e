//! The document `docs/RELIABILITY.md`, of which some parts are made by commands, each between two comments.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::de::DeserializeOwned;

use crate::workspace::Workspace;
use crate::{bench, say};

/// The document, as one command sees it.
#[derive(Debug)]
pub(crate) struct Document {
    file: PathBuf,
    command: &'static str,
}

impl Document {
    /// That of this workspace, for a command of `cargo local`.
    pub(crate) fn of(workspace: &Workspace, command: &'static str) -> Self {
        Self { file: workspace.root().join("docs/RELIABILITY.md"), command }
    }

    /// Puts figures into a part, in the place of those before.
    pub(crate) fn write(&self, part: &str, figures: &str) -> anyhow::Result<()> {
        let shown = self.file.display();
        let text = std::fs::read_to_string(&self.file).with_context(|| format!("there is no {shown}"))?;
        let text =
            replaced(&text, part, self.command, figures).with_context(|| format!("{shown} has no part {part}"))?;
        std::fs::write(&self.file, text).with_context(|| format!("cannot write {shown}"))
    }

    /// Tells the user.
    pub(crate) fn says_where(&self) {
        say::line(&format!("The figures are in {}", self.file.display()));
    }
}

fn replaced(text: &str, part: &str, command: &str, figures: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {part}: made by cargo local {command} -->\n"), format!("<!-- end of {part} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{figures}\n{end}{after}"))
}

/// Reads what a test has written.
pub(crate) fn figures<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(file).with_context(|| format!("no figures in {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not what the test writes", file.display()))
}

/// Where and of what figures are.
pub(crate) fn made(workspace: &Workspace) -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let read = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let value = |line: &str| Some(line.strip_prefix(name)?.trim_start_matches([' ', '\t', ':']).trim().to_owned());
        text.lines().find_map(value).filter(|value| !value.is_empty())
    };
    let processor = read("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = read("/proc/meminfo", "MemTotal").and_then(|kib| kib.trim_end_matches(" kB").parse::<u64>().ok());
    let memory = memory.map_or_else(String::new, |kib| format!(", {} GB of memory", (kib + (1 << 19)) >> 20));
    let version = bench::commit(workspace).unwrap_or_else(|| "unknown".to_owned());
    format!("{cores} cores ({processor}){memory}, {}; version {version}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_take_the_place_of_those_before_and_nothing_else() {
        let text = "# A\n<!-- faults: made by cargo local faults -->\nold\n<!-- end of faults -->\nwords\n";
        let once = replaced(text, "faults", "faults", "new\n").unwrap();
        assert!(once.contains("new") && !once.contains("old") && once.ends_with("words\n"), "{once}");
        assert_eq!(replaced(&once, "faults", "faults", "new\n").unwrap(), once);
        assert_eq!(replaced(text, "soak", "faults", "new"), None);
    }

    #[test]
    fn the_document_has_every_part() {
        let text = include_str!("../../docs/RELIABILITY.md");
        for (part, command) in [("faults", "faults"), ("soak", "faults"), ("upgrade", "upgrade")] {
            assert!(replaced(text, part, command, "").is_some(), "{part}");
        }
    }
}
