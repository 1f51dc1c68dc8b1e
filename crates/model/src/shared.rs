//! What all attempts and readers share: the counter, the lanes and the log; and the conditional writes on them.

use std::fmt;

use poste_domain::{
    Claim, Lane,
    lane::{Standing, judge},
};
use poste_protocol::{EnvelopeId, Number, Seq};
use uuid::Uuid;

use crate::{Fault, Poste};

/// A place in the log. The first is 1; 0 is before everything.
pub type Place = u8;

/// The greatest place that the model has room for; more than any schedule can reserve.
pub const LAST: Place = 30;

/// A device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// Sends X, then Y.
    A,
    /// Sends Z.
    B,
}

/// An envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Envelope {
    /// A's first, of one message.
    X,
    /// A's second, of two messages.
    Y,
    /// B's only one, of one message.
    Z,
}

impl Envelope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::X, Self::Y, Self::Z];

    /// Who sends it.
    pub const fn device(self) -> Device {
        match self {
            Self::X | Self::Y => Device::A,
            Self::Z => Device::B,
        }
    }

    /// How many numbers of the log it takes.
    pub const fn count(self) -> u8 {
        match self {
            Self::X | Self::Z => 1,
            Self::Y => 2,
        }
    }

    /// What its device must have had acknowledged before it sends this one.
    pub const fn previous(self) -> Option<Self> {
        match self {
            Self::X | Self::Z => None,
            Self::Y => Some(Self::X),
        }
    }

    /// The claim that it makes, as the code sees it.
    fn claim(self) -> Claim {
        let number = if self.previous().is_some() { Number::FIRST.next() } else { Number::FIRST };
        Claim { number, id: EnvelopeId(Uuid::from_u128(self as u128)), count: self.count().into() }
    }
}

/// What a lane holds: its device's last envelope and the place of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// Which.
    pub envelope: Envelope,
    /// The place of its first message.
    pub first: Place,
}

impl Held {
    fn lane(self) -> Lane {
        Lane::taken(&self.envelope.claim(), Seq::ZERO.plus(self.first.into()))
    }
}

/// The place that a lane says.
pub(crate) fn place(lane: Lane) -> Place {
    Place::try_from(lane.first.get()).expect("the lanes of the model are made from its own places")
}

/// What decides a number of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// The first message of an envelope.
    Cell(Envelope),
    /// Nothing, for ever.
    Void,
}

/// The log. A bit for each place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Log {
    cells: [u32; 3],
    voids: u32,
}

impl Log {
    /// What is at a place, as the key of a slot.
    pub fn at(&self, place: Place) -> Option<Slot> {
        let bit = 1 << place;
        let cell = Envelope::ALL.into_iter().find(|envelope| self.cells[*envelope as usize] & bit != 0);
        cell.map(Slot::Cell).or((self.voids & bit != 0).then_some(Slot::Void))
    }

    /// Puts a slot, over whatever is there.
    pub(crate) fn overwrite(&mut self, place: Place, slot: Slot) {
        let bit = 1 << place;
        for places in self.cells.iter_mut().chain([&mut self.voids]) {
            *places &= !bit;
        }
        match slot {
            Slot::Cell(envelope) => self.cells[envelope as usize] |= bit,
            Slot::Void => self.voids |= bit,
        }
    }

    /// Puts a slot where there is nothing; otherwise returns what is there.
    pub(crate) fn put(&mut self, place: Place, slot: Slot) -> Option<Slot> {
        let existing = self.at(place);
        if existing.is_none() {
            self.overwrite(place, slot);
        }
        existing
    }

    /// All slots with their places, ascending.
    pub fn slots(&self) -> impl Iterator<Item = (Place, Slot)> + '_ {
        let mut left = self.cells.iter().fold(self.voids, |all, places| all | places);
        std::iter::from_fn(move || {
            let place = u8::try_from(left.trailing_zeros()).ok().filter(|place| *place <= LAST)?;
            left &= left - 1;
            Some((place, self.at(place)?))
        })
    }

    /// The cells at places after `after` up to `through`, ascending.
    pub fn cells(&self, after: Place, through: Place) -> impl Iterator<Item = Held> + '_ {
        self.slots().filter_map(move |(first, slot)| match slot {
            Slot::Cell(envelope) if first > after && first <= through => Some(Held { envelope, first }),
            _ => None,
        })
    }

    /// The places of an envelope's cells, a bit for each.
    pub fn places_of(&self, envelope: Envelope) -> u32 {
        self.cells[envelope as usize]
    }

    /// The last place of the contiguous run that begins at 1.
    pub fn contiguous(&self) -> Place {
        let mut through = 0;
        while let Some(slot) = self.at(through + 1) {
            through += length(slot);
        }
        through
    }

    /// The last place of the log that a slot decides.
    pub fn end(&self) -> Place {
        self.slots().map(|(first, slot)| first + length(slot) - 1).max().unwrap_or(0)
    }

    /// The missing numbers of the first hole before a slot, ascending.
    pub fn first_hole(&self) -> std::ops::Range<Place> {
        let first = self.contiguous() + 1;
        let beyond = self.slots().map(|(place, _)| place).find(|place| *place > first);
        first..beyond.unwrap_or(first)
    }

    /// No number is decided by two slots.
    pub fn is_disjoint(&self) -> bool {
        let mut through = 0;
        self.slots().all(|(first, slot)| {
            let apart = first > through;
            through = first + length(slot) - 1;
            apart
        }) && self.cells[0] & self.cells[1] == 0
            && (self.cells[0] | self.cells[1]) & self.cells[2] == 0
            && self.voids & (self.cells[0] | self.cells[1] | self.cells[2]) == 0
    }
}

