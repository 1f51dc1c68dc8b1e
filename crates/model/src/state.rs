//! The state of the model, and the steps from one to the next.

use std::fmt;

use stateright::{Expectation, Model, Property};

use crate::{
    ATTEMPTS, Attempt, Fault, Finding, Poste,
    properties::properties,
    shared::{Envelope, Held, Place, Shared, Slot, length},
};

/// What a reader took, in order: a byte for each cell, the last one lowest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Taken(u64);

/// Bits of a byte in [`Taken`] that hold the place; the others hold the envelope.
const PLACE_BITS: u32 = 5;

impl Taken {
    fn push(&mut self, cell: Held) {
        self.0 = self.0 << 8 | (cell.envelope as u64 + 1) << PLACE_BITS | u64::from(cell.first);
    }

    /// The list of these cells.
    pub fn of(cells: impl Iterator<Item = Held>) -> Self {
        let mut taken = Self::default();
        cells.for_each(|cell| taken.push(cell));
        taken
    }

    /// The cells, in order.
    pub fn cells(self) -> impl Iterator<Item = Held> {
        self.0.to_be_bytes().into_iter().filter_map(|byte| {
            let envelope = *Envelope::ALL.get(usize::from(byte >> PLACE_BITS).checked_sub(1)?)?;
            Some(Held { envelope, first: byte & ((1 << PLACE_BITS) - 1) })
        })
    }

    /// It begins with all of the other.
    pub fn begins_with(self, other: Self) -> bool {
        let mut shorter = self.0;
        while shorter > other.0 {
            shorter >>= 8;
        }
        shorter == other.0
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.cells().map(|held| format!("{:?}", held.envelope)).collect();
        f.write_str(&names.join(" "))
    }
}

/// A device that reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    /// Everything up to here has been taken in.
    pub cursor: Place,
    /// What that was.
    pub taken: Taken,
}

/// A state of the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The counter, the lanes and the log.
    pub shared: Shared,
    /// The attempts of each envelope, sorted.
    pub attempts: [[Attempt; ATTEMPTS]; 3],
    /// The place that the device was told first, for each envelope; 0 before.
    pub acknowledged: [Place; 3],
    /// An acknowledgement said something else than the one before.
    pub disagreed: bool,
    /// What an attempt found that should not be.
    pub found: Option<Finding>,
    /// The number that a slow filler has chosen; 0 for none.
    pub chosen: Place,
    /// The readers, sorted.
    pub readers: [Reader; 2],
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// An attempt makes its next call.
    Call(Envelope, usize),
    /// The same, but the answer is lost: the attempt makes the call again.
    CallUnanswered(Envelope, usize),
    /// The device hears from an attempt that its envelope is in the log.
    Acknowledge(Envelope, usize),
    /// A slow filler chooses a number.
    Choose(Place),
    /// A void is put on a number.
    Fill(Place),
    /// A reader takes the next slot.
    Take(usize),
}

impl State {
    /// The device has sent this envelope.
    pub fn is_sent(&self, poste: &Poste, envelope: Envelope) -> bool {
        poste.fault == Some(Fault::NextBeforeAnswer)
            || envelope.previous().is_none_or(|previous| self.acknowledged[previous as usize] != 0)
    }

