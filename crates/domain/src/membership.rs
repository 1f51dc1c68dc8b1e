//! Who may see what: the intervals of the log in which a user was a member.

use std::sync::Arc;

use poste_protocol::{Code, ConversationId, Refusal, Seq, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    cache::Cache,
    ports::{Clock, Members},
};

/// A stretch of membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// The first number that is seen.
    pub from: Seq,
    /// The last number that is seen; open while the user is a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Seq>,
}

/// A user's membership of one conversation: its intervals, ascending, without overlap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Membership {
    intervals: Vec<Interval>,
}

impl Membership {
    /// From these intervals.
    pub fn new(intervals: Vec<Interval>) -> Self {
        Self { intervals }
    }

    /// From the first message on.
    pub fn from_the_start() -> Self {
        Self::new(vec![Interval { from: Seq::ZERO.next(), to: None }])
    }

    /// The user is a member now.
    pub fn is_open(&self) -> bool {
        self.intervals.last().is_some_and(|last| last.to.is_none())
    }

    /// The user sees this number.
    pub fn sees(&self, seq: Seq) -> bool {
        self.intervals.iter().any(|i| i.from <= seq && i.to.is_none_or(|to| seq <= to))
    }

    /// The last number up to this one that the user sees, if there is one.
    pub fn last_seen(&self, upto: Seq) -> Option<Seq> {
        self.intervals.iter().filter(|i| i.from <= upto).map(|i| i.to.map_or(upto, |to| to.min(upto))).max()
    }

    /// The intervals.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }
}

/// How long a function goes by a membership that it has seen.
const CACHE_MS: u64 = 5_000;

/// Memberships that a function keeps at most.
const CACHE_ENTRIES: usize = 10_000;

/// Looks memberships up, and keeps them for a few seconds.
pub struct Roll {
    members: Arc<dyn Members>,
    clock: Arc<dyn Clock>,
    known: Cache<(ConversationId, UserId), Membership>,
}

impl Roll {
    /// On these ports.
    pub fn new(members: Arc<dyn Members>, clock: Arc<dyn Clock>) -> Self {
        Self { members, clock, known: Cache::new(CACHE_ENTRIES, CACHE_MS) }
    }

    /// The user's membership, if the user is or was a member.
    pub async fn find(&self, conversation: &ConversationId, user: &UserId) -> Result<Option<Membership>, Failure> {
        let key = (conversation.clone(), user.clone());
        let now = self.clock.now_ms();
        if let Some(known) = self.known.get(&key, now) {
            return Ok(Some(known));
        }
        let found = self.members.membership(conversation, user).await?;
        if let Some(membership) = &found {
            self.known.put(key, membership.clone(), now);
        }
        Ok(found)
    }

    /// The user's membership, or `not_member`.
    pub async fn require(&self, conversation: &ConversationId, user: &UserId) -> Result<Membership, Failure> {
        self.find(conversation, user).await?.ok_or_else(|| not_member().into())
    }
}

/// The refusal of strangers. It does not tell whether the conversation exists.
pub(crate) fn not_member() -> Refusal {
    Refusal::new(Code::NotMember, "not a member of this conversation")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(n: u64) -> Seq {
        Seq::ZERO.plus(n)
    }

    #[test]
    fn a_member_sees_the_intervals_and_no_others() {
        let twice =
            Membership::new(vec![Interval { from: seq(3), to: Some(seq(5)) }, Interval { from: seq(9), to: None }]);
        let seen: Vec<u64> = (1..=12).filter(|n| twice.sees(seq(*n))).collect();
        assert_eq!(seen, [3, 4, 5, 9, 10, 11, 12]);
        assert!(twice.is_open());
        let last: Vec<u64> = [2, 3, 7, 9, 12].map(|n| twice.last_seen(seq(n)).map_or(0, Seq::get)).into();
        assert_eq!(last, [0, 3, 5, 9, 12]);
        assert!(!Membership::new(vec![Interval { from: seq(3), to: Some(seq(5)) }]).is_open());
        assert!(!Membership::new(vec![]).is_open());
        assert_eq!(Membership::new(twice.intervals().to_vec()), twice);
    }
}
