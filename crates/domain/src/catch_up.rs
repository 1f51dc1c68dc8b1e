//! Catching up: pages of many conversations, posted to the connection as they are read.
//!
//! A request is bounded by the frames that the device asks for, so that no more is under way than it can take in; what
//! does not fit it asks for again when it has stored these. Every page is a promise by itself: whatever is lost of a
//! request is asked for again from the cursor, and nothing twice.

use std::sync::Arc;

use futures::{StreamExt, stream};
use poste_protocol::{
    Author, Fetch, FromServer, Page, Pages, RangeRefused, Reference, Seq, SyncFrame, SyncRange, limits,
};

use crate::{
    Failure, Trouble,
    ports::{Callback, Clock, Posted},
    read::Read,
    routes::Caller,
};

/// Frames if the device does not say.
const FRAMES: u32 = 4;

/// Conversations that are read at once: one page of each waits in memory at most.
const READ_AT_ONCE: usize = 4;

/// No page is begun later than this after the request, in milliseconds: well within the device's patience.
const LONGEST_MS: u64 = 5_000;

/// Bytes of a frame that its pages do not fill: `{"type":"pages","ref":"","pages":[],"refused":[],"follows":true}` and
/// a `ref` at its longest, with room.
const FRAME_OVERHEAD: usize = 96 + 6 * limits::REFERENCE;

/// Catches devices up.
pub struct CatchUp {
    read: Arc<Read>,
    callback: Arc<dyn Callback>,
    clock: Arc<dyn Clock>,
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
        Self { read, callback, clock }
    }

    /// Reads the ranges in their order, each page after page to the end of its log, and posts full frames. Returns the
    /// last one, which is the answer.
    ///
    /// # Errors
    /// When a frame cannot be posted. What is wrong with one range is said of that one.
    pub async fn sync(&self, caller: &Caller, frame: &SyncFrame) -> Result<Pages, Failure> {
        let until_ms = self.clock.now_ms() + LONGEST_MS;
        let frames = frame.frames.unwrap_or(FRAMES).clamp(1, limits::FRAMES);
        let mut out = Packing::new(&frame.reference, frames);
        let first = |range| async move {
            let first = self.page(&caller.author, &frame.reference, range, range.after).await;
            (range, first)
        };
        let firsts: Vec<_> = frame.ranges.iter().map(first).collect();
        let mut firsts = stream::iter(firsts).buffered(READ_AT_ONCE);
        while let Some((range, first)) = firsts.next().await {
            match self.run(caller, range, first, &mut out, until_ms).await {
                Ok(()) if self.clock.now_ms() < until_ms => {}
                Ok(()) | Err(End::Over) => break,
                Err(End::Failed(trouble)) => return Err(trouble.into()),
            }
        }
        Ok(out.rest)
    }

    /// One conversation, from its first page on.
    async fn run(
        &self,
        caller: &Caller,
        range: &SyncRange,
        first: Result<Page, Failure>,
        out: &mut Packing,
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
    async fn put(&self, caller: &Caller, out: &mut Packing, item: Item) -> Result<(), End> {
        let bytes = item.bytes();
        if !out.has_room(bytes) {
            if out.frames_left <= 1 {
                return Err(End::Over);
            }
            let full = FromServer::Pages(out.next_frame());
            let text = serde_json::to_string(&full).expect("a frame has only plain fields");
            match self.callback.post(&caller.connection, &text).await {
                Ok(Posted::Taken) => {}
                Ok(Posted::Gone) => return Err(End::Over),
                Err(trouble) => return Err(End::Failed(trouble)),
            }
        }
        out.take(item, bytes);
        Ok(())
    }
}

/// What goes into a frame.
enum Item {
    Page(Page),
    Refused(RangeRefused),
}

impl Item {
    /// With the comma after it.
    fn bytes(&self) -> usize {
        let json = match self {
            Self::Page(page) => serde_json::to_string(page),
            Self::Refused(refused) => serde_json::to_string(refused),
        };
        json.expect("a frame has only plain fields").len() + 1
    }
}

/// The frame in the making.
struct Packing {
    rest: Pages,
    bytes: usize,
    /// This one included.
    frames_left: u32,
}

impl Packing {
    fn new(reference: &Reference, frames: u32) -> Self {
        let rest = Pages { reference: reference.clone(), pages: Vec::new(), refused: Vec::new(), follows: false };
        Self { rest, bytes: FRAME_OVERHEAD, frames_left: frames }
    }

    /// An empty frame takes any item: a page by itself always fits.
    fn has_room(&self, bytes: usize) -> bool {
        let empty = self.rest.pages.is_empty() && self.rest.refused.is_empty();
        empty || self.bytes + bytes <= limits::FRAME_BYTES
    }

    fn take(&mut self, item: Item, bytes: usize) {
        self.bytes += bytes;
        match item {
            Item::Page(page) => self.rest.pages.push(page),
            Item::Refused(refused) => self.rest.refused.push(refused),
        }
    }

    /// The full frame; the next one is empty.
    fn next_frame(&mut self) -> Pages {
        let next = Self::new(&self.rest.reference, self.frames_left - 1);
        Pages { follows: true, ..std::mem::replace(self, next).rest }
    }
}
