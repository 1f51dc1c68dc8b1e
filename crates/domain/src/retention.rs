//! Retention: how long messages are kept, and how a number that was removed is told from one that was never written.
//!
//! The store removes cells by itself, late, in no order, and without a trace. Who then finds a number missing must not
//! take it for a hole: holes get voids, removed numbers never do, and nothing is written at them again. So the head
//! keeps the ages of its numbers: every placing happens in an *epoch*, and when one has lasted long enough the next
//! placing has to end it first, by noting the head and how long its numbers are kept ([`Epochs::next`]). The store
//! removes a cell only after the epoch of its number is noted, and its time is up
//! ([`Retention::removal`]): what it has removed is at or below the [floor](crate::ports::Head::floor), always.
//! The reasons are in `docs/adr/0011-retention.md`.

use poste_protocol::Seq;

/// How long a deployment keeps messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// For so many milliseconds; for ever without.
    keep_ms: Option<u64>,
}

/// Epochs in the time that messages are kept. More would make the head larger; fewer would let the store keep cells
/// longer after nobody sees them any more.
const EPOCHS: u64 = 4;

/// By how much the clocks of functions and of the store may differ, and a write may come after its placing, in
/// milliseconds: a day. With a short retention it is an epoch.
const MARGIN_MS: u64 = 24 * 3600 * 1000;

/// Ended epochs that a head notes one by one. There are five unless the deployment's retention is changed again and
/// again; beyond this many the youngest are joined.
const NOTED: usize = 16;

impl Retention {
    /// Messages are kept for ever.
    pub const FOREVER: Self = Self { keep_ms: None };

    /// Messages are kept for so many milliseconds; 0 means for ever.
    pub fn of(keep_ms: u64) -> Self {
        Self { keep_ms: (keep_ms > 0).then_some(keep_ms) }
    }

    /// For how many milliseconds messages are kept; 0 means for ever.
    pub fn keep_ms(self) -> u64 {
        self.keep_ms.unwrap_or(0)
    }

    /// Whether what was stored at that time is still to be seen.
    pub fn keeps(self, at: u64, now_ms: u64) -> bool {
        self.gone_at(at).is_none_or(|gone| now_ms < gone)
    }

    /// When the store may remove what is written now. Later than anybody sees it: by then the head must tell.
    pub fn removal(self, now_ms: u64) -> Option<u64> {
        let keep = self.keep_ms?;
        Some(now_ms + keep + epoch(keep) + MARGIN_MS.min(epoch(keep)))
    }

    /// The epoch of a placing now began after this. Nothing without an end.
    pub fn epoch_after(self, now_ms: u64) -> Option<u64> {
        self.keep_ms.map(|keep| now_ms.saturating_sub(epoch(keep)))
    }

    fn gone_at(self, at: u64) -> Option<u64> {
        self.keep_ms.map(|keep| at.saturating_add(keep))
    }
}

fn epoch(keep_ms: u64) -> u64 {
    keep_ms.div_ceil(EPOCHS)
}

/// An epoch that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// The last number that was reserved in it.
    pub last: Seq,
    /// From when on everything up to there is gone, in Unix milliseconds.
    pub gone_at: u64,
}

/// The ages of a conversation's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epochs {
    /// For how long the deployment kept messages when the present epoch began.
    pub retention: Retention,
    /// When that was, in Unix milliseconds.
    pub since: u64,
    /// Everything up to here is gone.
    pub floor: Seq,
    /// Ended epochs above the floor, ascending.
    pub ended: Vec<Epoch>,
}

impl Epochs {
    /// Of a new conversation.
    pub fn new(retention: Retention, now_ms: u64) -> Self {
        Self { retention, since: now_ms, floor: Seq::ZERO, ended: Vec::new() }
    }

    /// Whether numbers may be given in the present epoch.
    pub fn admit(&self, retention: Retention, now_ms: u64) -> bool {
        self.retention == retention && retention.epoch_after(now_ms).is_none_or(|after| self.since > after)
    }

    /// The last number that is gone. `head` was reserved last, at `active_at`.
    pub fn floor(&self, head: Seq, active_at: u64, now_ms: u64) -> Seq {
        let ended = self.ended.iter().filter(|epoch| epoch.gone_at <= now_ms).map(|epoch| epoch.last);
        let all = (!self.retention.keeps(active_at, now_ms)).then_some(head);
        ended.chain(all).fold(self.floor, Seq::max)
    }

