//! The figures side by side.

use std::fmt::Write;

use crate::report::Report;

/// The columns: what each is called, and what the names of its figures begin with.
const COLUMNS: [(&str, &str); 4] = [
    ("plain Node.js chat", "node"),
    ("ejabberd, archive", "ejabberd"),
    ("ejabberd, no archive", "ejabberd_offline"),
    ("Poste", "poste"),
];

/// The rows that are one figure each, and how many places it has.
const FIGURES: [(&str, &str, usize); 9] = [
    ("send to delivered, 10/s, p50, ms", "deliver_p50_ms", 1),
    ("the same, p99", "deliver_p99_ms", 1),
    ("send to delivered, 25/s, p50, ms", "loaded_deliver_p50_ms", 1),
    ("the same, p99", "loaded_deliver_p99_ms", 1),
    ("CPU of the server, 10/s, s for 1,000 messages", "cpu_s_per_1000", 2),
    ("CPU of the server, 25/s, s for 1,000 messages", "loaded_cpu_s_per_1000", 2),
    ("CPU of the parts that it calls (the emulator), 10/s", "cpu_emulator_s_per_1000", 2),
    ("the same, 25/s", "loaded_cpu_emulator_s_per_1000", 2),
    ("memory of its largest process, MB", "rss_mb", 0),
];

/// Those about kills: of how many how many.
const KILLS: [(&str, &str, &str); 4] = [
    ("lost, the receiver killed", "lost_receiver_killed", "sent_receiver_killed"),
    ("doubled, the receiver killed", "doubled_receiver_killed", "sent_receiver_killed"),
    ("lost, the server killed", "lost_server_killed", "sent_server_killed"),
    ("doubled, the server killed", "doubled_server_killed", "sent_server_killed"),
];

/// The table, or why there is none.
pub(crate) fn table(report: &Report) -> String {
    let figure = |column: &str, name: &str| report.keys().get(&format!("{column}_{name}")).copied();
    let columns: Vec<_> =
        COLUMNS.iter().filter(|(_, column)| figure(column, "sent_receiver_killed").is_some()).collect();
    if columns.is_empty() {
        return "*Others were not measured in this run.*\n".to_owned();
    }
    let mut table = String::new();
    let mut row = |what: &str, cells: Vec<String>| {
        let _ = writeln!(table, "| {what} | {} |", cells.join(" | "));
    };
    row("", columns.iter().map(|(name, _)| (*name).to_owned()).collect());
    row("---", columns.iter().map(|_| "---".to_owned()).collect());
    for (what, name, places) in FIGURES {
        let cell = |column| figure(column, name).map_or_else(String::new, |value| format!("{value:.places$}"));
        row(what, columns.iter().map(|(_, column)| cell(column)).collect());
    }
    for (what, name, of) in KILLS {
        let cell = |column| {
            let [value, of] = [figure(column, name)?, figure(column, of)?];
            Some(format!("{value:.0} of {of:.0}"))
        };
        row(what, columns.iter().map(|(_, column)| cell(column).unwrap_or_default()).collect());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    #[test]
    fn who_was_measured_has_a_column() {
        let mut report = Report::new(None, Machine::here(std::path::Path::new("/")));
        assert!(table(&report).contains("not measured"));
        for (name, value) in [
            ("poste_deliver_p50_ms", 8.0),
            ("poste_sent_receiver_killed", 500.0),
            ("poste_lost_receiver_killed", 0.0),
            ("ejabberd_offline_sent_receiver_killed", 500.0),
            ("ejabberd_offline_lost_receiver_killed", 3.0),
        ] {
            report.key(name, value);
        }
        let text = table(&report);
        assert!(text.starts_with("|  | ejabberd, no archive | Poste |\n| --- | --- | --- |\n"), "{text}");
        assert!(text.contains("| send to delivered, 10/s, p50, ms |  | 8.0 |"), "{text}");
        assert!(text.contains("| lost, the receiver killed | 3 of 500 | 0 of 500 |"), "{text}");
        assert!(text.contains("| doubled, the server killed |  |  |"), "{text}");
    }
}
