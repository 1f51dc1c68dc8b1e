//! What was pushed to a device, and what that means for the next wake-up. Pure.

use poste_protocol::{ConversationId, Seq};
use serde::{Deserialize, Serialize};

use crate::ports::Wake;

/// Conversations that are remembered for a device, the latest. Of one that is forgotten a wake-up may push once more. So
/// few that the device's item stays under 1 KB, one write unit.
const REMEMBERED: usize = 8;

/// How long a push may be under way: longer than a call to the provider takes with its timeout.
const UNDER_WAY_MS: u64 = 15_000;

/// The pushes to one device.
///
/// What a push has told of is not decided by times, since the clocks of two functions may differ by anything. A wake-up
/// that is put off is *held*: it is written down here before the next push begins. What a push finds here when it
/// begins was stored by then, so that push tells of it. Times only say how often a device is pushed to.
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
    /// The latest conversations, the last one that was pushed or held at the end.
    #[serde(default)]
    known: Vec<Known>,
}

/// What is known of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    #[serde(rename = "c")]
    conversation: ConversationId,
    /// The device was told up to here.
    #[serde(rename = "s", default, skip_serializing_if = "is_zero")]
    told: Seq,
    /// Up to here the next push will tell, if that is further.
    #[serde(rename = "h", default, skip_serializing_if = "is_zero")]
    held: Seq,
    #[serde(rename = "n")]
    unread: u64,
    /// When this was pushed or held.
    #[serde(rename = "t")]
    at_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(seq: &Seq) -> bool {
    *seq == Seq::ZERO
}

/// What a wake-up comes to for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A push has told the device of it already.
    Told,
    /// Not yet: after so many milliseconds. It should be held.
    Wait(u64),
    /// Push now, with this badge, after this was written down.
    Push { begun: Box<Pushes>, badge: u64 },
}

impl Pushes {
    /// What is to be done about a wake-up.
    pub(super) fn step(&self, wake: &Wake, unread: u64, now_ms: u64, interval_ms: u64) -> Step {
        if self.of(wake).is_some_and(|known| known.told >= wake.through) {
            return Step::Told;
        }
        if let Some(wait) = left(self.under_way_ms, now_ms, UNDER_WAY_MS) {
            return Step::Wait(wait);
        }
        let pause = left(self.last_ms.saturating_add(interval_ms), now_ms, interval_ms);
        if let Some(wait) = pause.filter(|_| self.last_ms > self.awake_ms) {
            return Step::Wait(wait);
        }
        let others = self.known.iter().filter(|k| k.at_ms > self.awake_ms && k.conversation != wake.conversation);
        let badge = unread + others.map(|known| known.unread).sum::<u64>();
        let begun = Self { under_way_ms: now_ms + UNDER_WAY_MS, ..self.changed() };
        Step::Push { begun: Box::new(begun), badge }
    }

    /// Whether a wake-up is held already.
    pub(super) fn holds(&self, wake: &Wake) -> bool {
        self.of(wake).is_some_and(|known| known.held >= wake.through)
    }

    /// These were put off: the next push to begin tells of them.
    pub(super) fn holding(&self, put_off: &[(&Wake, u64)], now_ms: u64) -> Self {
        let mut held = self.changed();
        for (wake, unread) in put_off {
            let known = held.touch(wake, now_ms);
            if wake.through > known.held {
                (known.held, known.unread) = (wake.through, *unread);
            }
        }
        held
    }

    /// A push that began with `begun` went out. It has told of what it pushed, and of what was held when it began; what
    /// was held since then is left to the next.
    pub(super) fn done(&self, begun: &Self, wake: &Wake, unread: u64, now_ms: u64) -> Self {
        let mut done = Self { under_way_ms: 0, last_ms: now_ms, ..self.changed() };
        for known in &mut done.known {
            let before = begun.known.iter().find(|before| before.conversation == known.conversation);
            known.told = known.told.max(before.map_or(Seq::ZERO, |before| before.held));
        }
        let pushed = done.touch(wake, now_ms);
        pushed.told = pushed.told.max(wake.through);
        if pushed.held <= pushed.told {
            pushed.unread = unread;
        }
        for known in &mut done.known {
            if known.held <= known.told {
                known.held = Seq::ZERO;
            }
        }
        done
    }