    /// The next epoch begins. What was reserved until now is kept as long as both its retention and the new one say.
    #[must_use]
    pub fn next(&self, retention: Retention, head: Seq, active_at: u64, now_ms: u64) -> Self {
        let gone_at = [self.retention, retention].iter().filter_map(|kept| kept.gone_at(active_at)).min();
        let mut ended = self.ended.clone();
        ended.extend(gone_at.map(|gone_at| Epoch { last: head, gone_at }));
        let noted = Self { retention, since: now_ms, floor: self.floor, ended };
        let floor = noted.floor(head, active_at, now_ms);
        let mut ended: Vec<_> = noted.ended.into_iter().filter(|epoch| epoch.last > floor).collect();
        if ended.len() > NOTED
            && let Some(youngest) = ended.pop()
            && let Some(before) = ended.last_mut()
        {
            *before = Epoch { last: youngest.last, gone_at: youngest.gone_at.max(before.gone_at) };
        }
        Self { retention, since: now_ms, floor, ended }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seq(n: u64) -> Seq {
        Seq::ZERO.plus(n)
    }

    #[test]
    fn for_ever_is_for_ever() {
        let forever = Retention::FOREVER;
        assert_eq!(Retention::of(0), forever);
        assert!(forever.keeps(0, u64::MAX));
        assert_eq!(forever.removal(5), None);
        let epochs = Epochs::new(forever, 0);
        assert!(epochs.admit(forever, u64::MAX));
        assert_eq!(epochs.floor(seq(9), 1, u64::MAX), Seq::ZERO);
        let next = epochs.next(forever, seq(9), 1, 50);
        assert_eq!(next, Epochs { since: 50, ..epochs });
    }

    #[test]
    fn a_silent_conversation_is_gone_as_a_whole() {
        let epochs = Epochs::new(Retention::of(100), 0);
        assert_eq!(epochs.floor(seq(9), 20, 119), Seq::ZERO);
        assert_eq!(epochs.floor(seq(9), 20, 120), seq(9));
        let next = epochs.next(Retention::of(100), seq(9), 20, 500);
        assert_eq!((next.floor, next.ended.len()), (seq(9), 0), "what is gone already is not noted one by one");
    }

    #[test]
    fn a_shorter_retention_is_for_what_was_written_before_too() {
        let long = Epochs::new(Retention::of(1_000), 0);
        let short = long.next(Retention::of(100), seq(5), 10, 20);
        assert_eq!(short.ended, [Epoch { last: seq(5), gone_at: 110 }]);
        let long_again = short.next(Retention::of(1_000), seq(8), 30, 40);
        assert_eq!(long_again.ended[1], Epoch { last: seq(8), gone_at: 130 }, "the store removes it by the short one");
    }

    #[test]
    fn the_store_may_remove_an_epoch_and_a_day_after_nobody_sees_it() {
        const DAY: u64 = 24 * 3600 * 1000;
        assert_eq!(Retention::of(40 * DAY).removal(DAY), Some((1 + 40 + 10 + 1) * DAY));
        assert_eq!(Retention::of(40 * DAY).keep_ms(), 40 * DAY);
        assert_eq!(Retention::of(400).removal(1_000), Some(1_600), "with a short retention, two epochs");
    }

    #[test]
    fn of_sixteen_noted_epochs_the_youngest_takes_in_what_follows() {
        let mut epochs = Epochs::new(Retention::of(1_000), 0);
        for n in 1..=20 {
            epochs = epochs.next(Retention::of(1_000), seq(n), n, n);
        }
        let (last, earlier) = epochs.ended.split_last().expect("sixteen");
        assert_eq!(*last, Epoch { last: seq(20), gone_at: 1_020 });
        let earlier: Vec<_> = earlier.iter().map(|epoch| epoch.last.get()).collect();
        assert_eq!(earlier, (1..=15).collect::<Vec<_>>());
    }

    /// A step in the life of a conversation: time passes, a deployment changes what is kept, something is written.
    type Step = (u64, Option<u64>, bool);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let retention =
            prop_oneof![6 => Just(None), 1 => prop::sample::select(vec![0, 40, 100, 400, 1_000]).prop_map(Some)];
        prop::collection::vec((0..60_u64, retention, prop::bool::weighted(0.7)), 1..120)
    }

    proptest! {
        /// What the store may have removed is always known to be gone; what must still be seen never is.
        #[test]
        fn the_floor_is_between_what_is_removed_and_what_is_kept(steps in steps()) {
            let mut now = 1_000;
            let mut retention = Retention::of(100);
            let mut epochs = Epochs::new(retention, now);
            let (mut head, mut active_at) = (Seq::ZERO, now);
            let mut cells: Vec<(Seq, u64, Option<u64>, u64)> = Vec::new();
            for (pause, kept, writes) in steps {
                now += pause;
                retention = kept.map_or(retention, Retention::of);
                if writes {
                    if !epochs.admit(retention, now) {
                        let next = epochs.next(retention, head, active_at, now);
                        prop_assert!(next.admit(retention, now));
                        prop_assert!(next.floor(head, active_at, now) >= epochs.floor(head, active_at, now));
                        epochs = next;
                    }
                    head = head.next();
                    active_at = now;
                    cells.push((head, now, retention.removal(now), u64::MAX));
                }
                for cell in &mut cells {
                    // The shortest that was ever in force since decides; for ever is no limit.
                    cell.3 = cell.3.min(retention.gone_at(cell.1).unwrap_or(u64::MAX));
                }
                let floor = epochs.floor(head, active_at, now);
                for (seq, at, removed, gone) in &cells {
                    if removed.is_some_and(|removed| removed <= now) {
                        prop_assert!(*seq <= floor, "{seq} of {at} may be removed, and the floor is {floor}");
                    }
                    if *seq <= floor {
                        prop_assert!(*gone <= now, "{seq} of {at} is to be kept, and the floor is {floor}");
                    }
                }
            }
        }
    }
}
