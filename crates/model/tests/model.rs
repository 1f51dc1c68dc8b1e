//! The model, explored to the end; and every broken rule, found.
//!
//! Three attempts for each envelope. Where calls are made again and fillers are slow, two, and three only if
//! `POSTE_MODEL=full`: that takes a minute or two more.

use std::{collections::HashSet, num::NonZeroUsize, time::Instant};

use poste_model::{Fault, Home, Poste, State, properties, shortest, story};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

const IN_HEAD: [Home; 2] = [Home::InHead; 2];
const OUTSIDE: [Home; 2] = [Home::Outside; 2];
const BOUNDARY: [Home; 2] = [Home::InHead, Home::Outside];
const BOUNDARY_TURNED: [Home; 2] = [Home::Outside, Home::InHead];

/// Asked for more than suits CI.
fn is_full() -> bool {
    std::env::var("POSTE_MODEL").is_ok_and(|bound| bound == "full")
}

/// Goes through every state. What does not hold is told from a shortest way to it.
fn explore(poste: Poste) {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let checker = poste.checker().threads(threads).spawn_dfs().join();
    println!(
        "{:?}, attempts {:?}{}{}{}: {} states, {} steps, at most {} deep, {:.1?}",
        poste.homes,
        poste.attempts,
        if poste.lost_answers { ", lost answers" } else { "" },
        if poste.slow_fillers { ", slow fillers" } else { "" },
        if poste.reduced { ", reduced" } else { "" },
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed(),
    );
    assert!(checker.is_done());
    for property in poste.properties().iter().filter(|property| property.expectation == Expectation::Always) {
        if checker.discovery(property.name).is_some() {
            let steps = shortest(&Poste { reduced: false, ..poste }, property.name).expect("there is one");
            panic!("not so: {}\n{}", property.name, story(&poste, &steps));
        }
    }
}

#[test]
fn lanes_in_the_head() {
    explore(Poste { homes: IN_HEAD, attempts: [3; 3], reduced: true, ..Poste::default() });
}

#[test]
fn lanes_outside_the_head() {
    explore(Poste { homes: OUTSIDE, attempts: [3; 3], reduced: true, ..Poste::default() });
}

#[test]
fn one_lane_in_the_head_and_one_outside() {
    for homes in [BOUNDARY, BOUNDARY_TURNED] {
        explore(Poste { homes, attempts: [3; 3], reduced: true, ..Poste::default() });
    }
}

#[test]
fn calls_that_are_made_again_and_fillers_that_are_slow() {
    let attempts = if is_full() { [3; 3] } else { [2; 3] };
    let slow = Poste { attempts, lost_answers: true, slow_fillers: true, ..Poste::default() };
    explore(slow);
    for homes in [OUTSIDE, BOUNDARY, BOUNDARY_TURNED] {
        explore(Poste { homes, reduced: true, ..slow });
    }
}

/// The model does what it is there for: what should come about somewhere does.
#[test]
fn everything_of_interest_comes_about() {
    for homes in [IN_HEAD, OUTSIDE, BOUNDARY, BOUNDARY_TURNED] {
        let poste = Poste { homes, ..Poste::default() };
        let wanted = properties().into_iter().filter(|property| property.expectation == Expectation::Sometimes);
        let wanted = HasDiscoveries::AllOf(wanted.map(|property| property.name).collect());
        let checker = poste.checker().finish_when(wanted).spawn_bfs().join();
        for property in properties().iter().filter(|property| property.expectation == Expectation::Sometimes) {
            assert!(checker.discovery(property.name).is_some(), "never: {} with {homes:?}", property.name);
        }
    }
}

/// All states that come about.
fn states(poste: &Poste) -> HashSet<State> {
    let mut seen: HashSet<State> = poste.init_states().into_iter().collect();
    let mut pending: Vec<State> = seen.iter().copied().collect();
    while let Some(state) = pending.pop() {
        pending.extend(poste.next_states(&state).into_iter().filter(|next| seen.insert(*next)));
    }
    seen
}

#[test]
fn reducing_leaves_nothing_out() {
    let mut cases = vec![
        (OUTSIDE, [1, 1, 2], true),
        (OUTSIDE, [2, 1, 1], true),
        (OUTSIDE, [1, 2, 1], true),
        (BOUNDARY, [2, 1, 2], false),
        (BOUNDARY_TURNED, [2, 1, 2], false),
        (IN_HEAD, [2, 2, 2], true),
    ];
    if is_full() {
        cases.extend([
            (OUTSIDE, [2, 1, 2], false),
            (OUTSIDE, [1, 2, 2], false),
            (BOUNDARY, [2, 1, 2], true),
            (BOUNDARY_TURNED, [2, 2, 1], true),
            (IN_HEAD, [3, 3, 3], true),
        ]);
    }
    for (homes, attempts, slow) in cases {
        let plain = Poste { homes, attempts, lost_answers: slow, slow_fillers: slow, ..Poste::default() };
        let reduced = Poste { reduced: true, ..plain };
        let all = states(&plain);
        let images: HashSet<State> = all.iter().map(|state| state.reduced(&reduced)).collect();
        let reached = states(&reduced);
        println!("{homes:?}, attempts {attempts:?}: {} states, {} reduced", all.len(), reached.len());
        if let Some(left_out) = images.difference(&reached).next() {
            panic!("left out: {left_out}, {:?}", left_out.attempts);
        }
        if let Some(invented) = reached.difference(&images).next() {
            panic!("invented: {invented}, {:?}", invented.attempts);
        }
    }
}

/// What each broken rule breaks.
fn broken_by(fault: Fault) -> &'static str {
    let starts = match fault {
        Fault::AnsweredBeforeWritten | Fault::VoidsOverwrite => "I1",
        Fault::PlacedWithoutCondition
        | Fault::AnewWithoutCondition
        | Fault::LateStored
        | Fault::RepeatsPutNoVoid
        | Fault::RepeatsIgnoreCells
        | Fault::LaneAfterCell => "I2",
        Fault::CellsOverwrite | Fault::CursorSkips => "I3",
        Fault::VoidsDescending | Fault::VoidsAnywhere => "a number of the log is decided once",
        Fault::NextBeforeAnswer => "nothing is broken",
    };
    let found = properties().into_iter().find(|property| property.name.starts_with(starts));
    found.expect("a property of this name").name
}

#[test]
fn every_broken_rule_is_found() {
    for fault in Fault::ALL {
        for homes in [IN_HEAD, OUTSIDE] {
            let poste = Poste { homes, fault: Some(fault), ..Poste::default() };
            let broken = broken_by(fault);
            let began = Instant::now();
            let steps = shortest(&poste, broken).unwrap_or_else(|| panic!("{fault:?} is not found with {homes:?}"));
            println!(
                "{fault:?}, {homes:?}: not so after {} steps: {broken} ({:.1?})",
                steps.len() - 1,
                began.elapsed()
            );
            println!("{}", story(&poste, &steps));
        }
    }
}
