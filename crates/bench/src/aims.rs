//! What the figures are held against.

/// At most so much, for each name.
const AIMS: [(&str, f64); 24] = [
    ("deliver_p50_ms", 25.0),
    ("deliver_p99_ms", 80.0),
    ("aws_deliver_p50_ms", 80.0),
    ("crowd_deliver_p50_ms", 25.0),
    ("crowd_deliver_p99_ms", 80.0),
    ("ack_p50_ms", 12.0),
    ("crowd_ack_p50_ms", 12.0),
    ("sequential_calls", 3.05),
    ("write_units_per_message", 2.05),
    ("many_writers_write_units", 3.05),
    ("read_units_per_message", 1.0),
    ("flush_write_units_per_message", 0.5),
    ("frames_per_message", 3.05),
    ("flush_frames_per_message", 1.0),
    ("usd_per_million_active", 6.5),
    ("usd_per_million_flush", 0.6),
    ("cpu_s_per_1000", 1.0),
    ("init_ms", 30.0),
    ("first_request_ms", 60.0),
    ("rss_mb", 25.0),
    ("zip_mb", 3.0),
    ("sync_log_length_ratio", 1.1),
    ("sync_missing_ratio", 1.1),
    ("apply_10000_ms", 1_000.0),
];

/// The aim of a figure.
pub(crate) fn of(name: &str) -> Option<f64> {
    AIMS.iter().find(|(known, _)| *known == name).map(|(_, aim)| *aim)
}

/// The aim of a figure, and whether it is met.
pub(crate) fn shown(name: &str, value: f64) -> String {
    of(name).map_or_else(String::new, |aim| {
        let verdict = if value <= aim { "met" } else { "MISSED" };
        format!("at most {aim}: {verdict}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_held_against_its_aim() {
        assert_eq!(shown("zip_mb", 3.0), "at most 3: met");
        assert_eq!(shown("zip_mb", 3.1), "at most 3: MISSED");
        assert_eq!(shown("something", 1.0), "");
    }
}
