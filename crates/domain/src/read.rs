//! Reading: a page is a promise about a range. Readers decide the holes that stalled writers leave.
//!
//! A page runs from the cursor along the contiguous slots. At a hole before a young cell it ends, and says when to ask
//! again: the writer is probably still at it. At a hole before an older slot the reader puts voids on the missing
//! numbers, in ascending order, and goes on. A writer that comes later finds the void and takes another place.
//!
//! A number that retention has removed is no hole. Where a number is missing, the head tells which it is.
//!
//! In a group a page is as of an event, the one that the head names as its roster when the page is begun: with that
//! event applied, what is noted of the reader is true for every number up to the next event. A page that comes to a
//! later one is begun anew. Who is not in any more reads up to the end of their last interval, and hears of no number
//! after it.
//!
//! Backwards it is the same, from the end of the range: see [`backwards`].

mod backwards;
mod summaries;

pub(crate) use summaries::Told;

use std::sync::Arc;

use poste_protocol::{
    Author, Cell, Code, ConversationId, Fetch, GroupMember, MembersFrame, MembersPage, Page, Refusal, Seq, limits,
};

use crate::{
    Failure, MEASURED, Membership, Retention,
    membership::not_member,
    ports::{Clock, Heads, Log, Marks, Members, Slot},
    roll::{Known, Roll},
};

/// How long a number may be missing before an existing cell until a reader puts a void on it, in milliseconds:
/// ten times what a healthy write takes after its place was reserved, and short enough to wait for.
pub const GRACE_MS: u64 = 2_000;

/// Messages in a page if the device does not say.
const MESSAGES: u32 = 100;

/// How often a page is begun anew because events came after it was begun.
const ROUNDS: usize = 4;

