//! Media: how a device's file comes into the object store and out of it again. The bytes themselves travel between the
//! device and the store; what is here plans, signs and completes.
//!
//! A file is cut into parts of a [fixed size](part_bytes) that follows from its length, so part 7 is the same bytes for
//! everybody, at every attempt. Its [checksum](Digest) is the one that S3 gives it: of a file of one part the SHA-256 of
//! its bytes, of a longer one the SHA-256 of the SHA-256s of its parts, one after the other.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Code, ConversationId, MediaId, MessagePlace, Reference, Refusal, UserId, discreet, limits};

/// SHA-256, in base64 on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// That were computed before.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A file's checksum, from those of its parts in their order.
    pub fn of_parts(parts: &[Self]) -> Self {
        match parts {
            [only] => *only,
            several => {
                let mut whole = Sha256::new();
                for part in several {
                    whole.update(part.0);
                }
                Self(whole.finalize().into())
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl std::str::FromStr for Digest {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("a checksum must be the base64 of 32 bytes")
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$", "description": "SHA-256, in base64"
        })
    }
}

/// Bytes of each part but the last of a file of so many bytes: 5 MiB, or so many whole MiB more that there are at most
/// 10,000 parts.
pub const fn part_bytes(size: u64) -> u64 {
    const MIB: u64 = 1024 * 1024;
    let least = size.div_ceil(limits::MEDIA_PARTS as u64).div_ceil(MIB) * MIB;
    if least > limits::PART_BYTES { least } else { limits::PART_BYTES }
}

/// How many parts a file of so many bytes has.
pub const fn part_count(size: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "at most 10,000, as `part_bytes` says")]
    let count = size.div_ceil(part_bytes(size)) as u32;
    count
}

/// The bytes of a part of a file of so many bytes: where it begins, and how many it has. Parts begin at 1.
pub const fn part_range(size: u64, part: u32) -> (u64, u64) {
    let from = (part as u64 - 1) * part_bytes(size);
    let rest = size - from;
    (from, if rest < part_bytes(size) { rest } else { part_bytes(size) })
}

/// What a message says of the file that belongs to it. Only the id means something to the server: an application that
/// encrypts from end to end encrypts the file, too, and has name and thumbnail in the message's body.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attachment {
    /// Which file: its author's, in the message's conversation.
    pub id: MediaId,
    /// Its length in bytes.
    pub size: u64,
    /// Its checksum.
    pub sha256: Digest,
    /// What it is, as a media type (`image/jpeg`), in at most 127 characters.
    pub kind: String,
    /// What it was called on the device, in at most 255 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Of a picture: its width and height, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<(u32, u32)>,
    /// Of a picture: a small JPEG of it in base64, at most 8 KiB of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
}

discreet!(Attachment { id, size, sha256, kind, pixels } hides { name, thumbnail });

impl Attachment {
    /// Holds it against the limits.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let bad = |why: &str| Err(Refusal::new(Code::BadFrame, why));
        check_size(self.size)?;
        check_kind(&self.kind)?;
        if self.name.as_ref().is_some_and(|name| name.chars().count() > limits::MEDIA_NAME) {
            return bad("a file's name is at most 255 characters");
        }
        if self.thumbnail.as_ref().is_some_and(|thumbnail| thumbnail.len() > limits::THUMBNAIL_BYTES) {
            return bad("a thumbnail is at most 8 KiB of base64");
        }
        Ok(())
    }
}

fn check_size(size: u64) -> Result<(), Refusal> {
    match size {
        0 => Err(Refusal::new(Code::BadFrame, "a file has at least one byte")),
        _ if size > limits::MEDIA_BYTES => Err(Refusal::new(Code::TooBig, "a file is at most 5 TiB")),
        _ => Ok(()),
    }
}

fn check_kind(kind: &str) -> Result<(), Refusal> {
    let token = |part: &str| {
        let mut bytes = part.bytes();
        !part.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
    };
    let well_formed = kind.split_once('/').is_some_and(|(of, what)| token(of) && token(what));
    if well_formed && kind.len() <= limits::MEDIA_KIND {
        return Ok(());
    }
    Err(Refusal::new(Code::BadFrame, "a media type is like image/jpeg, in at most 127 characters"))
}

/// See [`Request::Media`](crate::Request::Media).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MediaFrame {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// Which file. The device names it before the first attempt, and keeps the name through every other one.
    pub media: MediaId,
    /// Where it goes.
    pub conversation: ConversationId,
    /// What is wanted.
    #[serde(flatten)]
    pub wish: MediaWish,
}

