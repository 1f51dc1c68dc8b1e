//! States that behave alike, made one.
//!
//! Lanes outside the head burn numbers: whoever reserves and is refused leaves numbers that nobody will write. States
//! that differ only in how many of them there are, and where exactly, behave alike; so do attempts that will be
//! refused, whatever they hold. Without this the model with lanes outside has a hundred times as many states.
//!
//! *Attempts.* A lane never goes back: placing raises its number, placing anew raises its place. So
//!
//! - who would be refused now will be refused later, and nothing but the attempt itself changes by that: it goes at once
//!   to where the lane says. Only who has yet to reserve numbers outside the head does something by it: leaves a hole.
//!   Where such an attempt's void was makes no difference;
//! - a put that would find something will find the same later, because slots do not change. It is made at once;
//! - of several attempts that bring the device the same answer, one is enough;
//! - a filler whose number is taken has nothing to do any more.
//!
//! *Numbers.* A number that no attempt, lane, acknowledgement or cell refers to can never be referred to again,
//! because the counter is past it. So
//!
//! - a void on such a number is taken out: all that anyone ever does with it is step over it;
//! - of several such numbers in a row that are still missing, one is kept: they hold up readers as one does, until a
//!   filler has put voids on them all. A filler that has chosen any of them has chosen that one.
//!
//! What is left moves together and keeps its order.
//!
//! These are arguments about the rules as they are, so nothing of it is used where a rule is broken on purpose. A test
//! holds the states that come about with all this against what it makes of the states that come about without.

use crate::{
    Attempt, Home, LAST, Place, Poste, Slot, State, Taken,
    shared::{Envelope, Held, Log},
};

impl State {
    /// The state that stands for all that behave like this one.
    #[must_use]
    pub fn reduced(mut self, poste: &Poste) -> Self {
        // What must not be is left as it is, to be found.
        if !self.shared.log.is_disjoint() {
            return self;
        }
        for envelope in Envelope::ALL {
            for index in 0..self.attempts[envelope as usize].len() {
                let others = self.attempts[envelope as usize];
                let attempt = self.settled(poste, envelope, others[index]);
                let again = matches!(attempt, Attempt::Answering { .. }) && others[..index].contains(&attempt);
                self.attempts[envelope as usize][index] = if again { Attempt::Ended } else { attempt };
            }
        }
        if self.shared.log.at(self.chosen).is_some() {
            self.chosen = 0;
        }
        self.renumbered().sorted()
    }

    /// The attempt that stands for all that behave like this one.
    fn settled(&self, poste: &Poste, envelope: Envelope, attempt: Attempt) -> Attempt {
        let lane = self.shared.lane(envelope);
        let elsewhere = |old| lane != Some(Held { envelope, first: old });
        let in_head = poste.home(envelope) == Home::InHead;
        match attempt {
            Attempt::Placed { first } => match self.shared.log.at(first) {
                Some(Slot::Cell(other)) if other == envelope && self.acknowledged[envelope as usize] == first => {
                    Attempt::Ended
                }
                Some(Slot::Cell(other)) if other == envelope => Attempt::Answering { first },
                Some(Slot::Void) => self.settled(poste, envelope, Attempt::Voided { old: first }),
                _ => attempt,
            },
            Attempt::Found { first } if self.shared.log.at(first).is_some() => {
                self.settled(poste, envelope, Attempt::Placed { first })
            }
            Attempt::Reserved { first } if lane == Some(Held { envelope, first }) => {
                self.settled(poste, envelope, Attempt::Placed { first })
            }
            Attempt::Sent if in_head && !self.shared.may_place(poste, envelope) => {
                self.refused(poste, envelope, |first| Attempt::Found { first })
            }
            Attempt::Reserved { .. } if !self.shared.may_place(poste, envelope) => {
                self.refused(poste, envelope, |first| Attempt::Found { first })
            }
            Attempt::Voided { old } if elsewhere(old) && !in_head => Attempt::Voided { old: 0 },
            Attempt::Voided { old } | Attempt::ReservedAnew { old, .. } if elsewhere(old) => {
                self.refused(poste, envelope, |first| Attempt::Placed { first })
            }
            _ => attempt,
        }
    }

    /// Where an attempt is that the lane has refused: at the place that the lane has for it, or, if its device has moved
    /// on, at its cell.
    fn refused(&self, poste: &Poste, envelope: Envelope, found: impl Fn(Place) -> Attempt) -> Attempt {
        let next = match self.shared.lane(envelope) {
            Some(held) if held.envelope == envelope => found(held.first),
            Some(held) => match self.shared.look_back(envelope, held.first) {
                Some(first) => Attempt::Placed { first },
                None => return Attempt::Sent,
            },
            None => return Attempt::Sent,
        };
        self.settled(poste, envelope, next)
    }

