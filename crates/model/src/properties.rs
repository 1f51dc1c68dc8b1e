//! What must hold in every state, and what must come about in some.

use stateright::Property;

use crate::{
    Attempt, Poste, Taken,
    shared::{Envelope, Held, Slot, length},
    state::State,
};

/// Calls that an attempt may make when it is left in peace: to find out what became of an earlier one, then to reserve,
/// to bind and to put, in as many rounds as the code gives it.
const CALLS: usize = 1 + 3 * 4;

/// All properties, by the names that the design gives the invariants.
pub fn properties() -> Vec<Property<Poste>> {
    vec![
        always("I1: what is acknowledged is in the log at its place", |_, state| {
            Envelope::ALL.into_iter().all(|envelope| match state.acknowledged[envelope as usize] {
                0 => true,
                first => state.shared.log.places_of(envelope) & 1 << first != 0,
            })
        }),
        always("I2: an envelope is in the log at most once, under one number", |_, state| {
            !state.disagreed
                && Envelope::ALL.into_iter().all(|envelope| state.shared.log.places_of(envelope).count_ones() <= 1)
        }),
        always("I3: a cursor has passed nothing that was not taken", |_, state| {
            state.readers.iter().all(|reader| reader.taken == Taken::of(state.shared.log.cells(0, reader.cursor)))
        }),
        always("I4: both readers see one order", |_, state| {
            let [a, b] = state.readers.map(|reader| reader.taken);
            a.begins_with(b) || b.begins_with(a)
        }),
        always("I5: a device's envelopes are in the log in its order", |_, state| {
            Envelope::ALL.into_iter().all(|envelope| {
                let earlier = envelope.previous().map_or(0, |previous| state.shared.log.places_of(previous));
                let later = state.shared.log.places_of(envelope);
                later == 0
                    || envelope.previous().is_none()
                    || earlier != 0 && u32::BITS - earlier.leading_zeros() <= later.trailing_zeros()
            })
        }),
        always("a number of the log is decided once", |_, state| state.shared.log.is_disjoint()),
        always("nothing is broken, and nobody is told of a conflict", |_, state| state.found.is_none()),
        always("an attempt that is left in peace is acknowledged", left_in_peace),
        always("a reader that fills holes gets to the end", |_, state| to_the_end(state)),
        sometimes("all are acknowledged", |_, state| state.acknowledged.iter().all(|first| *first != 0)),
        sometimes("all are read by both", |_, state| {
            let end = state.shared.log.end();
            let all = Envelope::ALL.into_iter().all(|envelope| state.shared.log.places_of(envelope) != 0);
            all && state.readers.iter().all(|reader| reader.cursor == end)
        }),
        sometimes("a void is put", |_, state| state.shared.log.slots().any(|(_, slot)| slot == Slot::Void)),
        sometimes("an envelope is placed anew", |_, state| {
            placed_elsewhere(state).any(|(old, held)| old.envelope == held.envelope)
        }),
        sometimes("a frame comes late", |_, state| {
            state.acknowledged[Envelope::Y as usize] != 0
                && state.attempts[Envelope::X as usize].contains(&Attempt::Sent)
        }),
        sometimes("an attempt loses its place and finds its device further on", |_, state| {
            placed_elsewhere(state).any(|(old, held)| old.envelope != held.envelope)
        }),
    ]
}

fn always(name: &'static str, condition: fn(&Poste, &State) -> bool) -> Property<Poste> {
    Property::always(name, condition)
}

fn sometimes(name: &'static str, condition: fn(&Poste, &State) -> bool) -> Property<Poste> {
    Property::sometimes(name, condition)
}

/// From here, with nobody else about, every attempt that its device waits for gets through.
fn left_in_peace(poste: &Poste, state: &State) -> bool {
    Envelope::ALL.into_iter().all(|envelope| {
        let waits = state.acknowledged[envelope as usize] == 0 && state.is_sent(poste, envelope);
        !waits || state.attempts[envelope as usize].iter().all(|attempt| gets_through(poste, state, envelope, *attempt))
    })
}

fn gets_through(poste: &Poste, state: &State, envelope: Envelope, mut attempt: Attempt) -> bool {
    let mut shared = state.shared;
    for _ in 0..=CALLS {
        match attempt {
            Attempt::Ended => return true,
            Attempt::Answering { first } => return shared.log.at(first) == Some(Slot::Cell(envelope)),
            _ => {}
        }
        match attempt.call(poste, envelope, &mut shared) {
            Ok(next) => attempt = next,
            Err(_) => return false,
        }
    }
    false
}

/// From here, with nobody else about, both readers take everything that is in the log.
fn to_the_end(state: &State) -> bool {
    let mut log = state.shared.log;
    let end = log.end();
    state.readers.iter().all(|reader| {
        let mut cursor = reader.cursor;
        while cursor < end {
            log.put(cursor + 1, Slot::Void);
            cursor += log.at(cursor + 1).map_or(1, length);
        }
        cursor == end
    })
}

/// Attempts that found a void, with what their lane holds now, if that is not the old place.
fn placed_elsewhere(state: &State) -> impl Iterator<Item = (Held, Held)> {
    Envelope::ALL.into_iter().flat_map(move |envelope| {
        state.attempts[envelope as usize].iter().filter_map(move |attempt| {
            let (Attempt::Voided { old } | Attempt::ReservedAnew { old, .. }) = *attempt else { return None };
            let old = Held { envelope, first: old };
            state.shared.lane(envelope).filter(|held| *held != old).map(|held| (old, held))
        })
    })
}
