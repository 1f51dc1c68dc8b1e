//! The conversation of two users has an id that follows from the users, so that two devices may begin it offline at
//! the same time and mean the same one.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::{ConversationId, UserId};

/// Tells the ids of direct conversations from those of groups.
const PREFIX: &str = "d_";

/// Bytes of the digest that the id keeps: 160 bits, far beyond finding a second pair of users for an id.
const DIGEST_BYTES: usize = 20;

impl ConversationId {
    /// The conversation of `a` and `b`; the order does not matter. With the same user twice: notes to oneself.
    ///
    /// `d_` and the base64url of the first 20 bytes of SHA-256 over `poste direct 1`, then both user ids in byte
    /// order, each with a zero byte before it (no user id holds one).
    ///
    /// # Panics
    /// Never: what it makes is a valid id.
    #[must_use]
    pub fn direct(a: &UserId, b: &UserId) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let mut hash = Sha256::new();
        hash.update(b"poste direct 1");
        for user in [low, high] {
            hash.update([0]);
            hash.update(user.as_str());
        }
        let digest = hash.finalize();
        let id = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&digest[..DIGEST_BYTES]));
        Self::new(id).expect("base64url fits the alphabet and the length of a conversation id")
    }

    /// Whether this is the id of a direct conversation (of some two users).
    pub fn is_direct(&self) -> bool {
        self.as_str().starts_with(PREFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("a valid name")
    }

    #[test]
    fn both_users_find_the_same_conversation() {
        let id = ConversationId::direct(&user("alice"), &user("bob"));
        assert_eq!(id, ConversationId::direct(&user("bob"), &user("alice")));
        assert_eq!(
            id.as_str(),
            "d_FY34TvGtCmU1FjM22wj0o04Cd8M",
            "the format is fixed for ever: devices compute it offline"
        );
        assert!(id.is_direct());
    }

    #[test]
    fn different_pairs_have_different_conversations() {
        let pairs = [("ab", "c"), ("a", "bc"), ("a", "b"), ("a", "a"), ("b", "b")];
        let ids: std::collections::HashSet<_> =
            pairs.iter().map(|(a, b)| ConversationId::direct(&user(a), &user(b))).collect();
        assert_eq!(ids.len(), pairs.len());
    }
}