/// How many numbers a slot decides.
pub(crate) const fn length(slot: Slot) -> u8 {
    match slot {
        Slot::Cell(envelope) => envelope.count(),
        Slot::Void => 1,
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut empty = true;
        for (first, slot) in self.slots() {
            let space = if empty { "" } else { " " };
            empty = false;
            match slot {
                Slot::Void => write!(f, "{space}{first}:void")?,
                Slot::Cell(e) if e.count() == 1 => write!(f, "{space}{first}:{e:?}")?,
                Slot::Cell(e) => write!(f, "{space}{first}-{}:{e:?}", first + e.count() - 1)?,
            }
        }
        if empty { f.write_str("-") } else { Ok(()) }
    }
}

/// The counter, the lanes and the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shared {
    /// The highest number reserved so far.
    pub head: Place,
    /// One for each device.
    pub lanes: [Option<Held>; 2],
    /// The log.
    pub log: Log,
}

/// What recording a claim in a lane came to.
pub(crate) enum Recorded {
    /// The lane holds it now.
    Done,
    /// The condition did not hold, and this is how the claim stands to the lane.
    Standing(Standing),
}

impl Shared {
    /// The lane of an envelope's device.
    pub fn lane(&self, envelope: Envelope) -> Option<Held> {
        self.lanes[envelope.device() as usize]
    }

    /// How an envelope stands to its lane, by the real rule.
    pub(crate) fn standing(&self, envelope: Envelope) -> Standing {
        judge(&envelope.claim(), self.lane(envelope).map(Held::lane))
    }

    /// Adds to the counter; returns the first of the numbers.
    pub(crate) fn reserve(&mut self, envelope: Envelope) -> Place {
        let first = self.head + 1;
        self.head += envelope.count();
        assert!(self.head <= LAST, "the model has room for {LAST} numbers");
        first
    }

    /// Whether the condition of placing holds, as the tables have it.
    pub(crate) fn may_place(&self, poste: &Poste, envelope: Envelope) -> bool {
        let claim = envelope.claim();
        self.lane(envelope).map(Held::lane).is_none_or(|lane| match poste.fault {
            Some(Fault::PlacedWithoutCondition) => true,
            Some(Fault::LateStored) => lane.id != claim.id,
            _ => lane.number < claim.number && lane.id != claim.id,
        })
    }

    /// Whether the condition of placing anew holds, as the tables have it.
    pub(crate) fn may_place_anew(&self, poste: &Poste, envelope: Envelope, old: Place) -> bool {
        poste.fault == Some(Fault::AnewWithoutCondition) || self.lane(envelope) == Some(Held { envelope, first: old })
    }

    /// Records a claim at its place, if the condition of the write held.
    pub(crate) fn record(&mut self, envelope: Envelope, first: Place, condition: bool) -> Recorded {
        if !condition {
            return Recorded::Standing(self.standing(envelope));
        }
        self.lanes[envelope.device() as usize] = Some(Held { envelope, first });
        Recorded::Done
    }

    /// Looks for an envelope in the log, back from a place.
    pub(crate) fn look_back(&self, envelope: Envelope, from: Place) -> Option<Place> {
        self.log.cells(0, from).filter(|held| held.envelope == envelope).map(|held| held.first).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_of_placing_is_the_judgement_of_the_code() {
        for claimed in Envelope::ALL {
            for held in Envelope::ALL.into_iter().filter(|held| held.device() == claimed.device()) {
                let mut shared = Shared::default();
                shared.lanes[claimed.device() as usize] = Some(Held { envelope: held, first: 1 });
                let new = shared.standing(claimed) == Standing::New;
                assert_eq!(shared.may_place(&Poste::default(), claimed), new, "{claimed:?} where {held:?} is");
            }
        }
    }

    #[test]
    fn holes_end_before_slots() {
        let mut log = Log::default();
        assert_eq!((log.contiguous(), log.first_hole().count(), log.end()), (0, 0, 0));
        log.put(4, Slot::Cell(Envelope::Y));
        assert_eq!((log.contiguous(), log.first_hole(), log.end()), (0, 1..4, 5));
        log.put(1, Slot::Cell(Envelope::X));
        log.put(2, Slot::Void);
        assert_eq!((log.contiguous(), log.first_hole()), (2, 3..4));
        assert_eq!(log.put(2, Slot::Cell(Envelope::Z)), Some(Slot::Void));
        log.put(3, Slot::Cell(Envelope::Z));
        assert_eq!((log.contiguous(), log.first_hole().count()), (5, 0));
        assert!(log.is_disjoint());
        log.put(5, Slot::Void);
        assert!(!log.is_disjoint());
        assert_eq!(log.to_string(), "1:X 2:void 3:Z 4-5:Y 5:void");
    }
}
