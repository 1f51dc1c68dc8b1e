//! Appending and reading as a state machine that is small enough to be explored completely.
//!
//! `poste-sim` runs the real code under many schedules; this crate runs a small copy of its steps under *all* of
//! them, for small bounds, and holds what must be true in every state that comes about. The checker is `stateright`.
//!
//! # What is modelled
//!
//! | | |
//! |---|---|
//! | devices | A sends X (one message), and once X is acknowledged Y (two messages). B sends Z (one message). |
//! | attempts | Three for each envelope, or as many as are asked for, up to four. An attempt is a program counter ([`Attempt`]): it makes one call after the other on what all share ([`Shared`]: the counter, the lanes, the log), and between two calls everything else may happen. |
//! | placing | Inside the head: one step. Outside: numbers are reserved in one step and bound to the lane in another ([`Home`]). |
//! | repeats | Who finds the envelope at a place that an earlier attempt was given puts a void there. If the cell is there, all is done; if not, the envelope is placed anew. |
//! | writing | A conditional put of the cell. A void found there leads to placing anew, which outside the head is two steps again. |
//! | stalls, crashes, lost answers | An attempt need never take its next step, or may take it when the device has long moved on. So an attempt that stops for ever, one that stalls and wakes up, a frame that arrives late or twice, and a call that had its effect and whose answer was lost are all among the schedules, and need no steps of their own. |
//! | the SDK's retries | With [`Poste::lost_answers`] a call may also take effect, lose its answer and be made again by the same attempt: all but the reserving of numbers, which would have no bound (an attempt that stops after reserving leaves the same). |
//! | fillers | At any moment a void may be put on the first missing number before a slot that exists. There are no clocks: the grace of the real readers only makes this rarer. |
//! | readers | Two cursors, which take one contiguous slot at a time and remember what they took. |
//!
//! # What is taken from the code
//!
//! How a claim stands to its lane is decided by the real [`poste_domain::lane::judge`] on real claims and lanes. The
//! conditions of the writes (`place`, `bind`, `put`) are written anew in `shared.rs`, as the tables and
//! the memory ports write them anew; the steps of an attempt (`attempt.rs`) follow `poste_domain::append`.
//!
//! # What is abstracted
//!
//! - One conversation, which exists; membership, expiry, retention, sizes and bodies are left out.
//! - Publishing and acknowledging are one step ([`Attempt::Answering`]): the queue decides nothing.
//! - All attempts of an envelope are under way as soon as the device may send it. A device that sends the second one
//!   later is a schedule in which that one is slow.
//! - The look back for a late frame happens together with the refusal that it follows, and has no bound. What it looks
//!   for was acknowledged before, and the log only grows, so a later look finds the same.
//! - An attempt that loses its place again and again does not give up (the code does after four times, which is one
//!   more schedule in which an attempt stops).
//! - A filler's decision and its put are one step. The real filler may be slow between the two; until then the number
//!   that it chose is either still the first missing one, or taken, and then its put does nothing.
//! - A page is taken in at the moment it is read. Slots do not change, so taking it in later gives the same.
//! - Attempts of one envelope are alike, and so are the readers: states that differ only in which is which are one
//!   state (they are kept sorted).
//!
//! # What must hold
//!
//! In [`properties`]: I1 to I5 of the design; one slot for a number; nothing is found that the code would call broken;
//! a device that keeps the rules is never answered `lane_conflict` on what it has under way. Two of them are about
//! progress, which a plain search for bad states cannot see; they are asked of every state in this form: *any attempt
//! that is left in peace ends in an acknowledgement*, and *a reader that fills holes gets to the end of the log*.
//!
//! [`Fault`] breaks one rule at a time. Each must be found, or the model would prove nothing.
//!
//! # How to run it
//!
//! `cargo test -p poste-model -- --nocapture` explores what suits CI and prints numbers of states and the story of every
//! broken rule; `POSTE_MODEL=full` also explores four attempts for each envelope, and compares larger bounds with and
//! without reducing.
//!
//! States that behave alike are made one ([`Poste::reduced`]). For smaller bounds a test holds that against the whole:
//! exactly the states come about that should, and every property holds in all states of the whole. These are the numbers
//! of states with three attempts for each envelope, two messages in Y, one in X and Z, and two readers:
//!
//! | lanes | states | with answers lost and slow fillers |
//! |---|---|---|
//! | both in the head | 1,685 | 4,474 |
//! | A's in the head, B's outside | 7,024 | 18,748 |
//! | A's outside, B's in the head | 4,537 | 12,050 |
//! | both outside | 18,364 | 46,647 |
//!
//! The whole is far larger: 1,187,155 states where both lanes are outside and only Z has a second attempt, of which
//! reducing makes 1,427.
//!
//! # How to read a counterexample
//!
//! [`story()`] prints a path as the checker found it, a step a line, and after each what the shared state is:
//!
//! ```text
//! start                               log -, head 0, lanes A - B -, told, readers 0[] 0[]
//!  1. Z, attempt 1: is placed at 1    log -, head 1, lanes A - B Z@1, told, readers 0[] 0[]
//!  2. X, attempt 1: is placed at 2    log -, head 2, lanes A X@2 B Z@1, told, readers 0[] 0[]
//!  3. X, attempt 1: is written at 2   log 2:X, head 2, lanes A X@2 B Z@1, told, readers 0[] 0[]
//!  4. a void is put on 1              log 1:void 2:X, head 2, lanes A X@2 B Z@1, told, readers 0[] 0[]
//!  5. reader 1 goes on                log 1:void 2:X, head 2, lanes A X@2 B Z@1, told, readers 0[] 1[]
//!  6. Z, attempt 1: is written at 1   log 1:Z 2:X, head 2, lanes A X@2 B Z@1, told, readers 0[] 1[]
//! ```
//!
//! (Cells put over whatever is there: a reader has passed 1, and now there is a message.)
//!
//! A cell of two messages is shown as `3-4:Y`; `told X@1` is what devices were told of their envelopes;
//! `readers 0[] 2[Z]` says that one reader has taken nothing, and the other everything up to 2, which was Z. In the last
//! state the property does not hold that is named above the story.

