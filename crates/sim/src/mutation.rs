//! A checker is worth what it finds. Each mutation breaks one rule; the simulation must notice within a few seeds.
//!
//! They are made around the rules, in the ports and on the wire, so that nothing of them is in the code that is
//! deployed.

/// A rule that does not hold in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// A cell is written over whatever is there.
    CellsOverwrite,
    /// A page's range ends at the highest number that was seen, holes or not.
    CursorSkipsHoles,
    /// A writer that finds a void at its place takes its envelope for stored.
    NoPlacingAnew,
    /// Other numbers are given without asking whether the lane still holds the envelope at its place.
    PlacingAnewUnasked,
    /// Numbers are given without asking the lane.
    PlacingUnasked,
    /// The lane is recorded when the cell is written, not when its numbers are reserved.
    LaneAfterCell,
    /// A frame with a smaller number than its lane's is stored.
    LateFramesStored,
    /// Holes are filled from their end.
    VoidsDescend,
    /// An envelope is published before it is written.
    PublishBeforeWrite,
    /// An acknowledgement does not wait for the queue.
    AcknowledgeBeforePublish,
    /// A late mark takes the place of a later one.
    MarksGoBack,
    /// A late mark of what was read takes the place of a later one.
    ReadMarksGoBack,
    /// What is read is told to others, whether or not the user gives read receipts.
    ReceiptsGivenUnasked,
    /// Nobody is known to have switched read receipts off.
    ReceiptsNeverOff,
    /// A connection is registered over a newer one.
    OlderConnectionsRegister,
    /// A conversation's head is made before all members are in.
    HeadBeforeMembers,
    /// A membership counts from the first message on, whenever it was.
    MembershipUnchecked,
    /// A device sends an envelope again under another id and number.
    OutboxRegroups,
    /// A device lets go of an envelope when it has sent it, not when it has the answer.
    OutboxFreesWhenSent,
    /// Nobody says that a missing number was removed.
    FloorUnknown,
    /// Numbers are said to be gone that are not.
    FloorTooHigh,
    /// Numbers are given however long the epoch lasts.
    EpochsNeverEnd,
    /// The store removes what was written before its epoch can have ended.
    RemovedTooEarly,
    /// The lane does not remember that an envelope was refused.
    RefusalsForgotten,
    /// A delete leaves the text of its message in the log.
    DeletesKeepContent,
    /// An edit is not registered at its message.
    EditsUnregistered,
    /// An edit is written with its text whether or not its message is deleted.
    EditsAfterDeletes,
    /// An event gets its place whatever happened since its author's rights were looked at.
    EventsUnordered,
    /// What an event has made of a user is noted over what a later one has.
    EventsUnguarded,
    /// Who is given numbers is not told which events came before.
    RosterUntold,
    /// A membership is read from a replica that lags behind.
    MembershipLags,
    /// A parcel does not say as of which event its hearers must be members.
    DeliveredToWhoWasIn,
    /// Whoever wakes people is not told how far they are.
    PushesWhatIsMarked,
    /// People are woken for what they wrote themselves.
    PushesToTheWriter,
    /// People are woken for an envelope before it is written.
    WakesBeforeWrite,
    /// A wake-up that is put off is taken for one that a push has told of.
    PutOffsForgotten,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 36] = [
        Self::CellsOverwrite,
        Self::CursorSkipsHoles,
        Self::NoPlacingAnew,
        Self::PlacingAnewUnasked,
        Self::PlacingUnasked,
        Self::LaneAfterCell,
        Self::LateFramesStored,
        Self::VoidsDescend,
        Self::PublishBeforeWrite,
        Self::AcknowledgeBeforePublish,
        Self::MarksGoBack,
        Self::ReadMarksGoBack,
        Self::ReceiptsGivenUnasked,
        Self::ReceiptsNeverOff,
        Self::OlderConnectionsRegister,
        Self::HeadBeforeMembers,
        Self::MembershipUnchecked,
        Self::OutboxRegroups,
        Self::OutboxFreesWhenSent,
        Self::FloorUnknown,
        Self::FloorTooHigh,
        Self::EpochsNeverEnd,
        Self::RemovedTooEarly,
        Self::RefusalsForgotten,
        Self::DeletesKeepContent,
        Self::EditsUnregistered,
        Self::EditsAfterDeletes,
        Self::EventsUnordered,
        Self::EventsUnguarded,
        Self::RosterUntold,
        Self::MembershipLags,
        Self::DeliveredToWhoWasIn,
        Self::PushesWhatIsMarked,
        Self::PushesToTheWriter,
        Self::WakesBeforeWrite,
        Self::PutOffsForgotten,
    ];
}