/// What a device wants of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum MediaWish {
    /// To upload it, or to go on with that: what is missing?
    Begin {
        /// For a direct conversation in which nothing was written yet, the other user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<UserId>,
        /// What it is. The same at every attempt.
        #[serde(flatten)]
        file: MediaFile,
    },
    /// Addresses to upload parts to.
    Parts {
        /// 1 to 10.
        parts: Vec<PartWish>,
    },
    /// All parts are uploaded.
    Complete,
    /// It is not wanted any more. What was uploaded is removed.
    Abort,
    /// An address to download it from.
    Get {
        /// The message that it belongs to.
        #[serde(flatten)]
        message: MessagePlace,
    },
}

/// A file that is to be uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MediaFile {
    /// Its length in bytes.
    pub size: u64,
    /// Its checksum.
    pub sha256: Digest,
    /// What it is, as a media type.
    pub kind: String,
}

impl MediaFile {
    /// Holds it against the limits of the wire.
    pub fn check(&self) -> Result<(), Refusal> {
        check_size(self.size)?;
        check_kind(&self.kind)
    }
}

/// A part that is to be uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartWish {
    /// Which, from 1 on.
    pub part: u32,
    /// The SHA-256 of its bytes. The store takes no others at this address.
    pub sha256: Digest,
}

/// Answers [`MediaFrame`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MediaAnswer {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// Which file.
    pub media: MediaId,
    /// How it stands, or what was asked for.
    #[serde(flatten)]
    pub state: MediaState,
}

/// How a file stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum MediaState {
    /// It is being uploaded. Answers `begin`, and a `complete` that came too early.
    Open {
        /// Which parts are missing: the first and the last of each run, ascending, at most 500 runs. There may be more
        /// after the last: what is there is found out by beginning again. None: all are there, `complete` it.
        missing: Vec<(u32, u32)>,
    },
    /// It is stored as a whole, and a message may refer to it. Answers `begin` and `complete`.
    Complete,
    /// It is not there. Answers `abort`.
    Gone,
    /// Where to put the parts. Answers `parts`.
    Links {
        /// In the order of the request.
        links: Vec<PartLink>,
    },
    /// Where to get it. Answers `get`.
    Link {
        /// Takes `GET`, and `Range`.
        link: Link,
    },
    /// A state of a later version.
    #[serde(other)]
    Unknown,
}

/// Where a part goes, by `PUT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartLink {
    /// Which.
    pub part: u32,
    /// Where.
    #[serde(flatten)]
    pub link: Link,
}

/// An address in the object store, signed for one request. Who has it can make the request until it expires.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// The address. Not to be kept, and not to be logged.
    pub url: String,
    /// Headers that belong to the request: it is refused without them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// For how long it can be used, in seconds.
    pub expires_s: u64,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.url.split('?').next().unwrap_or_default();
        f.debug_struct("Link")
            .field("url", &format_args!("{path}?..."))
            .field("expires_s", &self.expires_s)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn parts_follow_from_the_size_and_cover_it() {
        for size in
            [1, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 200 * MIB + 7, 50_000 * MIB, 50_000 * MIB + 1, limits::MEDIA_BYTES]
        {
            let count = part_count(size);
            assert!((1..=10_000).contains(&count), "{size}: {count}");
            assert!(part_bytes(size) >= 5 * MIB && part_bytes(size) <= 5 * 1024 * MIB, "{size}");
            let mut end = 0;
            for part in 1..=count {
                let (from, bytes) = part_range(size, part);
                assert_eq!(from, end);
                assert!(bytes > 0 && (part == count || bytes == part_bytes(size)));
                end = from + bytes;
            }
            assert_eq!(end, size);
        }
        assert_eq!((part_bytes(50_000 * MIB), part_bytes(50_000 * MIB + 1)), (5 * MIB, 6 * MIB));
    }

    #[test]
    fn a_checksum_is_that_of_s3() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(Digest::of_parts(&[a]), a);
        let both: Vec<u8> = [*a.as_bytes(), *b.as_bytes()].concat();
        assert_eq!(Digest::of_parts(&[a, b]), Digest::of(&both));
        assert_eq!(a.to_string(), "ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=");
        assert_eq!(a.to_string().parse(), Ok(a));
        for bad in ["", "x", "ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSL"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_media_type_is_refused() {
        for good in ["image/jpeg", "application/vnd.oasis.opendocument.text", "image/svg+xml"] {
            assert!(check_kind(good).is_ok(), "{good}");
        }
        for bad in
            ["", "image", "image/", "/jpeg", "image/jpeg; q=1", "image/jpeg\r\nx: y", &format!("a/{}", "b".repeat(126))]
        {
            assert!(check_kind(bad).is_err(), "{bad:?}");
        }
    }
}
