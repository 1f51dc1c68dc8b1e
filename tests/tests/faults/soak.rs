//! A long run: the memory of the functions' processes does not grow.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use poste_tests::{Deployment, Faults};
use rand::{SeedableRng, rngs::StdRng};
use serde::Serialize;

use crate::{ALONE, number, people::People, report, table};

/// How long it takes, unless `POSTE_SOAK_MINUTES` says otherwise: only enough to see that nobody takes too much.
const SHORT: Duration = Duration::from_secs(15);
/// Between two messages of a device, about: what an hour makes is to be judged in the end.
const PAUSE: Duration = Duration::from_millis(600);
/// How many samples are taken.
const SAMPLES: u32 = 120;
/// A function has 256 MB on AWS, and its unoptimised build takes more than what is deployed.
const MOST: u64 = 128 << 20;
/// What the median of the last quarter may be above that of the first: pools fill, and the allocator keeps pieces.
const GROWTH: f64 = 1.10;
const ROOM: u64 = 2 << 20;

/// The memory of one function's processes, in bytes.
#[derive(Debug, Serialize)]
struct Memory {
    function: String,
    /// The most processes at once.
    processes: usize,
    /// The largest process, as the median of the samples of the first quarter.
    first_quarter: u64,
    /// The same of the last.
    last_quarter: u64,
    /// The largest of all.
    most: u64,
}

#[derive(Debug, Serialize)]
struct Soak {
    minutes: f64,
    messages: usize,
    struck: u64,
    functions: Vec<Memory>,
}

/// Q1, the list: while people write, and a little goes wrong all the time, no function's memory grows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat() {
    let _alone = ALONE.lock().await;
    let time = number("POSTE_SOAK_MINUTES").map_or(SHORT, Duration::from_mins);
    let deployment = Deployment::here();
    let faults = Faults::of(&deployment);
    let drizzle = table::drizzle();
    let folder = tempfile::tempdir().expect("a folder");
    let mut people = People::gather(&deployment, folder.path(), &drizzle, &[]).await;
    let before: u64 = faults.struck().await.values().sum();
    faults.hold(1, drizzle.rules.clone()).await;
    let mut chance = StdRng::seed_from_u64(1);
    let (_, samples) = futures::join!(
        people.live(&deployment, &faults, &drizzle, time, PAUSE, &mut chance),
        sample(&deployment, time)
    );
    faults.end().await;
    let struck = faults.struck().await.values().sum::<u64>() - before;
    people.come_to_rest().await;
    people.judge(&deployment).await;
    let functions: Vec<Memory> = samples.into_iter().map(|(function, taken)| memory(function, &taken)).collect();
    for memory in &functions {
        println!("{memory:?}");
        assert!(memory.most < MOST, "too much: {memory:?}");
    }
    assert!(cfg!(not(target_os = "linux")) || functions.len() >= 5, "{functions:?}");
    if time > SHORT {
        for memory in &functions {
            #[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
            let (first, last) = (memory.first_quarter as f64, memory.last_quarter.saturating_sub(ROOM) as f64);
            assert!(last <= first * GROWTH, "it grows: {memory:?}");
        }
    }
    let soak = Soak { minutes: time.as_secs_f64() / 60.0, messages: people.written(), struck, functions };
    println!("{} messages in {:.1} minutes, {struck} faults", soak.messages, soak.minutes);
    report("POSTE_SOAK_REPORT", &soak);
    people.leave().await;
}

/// One look: how many processes a function has, and the memory of the largest.
type Look = (usize, u64);

/// Looks at all functions' processes again and again. Gives the looks at each function, in order.
async fn sample(deployment: &Deployment, time: Duration) -> BTreeMap<String, Vec<Look>> {
    let mut samples: BTreeMap<String, Vec<Look>> = BTreeMap::new();
    let ends = Instant::now() + time;
    while Instant::now() < ends {
        let mut now: BTreeMap<String, Look> = BTreeMap::new();
        for process in deployment.processes().into_iter().filter(|process| process.memory > 0) {
            let (count, largest) = now.entry(process.function).or_default();
            *count += 1;
            *largest = process.memory.max(*largest);
        }
        for (function, look) in now {
            samples.entry(function).or_default().push(look);
        }
        tokio::time::sleep(time / SAMPLES).await;
    }
    samples
}

fn memory(function: String, looks: &[Look]) -> Memory {
    let quarter = looks.len().div_ceil(4);
    let median = |looks: &[Look]| {
        let mut sizes: Vec<u64> = looks.iter().map(|(_, largest)| *largest).collect();
        sizes.sort_unstable();
        sizes[sizes.len() / 2]
    };
    Memory {
        function,
        processes: looks.iter().map(|(count, _)| *count).max().unwrap_or_default(),
        first_quarter: median(&looks[..quarter]),
        last_quarter: median(&looks[looks.len() - quarter..]),
        most: looks.iter().map(|(_, largest)| *largest).max().unwrap_or_default(),
    }
}
