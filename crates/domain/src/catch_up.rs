//! Catching up: the list of conversations, and pages of many of them, posted to the connection as they are read.
//!
//! A request is bounded by the frames that the device asks for, so that no more is under way than it can take in; what
//! does not fit it asks for again when it has stored these. Every page is a promise by itself: whatever is lost of a
//! request is asked for again from the cursor, and nothing twice.

use std::sync::Arc;

use futures::{StreamExt, stream};
use poste_protocol::{
    Author, Fetch, FromServer, List, ListPage, Page, Pages, RangeRefused, Reference, Seq, Summary, SyncFrame,
    SyncRange, limits,
};
use serde::Serialize;

use crate::{
    Failure, Trouble,
    ports::{Callback, Clock, Posted},
    read::{Read, Told},
    routes::Caller,
};

/// Frames if the device does not say.
const FRAMES: u32 = 4;

/// Conversations of a list of which more than the head is read in one go.
const SUMMARIES: usize = 50;

/// Conversations that are read at once: one page of each waits in memory at most. Of a list, so many goes.
const READ_AT_ONCE: usize = 4;

/// No page is begun later than this after the request, in milliseconds: well within the device's patience.
const LONGEST_MS: u64 = 5_000;

/// Bytes of a frame that its items do not fill: names, a `ref` at its longest and, in a list, two ids, with room.
const FRAME_OVERHEAD: usize = 256 + 6 * limits::REFERENCE + 2 * limits::CONVERSATION_ID;

/// Catches devices up.
pub struct CatchUp {
    read: Arc<Read>,
    callback: Arc<dyn Callback>,
    clock: Arc<dyn Clock>,
    spread_ms: u64,
}

/// How far behind a device is, as an operator is told.
#[derive(Default)]
struct Backlog {
    /// Conversations in which it is.
    behind_in: u64,
    /// By so many numbers.
    behind: u64,
    /// When the oldest of what others wrote was stored, in Unix milliseconds.
    oldest_at: Option<u64>,
}

impl Backlog {
    fn add(&mut self, behind: u64, oldest_at: Option<u64>) {
        self.behind_in += u64::from(behind > 0);
        self.behind += behind;
        self.oldest_at = self.oldest_at.into_iter().chain(oldest_at).min();
    }
}

/// Why no more pages are made.
enum End {
    /// The device takes no more for now, the request has lasted long enough, or the connection is gone.
    Over,
    /// A part failed.
    Failed(Trouble),
}

impl CatchUp {
    /// On these.
    pub fn new(read: Arc<Read>, callback: Arc<dyn Callback>, clock: Arc<dyn Clock>) -> Self {
        Self { read, callback, clock, spread_ms: 0 }
    }

    /// Tells devices to come back within so many milliseconds, at random, when their connections are lost.
    #[must_use]
    pub fn spreading(self, spread_ms: u64) -> Self {
        Self { spread_ms, ..self }
    }

