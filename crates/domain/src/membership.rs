//! Who may see what: the intervals of the log in which a user was a member.

use poste_protocol::{Code, Refusal, Role, Seq, discreet};
use serde::{Deserialize, Serialize};

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

    /// How many numbers after `after` up to `upto` the user sees.
    pub fn seen_between(&self, after: Seq, upto: Seq) -> u64 {
        let seen = |i: &Interval| {
            let (first, last) = (i.from.max(after.next()), i.to.map_or(upto, |to| to.min(upto)));
            (last.get() + 1).saturating_sub(first.get())
        };
        self.intervals.iter().map(seen).sum()
    }

    /// The last number that the user sees, however much comes; nothing while they are in, and may see all that comes.
    pub fn end(&self) -> Option<Seq> {
        self.intervals.last().map_or(Some(Seq::ZERO), |last| last.to)
    }

    /// The user is in from this number on.
    #[must_use]
    pub fn opened(mut self, from: Seq) -> Self {
        if !self.is_open() {
            self.intervals.push(Interval { from, to: None });
        }
        self
    }

    /// The user is out after this number.
    #[must_use]
    pub fn closed(mut self, to: Seq) -> Self {
        if let Some(last) = self.intervals.last_mut().filter(|last| last.to.is_none()) {
            last.to = Some(to);
        }
        self
    }

    /// The intervals.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }
}

/// A user in a conversation: when they were in, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What they see.
    pub membership: Membership,
    /// What they may do, or could when they were last in.
    pub role: Role,
    /// The number of the last event that changed anything about them; 0 in a direct conversation.
    pub version: Seq,
    /// Who is not in any more: how the group was then.
    pub left: Option<Farewell>,
}

/// A group as a user knows it who is not in any more.
#[derive(Clone, PartialEq, Eq)]
pub struct Farewell {
    /// When they were last in, in Unix milliseconds.
    pub at: u64,
    /// The title of then.
    pub title: String,
}

discreet!(Farewell { at } hides { title });

impl Member {
    /// A member of a direct conversation, or of whatever has no events.
    pub fn plain(membership: Membership) -> Self {
        Self { membership, role: Role::Member, version: Seq::ZERO, left: None }
    }

    /// The role of who is in.
    pub fn role_now(&self) -> Option<Role> {
        self.membership.is_open().then_some(self.role)
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
        let between = [(0, 2), (0, 12), (4, 10), (5, 8), (12, 12), (20, 12)];
        assert_eq!(between.map(|(after, upto)| twice.seen_between(seq(after), seq(upto))), [0, 7, 3, 0, 0, 0]);
        assert!(!Membership::new(vec![Interval { from: seq(3), to: Some(seq(5)) }]).is_open());
        assert!(!Membership::new(vec![]).is_open());
        let built = Membership::new(vec![]).opened(seq(3)).opened(seq(4)).closed(seq(5)).closed(seq(6)).opened(seq(9));
        assert_eq!(built, twice);
        assert_eq!((built.end(), built.closed(seq(11)).end()), (None, Some(seq(11))));
    }
}