mod attempt;
mod properties;
mod reduce;
mod shared;
mod state;
mod story;

pub use attempt::{Attempt, Finding};
pub use properties::properties;
pub use shared::{Device, Envelope, Held, LAST, Log, Place, Shared, Slot};
pub use state::{Action, Reader, State, Taken};
pub use story::{Step, shortest, story};

/// Where the lane of a device is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Home {
    /// In the head item, beside the counter: placing is one step.
    #[default]
    InHead,
    /// An item of its own: placing is reserving on the head, then binding on the lane.
    Outside,
}

/// A rule that is broken, to see that the checker finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Placing has no condition: the lane takes whatever comes.
    PlacedWithoutCondition,
    /// Placing anew has no condition.
    AnewWithoutCondition,
    /// An envelope with a smaller number than the lane's is given a place.
    LateStored,
    /// A repeat takes another place at once, and puts no void at the old one.
    RepeatsPutNoVoid,
    /// A repeat takes another place also if its cell is at the old one.
    RepeatsIgnoreCells,
    /// The lane is recorded when the cell is written, not when the numbers are reserved.
    LaneAfterCell,
    /// A cell is put over whatever is there.
    CellsOverwrite,
    /// A void is put over whatever is there, by a filler that was slow.
    VoidsOverwrite,
    /// Holes are filled from their end.
    VoidsDescending,
    /// A void may be put on any number of a hole, also inside a range whose first number is still missing.
    VoidsAnywhere,
    /// A reader goes on to the highest slot it sees.
    CursorSkips,
    /// The device hears of its envelope before the cell is written.
    AnsweredBeforeWritten,
    /// The device sends its next envelope before it heard of the last one.
    NextBeforeAnswer,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::PlacedWithoutCondition,
        Self::AnewWithoutCondition,
        Self::LateStored,
        Self::RepeatsPutNoVoid,
        Self::RepeatsIgnoreCells,
        Self::LaneAfterCell,
        Self::CellsOverwrite,
        Self::VoidsOverwrite,
        Self::VoidsDescending,
        Self::VoidsAnywhere,
        Self::CursorSkips,
        Self::AnsweredBeforeWritten,
        Self::NextBeforeAnswer,
    ];
}

/// The model: what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poste {
    /// Where the lanes of A and B are.
    pub homes: [Home; 2],
    /// How many attempts there are for X, Y and Z; at most [`ATTEMPTS`].
    pub attempts: [usize; 3],
    /// A call may take effect, lose its answer, and be made again by the same attempt, as the SDK does it.
    pub lost_answers: bool,
    /// Between a filler's choice of a number and its put everything else may happen.
    pub slow_fillers: bool,
    /// States that behave alike are made one: far fewer, but the numbers in a story shift. Not where a rule is broken.
    pub reduced: bool,
    /// The rule that is broken.
    pub fault: Option<Fault>,
}

/// Attempts that an envelope has at most.
pub const ATTEMPTS: usize = 4;

impl Default for Poste {
    /// Lanes in the head, two attempts each, every rule kept.
    fn default() -> Self {
        Self {
            homes: [Home::InHead; 2],
            attempts: [2; 3],
            lost_answers: false,
            slow_fillers: false,
            reduced: false,
            fault: None,
        }
    }
}

impl Poste {
    /// Where the lane of an envelope's device is.
    pub fn home(&self, envelope: Envelope) -> Home {
        self.homes[envelope.device() as usize]
    }
}
