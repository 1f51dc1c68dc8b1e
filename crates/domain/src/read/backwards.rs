//! Pages from the end of a range to its beginning: the newest one, and the one right before a number.
//!
//! They are the same promise as a page that was read forwards, and holes are decided in the same way; only the log is
//! walked down. What differs is where a page ends that meets a hole which cannot be decided yet. The page before a
//! number keeps what is above the hole, and begins there. The newest page must not: whoever enters a conversation by it
//! goes on forwards from its end, and would take the number in the hole for history when it is written at last. So it
//! ends below the lowest hole that is not decided; and because one may lie below its first cell, it is looked further
//! down than the page reaches, as far as cells are young.

use poste_protocol::{Fetch, Page, Seq};

use super::{FIRST_LOOK, Load, Read, Reader, VOIDS, is_after, patience};
use crate::{Failure, Retention, ports::Slot};

impl Read {
    /// The page that ends right before a number, or the newest one. Nothing if it came to an event that the reader is
    /// not as of.
    pub(super) async fn page_before(
        &self,
        fetch: &Fetch,
        before: Option<Seq>,
        reader: &Reader,
    ) -> Result<Option<Page>, Failure> {
        let mut walk = Walk::new(fetch, before, reader, self.retention);
        while let Some(look) = walk.next_look() {
            let found = self.log.before(&fetch.conversation, walk.down_to, look).await?;
            walk.now_ms = self.clock.now_ms();
            for slot in found.slots {
                if is_after(&slot, reader.as_of) {
                    return Ok(None);
                }
                // The newest page has no end before its first slot is found.
                if walk.has_begun() && !walk.is_over() && slot.last() < walk.down_to {
                    self.missing(&mut walk, slot.last(), fetch).await?;
                }
                if walk.is_over() {
                    break;
                }
                if walk.is_stale(&slot) {
                    self.look_for_floor_below(&mut walk, fetch).await?;
                }
                walk.take(slot);
            }
            if found.end && !walk.is_over() {
                self.missing(&mut walk, Seq::ZERO, fetch).await?;
            }
        }
        Ok(Some(walk.into_page(fetch)))
    }

    /// Nothing was found between this number and where the walk is: it is gone, or was never written, or a hole.
    async fn missing(&self, walk: &mut Walk<'_>, found: Seq, fetch: &Fetch) -> Result<(), Failure> {
        self.look_for_floor_below(walk, fetch).await?;
        // From the hole's own beginning: what stalls there must find it decided, however many numbers it wants.
        let low = found.max(walk.floor);
        if walk.is_over() || walk.down_to <= low {
            return Ok(());
        }
        if walk.above.is_none() && walk.has_begun() {
            walk.above = self.log.after(&fetch.conversation, walk.down_to, 1).await?.slots.pop();
            walk.now_ms = self.clock.now_ms();
        }
        let Some(above) = &walk.above else {
            walk.nothing_above(low);
            return Ok(());
        };
        walk.head = walk.head.max(above.last());
        if let Some(wait) = patience(above, walk.now_ms) {
            walk.undecided(low, low, Some(wait));
            return Ok(());
        }
        if walk.full {
            // The next page decides it.
            walk.done = true;
            return Ok(());
        }
        let mut decided = Vec::new();
        let mut through = low;
        while through < walk.down_to {
            if walk.voids == VOIDS {
                walk.undecided(low, through, None);
                return Ok(());
            }
            walk.voids += 1;
            let void = Slot::Void(through.next());
            let removal = self.retention.removal(walk.now_ms);
            let slot = self.log.put(&fetch.conversation, &void, removal).await?.unwrap_or(void);
            through = slot.last();
            decided.push(slot);
        }
        decided.into_iter().rev().for_each(|slot| walk.take(slot));
        Ok(())
    }

    /// Where something is missing or its time is up: what is gone is at the bottom, looked for once a page.
    async fn look_for_floor_below(&self, walk: &mut Walk<'_>, fetch: &Fetch) -> Result<(), Failure> {
        if std::mem::replace(&mut walk.knows_floor, true) {
            return Ok(());
        }
        if let Some(head) = self.heads.head(&fetch.conversation).await? {
            walk.now_ms = self.clock.now_ms();
            walk.gone(head.floor(walk.now_ms));
        }
        Ok(())
    }
}

/// A page in the making, from its end.
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
struct Walk<'a> {
    reader: &'a Reader,
    retention: Retention,
    now_ms: u64,
    /// The page before a number, not the newest one.
    asked_before: bool,
    through: Seq,
    /// Everything of the page's range above this is in the page.
    after: Seq,
    /// Everything above this was looked at.
    down_to: Seq,
    /// The slot right above it, if it was looked at.
    above: Option<Slot>,
    head: Seq,
    floor: Seq,
    knows_floor: bool,
    load: Load,
    voids: u32,
    full: bool,
    done: bool,
    retry_after_ms: Option<u64>,
}

