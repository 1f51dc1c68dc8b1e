//! A lane is the dedup record of one device in one conversation: number, id, size and place of its last envelope.
//!
//! A device has one envelope per conversation under way, and gives each a greater number than the one before. So the
//! last envelope is all that must be remembered to tell a repeat from something new, for ever: there is no window.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use poste_protocol::{Author, Envelope, EnvelopeId, LanePlace, Number, Seq};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Names a device's lane inside a conversation: 16 characters, a digest of user and device (96 bits), so that ten
/// lanes of users with long names still fit beside the counter in one write unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey(String);

/// Bytes of the digest that the key keeps.
const KEY_BYTES: usize = 12;

impl LaneKey {
    /// The lane of an author.
    pub fn of(author: &Author) -> Self {
        let digest =
            Sha256::new().chain_update(author.user.as_str()).chain_update([0]).chain_update(author.device.as_str());
        Self(URL_SAFE_NO_PAD.encode(&digest.finalize()[..KEY_BYTES]))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an envelope asks of its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The envelope's number.
    pub number: Number,
    /// The envelope's id.
    pub id: EnvelopeId,
    /// How many numbers of the log it takes.
    pub count: u64,
}

impl Claim {
    /// The claim of an envelope.
    pub fn of(envelope: &Envelope) -> Self {
        Self { number: envelope.number, id: envelope.id, count: envelope.count() }
    }

    /// Where its numbers begin, when they are the last ones of a counter that is at `head` now.
    pub fn first(self, head: Seq) -> Option<Seq> {
        (head.get() + self.count.min(1)).checked_sub(self.count).and_then(|first| Seq::new(first).ok())
    }

    /// The claim of the same envelope's refusal. It takes no numbers; once it stands in the lane, no attempt that is
    /// still alive can store the envelope.
    #[must_use]
    pub fn of_refusal(self) -> Self {
        Self { count: 0, ..self }
    }
}

/// The last envelope of a device in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Its number.
    pub number: Number,
    /// Its id.
    pub id: EnvelopeId,
    /// How many numbers were reserved for it. A repeat that asks for more would take those of others. None if it was
    /// refused for good.
    pub count: u64,
    /// The place of its first message; the head of that time if it was refused.
    pub first: Seq,
}

impl Lane {
    /// The lane as a claim leaves it that was placed.
    pub fn taken(claim: &Claim, first: Seq) -> Self {
        Self { number: claim.number, id: claim.id, count: claim.count, first }
    }

    /// Its envelope was refused for good, and is nowhere.
    pub fn is_refused(self) -> bool {
        self.count == 0
    }

    /// The lane as the device is told of it.
    pub fn place(self) -> LanePlace {
        LanePlace { number: self.number, seq: self.first }
    }
}

/// How a claim stands to the lane that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing like it was placed: the claim may have a place.
    New,
    /// The same envelope, whatever number it came with: go on with the place that it has.
    Repeat(Lane),
    /// The same envelope, which was refused for good.
    Refused,
    /// The device has moved on since: a late frame, or a device that was rolled back. Only the log can tell.
    Late(Lane),
    /// Another envelope has this number, or this id: the device's state was rolled back, or is used twice.
    Conflict(Lane),
}

/// Decides how a claim stands to its lane.
pub fn judge(claim: &Claim, lane: Option<Lane>) -> Standing {
    match lane {
        None => Standing::New,
        Some(lane) if claim.id == lane.id && lane.is_refused() => Standing::Refused,
        Some(lane) if claim.id == lane.id && claim.count == lane.count => Standing::Repeat(lane),
        Some(lane) if claim.id == lane.id => Standing::Conflict(lane),
        Some(lane) if claim.number > lane.number => Standing::New,
        Some(lane) if claim.number < lane.number => Standing::Late(lane),
        Some(lane) => Standing::Conflict(lane),
    }
}

#[cfg(test)]
mod tests {
    use poste_protocol::{DeviceId, UserId};

    use super::*;

    fn claim(number: u64, id: u128) -> Claim {
        Claim { number: Number::new(number).expect("positive"), id: EnvelopeId(uuid::Uuid::from_u128(id)), count: 1 }
    }

    fn lane(number: u64, id: u128, first: u64) -> Lane {
        Lane::taken(&claim(number, id), Seq::ZERO.plus(first))
    }

    #[test]
    fn the_lane_decides() {
        let last = lane(5, 50, 9);
        assert_eq!(judge(&claim(1, 10), None), Standing::New);
        assert_eq!(judge(&claim(6, 60), Some(last)), Standing::New);
        assert_eq!(judge(&claim(5, 50), Some(last)), Standing::Repeat(last));
        assert_eq!(judge(&claim(4, 50), Some(last)), Standing::Repeat(last), "renumbered since");
        assert_eq!(judge(&claim(9, 50), Some(last)), Standing::Repeat(last), "renumbered by two copies of a device");
        assert_eq!(judge(&claim(5, 51), Some(last)), Standing::Conflict(last));
        for number in [4, 5, 6] {
            let larger = Claim { count: 2, ..claim(number, 50) };
            assert_eq!(judge(&larger, Some(last)), Standing::Conflict(last), "it would take the numbers of others");
        }
        assert_eq!(judge(&claim(4, 40), Some(last)), Standing::Late(last));
        let refused = Lane { count: 0, ..last };
        assert_eq!(judge(&claim(5, 50), Some(refused)), Standing::Refused);
        assert_eq!(judge(&claim(4, 50).of_refusal(), Some(refused)), Standing::Refused);
        assert_eq!(judge(&claim(6, 60), Some(refused)), Standing::New);
    }

    #[test]
    fn lanes_of_different_devices_differ() {
        let author = |user: &str, device: &str| Author {
            user: UserId::new(user).expect("valid"),
            device: DeviceId::new(device).expect("valid"),
        };
        let key = LaneKey::of(&author("alice", "phone"));
        assert_eq!(key.as_str().len(), 16);
        assert_eq!(key, LaneKey::of(&author("alice", "phone")));
        assert_ne!(key, LaneKey::of(&author("alice", "tablet")));
        assert_ne!(LaneKey::of(&author("ab", "c")), LaneKey::of(&author("a", "bc")));
    }
}
