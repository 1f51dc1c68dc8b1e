//! Many runs in bad weather. `POSTE_SEEDS=FIRST..LAST` plays others than the usual ones.

use poste_sim::Storm;

/// What runs with every test.
const SEEDS: std::ops::Range<u64> = 0..150;

#[test]
fn nothing_is_lost_doubled_or_out_of_order() {
    let seeds = match std::env::var("POSTE_SEEDS") {
        Ok(range) => {
            let (first, last) = range.split_once("..").expect("POSTE_SEEDS=FIRST..LAST");
            first.parse().expect("a number")..last.parse().expect("a number")
        }
        Err(_) => SEEDS,
    };
    let (mut messages, mut voids, mut runs) = (0, 0, 0);
    for seed in seeds {
        match (Storm { seed }).play() {
            Ok(report) => {
                messages += report.messages;
                voids += report.voids;
                runs += 1;
            }
            Err(violation) => panic!("seed {seed}: {violation}; POSTE_SEEDS={seed}..{} plays it again", seed + 1),
        }
    }
    println!("{runs} runs, {messages} messages, {voids} voids");
    assert!(messages > 0);
}

#[test]
fn a_seed_plays_the_same_again() {
    for seed in 0..3 {
        assert_eq!((Storm { seed }).play(), (Storm { seed }).play());
    }
}
