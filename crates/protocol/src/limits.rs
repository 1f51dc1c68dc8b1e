//! The bounds of the wire. Each is checked by the functions and respected by the device library.

/// Bytes of one frame, either way: the largest that API Gateway carries without closing the connection.
pub const FRAME_BYTES: usize = 32 * 1024;

/// Bytes of one envelope as compact JSON. Leaves room in a frame for the cell's own fields and the frame around it.
pub const ENVELOPE_BYTES: usize = 24 * 1024;

/// Messages in one envelope.
pub const ENVELOPE_MESSAGES: usize = 25;

/// Envelopes in one `send` frame, each for a conversation of its own.
pub const SUBMISSIONS: usize = 16;

/// Marks in one `mark` frame.
pub const MARKS: usize = 50;

/// Conversations of a user that are listed by when somebody last wrote. Who has more is listed in parts of so many.
pub const LISTED: usize = 2_000;

/// Last messages that one `list` shows at most.
pub const PREVIEWS: usize = 50;

/// Bytes of a message, as JSON, that is still shown as the last one in a list.
pub const PREVIEW_BYTES: usize = 2 * 1024;

/// Messages in one page, whatever the device asks for. A page also ends before [`FRAME_BYTES`].
pub const PAGE_MESSAGES: usize = 500;

/// Conversations in one `sync` frame.
pub const RANGES: usize = 50;

/// Frames that one `sync`, or one `list`, is answered with at most.
pub const FRAMES: u32 = 16;

/// Members of a group to all of whom each mark is relayed. In a larger one each mark would cost as much as a message to
/// everybody; there who wants to know asks.
pub const MARKS_RELAYED: u64 = 32;

/// Conversations in one `watch` frame.
pub const WATCHED: usize = 50;

/// Members of a group.
pub const GROUP_MEMBERS: u64 = 1_000;

/// Users that one event names. A larger group is created with these, and the others are added in steps.
pub const EVENT_USERS: usize = 100;

/// Characters of a group's title.
pub const TITLE: usize = 128;

/// Members, or marks of members, in one page: with ids at their longest they fit in a frame.
pub const MEMBERS: usize = 150;

/// Bytes of a file: the largest object that S3 stores. A deployment takes less.
pub const MEDIA_BYTES: u64 = 5 * 1024 * 1024 * 1024 * 1024;

/// Parts of a file.
pub const MEDIA_PARTS: u32 = 10_000;

/// Bytes of a part but the last, at least.
pub const PART_BYTES: u64 = 5 * 1024 * 1024;

/// Addresses of parts in one answer: with the credentials of a function in each, they fit in a frame.
pub const PART_LINKS: usize = 10;

/// Runs of missing parts in one answer.
pub const MISSING_RUNS: usize = 500;

/// Characters of a media type.
pub const MEDIA_KIND: usize = 127;

/// Characters of a file's name.
pub const MEDIA_NAME: usize = 255;

/// Characters of a thumbnail in base64. With it an envelope is far from its limit.
pub const THUMBNAIL_BYTES: usize = 8 * 1024;

/// Characters of a user id.
pub const USER_ID: usize = 128;

/// Characters of a device id.
pub const DEVICE_ID: usize = 64;

/// Characters of a conversation id.
pub const CONVERSATION_ID: usize = 64;

/// Characters of a push token, as long as those of FCM may be.
pub const PUSH_TOKEN: usize = 4096;

/// Characters of a frame's `ref`.
pub const REFERENCE: usize = 64;

/// The largest integer that every JSON reader keeps exactly (2^53 - 1).
pub const INTEGER: u64 = (1 << 53) - 1;
