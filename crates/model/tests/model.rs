//! The model, explored to the end; and every broken rule, found.
//!
//! Three attempts for each envelope. With `POSTE_MODEL=full` four, and larger bounds where the states with and without
//! reducing are compared: that takes some minutes and up to 3 GB.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    num::NonZeroUsize,
    time::Instant,
};

use poste_model::{Fault, Home, Poste, State, properties, shortest, story};
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

const IN_HEAD: [Home; 2] = [Home::InHead; 2];
const OUTSIDE: [Home; 2] = [Home::Outside; 2];
const BOUNDARY: [Home; 2] = [Home::InHead, Home::Outside];
const BOUNDARY_TURNED: [Home; 2] = [Home::Outside, Home::InHead];

/// Asked for more than suits CI.
fn is_full() -> bool {
    std::env::var("POSTE_MODEL").is_ok_and(|bound| bound == "full")
}

/// Attempts for each envelope.
fn attempts() -> [usize; 3] {
    if is_full() { [4; 3] } else { [3; 3] }
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
    for property in demanded() {
        if checker.discovery(property.name).is_some() {
            let steps = shortest(&Poste { reduced: false, ..poste }, property.name).expect("there is one");
            panic!("not so: {}\n{}", property.name, story(&poste, &steps));
        }
    }
}

#[test]
fn lanes_in_the_head() {
    explore(Poste { homes: IN_HEAD, attempts: attempts(), reduced: true, ..Poste::default() });
}

#[test]
fn lanes_outside_the_head() {
    explore(Poste { homes: OUTSIDE, attempts: attempts(), reduced: true, ..Poste::default() });
}

#[test]
fn one_lane_in_the_head_and_one_outside() {
    for homes in [BOUNDARY, BOUNDARY_TURNED] {
        explore(Poste { homes, attempts: attempts(), reduced: true, ..Poste::default() });
    }
}

#[test]
fn calls_that_are_made_again_and_fillers_that_are_slow() {
    let slow = Poste { attempts: attempts(), lost_answers: true, slow_fillers: true, ..Poste::default() };
    for homes in [IN_HEAD, OUTSIDE, BOUNDARY, BOUNDARY_TURNED] {
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
    some_states(poste, usize::MAX)
}

/// The states that come about first, up to about this many.
fn some_states(poste: &Poste, enough: usize) -> HashSet<State> {
    let mut seen: HashSet<State> = poste.init_states().into_iter().collect();
    let mut pending: VecDeque<State> = seen.iter().copied().collect();
    while seen.len() < enough
        && let Some(state) = pending.pop_front()
    {
        pending.extend(poste.next_states(&state).into_iter().filter(|next| seen.insert(*next)));
    }
    seen
}

/// The properties that must hold in every state.
fn demanded() -> Vec<Property<Poste>> {
    properties().into_iter().filter(|property| property.expectation == Expectation::Always).collect()
}

/// Those of them that do not hold in this one.
fn violated(demanded: &[Property<Poste>], poste: &Poste, state: &State) -> Vec<&'static str> {
    demanded.iter().filter(|property| !(property.condition)(poste, state)).map(|property| property.name).collect()
}

/// As many states as may be gone through step by step.
const FEW: usize = 500_000;

/// Every step from a state is a step from the state that stands for it, or leads to one that the same stands for.
fn assert_steps_are_followed(plain: &Poste, reduced: &Poste, all: &HashSet<State>) {
    let mut followed: HashMap<State, Vec<State>> = HashMap::new();
    for state in all {
        let image = state.reduced(reduced);
        let after = followed.entry(image).or_insert_with(|| reduced.next_states(&image));
        for next in plain.next_states(state) {
            let to = next.reduced(reduced);
            assert!(to == image || after.contains(&to), "from {image} no step leads to {to}");
        }
    }
}

/// With reducing exactly those states come about that reducing makes of what comes about without.
#[test]
fn reducing_leaves_nothing_out() {
    let mut cases = vec![
        (OUTSIDE, [1, 1, 1], true),
        (OUTSIDE, [0, 0, 3], true),
        (OUTSIDE, [1, 1, 2], false),
        (OUTSIDE, [1, 2, 1], false),
        (OUTSIDE, [2, 1, 1], false),
        (BOUNDARY, [1, 1, 1], true),
        (BOUNDARY, [1, 1, 2], false),
        (BOUNDARY_TURNED, [1, 2, 1], false),
        (BOUNDARY_TURNED, [2, 1, 1], false),
        (IN_HEAD, [1, 1, 1], true),
        (IN_HEAD, [1, 1, 2], false),
        (IN_HEAD, [2, 1, 2], false),
        (IN_HEAD, [2, 2, 1], false),
    ];
    if is_full() {
        cases.extend([(BOUNDARY, [2, 1, 1], true), (BOUNDARY_TURNED, [1, 1, 2], true), (IN_HEAD, [1, 2, 2], false)]);
    }
    let demanded = demanded();
    for (homes, attempts, slow) in cases {
        let began = Instant::now();
        let plain = Poste { homes, attempts, lost_answers: slow, slow_fillers: slow, ..Poste::default() };
        let reduced = Poste { reduced: true, ..plain };
        let all = states(&plain);
        let images: HashSet<State> = all.iter().map(|state| state.reduced(&reduced)).collect();
        let reached = states(&reduced);
        println!(
            "{homes:?}, attempts {attempts:?}{}: {} states, {} reduced, {:.1?}",
            if slow { ", lost answers, slow fillers" } else { "" },
            all.len(),
            reached.len(),
            began.elapsed(),
        );
        if let Some(left_out) = images.difference(&reached).next() {
            panic!("left out: {left_out}, {:?}", left_out.attempts);
        }
        if let Some(invented) = reached.difference(&images).next() {
            panic!("invented: {invented}, {:?}", invented.attempts);
        }
        if all.len() < FEW {
            assert_steps_are_followed(&plain, &reduced, &all);
        }
        for state in &all {
            assert_eq!(violated(&demanded, &plain, state), [""; 0], "{state}, {:?}", state.attempts);
        }
    }
}

/// A state in which something does not hold is made one in which the same does not hold, and no other. Broken rules
/// bring such states about.
#[test]
fn reducing_hides_nothing() {
    let demanded = demanded();
    for fault in Fault::ALL {
        let began = Instant::now();
        let mut seen = 0;
        for homes in [IN_HEAD, OUTSIDE] {
            let poste = Poste { homes, ..Poste::default() };
            for state in some_states(&Poste { fault: Some(fault), ..poste }, 40_000) {
                let before = violated(&demanded, &poste, &state);
                seen += usize::from(!before.is_empty());
                let reduced = state.reduced(&poste);
                let after = violated(&demanded, &poste, &reduced);
                assert_eq!(before, after, "{fault:?}: {state} is made {reduced}");
            }
        }
        println!("{fault:?}: {seen} states in which something does not hold ({:.1?})", began.elapsed());
        assert_ne!(seen, 0, "{fault:?}");
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