    /// Makes a step, without putting like things in order.
    pub(crate) fn stepped(mut self, poste: &Poste, action: Action) -> Self {
        match action {
            Action::Call(envelope, index) => {
                let attempt = &mut self.attempts[envelope as usize][index];
                match attempt.call(poste, envelope, &mut self.shared) {
                    Ok(next) => *attempt = next,
                    Err(finding) => {
                        *attempt = Attempt::Ended;
                        self.found = self.found.or(Some(finding));
                    }
                }
            }
            Action::CallUnanswered(envelope, index) => {
                // Whatever it found, it will find again.
                let _ = self.attempts[envelope as usize][index].call(poste, envelope, &mut self.shared);
            }
            Action::Acknowledge(envelope, index) => {
                let attempt = &mut self.attempts[envelope as usize][index];
                let first = match *attempt {
                    Attempt::Answering { first } => {
                        *attempt = Attempt::Ended;
                        first
                    }
                    Attempt::Placed { first } => first,
                    _ => return self,
                };
                let told = &mut self.acknowledged[envelope as usize];
                if *told == 0 {
                    *told = first;
                }
                self.disagreed |= *told != first;
            }
            Action::Choose(place) => self.chosen = place,
            Action::Fill(place) => {
                if poste.fault == Some(Fault::VoidsOverwrite) {
                    self.shared.log.overwrite(place, Slot::Void);
                } else {
                    self.shared.log.put(place, Slot::Void);
                }
                self.chosen = 0;
            }
            Action::Take(index) => {
                let log = self.shared.log;
                let reader = &mut self.readers[index];
                let through = match log.at(reader.cursor + 1) {
                    _ if poste.fault == Some(Fault::CursorSkips) => log.end(),
                    Some(slot) => reader.cursor + length(slot),
                    None => reader.cursor,
                };
                log.cells(reader.cursor, through).for_each(|cell| reader.taken.push(cell));
                reader.cursor = through;
            }
        }
        self
    }

    /// An attempt that would only repeat to the device what it was told has ended.
    pub(crate) fn with_repeats_ended(mut self) -> Self {
        for (attempts, told) in self.attempts.iter_mut().zip(self.acknowledged) {
            for attempt in attempts.iter_mut().filter(|attempt| **attempt == Attempt::Answering { first: told }) {
                *attempt = Attempt::Ended;
            }
        }
        self
    }

    /// Attempts of one envelope are alike, and so are readers.
    pub(crate) fn sorted(mut self) -> Self {
        self.attempts.iter_mut().for_each(|attempts| attempts.sort_unstable());
        self.readers.sort_unstable();
        self
    }
}

/// Indices of the different ones among things that are sorted.
fn different<T: PartialEq>(sorted: &[T]) -> impl Iterator<Item = (usize, &T)> {
    sorted.iter().enumerate().filter(|(index, thing)| *index == 0 || sorted[index - 1] != **thing)
}

impl Model for Poste {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::default();
        for (attempts, count) in state.attempts.iter_mut().zip(self.attempts) {
            attempts.iter_mut().take(count).for_each(|attempt| *attempt = Attempt::Sent);
        }
        vec![state.sorted()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for envelope in Envelope::ALL.into_iter().filter(|envelope| state.is_sent(self, *envelope)) {
            for (index, attempt) in different(&state.attempts[envelope as usize]) {
                match attempt {
                    Attempt::Ended => {}
                    Attempt::Answering { .. } => actions.push(Action::Acknowledge(envelope, index)),
                    _ => actions.push(Action::Call(envelope, index)),
                }
                if self.lost_answers && attempt.may_lose_answer(self, envelope) {
                    actions.push(Action::CallUnanswered(envelope, index));
                }
                let early = self.fault == Some(Fault::AnsweredBeforeWritten);
                if early && matches!(attempt, Attempt::Placed { .. }) {
                    actions.push(Action::Acknowledge(envelope, index));
                }
            }
        }
        let hole = state.shared.log.first_hole();
        let choices = match self.fault {
            Some(Fault::VoidsDescending) => hole.end.saturating_sub(1).max(hole.start)..hole.end,
            Some(Fault::VoidsAnywhere) => hole,
            _ => hole.start..hole.end.min(hole.start + 1),
        };
        if self.slow_fillers || self.fault == Some(Fault::VoidsOverwrite) {
            actions.extend(choices.filter(|place| *place != state.chosen).map(Action::Choose));
            actions.extend((state.chosen != 0).then_some(Action::Fill(state.chosen)));
        } else {
            actions.extend(choices.map(Action::Fill));
        }
        for (index, reader) in different(&state.readers) {
            let skips = self.fault == Some(Fault::CursorSkips) && reader.cursor < state.shared.log.end();
            if skips || state.shared.log.at(reader.cursor + 1).is_some() {
                actions.push(Action::Take(index));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let next = state.stepped(self, action).with_repeats_ended();
        let next = if self.reduced && self.fault.is_none() { next.reduced(self) } else { next.sorted() };
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let asked = properties().into_iter();
        asked.filter(|property| !self.reduced || property.expectation == Expectation::Always).collect()
    }
}