/// What a device waits when they came every time, in milliseconds.
const BUSY_RETRY_MS: u64 = 200;

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
        let roll = Roll::new(heads.clone(), log.clone(), members.clone(), clock.clone(), retention);
        Self { heads, log, members, marks, roll, clock, retention }
    }

    /// What comes after a cursor, or before a number, or last.
    ///
    /// # Errors
    /// `not_member`; `bad_frame` if it is asked in both directions; trouble with a part. Nothing is lost by any: the
    /// cursor stays.
    pub async fn page(&self, author: &Author, fetch: &Fetch) -> Result<Page, Failure> {
        if fetch.after.is_some() && fetch.before.is_some() {
            return Err(Refusal::new(Code::BadFrame, "a page is after a number or before one").into());
        }
        let began = self.clock.now_ms();
        for _ in 0..ROUNDS {
            let reader = self.reader(author, &fetch.conversation).await?;
            let page = match fetch.after {
                Some(after) if after > reader.upto => {
                    Some(Run::new(fetch, after, &reader, self.retention).into_page(fetch, after))
                }
                Some(after) => self.page_after(fetch, after, &reader).await?,
                None => self.page_before(fetch, fetch.before, &reader).await?,
            };
            if let Some(page) = page {
                let ms = self.clock.now_ms().saturating_sub(began);
                let gone = fetch.after.map_or(0, |after| page.floor.get().saturating_sub(after.get()));
                tracing::info!(target: MEASURED, metric = "page", ms, cells = page.cells.len(), gone);
                return Ok(page);
            }
        }
        Err(Refusal::new(Code::Busy, "who is in changes all the time").after_ms(BUSY_RETRY_MS).into())
    }

    /// Who reads, and what there is for them.
    async fn reader(&self, author: &Author, conversation: &ConversationId) -> Result<Reader, Failure> {
        if !conversation.is_group() {
            let known = self.roll.require(conversation, &author.user).await?;
            return Ok(Reader { membership: known.member.membership, as_of: Seq::LAST, upto: Seq::LAST });
        }
        let head = self.heads.head(conversation).await?.ok_or_else(not_member)?;
        let known = self.roll.as_of(conversation, &author.user, head.roster).await?.ok_or_else(not_member)?;
        let Known { member, .. } = known;
        // Who asks for what comes after the head could have numbers that are given later, as of an event before them.
        let upto = member.membership.end().unwrap_or(head.head);
        Ok(Reader { membership: member.membership, as_of: head.roster, upto })
    }

    /// The members of a group, a page of them.
    ///
    /// # Errors
    /// `not_member` for whoever is not in; trouble with a part.
    pub async fn members(&self, author: &Author, frame: &MembersFrame) -> Result<MembersPage, Failure> {
        let MembersFrame { reference, conversation, after } = frame;
        if !conversation.is_group() {
            return Err(Refusal::new(Code::BadFrame, "only groups have a list of members").into());
        }
        let head = self.heads.head(conversation).await?.ok_or_else(not_member)?;
        let group = self.roll.settle(conversation, head.roster).await?;
        let known = self.roll.as_of(conversation, &author.user, head.roster).await?;
        known.filter(|known| known.member.membership.is_open()).ok_or_else(not_member)?;
        let most = u32::try_from(limits::MEMBERS).unwrap_or(u32::MAX);
        let slice = self.members.slice(conversation, after.as_ref(), most).await?;
        let next = slice.more.then(|| slice.members.last().map(|(user, _)| user.clone())).flatten();
        let members = slice
            .members
            .into_iter()
            .filter_map(|(user, member)| Some(GroupMember { user, role: member.role_now()? }))
            .collect();
        Ok(MembersPage {
            reference: reference.clone(),
            conversation: conversation.clone(),
            roster: group.applied,
            title: group.title,
            members,
            next,
        })
    }

    /// Nothing if it came to an event that the reader is not as of.
    async fn page_after(&self, fetch: &Fetch, after: Seq, reader: &Reader) -> Result<Option<Page>, Failure> {
        let mut run = Run::new(fetch, after, reader, self.retention);
        let mut voids = 0;
        'page: while let Some(look) = run.next_look() {
            let found = self.log.after(&fetch.conversation, run.through, look).await?;
            run.now_ms = self.clock.now_ms();
            run.end = found.end;
            if found.slots.is_empty() {
                self.look_for_floor(&mut run, fetch).await?;
            }
            for slot in found.slots {
                if run.is_beyond(&slot) {
                    self.look_for_floor(&mut run, fetch).await?;
                    break 'page;
                }
                run.seen(&slot);
                if slot.seq() > run.through.next() && run.load.looked_at == 0 {
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
        Ok((!run.overtaken).then(|| run.into_page(fetch, after)))
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
}

/// Who reads a page.
struct Reader {
    membership: Membership,
    /// The event that the membership is as of.
    as_of: Seq,
    /// Pages after this are empty.
    upto: Seq,
}

impl Reader {
    /// The last number that there may be for the reader.
    fn last(&self) -> Seq {
        self.membership.end().filter(|_| self.as_of < Seq::LAST).unwrap_or(Seq::LAST)
    }
}

/// Whether a slot is an event after this one.
fn is_after(slot: &Slot, event: Seq) -> bool {
    matches!(slot, Slot::Cell(cell) if cell.seq > event && cell.event().is_some())
}

/// The cells of a page in the making, and what is left of its bounds.
struct Load {
    /// In the order in which they were met.
    cells: Vec<Cell>,
    bytes: usize,
    messages: u32,
    most_messages: u32,
    /// Slots that were looked at for it.
    looked_at: u32,
}

impl Load {
    /// What the cells of a page may have of a frame's bytes.
    const BYTES: usize = limits::FRAME_BYTES - PAGE_BYTES;

    fn new(fetch: &Fetch) -> Self {
        let largest = u32::try_from(limits::PAGE_MESSAGES).unwrap_or(u32::MAX);
        let most_messages = fetch.limit.unwrap_or(MESSAGES).clamp(1, largest);
        Self { cells: Vec::new(), bytes: 0, messages: 0, most_messages, looked_at: 0 }
    }

    /// How many slots to ask for next, so that little is read that does not fit.
    fn look(&self) -> u32 {
        let room = u32::try_from(Self::BYTES - self.bytes).unwrap_or(u32::MAX);
        let by_bytes = match u32::try_from(self.bytes).unwrap_or(u32::MAX).checked_div(self.looked_at) {
            Some(average) if average > 0 => room / average + 1,
            _ => FIRST_LOOK,
        };
        (self.most_messages - self.messages).min(by_bytes).clamp(1, LARGEST_LOOK)
    }

    /// Takes a cell, if it fits. An empty page takes any.
    fn take(&mut self, cell: Cell) -> bool {
        let bytes = serde_json::to_string(&cell).map_or(usize::MAX, |json| json.len() + 1);
        let bytes = self.bytes.saturating_add(bytes);
        let messages = self.messages.saturating_add(u32::try_from(cell.messages.len()).unwrap_or(u32::MAX));
        if !self.cells.is_empty() && (bytes > Self::BYTES || messages > self.most_messages) {
            return false;
        }
        self.bytes = bytes.min(Self::BYTES);
        self.messages = messages.min(self.most_messages);
        self.cells.push(cell);
        true
    }

    /// Nothing more fits, however small.
    fn is_full(&self) -> bool {
        self.messages >= self.most_messages
    }

    /// Lets go of the cells, and keeps what was looked at.
    fn clear(&mut self) {
        self.cells.clear();
        (self.bytes, self.messages) = (0, 0);
    }
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
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
struct Run<'a> {
    reader: &'a Reader,
    /// It came to an event that the reader is not as of.
    overtaken: bool,
    retention: Retention,
    now_ms: u64,
    through: Seq,
    head: Seq,
    /// Everything up to here is gone, as far as is known.
    floor: Seq,
    knows_floor: bool,
    load: Load,
    end: bool,
    full: bool,
    retry_after_ms: Option<u64>,
}

impl<'a> Run<'a> {
    fn new(fetch: &Fetch, after: Seq, reader: &'a Reader, retention: Retention) -> Self {
        Self {
            reader,
            overtaken: false,
            retention,
            now_ms: 0,
            through: after,
            head: after,
            floor: Seq::ZERO,
            knows_floor: false,
            load: Load::new(fetch),
            end: false,
            full: false,
            retry_after_ms: None,
        }
    }

    /// How many slots to ask for next; none if the page is full.
    fn next_look(&self) -> Option<u32> {
        (!self.full && !self.overtaken && self.through < self.reader.last()).then(|| self.load.look())
    }

    /// Nothing from this slot on is for the reader.
    fn is_beyond(&self, slot: &Slot) -> bool {
        slot.seq() > self.reader.last()
    }

    fn seen(&mut self, slot: &Slot) {
        self.head = self.head.max(slot.last());
    }

    /// Steps over numbers that are gone.
    fn gone(&mut self, floor: Seq) {
        let floor = floor.min(self.reader.last());
        self.floor = self.floor.max(floor);
        self.head = self.head.max(floor);
        self.through = self.through.max(floor);
        self.load.cells.retain(|cell| cell.last() > floor);
    }

    /// Takes the next contiguous slot, if there is room for it.
    fn take(&mut self, slot: Slot) -> bool {
        if is_after(&slot, self.reader.as_of) {
            self.overtaken = true;
            return false;
        }
        self.seen(&slot);
        let last = slot.last();
        self.load.looked_at += 1;
        if let Slot::Cell(cell) = slot
            && self.reader.membership.sees(cell.seq)
        {
            if !self.retention.keeps(cell.at, self.now_ms) {
                // Its time is up, though the store has it still.
                if self.load.cells.is_empty() {
                    self.floor = self.floor.max(last);
                }
                self.through = last;
                return true;
            }
            if !self.load.take(cell) {
                self.full = true;
                return false;
            }
        }
        self.through = last;
        self.full = self.load.is_full();
        true
    }

    fn into_page(self, fetch: &Fetch, after: Seq) -> Page {
        Page {
            reference: Some(fetch.reference.clone()),
            conversation: fetch.conversation.clone(),
            after,
            through: self.through,
            cells: self.load.cells,
            floor: self.floor,
            head: self.head.max(self.through),
            more: self.retry_after_ms.is_none() && self.full && (!self.end || self.head > self.through),
            retry_after_ms: self.retry_after_ms,
        }
    }
}
