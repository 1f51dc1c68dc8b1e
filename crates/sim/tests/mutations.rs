//! The checker finds real faults: each broken rule is noticed within a few seeds. `POSTE_MUTATIONS=A,B` tries some of
//! them only.

use poste_sim::{Mutation, Storm};

/// A broken rule must show within so many runs.
const SEEDS: u64 = 400;

#[test]
fn every_broken_rule_is_noticed() {
    let mut unnoticed = Vec::new();
    println!("| broken rule | seeds to find | shows as |\n|---|---|---|");
    let wanted = std::env::var("POSTE_MUTATIONS").ok();
    let is_wanted = |mutation: &Mutation| {
        let name = format!("{mutation:?}");
        wanted.as_ref().is_none_or(|wanted| wanted.split(',').any(|wanted| wanted == name))
    };
    for mutation in Mutation::ALL.into_iter().filter(is_wanted) {
        let found = (0..SEEDS).find_map(|seed| {
            let storm = Storm { mutation: Some(mutation), ..Storm::from(seed) };
            // A rule that is broken may also end in a panic of the rules themselves: that is noticed, too.
            match std::panic::catch_unwind(|| storm.play()) {
                Ok(Ok(_)) => None,
                Ok(Err(violation)) => Some((seed + 1, violation.invariant)),
                Err(_) => Some((seed + 1, "panic")),
            }
        });
        match found {
            Some((seeds, invariant)) => println!("| `{mutation:?}` | {seeds} | {invariant} |"),
            None => unnoticed.push(mutation),
        }
    }
    assert!(unnoticed.is_empty(), "not noticed within {SEEDS} seeds: {unnoticed:?}");
}
