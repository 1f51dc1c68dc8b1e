//! Reading: a page is a promise about a range. Readers decide the holes that stalled writers leave.
//!
//! A page runs from the cursor along the contiguous slots. At a hole before a young cell it ends, and says when to ask
//! again: the writer is probably still at it. At a hole before an older slot the reader puts voids on the missing
//! numbers, in ascending order, and goes on. A writer that comes later finds the void and takes another place.
//!
//! A number that retention has removed is no hole. Where a number is missing, the head tells which it is.
//!
//! Backwards it is the same, from the end of the range: see [`backwards`].

mod backwards;

use std::sync::Arc;

use poste_protocol::{Author, Cell, Code, Fetch, List, ListPage, Page, Refusal, Seq, Summary, limits};

use crate::{
    Failure, Membership, Retention,
    membership::Roll,
    ports::{Clock, Heads, Log, Marks, Members, Slot},
};

/// How long a number may be missing before an existing cell until a reader puts a void on it, in milliseconds:
/// ten times what a healthy write takes after its place was reserved, and short enough to wait for.
pub const GRACE_MS: u64 = 2_000;

/// Messages in a page if the device does not say.
const MESSAGES: u32 = 100;

/// Slots that the first look into the log asks for. Later ones ask for what fits by the sizes seen.
const FIRST_LOOK: u32 = 16;

/// Slots that one look asks for at most.
const LARGEST_LOOK: u32 = 100;

/// Voids that one page writes at most; what is left is for the next page.
const VOIDS: u32 = 50;

/// What of a frame's bytes is left for the page's own fields: ids and numbers at their longest, with room.
const PAGE_BYTES: usize = 1_024;

/// Reads logs for devices.
pub struct Read {
    heads: Arc<dyn Heads>,
    log: Arc<dyn Log>,
    members: Arc<dyn Members>,
    marks: Arc<dyn Marks>,
    roll: Roll,
    clock: Arc<dyn Clock>,
    retention: Retention,
}

impl Read {
    /// On these ports.
    pub fn new(
        heads: Arc<dyn Heads>,
        log: Arc<dyn Log>,
        members: Arc<dyn Members>,
        marks: Arc<dyn Marks>,
        clock: Arc<dyn Clock>,
        retention: Retention,
    ) -> Self {
        let roll = Roll::new(members.clone(), clock.clone());
        Self { heads, log, members, marks, roll, clock, retention }
    }

    /// What comes after a cursor, or before a number, or last.
    ///
    /// # Errors
    /// `not_member`; `bad_frame` if it is asked in both directions; trouble with a part. Nothing is lost by any: the
    /// cursor stays.
    pub async fn page(&self, author: &Author, fetch: &Fetch) -> Result<Page, Failure> {
        let direction = match (fetch.after, fetch.before) {
            (Some(_), Some(_)) => {
                return Err(Refusal::new(Code::BadFrame, "a page is after a number or before one").into());
            }
            (Some(after), None) => Ok(after),
            (None, before) => Err(before),
        };
        let membership = self.roll.require(&fetch.conversation, &author.user).await?;
        match direction {
            Ok(after) => self.page_after(fetch, after, &membership).await,
            Err(before) => self.page_before(fetch, before, &membership).await,
        }
    }