impl<'a> Walk<'a> {
    fn new(fetch: &Fetch, before: Option<Seq>, reader: &'a Reader, retention: Retention) -> Self {
        let through = before.map_or(reader.last(), Seq::back);
        Self {
            reader,
            retention,
            now_ms: 0,
            asked_before: before.is_some(),
            through,
            after: through,
            down_to: through,
            above: None,
            head: Seq::ZERO,
            floor: Seq::ZERO,
            knows_floor: false,
            load: Load::new(fetch),
            voids: 0,
            full: false,
            done: false,
            retry_after_ms: None,
        }
    }

    /// Up to here there is nothing for this user: it is gone, or from before they became a member.
    fn bottom(&self) -> Seq {
        let first = self.reader.membership.intervals().first().map_or(Seq::LAST, |interval| interval.from);
        self.floor.max(first.back())
    }

    /// It is known where the page ends.
    fn has_begun(&self) -> bool {
        self.asked_before || self.load.looked_at > 0
    }

    /// Nothing below belongs into the page, or could tell where the newest one ends.
    fn is_over(&self) -> bool {
        let young = || !self.asked_before && self.above.as_ref().is_some_and(|a| patience(a, self.now_ms).is_some());
        self.done || self.has_begun() && self.down_to <= self.bottom() || self.full && !young()
    }

    /// How many slots to ask for next; none if the page is complete.
    fn next_look(&mut self) -> Option<u32> {
        if self.is_over() {
            return None;
        }
        if self.has_begun() {
            // What lies between two memberships is stepped over unread.
            let seen = self.reader.membership.last_seen(self.down_to).unwrap_or(Seq::ZERO);
            if seen < self.down_to {
                self.above = None;
                self.step_to(seen);
            }
        }
        match (self.is_over(), self.full) {
            (true, _) => None,
            (false, true) => Some(FIRST_LOOK),
            (false, false) => Some(self.load.look()),
        }
    }

    /// Its time is up, though the store has it still.
    fn is_stale(&self, slot: &Slot) -> bool {
        matches!(slot, Slot::Cell(cell) if !self.retention.keeps(cell.at, self.now_ms))
    }

    fn step_to(&mut self, seq: Seq) {
        self.down_to = seq;
        if !self.full {
            self.after = seq;
        }
    }

    /// Nothing is above the numbers that are missing after `last`: no hole, but the end of the log.
    fn nothing_above(&mut self, last: Seq) {
        if self.load.looked_at > 0 {
            // It was there, and is gone.
            self.done = true;
            return;
        }
        self.through = last;
        self.step_to(last);
        self.done = last <= self.bottom();
    }

    /// Takes the next slot down, if there is room for it.
    fn take(&mut self, slot: Slot) {
        if !self.has_begun() {
            self.through = slot.last().max(self.floor);
        }
        // A page that would end inside a cell ends at its end. Ours never do.
        self.through = self.through.max(slot.last());
        self.head = self.head.max(slot.last());
        self.load.looked_at += 1;
        let gone = self.is_stale(&slot) || slot.last() <= self.floor;
        if let Slot::Cell(cell) = &slot
            && self.reader.membership.sees(cell.seq)
            && !gone
            && !self.full
            && !self.load.take(cell.clone())
        {
            self.full = true;
            // The whole of it is for the next page, also where the walk has come down into it.
            self.after = self.after.max(cell.last());
        }
        self.step_to(slot.seq().back());
        self.full |= self.load.is_full();
        self.above = Some(slot);
    }

    /// There is a hole right above `low`, decided only through `decided`.
    fn undecided(&mut self, low: Seq, decided: Seq, wait: Option<u64>) {
        self.retry_after_ms = wait;
        if self.asked_before {
            self.done = true;
            return;
        }
        // What is above the hole is for whoever goes on forwards.
        self.through = decided;
        self.load.clear();
        self.full = false;
        self.above = None;
        self.step_to(low);
    }

    /// Steps over numbers that are gone.
    fn gone(&mut self, floor: Seq) {
        self.floor = self.floor.max(floor);
        self.head = self.head.max(floor);
        self.load.cells.retain(|cell| cell.last() > floor);
        if !self.asked_before && self.has_begun() {
            self.through = self.through.max(floor);
        }
    }

    fn into_page(mut self, fetch: &Fetch) -> Page {
        if self.after <= self.bottom() {
            self.after = Seq::ZERO;
        }
        self.load.cells.reverse();
        Page {
            reference: Some(fetch.reference.clone()),
            conversation: fetch.conversation.clone(),
            after: self.after,
            through: self.through,
            cells: self.load.cells,
            floor: self.floor,
            head: self.head.min(self.reader.last()).max(self.through),
            more: self.after > Seq::ZERO && !(self.asked_before && self.retry_after_ms.is_some()),
            retry_after_ms: self.retry_after_ms,
        }
    }
}