    /// The user's conversations, the one in which somebody wrote last first. Posts full frames, and returns the last one,
    /// which is the answer.
    ///
    /// # Errors
    /// Trouble with a part, or when a frame cannot be posted. What was posted is as good as any.
    pub async fn list(&self, caller: &Caller, request: &List) -> Result<ListPage, Failure> {
        let until_ms = self.clock.now_ms() + LONGEST_MS;
        let listing = self.read.listing(&caller.author, request.after.as_ref()).await?;
        let receipts_off = listing.receipts_off;
        let mut out = Packing::new(
            ListPage {
                reference: request.reference.clone(),
                conversations: Vec::new(),
                before: 0,
                follows: false,
                next: None,
                receipts_off,
                spread_ms: self.spread_ms,
            },
            request.frames,
        );
        let previews = request.previews.and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let previews = previews.min(limits::PREVIEWS);
        let read = |(n, listed)| {
            let previews = previews.saturating_sub(n * SUMMARIES);
            self.read.summaries(&caller.author, listed, receipts_off, previews)
        };
        let reads: Vec<_> = listing.listed.chunks(SUMMARIES).enumerate().map(read).collect();
        let mut reads = stream::iter(reads).buffered(READ_AT_ONCE);
        let (mut told, mut backlog) = (0, Backlog::default());
        'frames: while let Some(summaries) = reads.next().await {
            for Told { summary, behind } in summaries? {
                match self.put(caller, &mut out, summary).await {
                    Ok(()) => {
                        told += 1;
                        backlog.add(behind, None);
                    }
                    Err(End::Over) => break 'frames,
                    Err(End::Failed(trouble)) => return Err(trouble.into()),
                }
            }
            if self.clock.now_ms() >= until_ms {
                break;
            }
        }
        let (Author { user, device }, Backlog { behind_in, behind, .. }) = (&caller.author, backlog);
        tracing::info!(metric = "backlog", %user, %device, conversations = told, behind_in, behind, "listed");
        Ok(ListPage { next: listing.next(told), ..out.rest })
    }

    /// Reads the ranges in their order, each page after page to the end of its log, and posts full frames. Returns the
    /// last one, which is the answer.
    ///
    /// # Errors
    /// When a frame cannot be posted. What is wrong with one range is said of that one.
    pub async fn sync(&self, caller: &Caller, frame: &SyncFrame) -> Result<Pages, Failure> {
        let until_ms = self.clock.now_ms() + LONGEST_MS;
        let rest = Pages { reference: frame.reference.clone(), pages: Vec::new(), refused: Vec::new(), follows: false };
        let mut out = Packing::new(rest, frame.frames);
        let first = |range| async move {
            let first = self.page(&caller.author, &frame.reference, range, range.after).await;
            (range, first)
        };
        let firsts: Vec<_> = frame.ranges.iter().map(first).collect();
        let mut firsts = stream::iter(firsts).buffered(READ_AT_ONCE);
        let mut backlog = Backlog::default();
        let mut failed = None;
        while let Some((range, first)) = firsts.next().await {
            if let (Some(after), Ok(page)) = (range.after, &first) {
                let oldest = page.cells.iter().find(|cell| cell.by != caller.author).map(|cell| cell.at);
                backlog.add(page.head.get().saturating_sub(after.get()), oldest);
            }
            match self.run(caller, range, first, &mut out, until_ms).await {
                Ok(()) if self.clock.now_ms() < until_ms => {}
                Ok(()) | Err(End::Over) => break,
                Err(End::Failed(trouble)) => {
                    failed = Some(trouble);
                    break;
                }
            }
        }
        if backlog.behind > 0 {
            let (Author { user, device }, Backlog { behind_in, behind, oldest_at }) = (&caller.author, backlog);
            let oldest_ms = oldest_at.map(|at| self.clock.now_ms().saturating_sub(at));
            tracing::info!(metric = "missed", %user, %device, behind_in, behind, oldest_ms, "caught up");
        }
        failed.map_or(Ok(out.rest), |trouble| Err(trouble.into()))
    }

    /// One conversation, from its first page on.
    async fn run(
        &self,
        caller: &Caller,
        range: &SyncRange,
        first: Result<Page, Failure>,
        out: &mut Packing<Pages>,
        until_ms: u64,
    ) -> Result<(), End> {
        let mut next = first;
        loop {
            let page = match next {
                Ok(page) => page,
                Err(failure) => {
                    let error = failure.into_refusal();
                    let refused = RangeRefused { conversation: range.conversation.clone(), error };
                    return self.put(caller, out, Item::Refused(refused)).await;
                }
            };
            // The newest page is one: its `more` is about what is before it.
            let goes_on = range.after.is_some() && page.more && page.through > page.after;
            let from = goes_on.then_some(page.through);
            self.put(caller, out, Item::Page(page)).await?;
            let Some(from) = from else { return Ok(()) };
            if self.clock.now_ms() >= until_ms {
                return Err(End::Over);
            }
            let reference = out.rest.reference.clone();
            next = self.page(&caller.author, &reference, range, Some(from)).await;
        }
    }

    async fn page(
        &self,
        author: &Author,
        reference: &Reference,
        range: &SyncRange,
        after: Option<Seq>,
    ) -> Result<Page, Failure> {
        let most = u32::try_from(limits::PAGE_MESSAGES).unwrap_or(u32::MAX);
        let fetch = Fetch {
            reference: reference.clone(),
            conversation: range.conversation.clone(),
            after,
            before: None,
            limit: Some(range.limit.unwrap_or(most)),
        };
        let page = self.read.page(author, &fetch).await?;
        Ok(Page { reference: None, ..page })
    }

    /// Puts an item into the frame, which is posted first if there is no room left.
    async fn put<F: Frame>(&self, caller: &Caller, out: &mut Packing<F>, item: F::Item) -> Result<(), End> {
        // With the comma after it.
        let bytes = serde_json::to_string(&item).expect("a frame has only plain fields").len() + 1;
        if !out.has_room(bytes) {
            if out.frames_left <= 1 {
                return Err(End::Over);
            }
            let text = serde_json::to_string(&out.next_frame()).expect("a frame has only plain fields");
            match self.callback.post(&caller.connection, &text).await {
                Ok(Posted::Taken) => {}
                Ok(Posted::Gone) => return Err(End::Over),
                Err(trouble) => return Err(End::Failed(trouble)),
            }
        }
        out.bytes += bytes;
        out.rest.add(item);
        Ok(())
    }
}

