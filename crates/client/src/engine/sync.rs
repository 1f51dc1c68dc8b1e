//! Taking in the log: the list of conversations, pages from the cursor, and realtime cells that fit on to it. The
//! cursor is a contiguous prefix; nothing of others is shown beyond it.

use std::cmp::Reverse;

use poste_protocol::{
    Cell, ConversationId, DeliveryItem, List, ListPage, Page, Pages, Refusal, Request, Seq, Summary, SyncFrame,
    SyncRange, limits,
};

use super::Rules;
use super::backoff::told;
use super::session::{Asked, Listed, Question, Range, Syncing};
use super::turn::Turn;
use crate::StoreError;
use crate::store::{OutboxRow, Settled};

/// Requests for the list on one connection at most: more conversations than anybody has.
const LISTS: u32 = 100;

impl Rules {
    /// Asks for the list. A device that has nothing yet asks for last messages, too, to have something to show.
    pub(super) fn pump_list(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let number = self.next_reference();
        let (frames, previews) = (self.tuning.list_frames, self.tuning.previews);
        let Some(session) = self.session_mut() else { return Ok(()) };
        let list = &mut session.list;
        if list.done || list.in_flight || list.not_before > turn.now.mono {
            return Ok(());
        }
        list.in_flight = true;
        let after = list.after.clone();
        let previews = (list.answered == 0 && previews > 0 && turn.tx.is_fresh()?).then_some(previews);
        let asked = Listed { number, came: 0, all: None, next: None };
        self.ask(turn, Question::List(asked), |reference| {
            Request::List(List { reference, after, frames: Some(frames), previews })
        });
        Ok(())
    }

    /// Takes in a frame of the list. The request is over when all its frames are here.
    pub(super) fn on_list(&mut self, turn: &mut Turn<'_>, page: ListPage, mut asked: Listed) -> Result<(), StoreError> {
        self.spread = page.spread_ms;
        for summary in &page.conversations {
            self.on_summary(turn, summary)?;
        }
        asked.came += 1;
        if !page.follows {
            (asked.all, asked.next) = (Some(page.before.saturating_add(1)), page.next);
        }
        if asked.all.is_none_or(|all| asked.came < all) && asked.came < self.tuning.list_frames {
            let deadline = turn.now.mono + self.tuning.request_deadline;
            if let Some(session) = self.session_mut() {
                session.requests.insert(asked.number, Asked { deadline, question: Question::List(asked) });
            }
            return Ok(());
        }
        let Some(session) = self.session_mut() else { return Ok(()) };
        let list = &mut session.list;
        list.in_flight = false;
        list.failures = 0;
        list.answered += 1;
        // A list that points back to where it was would never end.
        let goes_on = asked.next.is_some() && asked.next != list.after && list.answered < LISTS;
        if goes_on && !list.closing {
            list.after = asked.next;
        } else if list.answered > 1 && !list.closing {
            // Where somebody wrote between the requests the conversation has moved to the front, and was in none of them.
            (list.after, list.closing) = (None, true);
        } else {
            list.done = true;
        }
        Ok(())
    }

    pub(super) fn list_refused(&mut self, turn: &Turn<'_>, refusal: Option<&Refusal>) {
        let Some(session) = self.session_mut() else { return };
        session.list.in_flight = false;
        session.list.failures = session.list.failures.saturating_add(1);
        let failures = session.list.failures;
        let not_before = turn.now.mono + self.wait(refusal.and_then(|no| no.retry_after_ms), failures);
        if let Some(session) = self.session_mut() {
            session.list.not_before = not_before;
            session.list.told = refusal.is_some_and(|no| no.retry_after_ms.is_some());
        }
    }

