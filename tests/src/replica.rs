//! What a device has of a log, and the checks of what it is told.

use std::collections::BTreeMap;

use poste_protocol::{Cell, ConversationId, EnvelopeId, Fetch, Page, Seq};
use tokio::time::Instant;

use crate::{Device, wait::DEADLINE};

/// A device's copy of a log: from pages, with a cursor, and from deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    conversation: ConversationId,
    cursor: Seq,
    cells: BTreeMap<u64, Cell>,
}

impl Replica {
    /// Nothing yet.
    pub fn new(conversation: ConversationId) -> Self {
        Self { conversation, cursor: Seq::ZERO, cells: BTreeMap::new() }
    }

    /// Everything up to here has been taken in.
    pub fn cursor(&self) -> Seq {
        self.cursor
    }

    /// The cells, in order.
    pub fn cells(&self) -> Vec<Cell> {
        self.cells.values().cloned().collect()
    }

    /// Takes in a cell that came by itself.
    ///
    /// # Panics
    /// When it is not what was known of its place.
    pub fn take(&mut self, cell: Cell) {
        if let Some(known) = self.cells.get(&cell.seq.get()) {
            assert_eq!(*known, cell, "a cell is the same wherever it comes from");
            return;
        }
        assert!(
            cell.seq > self.cursor,
            "cell {} ({}) comes where the pages had promised that there is nothing (cursor {})",
            cell.seq,
            cell.envelope,
            self.cursor
        );
        self.cells.insert(cell.seq.get(), cell);
    }

    /// Takes in the page after the cursor.
    ///
    /// # Panics
    /// When it lacks a cell that was delivered.
    pub fn turn(&mut self, page: &Page) {
        assert_eq!(page.after, self.cursor, "the page after the cursor");
        let promised: BTreeMap<u64, &Cell> = page.cells.iter().map(|cell| (cell.seq.get(), cell)).collect();
        let delivered = self.cells.range(page.after.get() + 1..).take_while(|(seq, _)| **seq <= page.through.get());
        for (seq, known) in delivered {
            assert_eq!(promised.get(seq), Some(&known), "what was delivered is in the page of its range");
        }
        for cell in &page.cells {
            self.cells.insert(cell.seq.get(), cell.clone());
        }
        self.cursor = page.through;
    }

    /// Fetches until nothing is left. Gives the number of pages.
    ///
    /// # Panics
    /// When a page is refused or breaks its promise, or when a hole stays.
    pub async fn catch_up(&mut self, device: &mut Device) -> usize {
        let mut deadline = Instant::now() + DEADLINE;
        let mut pages = 0;
        loop {
            let page = device.fetch(&self.conversation, self.cursor, None).await.expect("a page");
            pages += 1;
            if page.through > page.after {
                deadline = Instant::now() + DEADLINE;
            }
            self.turn(&page);
            if !page.more && page.retry_after_ms.is_none() {
                assert_eq!(page.head, page.through, "nothing is left to fetch at the end of the log");
                return pages;
            }
            assert!(Instant::now() < deadline, "the cursor has not moved for {DEADLINE:?}: {page:?}");
            if let Some(wait) = page.retry_after_ms {
                // As the protocol says; there is no condition to look at.
                tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
            }
        }
    }

    /// All envelopes, in order, each once.
    ///
    /// # Panics
    /// When two cells overlap or an envelope is there twice.
    pub fn envelopes(&self) -> Vec<EnvelopeId> {
        let mut last = 0;
        let mut seen = std::collections::HashSet::new();
        for cell in self.cells.values() {
            assert!(cell.seq.get() > last, "cell {} begins inside the one before", cell.seq);
            assert!(seen.insert(cell.envelope), "envelope {} is in the log twice", cell.envelope);
            last = cell.last().get();
        }
        self.cells.values().map(|cell| cell.envelope).collect()
    }

    /// Asserts that the numbers from 1 to the cursor are all taken by messages: no void, no loss.
    ///
    /// # Panics
    /// When one is missing.
    pub fn is_contiguous(&self) {
        let mut next = 1;
        for cell in self.cells.values() {
            assert_eq!(cell.seq.get(), next, "the number that is free");
            next = cell.last().get() + 1;
        }
        assert_eq!(self.cursor.get() + 1, next, "the cursor is at the end");
    }
}

/// Holds a page against what it promises.
///
/// # Panics
/// When it breaks its promise.
pub fn check_page(fetch: &Fetch, page: &Page) {
    assert_eq!(page.conversation, fetch.conversation, "the page that was asked for");
    assert_eq!(page.after, fetch.after.unwrap_or(page.after), "the page that was asked for");
    assert!(page.through >= page.after, "a cursor never goes back: {page:?}");
    assert!(page.head >= page.through, "the head is at least as far: {page:?}");
    let mut last = page.after;
    for cell in &page.cells {
        assert!(cell.seq > last, "cells ascend without overlap, within the range: {} after {last}", cell.seq);
        assert!(!cell.messages.is_empty(), "voids are never seen");
        last = cell.last();
    }
    assert!(last <= page.through, "every cell ends within the range");
    if page.more {
        assert!(page.through > page.after, "a page that says `more` moves the cursor: {page:?}");
        assert_eq!(page.retry_after_ms, None, "more at once, or later, not both");
    }
}
