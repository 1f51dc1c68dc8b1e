//! What happened in a run, for whoever looks for the reason of a violation. Written down only when asked for.

use std::sync::Mutex;

use tokio::time::Instant;

/// How much of a frame a line shows.
const WIDTH: usize = 300;

/// Lines with the time since the run began.
#[derive(Default)]
pub struct Chronicle {
    lines: Mutex<Option<(Instant, Vec<String>)>>,
}

impl Chronicle {
    /// Writes down what happens from here on.
    pub fn begin(&self) {
        *self.lines.lock().expect("no panic under the lock") = Some((Instant::now(), Vec::new()));
    }

    /// Something happened.
    pub fn note(&self, what: impl FnOnce() -> String) {
        if let Some((began, lines)) = self.lines.lock().expect("no panic under the lock").as_mut() {
            let line: String = what().chars().take(WIDTH).collect();
            lines.push(format!("{:>9.3} s  {line}", began.elapsed().as_secs_f64()));
        }
    }

    /// What was written down.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic under the lock").as_ref().map(|(_, lines)| lines.clone()).unwrap_or_default()
    }
}