    pub(super) fn on_summary(&mut self, turn: &mut Turn<'_>, summary: &Summary) -> Result<(), StoreError> {
        let id = &summary.conversation;
        let known = turn.tx.know_conversation(id, summary.peer.as_ref())?;
        let raised = turn.tx.raise_head(id, summary.head, summary.active_at)?;
        let removed = turn.tx.raise_floor(id, summary.floor)?;
        let told = turn.tx.set_told(summary)?;
        if known || raised || removed || told {
            turn.conversation_changed(id);
        }
        if let Some(group) = &summary.group {
            Self::on_group_summary(turn, id, group)?;
        }
        for mark in &summary.marks {
            self.on_member_mark(turn, id, mark)?;
        }
        let (mut cursor, read) = turn.tx.conversation(id)?.map_or((Seq::ZERO, Seq::ZERO), |row| (row.cursor, row.read));
        // A conversation that is yet to be entered at its end is not begun at the floor; its page steps over what is gone.
        let is_begun = summary.floor >= summary.head || !self.is_to_enter(turn, id)?;
        if summary.floor > cursor && is_begun {
            turn.tx.forget_members(id)?;
            // Nothing of it will ever come, and the end of a log may be gone without a trace in any page.
            cursor = self.advance(turn, id, summary.floor, false)?;
        }
        if summary.head < cursor {
            // Never so with a server that keeps its promises: another one, or one that has lost its log.
            tracing::error!(conversation = %id, head = %summary.head, %cursor, "the server's log ends before the cursor");
        }
        if let Some(session) = self.session_mut() {
            let sync = session.sync(id);
            sync.active_at = summary.active_at;
            sync.unread = summary.head > read;
            if summary.head > cursor {
                sync.want(turn.now.mono);
            }
        }
        Ok(())
    }

    /// Asks for the pages that are wanted: of the conversation that is open, then of those that are unread, then of the
    /// rest; each time what was active last first. A request is answered with a bounded number of frames, and a few are
    /// under way at a time: that is how much may come before it is stored.
    pub(super) fn pump_syncs(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let Some(session) = self.session() else { return Ok(()) };
        if session.count_asked(|asked| matches!(asked, Question::Sync(_))) >= self.tuning.syncs {
            return Ok(());
        }
        let mut due: Vec<_> = session
            .sync
            .iter()
            .filter(|(_, sync)| sync.wanted && sync.in_flight.is_none() && sync.not_before <= now)
            .map(|(id, sync)| {
                let open = self.open.as_ref() == Some(id);
                (Reverse(open), Reverse(sync.unread), Reverse(sync.active_at), id.clone())
            })
            .collect();
        due.sort();
        let number = self.next_reference();
        let (mut ranges, mut wanted) = (Vec::new(), Vec::new());
        for (_, _, _, conversation) in due.into_iter().take(limits::RANGES) {
            let Some(row) = turn.tx.conversation(&conversation)? else { continue };
            if let Some(session) = self.session_mut() {
                let sync = session.sync(&conversation);
                (sync.in_flight, sync.again) = (Some(number), false);
            }
            let entering = self.is_to_enter(turn, &conversation)?;
            let after = (!entering).then_some(row.cursor);
            let limit = entering.then_some(self.tuning.history_page);
            wanted.push(SyncRange { conversation: conversation.clone(), after, limit });
            ranges.push(Range { conversation, entering });
        }
        if ranges.is_empty() {
            return Ok(());
        }
        let frames = self.tuning.sync_frames;
        let asked = Syncing { number, ranges, frames_left: frames };
        self.ask(turn, Question::Sync(Box::new(asked)), |reference| {
            Request::Sync(SyncFrame { reference, ranges: wanted, frames: Some(frames) })
        });
        Ok(())
    }

