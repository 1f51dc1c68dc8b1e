//! What was pushed to a device, and what that means for the next wake-up. Pure.

use poste_protocol::{ConversationId, Seq};
use serde::{Deserialize, Serialize};

use crate::ports::Wake;

/// Conversations whose pushes are remembered for a device, the latest. Of one that is forgotten a wake-up that comes
/// twice may push twice. So few that the device's item stays under 1 KB, one write unit.
const REMEMBERED: usize = 8;

/// How long a push may be under way: longer than a call to the provider takes with its timeout.
const UNDER_WAY_MS: u64 = 15_000;

/// How far apart the clocks of two functions may be. A push tells of what was queued that long before it.
const SKEW_MS: u64 = 2_000;

/// The pushes to one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushes {
    /// Counts the changes: each is made on the one before.
    #[serde(skip)]
    pub revision: u64,
    /// When the device last said that it is awake.
    #[serde(skip)]
    pub awake_ms: u64,
    /// When the last push went out.
    #[serde(default)]
    last_ms: u64,
    /// Somebody pushes, until then.
    #[serde(default)]
    under_way_ms: u64,
    /// The latest conversations, the last one pushed at the end.
    #[serde(default)]
    told: Vec<Told>,
}

/// Of a conversation the device was told up to here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    #[serde(rename = "c")]
    conversation: ConversationId,
    #[serde(rename = "s")]
    through: Seq,
    #[serde(rename = "n")]
    unread: u64,
    #[serde(rename = "t")]
    at_ms: u64,
}

/// What a wake-up comes to for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A push has told the device of it already.
    Told,
    /// Not yet: after so many milliseconds.
    Wait(u64),
    /// Push now, with this badge, after this was written down.
    Push { begun: Box<Pushes>, badge: u64 },
}

impl Pushes {
    /// What is to be done about a wake-up.
    pub(super) fn step(&self, wake: &Wake, unread: u64, now_ms: u64, interval_ms: u64) -> Step {
        let told = self.told.iter().any(|t| t.conversation == wake.conversation && t.through >= wake.through);
        // Whatever was stored when a push went out, that push has told of.
        if told || wake.at_ms + SKEW_MS <= self.last_ms {
            return Step::Told;
        }
        if self.under_way_ms > now_ms {
            return Step::Wait(self.under_way_ms - now_ms);
        }
        let next_ms = self.last_ms + interval_ms;
        if self.last_ms > self.awake_ms && next_ms > now_ms {
            return Step::Wait(next_ms - now_ms);
        }
        let others = self.told.iter().filter(|t| t.at_ms > self.awake_ms && t.conversation != wake.conversation);
        let badge = unread + others.map(|t| t.unread).sum::<u64>();
        let begun = Self { under_way_ms: now_ms + UNDER_WAY_MS, ..self.changed() };
        Step::Push { begun: Box::new(begun), badge }
    }

    /// The push went out.
    pub(super) fn done(&self, wake: &Wake, unread: u64, now_ms: u64) -> Self {
        let mut told = self.told.clone();
        told.retain(|t| t.conversation != wake.conversation);
        if told.len() >= REMEMBERED {
            told.remove(0);
        }
        let (conversation, through) = (wake.conversation.clone(), wake.through);
        told.push(Told { conversation, through, unread, at_ms: now_ms });
        Self { under_way_ms: 0, last_ms: now_ms, told, ..self.changed() }
    }

    /// The push did not go out.
    pub(super) fn given_up(&self) -> Self {
        Self { under_way_ms: 0, ..self.changed() }
    }

    fn changed(&self) -> Self {
        Self { revision: self.revision + 1, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 10_000;

    fn wake(conversation: &str, seq: u64, at_ms: u64) -> Wake {
        let seq = Seq::ZERO.plus(seq);
        let conversation = ConversationId::new(conversation).expect("valid");
        Wake { conversation, seq, through: seq, at_ms, users: Vec::new(), content: None }
    }

    fn pushed(pushes: &Pushes, wake: &Wake, unread: u64, now_ms: u64) -> (Pushes, u64) {
        match pushes.step(wake, unread, now_ms, INTERVAL) {
            Step::Push { begun, badge } => (begun.done(wake, unread, now_ms), badge),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_is_pushed_once() {
        let (pushes, badge) = pushed(&Pushes::default(), &wake("a", 3, 99_000), 2, 100_000);
        assert_eq!(badge, 2);
        for again in [wake("a", 3, 99_000), wake("a", 2, 99_000), wake("a", 3, 500_000)] {
            assert_eq!(pushes.step(&again, 2, 500_000, INTERVAL), Step::Told);
        }
        assert!(matches!(pushes.step(&wake("a", 4, 500_000), 3, 500_000, INTERVAL), Step::Push { .. }));
    }

    #[test]
    fn of_two_at_once_one_pushes() {
        let first = Pushes::default().step(&wake("a", 1, 100_000), 1, 100_000, INTERVAL);
        let Step::Push { begun, .. } = first else { panic!("{first:?}") };
        assert_eq!(begun.step(&wake("a", 1, 100_000), 1, 101_000, INTERVAL), Step::Wait(14_000));
        assert_eq!(begun.revision, 1);
        let given_up = begun.given_up();
        assert!(matches!(given_up.step(&wake("a", 1, 100_000), 1, 101_000, INTERVAL), Step::Push { .. }));
        // Whoever pushed has ended in the middle.
        assert!(matches!(begun.step(&wake("a", 1, 100_000), 1, 115_000, INTERVAL), Step::Push { .. }));
    }

    #[test]
    fn one_trailing_push_stands_for_all_that_came_meanwhile() {
        let (first, _) = pushed(&Pushes::default(), &wake("a", 1, 100_000), 1, 100_000);
        let meanwhile = [wake("a", 2, 101_000), wake("b", 1, 103_000), wake("a", 3, 107_000)];
        for wake in &meanwhile {
            assert_eq!(first.step(wake, 1, wake.at_ms, INTERVAL), Step::Wait(110_000 - wake.at_ms));
        }
        let (trailing, badge) = pushed(&first, &meanwhile[0], 2, 110_000);
        assert_eq!(badge, 2);
        assert_eq!(trailing.step(&meanwhile[1], 1, 110_000, INTERVAL), Step::Told);
        assert_eq!(trailing.step(&meanwhile[2], 1, 110_000, INTERVAL), Step::Told);
        // What came at the last moment may not have been stored by then.
        assert_eq!(trailing.step(&wake("a", 4, 109_000), 1, 110_100, INTERVAL), Step::Wait(9_900));
    }

    #[test]
    fn who_was_here_since_is_not_held_back_and_its_badge_begins_anew() {
        let (mut pushes, _) = pushed(&Pushes::default(), &wake("a", 1, 100_000), 4, 100_000);
        pushes.awake_ms = 101_000;
        let (_, badge) = pushed(&pushes, &wake("b", 1, 102_000), 1, 102_000);
        assert_eq!(badge, 1);
        pushes.awake_ms = 0;
        let (_, badge) = pushed(&pushes, &wake("b", 1, 110_000), 1, 110_000);
        assert_eq!(badge, 5);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pushes = Pushes::default();
        for n in 1..100 {
            let conversation = format!("d_FY34TvGtCmU1FjM22wj0o04Cd{n:02}");
            (pushes, _) = pushed(&pushes, &wake(&conversation, n, n * 100_000), 1, n * 100_000);
        }
        assert_eq!(pushes.told.len(), REMEMBERED);
        assert!(serde_json::to_string(&pushes).expect("JSON").len() < 800);
    }
}
