//! `cargo local sim`: as many whole runs in bad weather as one likes, on all cores.

use std::num::NonZero;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use poste_sim::{Report, Storm, Violation};

use crate::say;

/// How often progress is told.
const TELL: Duration = Duration::from_secs(10);

/// How many lines of a failed run are shown; the file has them all.
const LINES: usize = 40;

/// Plays the seeds; the first violation ends it, with the run's whole story in a file of `folder`.
pub(crate) fn play(seeds: Range<u64>, folder: &Path) -> anyhow::Result<()> {
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    say::line(&format!("Playing seeds {} to {} on {workers} cores", seeds.start, seeds.end.saturating_sub(1)));
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = Storm::from(seed).play();
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.add(seed, outcome);
                    if sum.violation.is_some() {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                    if sum.told.is_none_or(|told| told.elapsed() > TELL) {
                        sum.told = Some(Instant::now());
                        say::line(&format!("  {} runs, {} messages", sum.runs, sum.messages));
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((seed, violation)) = sum.violation {
        let story = Storm { chronicle: true, ..Storm::from(seed) }.play().err().map_or_else(Vec::new, |v| v.told);
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = folder.join(format!("seed-{seed}.log"));
        std::fs::write(&file, story.join("\n")).with_context(|| format!("cannot write {}", file.display()))?;
        for line in &story[story.len().saturating_sub(LINES)..] {
            say::line(line);
        }
        bail!("seed {seed}: {violation}\nThe whole run is in {}. It plays the same again.", file.display());
    }
    say::line(&format!(
        "{} runs without a violation: {} messages, {} slots, {} voids, {} posts, in {}",
        sum.runs,
        sum.messages,
        sum.slots,
        sum.voids,
        sum.posts,
        say::seconds(began.elapsed())
    ));
    Ok(())
}

#[derive(Default)]
struct Sum {
    runs: u64,
    messages: usize,
    slots: usize,
    voids: usize,
    posts: usize,
    violation: Option<(u64, Violation)>,
    told: Option<Instant>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Result<Report, Violation>) {
        self.runs += 1;
        match outcome {
            Ok(report) => {
                self.messages += report.messages;
                self.slots += report.slots;
                self.voids += report.voids;
                self.posts += report.posts;
            }
            Err(violation) => {
                self.violation.get_or_insert((seed, violation));
            }
        }
    }
}