    /// Takes in a frame of pages. Unless another follows, the request is over: what is in none of its frames did not
    /// fit, and is asked for again.
    pub(super) fn on_pages(
        &mut self,
        turn: &mut Turn<'_>,
        pages: &Pages,
        mut asked: Box<Syncing>,
    ) -> Result<(), StoreError> {
        let number = asked.number;
        let nothing = pages.pages.is_empty() && pages.refused.is_empty();
        for page in &pages.pages {
            let range = asked.ranges.iter().find(|range| range.conversation == page.conversation);
            let Some(session) = self.session_mut() else { return Ok(()) };
            let sync = session.sync(&page.conversation);
            let (awaited, entering) = (sync.in_flight == Some(number), range.is_some_and(|range| range.entering));
            if awaited && (entering || !page.more) {
                sync.landed(number);
            }
            if awaited && entering {
                self.on_newest_page(turn, page)?;
            } else {
                self.on_page(turn, page, awaited)?;
            }
        }
        for refused in &pages.refused {
            let Some(session) = self.session_mut() else { return Ok(()) };
            if session.sync(&refused.conversation).landed(number) {
                self.fetch_refused(turn, &refused.conversation, Some(&refused.error));
            }
        }
        asked.frames_left = asked.frames_left.saturating_sub(1);
        if pages.follows && asked.frames_left > 0 {
            let deadline = turn.now.mono + self.tuning.request_deadline;
            if let Some(session) = self.session_mut() {
                session.requests.insert(number, Asked { deadline, question: Question::Sync(asked) });
            }
        } else if nothing {
            self.sync_refused(turn, &asked, None);
        } else if let Some(session) = self.session_mut() {
            for range in &asked.ranges {
                session.sync(&range.conversation).landed(number);
            }
        }
        Ok(())
    }

    /// A request for pages came to nothing, or to no more than came of it before.
    pub(super) fn sync_refused(&mut self, turn: &Turn<'_>, asked: &Syncing, refusal: Option<&Refusal>) {
        for range in &asked.ranges {
            let Some(session) = self.session_mut() else { return };
            if session.sync(&range.conversation).landed(asked.number) {
                self.fetch_refused(turn, &range.conversation, refusal);
            }
        }
    }

    /// Takes in a page, if it reaches from the cursor, or from before it, to the cursor or beyond it.
    pub(super) fn on_page(&mut self, turn: &mut Turn<'_>, page: &Page, asked: bool) -> Result<(), StoreError> {
        let id = &page.conversation;
        let now = turn.now.mono;
        if !is_sound(page) {
            self.counters.bad_frames += 1;
            tracing::warn!(conversation = %id, "a page that contradicts itself was ignored");
            self.fetch_refused(turn, id, None);
            return Ok(());
        }
        let Some(row) = turn.tx.conversation(id)? else { return Ok(()) };
        if page.after > row.cursor || page.through < row.cursor {
            // What is before it is missing; or the cursor has moved beyond it, by own envelopes or realtime cells.
            if asked {
                self.ask_for_page_again(turn, id);
            }
            return Ok(());
        }
        self.counters.pages += 1;
        let mut foreign = false;
        for cell in &page.cells {
            foreign |= self.take_cell(turn, id, cell)?;
        }
        let cursor = self.advance(turn, id, page.through, foreign)?;
        turn.tx.raise_floor(id, page.floor)?;
        if page.floor > page.after {
            turn.tx.forget_members(id)?;
        }
        turn.tx.raise_head(id, page.head, page.cells.iter().map(|cell| cell.at).max().unwrap_or(0))?;

        let progress = page.through > row.cursor;
        let Some(session) = self.session_mut() else { return Ok(()) };
        let sync = session.sync(id);
        sync.at_end = !page.more && page.retry_after_ms.is_none();
        sync.idle = if progress { 0 } else { sync.idle.saturating_add(1) };
        sync.wanted = false;
        let idle = sync.idle;
        let gap = sync.written > cursor;
        if sync.in_flight.is_some() {
            // The next page is on its way, or did not fit: then it is asked for when the request is over.
            sync.wanted = true;
            sync.not_before = now;
        } else if std::mem::take(&mut sync.again) || page.more && progress {
            sync.want(now);
        } else if let Some(wait) = page.retry_after_ms {
            sync.want(now + told(wait));
            sync.told = true;
        } else if page.more || gap {
            let wait = self.tuning.gap_wait + if idle > 0 { self.backoff(idle) } else { 0 };
            if let Some(session) = self.session_mut() {
                session.sync(id).want(now + wait);
            }
        }
        Ok(())
    }