    /// The same state with as few numbers as will do.
    fn renumbered(mut self) -> Self {
        let referred = self.referred();
        let voids = self.shared.log.slots().filter(|(_, slot)| *slot == Slot::Void);
        let voids = voids.fold(0_u32, |voids, (place, _)| voids | 1 << place);
        // New places by old ones.
        let mut places = [0; LAST as usize + 1];
        let mut last = 0;
        let mut after_missing = false;
        for old in 1..=self.shared.head {
            let bit = 1_u32 << old;
            if referred & bit != 0 {
                last += 1;
                after_missing = false;
            } else if voids & bit == 0 && !after_missing {
                last += 1;
                after_missing = true;
            }
            places[usize::from(old)] = last;
        }
        if last == self.shared.head {
            return self;
        }
        let moved = |place: Place| places[usize::from(place)];
        let mut log = Log::default();
        for (place, slot) in self.shared.log.slots() {
            if slot != Slot::Void || referred & 1 << place != 0 {
                log.overwrite(moved(place), slot);
            }
        }
        self.shared.log = log;
        self.shared.head = last;
        for held in self.shared.lanes.iter_mut().flatten() {
            held.first = moved(held.first);
        }
        for attempt in self.attempts.iter_mut().flatten() {
            match attempt {
                Attempt::Reserved { first }
                | Attempt::Found { first }
                | Attempt::Placed { first }
                | Attempt::Answering { first } => {
                    *first = moved(*first);
                }
                Attempt::Voided { old } => *old = moved(*old),
                Attempt::ReservedAnew { old, first } => (*old, *first) = (moved(*old), moved(*first)),
                Attempt::Sent | Attempt::Ended => {}
            }
        }
        self.acknowledged = self.acknowledged.map(moved);
        self.chosen = moved(self.chosen);
        for reader in &mut self.readers {
            reader.cursor = moved(reader.cursor);
            reader.taken = Taken::of(reader.taken.cells().map(|held| Held { first: moved(held.first), ..held }));
        }
        self
    }

    /// The numbers that something refers to, a bit for each.
    fn referred(&self) -> u32 {
        let range = |envelope: Envelope, first: Place| match first {
            0 => 0,
            _ => ((1 << envelope.count()) - 1) << first,
        };
        let mut referred = 0;
        for held in self.shared.lanes.into_iter().flatten().chain(self.shared.log.cells(0, LAST)) {
            referred |= range(held.envelope, held.first);
        }
        for envelope in Envelope::ALL {
            referred |= 1 << self.acknowledged[envelope as usize];
            for attempt in self.attempts[envelope as usize] {
                referred |= match attempt {
                    Attempt::Reserved { first } | Attempt::Placed { first } | Attempt::Answering { first } => {
                        range(envelope, first)
                    }
                    Attempt::Found { first: old } | Attempt::Voided { old } => 1 << old,
                    Attempt::ReservedAnew { old, first } => 1 << old | range(envelope, first),
                    Attempt::Sent | Attempt::Ended => 0,
                };
            }
        }
        for held in self.readers.iter().flat_map(|reader| reader.taken.cells()) {
            referred |= range(held.envelope, held.first);
        }
        referred
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reader;

    #[test]
    fn numbers_that_nobody_refers_to_are_taken_out() {
        let mut state = State::default();
        let shared = &mut state.shared;
        shared.head = 9;
        shared.log.put(1, Slot::Void);
        shared.log.put(2, Slot::Cell(Envelope::X));
        shared.log.put(3, Slot::Void);
        shared.lanes[0] = Some(Held { envelope: Envelope::X, first: 2 });
        // 4 and 5 are burnt, 6 to 7 are reserved, 8 and 9 are burnt.
        state.attempts[1][0] = Attempt::Reserved { first: 6 };
        state.readers[0] = Reader { cursor: 3, taken: Taken::of(shared.log.cells(0, 3)) };
        let state = state.reduced(&Poste::default());
        assert_eq!(state.shared.log.to_string(), "1:X");
        assert_eq!(state.shared.head, 5);
        assert_eq!(state.shared.lanes[0], Some(Held { envelope: Envelope::X, first: 1 }));
        assert!(state.attempts[1].contains(&Attempt::Reserved { first: 3 }));
        assert_eq!(state.readers[1], Reader { cursor: 1, taken: Taken::of(state.shared.log.cells(0, 1)) });
        assert_eq!(state.reduced(&Poste::default()), state);
    }

    #[test]
    fn attempts_that_will_be_refused_are_alike() {
        let mut state = State::default();
        let shared = &mut state.shared;
        shared.head = 4;
        shared.log.put(1, Slot::Void);
        shared.lanes[1] = Some(Held { envelope: Envelope::Z, first: 4 });
        let [x, _, z] = &mut state.attempts;
        *z = [Attempt::Placed { first: 1 }, Attempt::ReservedAnew { old: 1, first: 2 }, Attempt::Reserved { first: 3 }];
        *x = [Attempt::Reserved { first: 2 }, Attempt::Ended, Attempt::Ended];
        let state = state.reduced(&Poste::default());
        let (found, placed) = (Attempt::Found { first: 3 }, Attempt::Placed { first: 3 });
        assert_eq!(state.attempts[2], [found, placed, placed]);
        assert!(state.attempts[0].contains(&Attempt::Reserved { first: 1 }));
        assert_eq!(state.shared.lanes[1], Some(Held { envelope: Envelope::Z, first: 3 }));
    }
}