    /// The push did not go out.
    pub(super) fn given_up(&self) -> Self {
        Self { under_way_ms: 0, ..self.changed() }
    }

    fn of(&self, wake: &Wake) -> Option<&Known> {
        self.known.iter().find(|known| known.conversation == wake.conversation)
    }

    /// What is known of a wake-up's conversation, as the latest. If there are too many, the first is forgotten.
    fn touch(&mut self, wake: &Wake, at_ms: u64) -> &mut Known {
        let place = self.known.iter().position(|known| known.conversation == wake.conversation);
        let known = place.map(|place| self.known.remove(place));
        if self.known.len() >= REMEMBERED {
            self.known.remove(0);
        }
        let conversation = wake.conversation.clone();
        let new = Known { conversation, told: Seq::ZERO, held: Seq::ZERO, unread: 0, at_ms };
        self.known.push(Known { at_ms, ..known.unwrap_or(new) });
        self.known.last_mut().expect("it was just pushed")
    }

    fn changed(&self) -> Self {
        Self { revision: self.revision + 1, ..self.clone() }
    }
}

/// Milliseconds until a time that can be `longest` away at most. One that is further away was written by a clock that is
/// wrong, and holds up nobody.
fn left(until_ms: u64, now_ms: u64, longest: u64) -> Option<u64> {
    Some(until_ms.saturating_sub(now_ms)).filter(|left| (1..=longest).contains(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 10_000;

    fn wake(conversation: &str, seq: u64) -> Wake {
        let seq = Seq::ZERO.plus(seq);
        let conversation = ConversationId::new(conversation).expect("valid");
        Wake { envelope: None, conversation, seq, through: seq, at_ms: 0, users: Vec::new(), content: None }
    }

    fn step(pushes: &Pushes, wake: &Wake, now_ms: u64) -> Step {
        pushes.step(wake, 1, now_ms, INTERVAL)
    }

    fn begun(pushes: &Pushes, wake: &Wake, unread: u64, now_ms: u64) -> (Pushes, u64) {
        match pushes.step(wake, unread, now_ms, INTERVAL) {
            Step::Push { begun, badge } => (*begun, badge),
            other => panic!("{other:?}"),
        }
    }

    fn pushed(pushes: &Pushes, wake: &Wake, unread: u64, now_ms: u64) -> (Pushes, u64) {
        let (begun, badge) = begun(pushes, wake, unread, now_ms);
        (begun.done(&begun, wake, unread, now_ms), badge)
    }

    fn pushes(step: &Step) -> bool {
        matches!(step, Step::Push { .. })
    }

    #[test]
    fn a_message_is_pushed_once() {
        let (once, badge) = pushed(&Pushes::default(), &wake("a", 3), 2, 100_000);
        assert_eq!(badge, 2);
        for again in [wake("a", 3), wake("a", 2)] {
            assert_eq!(step(&once, &again, 500_000), Step::Told);
        }
        assert!(pushes(&step(&once, &wake("a", 4), 500_000)));
        assert!(pushes(&step(&once, &wake("b", 1), 500_000)), "of which nobody was told");
    }

    #[test]
    fn of_two_at_once_one_pushes() {
        let (begun, _) = begun(&Pushes::default(), &wake("a", 1), 1, 100_000);
        assert_eq!(step(&begun, &wake("a", 1), 101_000), Step::Wait(14_000));
        assert_eq!(begun.revision, 1);
        assert!(pushes(&step(&begun.given_up(), &wake("a", 1), 101_000)));
        // Whoever pushed has ended in the middle.
        assert!(pushes(&step(&begun, &wake("a", 1), 115_000)));
    }

    #[test]
    fn a_push_tells_of_what_was_held_when_it_began_and_of_nothing_else() {
        let (first, _) = pushed(&Pushes::default(), &wake("a", 1), 1, 100_000);
        let early = [wake("a", 2), wake("b", 1), wake("a", 3)];
        for wake in &early {
            assert_eq!(step(&first, wake, 101_000), Step::Wait(9_000));
            assert!(!first.holds(wake));
        }
        let held = first.holding(&early.each_ref().map(|wake| (wake, 1)), 101_000);
        assert!(early.iter().all(|wake| held.holds(wake)));
        assert!(early.iter().all(|wake| step(&held, wake, 101_000) == Step::Wait(9_000)), "not told yet");
        let (begun, _) = begun(&held, &early[1], 1, 110_000);
        // These are held while it is under way, so nobody knows whether it told of them.
        let late = [wake("a", 4), wake("c", 1), wake("b", 2)];
        let meanwhile = begun.holding(&late.each_ref().map(|wake| (wake, 1)), 110_000);
        let done = meanwhile.done(&begun, &early[1], 1, 110_000);
        assert!(early.iter().all(|wake| step(&done, wake, 110_000) == Step::Told));
        assert!(late.iter().all(|wake| done.holds(wake) && step(&done, wake, 110_000) == Step::Wait(10_000)));
        let (next, _) = pushed(&done, &late[1], 1, 120_000);
        assert!(late.iter().all(|wake| step(&next, wake, 120_000) == Step::Told));
    }

    #[test]
    fn a_push_that_did_not_go_out_has_told_of_nothing() {
        let held = Pushes::default().holding(&[(&wake("b", 1), 1)], 100_000);
        let (begun, _) = begun(&held, &wake("a", 1), 1, 100_000);
        for wake in [wake("a", 1), wake("b", 1)] {
            assert!(pushes(&step(&begun.given_up(), &wake, 100_000)));
        }
    }

    #[test]
    fn no_clock_makes_a_wake_up_told_or_holds_it_up_for_long() {
        let (once, _) = pushed(&Pushes::default(), &wake("a", 1), 1, 900_000);
        let early = Wake { at_ms: 100_000, ..wake("b", 1) };
        assert_eq!(step(&once, &early, 900_000), Step::Wait(INTERVAL));
        assert!(pushes(&step(&once, &early, 910_000)));
        // Whoever pushed was far ahead.
        assert!(pushes(&step(&once, &early, 100_000)));
        let (begun, _) = begun(&Pushes::default(), &wake("a", 1), 1, 900_000);
        assert!(pushes(&step(&begun, &early, 100_000)));
    }

    #[test]
    fn who_was_here_since_is_not_held_back_and_its_badge_begins_anew() {
        let (mut known, _) = pushed(&Pushes::default(), &wake("a", 1), 4, 100_000);
        known.awake_ms = 101_000;
        let (_, badge) = pushed(&known, &wake("b", 1), 1, 102_000);
        assert_eq!(badge, 1);
        known.awake_ms = 0;
        let held = known.holding(&[(&wake("c", 9), 3), (&wake("c", 8), 2)], 105_000);
        let (_, badge) = pushed(&held, &wake("b", 1), 1, 110_000);
        assert_eq!(badge, 8, "what is held is unread, too");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_forgotten_pushes_once_more() {
        let id = |n: u64| format!("d_FY34TvGtCmU1FjM22wj0o04Cd{n:02}");
        let now = 1_800_000_000_000;
        let mut known = Pushes::default();
        for n in 1..50 {
            (known, _) = pushed(&known, &wake(&id(n), 100_000 + n), 100, now + n * 100_000);
        }
        let later = now + 5_000_000;
        for n in 45..90 {
            known = known.holding(&[(&wake(&id(n), 200_000), 100)], later);
        }
        assert_eq!(known.known.len(), REMEMBERED);
        assert!(pushes(&step(&known, &wake(&id(49), 100_049), later)));
        assert!(!known.holds(&wake(&id(60), 200_000)));
        // The largest there is: told and held, of every conversation.
        let (begun, _) = begun(&known, &wake(&id(89), 200_000), 100, later);
        let mut largest = begun.done(&begun, &wake(&id(89), 200_000), 100, later);
        for n in 82..90 {
            largest = largest.holding(&[(&wake(&id(n), 300_000), 100)], later);
        }
        let length = serde_json::to_string(&largest).expect("JSON").len();
        assert!(length < 750, "{length}");
    }
}
