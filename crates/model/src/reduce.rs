//! States that behave alike, made one.
//!
//! Whoever reserves numbers outside the head and is refused burns them; whoever finds a void leaves one behind. States
//! that differ only in such numbers behave alike. So do attempts that will come to the same, whatever they hold.
//! Without this there are far too many states for three attempts each, also with lanes in the head.
//!
//! *Attempts.* A lane never goes back: placing raises its number, placing anew raises its place. A slot never changes.
//! So the outcome of some calls is decided, and all that they may still change is the counter. They are made at once:
//!
//! - a put at a place where there is a slot;
//! - placing anew from a place that the lane has left. It leads to the place that the lane has. If the lane leaves that
//!   one too, there is a void there, and it leads on: it makes no difference when the attempt learned of it;
//! - placing what the lane refuses, if the envelope's cell is at the lane's place (then the lane keeps it until its
//!   device moves on), or if the device has moved on: it leads to the cell.
//!
//! Placing what the lane refuses *otherwise* is not decided: it leads to [`Attempt::Found`] at the place that the lane
//! has then. Such an attempt waits; only what it has reserved meanwhile is forgotten. Who would find its own numbers in
//! the lane (an answer was lost) is no such attempt, and waits with its numbers.
//!
//! Of several attempts that bring the device the same answer, one is enough.
//!
//! *Numbers.* A number that no attempt, lane, acknowledgement or cell refers to can never be referred to again, because
//! the counter is past it. Whether it is a void or still missing, it is taken out:
//!
//! - a void is only stepped over. So readers are also taken past voids that something refers to;
//! - a missing one holds up readers and fillers until there is a void on it. Nobody else will put anything there, and
//!   who wants to get past it can always put one first: a filler chooses the first missing number, and this is the
//!   first when all before it are decided. So whatever may happen without the number may happen with it, after one more
//!   step that changes nothing else; and whatever may happen with it may happen without it;
//! - the last slot also says how far fillers go. If that is a void that nobody refers to, and there are numbers between
//!   the slot before it and it that something refers to, it is kept;
//! - a filler that has chosen a number that is decided, or that nobody refers to, has nothing to do any more.
//!
//! What is left moves together and keeps its order.
//!
//! These are arguments about the rules as they are, so nothing of it is used where a rule is broken on purpose. They
//! say that every step of a state is a step of the state that stands for it, or none; and that every step of that one
//! is one of the state, after some that change nothing. So the states that come about with all this are exactly those
//! that it makes of the states that come about without. For small bounds a test follows step by step, and holds the
//! states that come about in the two ways against each other.
//! Another holds that a state in which something is not as it must be is made one of which the same can be said.

use crate::{
    Attempt, Home, LAST, Place, Poste, Slot, State, Taken,
    shared::{Envelope, Held, Log, length},
};

