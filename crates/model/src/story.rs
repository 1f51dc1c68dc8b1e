//! A path of the checker, told so that a person can follow it.

use std::fmt;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    ATTEMPTS, Action, Attempt, Poste, State,
    shared::{Envelope, Place, Slot},
};

/// A state, and the step that led out of it.
pub type Step = (State, Option<Action>);

/// Looks for a shortest way to a state in which a property does not hold that must always hold. Nothing, if there is
/// no such state.
pub fn shortest(poste: &Poste, property: &'static str) -> Option<Vec<Step>> {
    let mut found: Option<Vec<Step>> = None;
    // The checker goes on to the end of a block after the first find, and keeps the last: so ask again for less.
    loop {
        let mut checker = poste.checker().finish_when(HasDiscoveries::AnyOf([property].into()));
        if let Some(steps) = &found {
            checker = checker.target_max_depth(steps.len());
        }
        match checker.spawn_bfs().join().discovery(property) {
            Some(path) => found = Some(path.into_vec()),
            None => return found,
        }
    }
}

/// Tells a path, a step a line, with what is shared after each.
pub fn story(poste: &Poste, steps: &[Step]) -> String {
    let mut lines = Vec::new();
    // The attempts of a state are sorted; these follow them under the names that they began with.
    let mut attempts = [std::array::from_fn::<_, ATTEMPTS, _>(|index| index + 1); 3];
    let mut readers = [1, 2];
    let mut told = "start".to_owned();
    for (state, action) in steps {
        lines.push((told, state));
        let Some(action) = *action else { break };
        told = format!("{:>2}. {}", lines.len(), tell(poste, state, action, &attempts, readers));
        let next = state.stepped(poste, action).with_repeats_ended();
        for (names, values) in attempts.iter_mut().zip(next.attempts) {
            *names = follow(names, &values);
        }
        readers = follow(&readers, &next.readers);
    }
    let width = lines.iter().map(|(told, _)| told.len()).max().unwrap_or(0);
    let lines: Vec<_> = lines.iter().map(|(told, state)| format!("{told:width$}   {state}")).collect();
    lines.join("\n")
}

/// The names of things in the order in which sorting puts the things.
fn follow<T: Ord + Copy, const N: usize>(names: &[usize; N], values: &[T; N]) -> [usize; N] {
    let mut order: [usize; N] = std::array::from_fn(|index| index);
    order.sort_by_key(|index| values[*index]);
    order.map(|index| names[index])
}

fn tell(
    poste: &Poste,
    state: &State,
    action: Action,
    attempts: &[[usize; ATTEMPTS]; 3],
    readers: [usize; 2],
) -> String {
    match action {
        Action::Call(envelope, index) => {
            let name = attempts[envelope as usize][index];
            format!("{envelope:?}, attempt {name}: {}", tell_call(poste, state, envelope, index))
        }
        Action::CallUnanswered(envelope, index) => {
            let name = attempts[envelope as usize][index];
            format!("{envelope:?}, attempt {name}: {}, answer lost", tell_call(poste, state, envelope, index))
        }
        Action::Acknowledge(envelope, index) => {
            let first = match state.attempts[envelope as usize][index] {
                Attempt::Answering { first } | Attempt::Placed { first } => first,
                _ => 0,
            };
            let name = attempts[envelope as usize][index];
            format!("{envelope:?}, attempt {name}: {:?} is told {first}", envelope.device())
        }
        Action::Choose(place) => format!("a filler chooses {place}"),
        Action::Fill(place) => format!("a void is put on {place}"),
        Action::Take(index) => format!("reader {} goes on", readers[index]),
    }
}

fn tell_call(poste: &Poste, state: &State, envelope: Envelope, index: usize) -> String {
    let attempt = state.attempts[envelope as usize][index];
    let mut shared = state.shared;
    let after = attempt.call(poste, envelope, &mut shared);
    let changed = shared != state.shared;
    match (attempt, after) {
        (_, Err(finding)) => format!("ends, {finding:?}"),
        (_, Ok(Attempt::Reserved { first })) => format!("reserves {}", range(envelope, first)),
        (_, Ok(Attempt::ReservedAnew { first, .. })) => format!("reserves {} anew", range(envelope, first)),
        (Attempt::Sent, Ok(Attempt::Placed { first })) if changed => format!("is placed at {}", range(envelope, first)),
        (Attempt::Voided { .. }, Ok(Attempt::Placed { first })) if changed => {
            format!("is placed anew at {}", range(envelope, first))
        }
        (_, Ok(Attempt::Placed { first })) if changed => format!("is bound to {}", range(envelope, first)),
        (_, Ok(Attempt::Placed { first } | Attempt::Found { first })) => format!("has its place at {first} already"),
        (Attempt::Found { .. }, Ok(Attempt::Voided { old })) if changed => format!("puts a void on {old}"),
        (Attempt::Found { .. }, Ok(Attempt::Voided { old })) if shared.log.at(old) != Some(Slot::Void) => {
            format!("gives {old} up")
        }
        (_, Ok(Attempt::Voided { old })) => format!("finds a void at {old}"),
        (_, Ok(Attempt::Answering { first })) if changed => format!("is written at {}", range(envelope, first)),
        (Attempt::Placed { .. }, Ok(Attempt::Answering { first })) => format!("is in the log at {first} already"),
        (_, Ok(Attempt::Answering { first })) => format!("is late, and in the log at {first}"),
        (_, Ok(Attempt::Sent | Attempt::Ended)) => "does nothing".to_owned(),
    }
}

fn range(envelope: Envelope, first: Place) -> String {
    match envelope.count() {
        1 => first.to_string(),
        count => format!("{first}-{}", first + count - 1),
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log {}, head {}, lanes", self.shared.log, self.shared.head)?;
        for (device, lane) in ["A", "B"].into_iter().zip(self.shared.lanes) {
            match lane {
                Some(held) => write!(f, " {device} {:?}@{}", held.envelope, held.first)?,
                None => write!(f, " {device} -")?,
            }
        }
        f.write_str(", told")?;
        for (envelope, first) in Envelope::ALL.into_iter().zip(self.acknowledged).filter(|(_, first)| *first != 0) {
            write!(f, " {envelope:?}@{first}")?;
        }
        f.write_str(", readers")?;
        for reader in self.readers {
            write!(f, " {}[{}]", reader.cursor, reader.taken)?;
        }
        Ok(())
    }
}