    async fn page_after(&self, fetch: &Fetch, after: Seq, membership: &Membership) -> Result<Page, Failure> {
        let mut run = Run::new(fetch, after, membership, self.retention);
        let mut voids = 0;
        'page: while let Some(look) = run.next_look() {
            let found = self.log.after(&fetch.conversation, run.through, look).await?;
            run.now_ms = self.clock.now_ms();
            run.end = found.end;
            if found.slots.is_empty() {
                self.look_for_floor(&mut run, fetch).await?;
            }
            for slot in found.slots {
                run.seen(&slot);
                if slot.seq() > run.through.next() && run.slots == 0 {
                    // No hole if the cursor is inside a cell (ours never is): a void there would be nonsense.
                    let before = self.log.before(&fetch.conversation, after, 1).await?.slots.pop();
                    if let Some(before) = before.filter(|before| before.last() > after) {
                        run.take(before);
                    }
                }
                if slot.seq() > run.through.next() {
                    self.look_for_floor(&mut run, fetch).await?;
                }
                // A hole may turn out to hold a cell that was written meanwhile; then what is missing shrinks.
                while slot.seq() > run.through.next() {
                    if let Some(wait) = patience(&slot, run.now_ms) {
                        run.retry_after_ms = Some(wait);
                        break 'page;
                    }
                    if voids == VOIDS {
                        run.full = true;
                        break 'page;
                    }
                    voids += 1;
                    let void = Slot::Void(run.through.next());
                    let removal = self.retention.removal(run.now_ms);
                    let decided = self.log.put(&fetch.conversation, &void, removal).await?.unwrap_or(void);
                    if !run.take(decided) {
                        break 'page;
                    }
                }
                if slot.seq() == run.through.next() && !run.take(slot) {
                    break 'page;
                }
            }
            if run.end {
                break;
            }
        }
        Ok(run.into_page(fetch, after))
    }

    /// Where a number is missing: what is gone is stepped over, once a page. It was removed before it was found
    /// missing, so what is read of the head now is late enough.
    async fn look_for_floor(&self, run: &mut Run<'_>, fetch: &Fetch) -> Result<(), Failure> {
        if std::mem::replace(&mut run.knows_floor, true) {
            return Ok(());
        }
        if let Some(head) = self.heads.head(&fetch.conversation).await? {
            run.now_ms = self.clock.now_ms();
            run.gone(head.floor(run.now_ms));
        }
        Ok(())
    }

    /// The user's conversations, a page of them.
    ///
    /// # Errors
    /// Trouble with a part.
    pub async fn list(&self, author: &Author, request: &List) -> Result<ListPage, Failure> {
        let most = u32::try_from(limits::LIST).unwrap_or(u32::MAX);
        let mine = self.members.conversations(&author.user, request.after.as_ref(), most).await?;
        let ids: Vec<_> = mine.conversations.iter().map(|b| b.conversation.clone()).collect();
        let keys: Vec<_> = mine
            .conversations
            .iter()
            .flat_map(|b| {
                let users = std::iter::once(&author.user).chain(b.peer.as_ref().filter(|peer| **peer != author.user));
                users.map(|user| (b.conversation.clone(), user.clone()))
            })
            .collect();
        let (heads, marks) = futures::try_join!(self.heads.heads(&ids), self.marks.of(&keys))?;
        let mut heads: std::collections::HashMap<_, _> = heads.into_iter().collect();
        let now = self.clock.now_ms();
        let next = mine.more.then(|| ids.last().cloned()).flatten();
        let conversations = mine
            .conversations
            .into_iter()
            .filter_map(|belonging| {
                // Without a head nothing was written yet: it is being founded, or its founding was cut short.
                let head = heads.remove(&belonging.conversation).filter(|head| head.head > Seq::ZERO)?;
                Some(Summary {
                    marks: marks
                        .iter()
                        .filter(|(conversation, _)| *conversation == belonging.conversation)
                        .map(|(_, mark)| mark.clone())
                        .collect(),
                    conversation: belonging.conversation,
                    peer: belonging.peer,
                    head: head.head,
                    floor: head.floor(now),
                    active_at: head.active_at,
                })
            })
            .collect();
        Ok(ListPage { reference: request.reference.clone(), conversations, next })
    }
}

/// How many messages a page is asked for.
fn most_messages(fetch: &Fetch) -> u32 {
    let largest = u32::try_from(limits::PAGE_MESSAGES).unwrap_or(u32::MAX);
    fetch.limit.unwrap_or(MESSAGES).clamp(1, largest)
}

/// What of a page's bytes a cell takes.
fn bytes_of(cell: &Cell) -> usize {
    serde_json::to_string(cell).map_or(usize::MAX, |json| json.len() + 1)
}

