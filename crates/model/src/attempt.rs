//! One attempt to append an envelope, call by call, as `poste_domain::append` makes them.

use poste_domain::lane::Standing;

use crate::{
    Fault, Home, Poste,
    shared::{Envelope, Held, Place, Recorded, Shared, Slot, place},
};

/// How far an attempt is: which call it makes next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attempt {
    /// The frame is on its way; next is placing.
    Sent,
    /// Numbers are reserved; next is binding them to the lane.
    Reserved {
        /// The first of them.
        first: Place,
    },
    /// The lane has it at a place that an earlier attempt was given; next a void is put there, if there is nothing.
    Found {
        /// Where.
        first: Place,
    },
    /// The lane gave it a place; next is the put of the cell.
    Placed {
        /// Where.
        first: Place,
    },
    /// There was a void at its place; next is placing anew.
    Voided {
        /// Where.
        old: Place,
    },
    /// There was a void at its place, and other numbers are reserved; next is binding them to the lane.
    ReservedAnew {
        /// Where the void is.
        old: Place,
        /// The first of the others.
        first: Place,
    },
    /// The envelope is in the log; next the device hears of it.
    Answering {
        /// At which place.
        first: Place,
    },
    /// Nothing more happens.
    #[default]
    Ended,
}

/// What an attempt may find that should not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// What the code answers with trouble that is `broken`.
    Broken,
    /// `lane_conflict`.
    Conflict,
}

impl Attempt {
    /// Makes the next call: its effect on what is shared, and where the attempt is then.
    pub(crate) fn call(self, poste: &Poste, envelope: Envelope, shared: &mut Shared) -> Result<Self, Finding> {
        match self {
            Self::Sent if poste.home(envelope) == Home::Outside => {
                Ok(Self::Reserved { first: shared.reserve(envelope) })
            }
            Self::Sent => {
                let condition = shared.may_place(poste, envelope);
                let first = if condition { shared.reserve(envelope) } else { 0 };
                bind(poste, envelope, first, condition, false, shared)
            }
            Self::Reserved { first } => {
                let condition = shared.may_place(poste, envelope);
                bind(poste, envelope, first, condition, false, shared)
            }
            Self::Found { first } => take_up(poste, envelope, first, shared),
            Self::Placed { first } => write(poste, envelope, first, shared),
            Self::Voided { old } if poste.home(envelope) == Home::Outside => {
                Ok(Self::ReservedAnew { old, first: shared.reserve(envelope) })
            }
            Self::Voided { old } => {
                let condition = shared.may_place_anew(poste, envelope, old);
                let first = if condition { shared.reserve(envelope) } else { 0 };
                bind(poste, envelope, first, condition, true, shared)
            }
            Self::ReservedAnew { old, first } => {
                let condition = shared.may_place_anew(poste, envelope, old);
                bind(poste, envelope, first, condition, true, shared)
            }
            Self::Answering { .. } | Self::Ended => Ok(self),
        }
    }

    /// Whether the next call is one that the model lets lose its answer and be made again: it writes, and not without
    /// a condition.
    pub(crate) fn may_lose_answer(self, poste: &Poste, envelope: Envelope) -> bool {
        match self {
            Self::Sent | Self::Voided { .. } => poste.home(envelope) == Home::InHead,
            Self::Reserved { .. } | Self::Found { .. } | Self::Placed { .. } | Self::ReservedAnew { .. } => true,
            Self::Answering { .. } | Self::Ended => false,
        }
    }
}

/// Records numbers in the lane if the condition holds; otherwise the lane says what the envelope is. A place that the
/// lane was given while the attempt was at it, or that the attempt itself has reserved, is as good as one just given.
fn bind(
    poste: &Poste,
    envelope: Envelope,
    first: Place,
    condition: bool,
    anew: bool,
    shared: &mut Shared,
) -> Result<Attempt, Finding> {
    if condition && poste.fault == Some(Fault::LaneAfterCell) {
        return Ok(Attempt::Placed { first });
    }
    match shared.record(envelope, first, condition) {
        Recorded::Done => Ok(Attempt::Placed { first }),
        Recorded::Standing(Standing::Repeat(lane)) if anew || place(lane) == first => {
            Ok(Attempt::Placed { first: place(lane) })
        }
        Recorded::Standing(Standing::Repeat(lane)) => Ok(Attempt::Found { first: place(lane) }),
        Recorded::Standing(Standing::Late(lane)) => {
            shared.look_back(envelope, place(lane)).map(|first| Attempt::Answering { first }).ok_or(Finding::Conflict)
        }
        Recorded::Standing(Standing::Conflict(_)) => Err(Finding::Conflict),
        Recorded::Standing(Standing::New | Standing::Refused) => Err(Finding::Broken),
    }
}

/// Decides the place that an earlier attempt was given: the cell is there, or will never be.
fn take_up(poste: &Poste, envelope: Envelope, first: Place, shared: &mut Shared) -> Result<Attempt, Finding> {
    let there = match poste.fault {
        Some(Fault::RepeatsPutNoVoid) => shared.log.at(first),
        _ => shared.log.put(first, Slot::Void),
    };
    match there {
        None | Some(Slot::Void) => Ok(Attempt::Voided { old: first }),
        Some(Slot::Cell(other)) if other != envelope => Err(Finding::Broken),
        Some(Slot::Cell(_)) if poste.fault == Some(Fault::RepeatsIgnoreCells) => Ok(Attempt::Voided { old: first }),
        Some(Slot::Cell(_)) => Ok(Attempt::Answering { first }),
    }
}

/// Puts the cell at its place, or finds it there, or finds a void.
fn write(poste: &Poste, envelope: Envelope, first: Place, shared: &mut Shared) -> Result<Attempt, Finding> {
    let cell = Slot::Cell(envelope);
    if poste.fault == Some(Fault::CellsOverwrite) {
        shared.log.overwrite(first, cell);
        return Ok(Attempt::Answering { first });
    }
    match shared.log.put(first, cell) {
        None => {
            if poste.fault == Some(Fault::LaneAfterCell) {
                shared.lanes[envelope.device() as usize] = Some(Held { envelope, first });
            }
            Ok(Attempt::Answering { first })
        }
        Some(existing) if existing == cell => Ok(Attempt::Answering { first }),
        Some(Slot::Void) => Ok(Attempt::Voided { old: first }),
        Some(Slot::Cell(_)) => Err(Finding::Broken),
    }
}