    /// A fetch came to nothing. Without a refusal, or with one that may pass, it is asked again later.
    pub(super) fn fetch_refused(&mut self, turn: &Turn<'_>, id: &ConversationId, refusal: Option<&Refusal>) {
        let Some(session) = self.session_mut() else { return };
        let sync = session.sync(id);
        sync.idle = sync.idle.saturating_add(1);
        let idle = sync.idle;
        let final_no = refusal.is_some_and(|no| !no.may_pass());
        let wait = self.wait(refusal.and_then(|no| no.retry_after_ms), idle);
        let Some(session) = self.session_mut() else { return };
        if final_no {
            let sync = session.sync(id);
            sync.wanted = false;
            sync.beyond.clear();
            sync.written = Seq::ZERO;
            // If the conversation cannot be read, the next attempt to send says so, too.
            if let Some(sending) = session.sending.get_mut(id)
                && let Some(conflict) = &mut sending.conflict
            {
                if id.is_group() {
                    // A group that was never made, or from which the user was removed: nothing to find.
                    conflict.unreadable = true;
                } else {
                    sending.conflict = None;
                    self.send_later(turn, id, None);
                }
            }
        } else {
            let sync = session.sync(id);
            sync.wanted = true;
            sync.not_before = turn.now.mono + wait;
            sync.told = refusal.is_some_and(|no| no.retry_after_ms.is_some());
        }
    }

    /// Takes in what came by itself.
    pub(super) fn on_delivery(&mut self, turn: &mut Turn<'_>, item: DeliveryItem) -> Result<(), StoreError> {
        let id = &item.conversation;
        let peer = item
            .cells
            .iter()
            .map(|cell| &cell.by.user)
            .find(|user| **user != self.me.user && ConversationId::direct(&self.me.user, user) == *id);
        if turn.tx.know_conversation(id, peer)? {
            turn.conversation_changed(id);
        }
        for cell in item.cells {
            if cell.messages.is_empty() {
                self.counters.bad_frames += 1;
                continue;
            }
            turn.tx.raise_head(id, cell.last(), cell.at)?;
            let cursor = turn.tx.conversation(id)?.map_or(Seq::ZERO, |row| row.cursor);
            if cell.seq == cursor.next() {
                self.counters.cells_delivered += 1;
                let foreign = self.take_cell(turn, id, &cell)?;
                self.advance(turn, id, cell.last(), foreign)?;
            } else if cell.seq > cursor {
                self.keep_for_later(turn, id, cell);
            }
        }
        for mark in &item.marks {
            self.on_member_mark(turn, id, mark)?;
        }
        Ok(())
    }

    /// A cell came before what is between it and the cursor. That may be on its way; if not, it is fetched.
    fn keep_for_later(&mut self, turn: &Turn<'_>, id: &ConversationId, cell: Cell) {
        let at = turn.now.mono + self.tuning.gap_wait;
        let limit = self.tuning.buffered_cells;
        let Some(session) = self.session_mut() else { return };
        let sync = session.sync(id);
        sync.active_at = sync.active_at.max(cell.at);
        sync.unread = true;
        sync.know_written(cell.last());
        sync.beyond.insert(cell.seq, cell);
        if sync.beyond.len() > limit {
            // The nearest are the ones that the next page may reach; the furthest will be fetched.
            sync.beyond.pop_last();
        }
        sync.want(at);
    }

