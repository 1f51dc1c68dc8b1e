//! `docs/PERFORMANCE.md`: the text in `performance.md`, with the figures of a run put into it.

use std::fmt::Write;

use crate::report::{Report, number};

/// The text, with `{{run}}`, `{{aims}}`, `{{figures}}`, `{{numbers}}`, `{{others}}` and `{{notes}}` where the run's go.
const TEXT: &str = include_str!("../performance.md");

/// The document.
pub(crate) fn document(report: &Report) -> String {
    TEXT.replace("{{run}}", &report.heading())
        .replace("{{aims}}", &aims(report))
        .replace("{{figures}}", &figures(report))
        .replace("{{numbers}}", &numbers(report))
        .replace("{{others}}", &crate::peers::table(report))
        .replace("{{notes}}", &report.notes().join("\n\n"))
}

fn aims(report: &Report) -> String {
    let mut table = String::from("| figure | measured | aim |\n|---|---|---|\n");
    for (name, value) in report.keys().iter().filter(|(name, _)| crate::aims::of(name).is_some()) {
        let _ = writeln!(table, "| `{name}` | {value:.2} | {} |", crate::aims::shown(name, *value));
    }
    table
}

fn figures(report: &Report) -> String {
    let mut table = String::from("| what (ms) | count | p50 | p99 | most |\n|---|---|---|---|---|\n");
    for figure in report.figures() {
        let [p50, p99, most] = figure.times();
        let _ = writeln!(table, "| {} | {} | {p50:.2} | {p99:.2} | {most:.2} |", figure.what(), figure.count());
    }
    table
}

fn numbers(report: &Report) -> String {
    let mut table = String::from("| figure | measured |\n|---|---|\n");
    for (name, value) in report.keys().iter().filter(|(name, _)| crate::aims::of(name).is_none()) {
        let _ = writeln!(table, "| `{name}` | {} |", number(*value));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    #[test]
    fn every_place_is_filled() {
        let mut report = Report::new(None, Machine::here(std::path::Path::new("/")));
        report.key("ack_p50_ms", 3.0);
        report.key("echo_p50_ms", 2.0);
        report.add("client", "a call", vec![std::time::Duration::from_millis(1)]);
        report.note("worth knowing");
        let text = document(&report);
        assert!(!text.contains("{{"), "{text}");
        for part in
            ["| `ack_p50_ms` | 3.00 | at most 12: met |", "| `echo_p50_ms` | 2.000 |", "a call", "worth knowing"]
        {
            assert!(text.contains(part), "{part}");
        }
    }
}
