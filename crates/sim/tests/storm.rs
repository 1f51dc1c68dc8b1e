//! Whole runs in bad weather. `POSTE_SEEDS=FIRST..LAST` plays others than the usual ones.

use poste_sim::Storm;

/// What runs with every test; fresh ones besides.
const SEEDS: std::ops::Range<u64> = 0..120;
const FRESH: u64 = 20;

#[test]
fn nothing_is_lost_doubled_or_out_of_order() {
    let seeds: Vec<u64> = match std::env::var("POSTE_SEEDS") {
        Ok(range) => {
            let (first, last) = range.split_once("..").expect("POSTE_SEEDS=FIRST..LAST");
            (first.parse().expect("a number")..last.parse().expect("a number")).collect()
        }
        Err(_) => SEEDS.chain((0..FRESH).map(|_| rand::random())).collect(),
    };
    let (mut messages, mut voids) = (0, 0);
    for seed in &seeds {
        match Storm::from(*seed).play() {
            Ok(report) => {
                messages += report.messages;
                voids += report.voids;
            }
            Err(violation) => {
                let again = Storm { chronicle: true, ..Storm::from(*seed) }.play();
                for line in again.err().map(|violation| violation.told).unwrap_or_default() {
                    println!("{line}");
                }
                panic!("seed {seed}: {violation}; POSTE_SEEDS={seed}..{} plays it again", seed + 1);
            }
        }
    }
    println!("{} runs, {messages} messages, {voids} voids", seeds.len());
    assert!(messages > 0);
}

#[test]
fn a_seed_plays_the_same_again() {
    for seed in 0..3 {
        assert_eq!(Storm::from(seed).play(), Storm::from(seed).play());
    }
}