/// An attempt that has yet to hear from its lane, outside the head, that it is refused.
const FORGOTTEN: Attempt = Attempt::Reserved { first: 0 };

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
        self.with_repeats_ended().renumbered().with_voids_passed().sorted()
    }

    /// The attempt that stands for all that behave like this one.
    fn settled(&self, poste: &Poste, envelope: Envelope, mut attempt: Attempt) -> Attempt {
        // All that these calls do is to burn numbers.
        let mut shared = self.shared;
        while self.is_certain(poste, envelope, attempt) {
            match attempt.call(poste, envelope, &mut shared) {
                Ok(next) => attempt = next,
                // To be found.
                Err(_) => return attempt,
            }
        }
        let outside = poste.home(envelope) == Home::Outside;
        match attempt {
            Attempt::Sent if outside && self.is_refused(poste, envelope) => FORGOTTEN,
            // Whose own numbers the lane has, and does not know it, is not told of a repeat.
            Attempt::Reserved { first }
                if self.is_refused(poste, envelope) && self.shared.lane(envelope) != Some(Held { envelope, first }) =>
            {
                FORGOTTEN
            }
            _ => attempt,
        }
    }

    /// Whether what the next call comes to is decided, whenever it is made, and whatever else is done before.
    fn is_certain(&self, poste: &Poste, envelope: Envelope, attempt: Attempt) -> bool {
        let lane = self.shared.lane(envelope);
        match attempt {
            Attempt::Sent | Attempt::Reserved { .. } => {
                self.is_refused(poste, envelope)
                    && lane.is_some_and(|held| {
                        held.envelope != envelope || matches!(self.shared.log.at(held.first), Some(Slot::Cell(_)))
                    })
            }
            Attempt::Found { first } | Attempt::Placed { first } => self.shared.log.at(first).is_some(),
            Attempt::Voided { old } | Attempt::ReservedAnew { old, .. } => lane != Some(Held { envelope, first: old }),
            Attempt::Answering { .. } | Attempt::Ended => false,
        }
    }

    /// The lane does not take the envelope as a new one, and never will.
    fn is_refused(&self, poste: &Poste, envelope: Envelope) -> bool {
        !self.shared.may_place(poste, envelope)
    }

    /// The same state without the numbers that nobody refers to.
    fn renumbered(mut self) -> Self {
        let kept = self.kept();
        // New places by old ones.
        let mut places = [0; LAST as usize + 1];
        let mut last = 0;
        for old in 1..=self.shared.head {
            last += u8::from(kept & 1 << old != 0);
            places[usize::from(old)] = last;
        }
        if kept & 1 << self.chosen == 0 || self.shared.log.at(self.chosen).is_some() {
            self.chosen = 0;
        }
        if last == self.shared.head {
            return self;
        }
        let moved = |place: Place| places[usize::from(place)];
        let mut log = Log::default();
        for (place, slot) in self.shared.log.slots().filter(|(place, _)| kept & 1 << place != 0) {
            log.overwrite(moved(place), slot);
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

    /// The readers have passed the voids that they are at.
    fn with_voids_passed(mut self) -> Self {
        for reader in &mut self.readers {
            while self.shared.log.at(reader.cursor + 1) == Some(Slot::Void) {
                reader.cursor += 1;
            }
        }
        self
    }

    /// The numbers that matter, a bit for each: those that something refers to, and the last void, if it is what lets
    /// fillers at one of them.
    fn kept(&self) -> u32 {
        let referred = self.referred();
        let through = |place: Place| (2 << place) - 1;
        let (mut shown, mut end) = (0, 0);
        for (first, slot) in self.shared.log.slots() {
            end = first + length(slot) - 1;
            if referred & 1 << first != 0 {
                shown = end;
            }
        }
        if referred & through(end) & !through(shown) == 0 { referred } else { referred | 1 << end }
    }

    /// The numbers that something refers to, a bit for each.
    fn referred(&self) -> u32 {
        // Of numbers that begin with a void only the first is of interest.
        let range = |envelope: Envelope, first: Place| match self.shared.log.at(first) {
            Some(Slot::Void) => 1 << first,
            _ if first == 0 => 0,
            _ => ((1_u32 << envelope.count()) - 1) << first,
        };
        let mut referred = 0;
        for held in self.shared.lanes.into_iter().flatten().chain(self.shared.log.cells(0, LAST)) {
            referred |= range(held.envelope, held.first);
        }
        for envelope in Envelope::ALL {
            referred |= 1 << self.acknowledged[envelope as usize];
            for attempt in self.attempts[envelope as usize] {
                referred |= match attempt {
                    Attempt::Reserved { first }
                    | Attempt::Found { first }
                    | Attempt::Placed { first }
                    | Attempt::Answering { first } => range(envelope, first),
                    Attempt::Voided { old } => 1 << old,
                    Attempt::ReservedAnew { old, first } => 1 << old | range(envelope, first),
                    Attempt::Sent | Attempt::Ended => 0,
                };
            }
        }
        for held in self.readers.iter().flat_map(|reader| reader.taken.cells()) {
            referred |= range(held.envelope, held.first);
        }
        referred & !1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reader;

    const OUTSIDE: [Home; 2] = [Home::Outside; 2];

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
        state.chosen = 4;
        state.readers[0] = Reader { cursor: 3, taken: Taken::of(shared.log.cells(0, 3)) };
        let state = state.reduced(&Poste::default());
        assert_eq!(state.shared.log.to_string(), "1:X");
        assert_eq!((state.shared.head, state.chosen), (3, 0));
        assert_eq!(state.shared.lanes[0], Some(Held { envelope: Envelope::X, first: 1 }));
        assert!(state.attempts[1].contains(&Attempt::Reserved { first: 2 }));
        assert_eq!(state.readers[0], Reader::default());
        assert_eq!(state.readers[1], Reader { cursor: 1, taken: Taken::of(state.shared.log.cells(0, 1)) });
        assert_eq!(state.reduced(&Poste::default()), state);
    }

    #[test]
    fn the_last_void_is_kept_where_it_lets_fillers_at_a_number() {
        let mut state = State::default();
        let shared = &mut state.shared;
        shared.head = 5;
        shared.lanes[1] = Some(Held { envelope: Envelope::Z, first: 1 });
        shared.log.put(3, Slot::Void);
        shared.log.put(5, Slot::Void);
        let kept = state.reduced(&Poste::default());
        assert_eq!((kept.shared.log.to_string().as_str(), kept.shared.head), ("2:void", 2));
        state.shared.log.put(1, Slot::Cell(Envelope::Z));
        let taken_out = state.reduced(&Poste::default());
        assert_eq!((taken_out.shared.log.to_string().as_str(), taken_out.shared.head), ("1:Z", 1));
    }

    #[test]
    fn attempts_that_will_come_to_the_same_are_alike() {
        let poste = Poste { homes: OUTSIDE, ..Poste::default() };
        let mut state = State::default();
        let shared = &mut state.shared;
        shared.head = 4;
        shared.log.put(1, Slot::Void);
        shared.lanes[1] = Some(Held { envelope: Envelope::Z, first: 4 });
        let [x, _, z] = &mut state.attempts;
        z[0] = Attempt::Placed { first: 1 };
        z[1] = Attempt::ReservedAnew { old: 1, first: 2 };
        z[2] = Attempt::Reserved { first: 3 };
        x[0] = Attempt::Reserved { first: 2 };
        let reduced = state.reduced(&poste);
        let placed = Attempt::Placed { first: 2 };
        assert_eq!(reduced.attempts[2][..3], [FORGOTTEN, placed, placed]);
        assert!(reduced.attempts[0].contains(&Attempt::Reserved { first: 1 }));
        assert_eq!(reduced.shared.lanes[1], Some(Held { envelope: Envelope::Z, first: 2 }));
        assert_eq!(reduced.reduced(&poste), reduced);
        state.shared.log.put(4, Slot::Cell(Envelope::Z));
        let reduced = state.reduced(&poste);
        assert_eq!(reduced.attempts[2][..2], [Attempt::Answering { first: 2 }, Attempt::Ended]);
    }
}
