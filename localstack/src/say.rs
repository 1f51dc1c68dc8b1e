//! What the user reads: plain lines, and a sign of life on long steps.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// After that time a long step says that it still goes on; then after twice that, and so on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// But at least so often.
const SLOWEST_SIGN_OF_LIFE: Duration = Duration::from_mins(1);

/// Prints one line.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nothing can be done about a closed standard output, and stopping the stack is more important.
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Prints one line on standard error.
pub(crate) fn error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Runs a step: says what it is, gives a sign of life while it lasts, and says how long it took.
pub(crate) async fn step<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    line(&format!("· {what} ..."));
    let started = Instant::now();
    let mut work = std::pin::pin!(work);
    let mut pause = SIGN_OF_LIFE;
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            () = tokio::time::sleep(pause) => {
                line(&format!("    still at it ({})", seconds(started.elapsed())));
                pause = SLOWEST_SIGN_OF_LIFE.min(pause * 2);
            }
        }
    };
    match &result {
        Ok(_) => line(&format!("    done in {}", seconds(started.elapsed()))),
        Err(_) => line(&format!("    failed after {}", seconds(started.elapsed()))),
    }
    result
}

/// A time as people say it: `0.4 s`, `12 s`, `3 min 5 s`.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        s @ 10..120 => format!("{s} s"),
        s => format!("{} min {} s", s / 60, s % 60),
    }
}

/// Whether a person watches standard error (and so cargo may draw its progress there).
pub(crate) fn watched() -> bool {
    std::io::stderr().is_terminal()
}

/// The last lines of a file, indented, for an error's text; empty when there are none.
pub(crate) fn tail(file: &std::path::Path, lines: usize) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().flat_map(|line| ["    ", line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        assert_eq!(seconds(Duration::from_millis(420)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs(12)), "12 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 5 s");
    }

    #[test]
    fn a_tail_has_the_last_lines_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        std::fs::write(&file, "a\nb\nc\n").unwrap();
        assert_eq!(tail(&file, 2), "    b\n    c\n");
        assert_eq!(tail(&folder.path().join("missing"), 2), "");
    }
}
