//! The wire of Poste: what devices and functions say to each other, as types.
//!
//! Everything here is parsed at the edge and valid inside: a [`UserId`] that exists is well formed,
//! an [`Envelope`] that passed [`Envelope::check`] respects every limit of [`limits`]. Nothing here does I/O,
//! and nothing here knows AWS. `docs/PROTOCOL.md` tells the same to people.
//!
//! Formats evolve by adding: unknown fields are ignored and unknown frame types parse as `Unknown`, so that old
//! clients live on.

mod cell;
mod direct;
mod discreet;
mod envelope;
mod error;
mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod group;
mod ids;
pub mod limits;
mod mark;
mod media;
mod presence;
mod push;

pub use cell::{Author, Cell, Page};
pub use discreet::Hidden;
pub use envelope::{Envelope, Message, MessagePlace, Resolved, Submission};
pub use error::{Code, LanePlace, Refusal};
pub use frames::{
    Delivery, DeliveryItem, ErrorFrame, Fetch, FromServer, Hello, List, ListPage, ListPlace, MarkFrame, MarkResult,
    Marked, Outcome, Pages, Preview, RangeRefused, Reference, Replaced, Request, SendFrame, Sent, Summary, SyncFrame,
    SyncRange, Verdict, Welcome, parse,
};
pub use group::{Event, GroupMember, GroupSummary, MembersFrame, MembersPage, Role};
pub use ids::{ConversationId, DeviceId, EnvelopeId, InvalidId, MediaId, MessageId, Number, PushId, Seq, UserId};
pub use mark::{Mark, MarksFrame, MarksPage, MemberMark, ReceiptsFrame, ReceiptsSet, UserMark};
pub use media::{
    Attachment, Digest, Link, MediaAnswer, MediaFile, MediaFrame, MediaState, MediaWish, PartLink, PartWish,
    part_bytes, part_count, part_range,
};
pub use presence::{Away, PresenceNews, Typing, TypingNews, UserPresence, Watch, Watching};
pub use push::{
    MuteFrame, Muted, Platform, ProviderToken, PushAnswer, PushFrame, PushStatus, PushStyle, PushToken, WokenBy,
};
