//! What the demonstration prints: scenes, what happens in them and when, and a summary of the times.

use std::time::{Duration, Instant};

use super::in_words;
use crate::say;

pub(super) struct Timeline {
    began: Instant,
    scene: String,
    times: Vec<(String, Vec<(String, Duration)>)>,
}

/// A duration in milliseconds, with a decimal where it matters.
pub(super) fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

impl Timeline {
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), scene: String::new(), times: Vec::new() }
    }

    pub(super) fn scene(&mut self, title: &str) {
        title.clone_into(&mut self.scene);
        self.times.push((self.scene.clone(), Vec::new()));
        say::line(&format!("\n{title}"));
    }

    pub(super) fn says(&self, what: impl AsRef<str>) {
        say::line(&format!("  {:>8.3} s  {}", self.began.elapsed().as_secs_f64(), what.as_ref()));
    }

    /// Something happened, so long after what caused it.
    pub(super) fn took(&mut self, what: impl Into<String>, time: Duration) {
        let what = what.into();
        self.says(format!("{what} ({})", in_words(time)));
        if let Some((_, times)) = self.times.last_mut() {
            times.push((what, time));
        }
    }

    pub(super) fn summary(&self) {
        say::line("\nHow long it took");
        for (scene, times) in self.times.iter().filter(|(_, times)| !times.is_empty()) {
            say::line(&format!("  {scene}"));
            for (what, time) in times {
                say::line(&format!("    {:>8}  {what}", in_words(*time)));
            }
        }
        say::line(&format!("\nNothing was lost, doubled or reordered. {} in all.", say::seconds(self.began.elapsed())));
    }
}