    /// An own envelope has its place. If that is the next one, the cursor moves over it.
    pub(super) fn own_place_known(
        &mut self,
        turn: &mut Turn<'_>,
        id: &ConversationId,
        seq: Seq,
        last: Seq,
    ) -> Result<(), StoreError> {
        let cursor = turn.tx.conversation(id)?.map_or(Seq::ZERO, |row| row.cursor);
        if seq == cursor.next() {
            self.advance(turn, id, last, false)?;
        } else if seq > cursor {
            let at = turn.now.mono + self.tuning.gap_wait;
            if let Some(session) = self.session_mut() {
                session.sync(id).know_written(last);
                session.sync(id).want(at);
            }
        }
        Ok(())
    }

    fn ask_for_page_again(&mut self, turn: &Turn<'_>, id: &ConversationId) {
        let Some(session) = self.session_mut() else { return };
        let sync = session.sync(id);
        sync.idle = sync.idle.saturating_add(1);
        let idle = sync.idle;
        // Once is how things go; more often is a server that answers something else than was asked.
        let wait = if idle > 1 { self.backoff(idle) } else { 0 };
        if let Some(session) = self.session_mut() {
            session.sync(id).want(turn.now.mono + wait);
        }
    }

    /// Moves the cursor, takes in what was kept and fits on now, and notes what this device has stored.
    pub(super) fn advance(
        &mut self,
        turn: &mut Turn<'_>,
        id: &ConversationId,
        through: Seq,
        mut foreign: bool,
    ) -> Result<Seq, StoreError> {
        let mut cursor = through;
        while let Some(cell) = self.next_kept(id, cursor) {
            foreign |= self.take_cell(turn, id, &cell)?;
            cursor = cell.last();
        }
        turn.tx.raise_cursor(id, cursor)?;
        if foreign {
            turn.tx.raise_delivered(id, cursor)?;
        }
        self.replay(turn, id, cursor)?;
        turn.conversation_changed(id);
        Ok(cursor)
    }

    fn next_kept(&mut self, id: &ConversationId, cursor: Seq) -> Option<Cell> {
        let sync = self.session_mut()?.sync.get_mut(id)?;
        while let Some(first) = sync.beyond.first_entry() {
            if *first.key() > cursor.next() {
                return None;
            }
            let cell = first.remove();
            if cell.seq == cursor.next() {
                return Some(cell);
            }
        }
        None
    }

    /// Stores a cell's messages. Says whether somebody else wrote them.
    pub(super) fn take_cell(
        &mut self,
        turn: &mut Turn<'_>,
        id: &ConversationId,
        cell: &Cell,
    ) -> Result<bool, StoreError> {
        tracing::debug!(envelope = %cell.envelope, conversation = %id, seq = %cell.seq, "a cell has come");
        for (message, place) in cell.messages.iter().zip(0..) {
            match turn.tx.settle(id, &self.me.user, cell, message, cell.seq.plus(place))? {
                Settled::Added(local) => {
                    turn.added(local);
                    turn.refresh([local])?;
                }
                Settled::Updated(local) => turn.refresh([local])?,
                Settled::Rewritten(local, text) => {
                    self.edit_again(turn, id, message.id, cell.seq.plus(place), text)?;
                    turn.refresh([local])?;
                }
                Settled::Known => {}
            }
        }
        if cell.by.user != self.me.user {
            return Ok(true);
        }
        if cell.by.device == self.me.device {
            turn.tx.raise_next_number(id, cell.number.next())?;
        }
        // In the log it is stored; whether it was queued for delivery, too, only a verdict tells. Until there is one the
        // envelope goes on being sent: the attempt that wrote it may have ended right after. What the log has under
        // another envelope, or has although it was refused, needs no verdict any more.
        let freed = turn.tx.free_settled(id, cell.envelope)?;
        if freed.iter().any(OutboxRow::is_under_way) {
            self.forget_sending(id);
        }
        self.raise_own_states(turn, id)?;
        Ok(false)
    }
}

/// Whether a page keeps its own promise.
pub(super) fn is_sound(page: &Page) -> bool {
    let mut end = page.after;
    for cell in &page.cells {
        if cell.seq <= end || cell.messages.is_empty() {
            return false;
        }
        end = cell.last();
    }
    page.through >= end
}