/// One of the frames of an answer.
trait Frame {
    /// What it holds.
    type Item: Serialize;

    fn is_empty(&self) -> bool;

    fn add(&mut self, item: Self::Item);

    /// The frame after this one, with nothing in it.
    fn after(&self) -> Self;

    /// This frame, where another follows.
    fn followed(self) -> FromServer;
}

/// What goes into a frame of pages.
#[derive(Serialize)]
#[serde(untagged)]
enum Item {
    Page(Page),
    Refused(RangeRefused),
}

impl Frame for Pages {
    type Item = Item;

    fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.refused.is_empty()
    }

    fn add(&mut self, item: Item) {
        match item {
            Item::Page(page) => self.pages.push(page),
            Item::Refused(refused) => self.refused.push(refused),
        }
    }

    fn after(&self) -> Self {
        Self { reference: self.reference.clone(), pages: Vec::new(), refused: Vec::new(), follows: false }
    }

    fn followed(self) -> FromServer {
        FromServer::Pages(Self { follows: true, ..self })
    }
}

impl Frame for ListPage {
    type Item = Summary;

    fn is_empty(&self) -> bool {
        self.conversations.is_empty()
    }

    fn add(&mut self, summary: Summary) {
        self.conversations.push(summary);
    }

    fn after(&self) -> Self {
        let (reference, conversations) = (self.reference.clone(), Vec::new());
        Self { reference, conversations, before: self.before + 1, follows: false, next: None, ..*self }
    }

    fn followed(self) -> FromServer {
        FromServer::List(Self { follows: true, ..self })
    }
}

/// The frame in the making.
struct Packing<F> {
    rest: F,
    bytes: usize,
    /// This one included.
    frames_left: u32,
}

impl<F: Frame> Packing<F> {
    /// So many frames at most.
    fn new(first: F, frames: Option<u32>) -> Self {
        let frames_left = frames.unwrap_or(FRAMES).clamp(1, limits::FRAMES);
        Self { rest: first, bytes: FRAME_OVERHEAD, frames_left }
    }

    /// An empty frame takes any item: each by itself always fits.
    fn has_room(&self, bytes: usize) -> bool {
        self.rest.is_empty() || self.bytes + bytes <= limits::FRAME_BYTES
    }

    /// The full frame; the next one is empty.
    fn next_frame(&mut self) -> FromServer {
        let next = self.rest.after();
        self.bytes = FRAME_OVERHEAD;
        self.frames_left -= 1;
        std::mem::replace(&mut self.rest, next).followed()
    }
}