/// How many slots to ask for next, so that little is read that does not fit.
fn look(bytes: usize, slots: u32, messages_left: u32) -> u32 {
    let room = limits::FRAME_BYTES - PAGE_BYTES - bytes;
    let by_bytes = match u32::try_from(bytes).unwrap_or(u32::MAX).checked_div(slots) {
        Some(average) if average > 0 => u32::try_from(room).unwrap_or(u32::MAX) / average + 1,
        _ => FIRST_LOOK,
    };
    messages_left.min(by_bytes).clamp(1, LARGEST_LOOK)
}

/// How long to wait before a hole in front of this slot may be decided; nothing if it may be now.
///
/// A void was put by a reader that had judged the hole before it to be old already.
fn patience(slot: &Slot, now_ms: u64) -> Option<u64> {
    match slot {
        Slot::Void(_) => None,
        Slot::Cell(cell) => (cell.at + GRACE_MS).checked_sub(now_ms).filter(|wait| *wait > 0),
    }
}

/// A page in the making.
struct Run<'a> {
    membership: &'a Membership,
    retention: Retention,
    now_ms: u64,
    through: Seq,
    head: Seq,
    /// Everything up to here is gone, as far as is known.
    floor: Seq,
    knows_floor: bool,
    cells: Vec<Cell>,
    bytes: usize,
    messages: u32,
    most_messages: u32,
    slots: u32,
    end: bool,
    full: bool,
    retry_after_ms: Option<u64>,
}

impl<'a> Run<'a> {
    fn new(fetch: &Fetch, after: Seq, membership: &'a Membership, retention: Retention) -> Self {
        Self {
            membership,
            retention,
            now_ms: 0,
            through: after,
            head: after,
            floor: Seq::ZERO,
            knows_floor: false,
            cells: Vec::new(),
            bytes: 0,
            messages: 0,
            most_messages: most_messages(fetch),
            slots: 0,
            end: false,
            full: false,
            retry_after_ms: None,
        }
    }

    /// How many slots to ask for next; none if the page is full.
    fn next_look(&self) -> Option<u32> {
        (!self.full).then(|| look(self.bytes, self.slots, self.most_messages - self.messages))
    }

    fn seen(&mut self, slot: &Slot) {
        self.head = self.head.max(slot.last());
    }

    /// Steps over numbers that are gone.
    fn gone(&mut self, floor: Seq) {
        self.floor = self.floor.max(floor);
        self.head = self.head.max(floor);
        self.through = self.through.max(floor);
        self.cells.retain(|cell| cell.last() > floor);
    }

    /// Takes the next contiguous slot, if there is room for it. An empty page takes any cell.
    fn take(&mut self, slot: Slot) -> bool {
        self.seen(&slot);
        let last = slot.last();
        self.slots += 1;
        if let Slot::Cell(cell) = slot
            && self.membership.sees(cell.seq)
        {
            if !self.retention.keeps(cell.at, self.now_ms) {
                // Its time is up, though the store has it still.
                if self.cells.is_empty() {
                    self.floor = self.floor.max(last);
                }
                self.through = last;
                return true;
            }
            let bytes = bytes_of(&cell);
            let messages = u32::try_from(cell.messages.len()).unwrap_or(u32::MAX);
            let fits = self.bytes.saturating_add(bytes) <= limits::FRAME_BYTES - PAGE_BYTES
                && self.messages.saturating_add(messages) <= self.most_messages;
            if !fits && !self.cells.is_empty() {
                self.full = true;
                return false;
            }
            self.bytes = self.bytes.saturating_add(bytes).min(limits::FRAME_BYTES - PAGE_BYTES);
            self.messages = self.messages.saturating_add(messages).min(self.most_messages);
            self.cells.push(cell);
        }
        self.through = last;
        self.full = self.messages >= self.most_messages;
        true
    }

    fn into_page(self, fetch: &Fetch, after: Seq) -> Page {
        Page {
            reference: fetch.reference.clone(),
            conversation: fetch.conversation.clone(),
            after,
            through: self.through,
            cells: self.cells,
            floor: self.floor,
            head: self.head.max(self.through),
            more: self.retry_after_ms.is_none() && self.full && (!self.end || self.head > self.through),
            retry_after_ms: self.retry_after_ms,
        }
    }
}
