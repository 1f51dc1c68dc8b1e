//! Files on their way. The engine says what is to be moved and judges what became of it; the runtime moves bytes.

use poste_protocol::{Digest, Link, MediaAnswer, MediaId, MediaState, Refusal};

use super::session::Question;
use super::turn::Turn;
use super::{Output, Rules};
use crate::StoreError;
use crate::error::NoFile;

/// A part of what is to be done with files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transfer {
    /// Put a part of an own file into the object store. Its bytes are first held against the checksum.
    Put {
        /// Comes back with every [`News`] of it.
        number: u64,
        /// The file.
        path: String,
        /// Where the part begins.
        from: u64,
        /// How long it is.
        bytes: u64,
        /// Its checksum.
        sha256: Digest,
        /// Where it goes.
        link: Link,
    },
    /// Get a file from the object store into the cache, or what is missing of it.
    Get {
        /// Comes back with every [`News`] of it.
        number: u64,
        /// The file's name in the cache.
        name: String,
        /// Its length.
        size: u64,
        /// Its checksum.
        sha256: Digest,
        /// Where it is.
        link: Link,
    },
    /// Stop it. There may be news of it that are on their way.
    Stop {
        /// Which.
        number: u64,
    },
    /// Remove a file from the cache.
    Remove {
        /// Its name.
        name: String,
    },
    /// Answer whoever waits for a download.
    Downloaded {
        /// Which inquiry.
        inquiry: u64,
        /// The file's name in the cache, or why there is none.
        found: Result<String, NoFile>,
    },
}

/// What became of a [`Transfer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It goes on: so many bytes so far.
    Moved(u64),
    /// The part is stored, or the file is here and has its checksum.
    Done,
    /// The store has the whole file already.
    Whole,
    /// The address is not good any more.
    Expired,
    /// The store knows nothing of it.
    Gone,
    /// The network or the store failed: later again.
    Failed,
    /// The own file cannot be read any more: why.
    Unreadable(String),
    /// The own file is not what it was when its message was written.
    Changed,
    /// What came is not what the message says. It was thrown away.
    Wrong,
    /// The cache cannot be written: why.
    NoRoom(String),
}

/// Files on their way, and by what numbers.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    pub(super) uploads: super::uploads::Uploads,
    pub(super) downloads: super::downloads::Downloads,
    pub(super) last: u64,
}

/// What was asked of the server about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// An own file, to upload it.
    Upload(MediaId),
    /// A message's file, by the message's local number.
    Download(i64),
}

/// An address with the time until which it is good, on the monotonic clock.
#[derive(Debug, Clone)]
pub(super) struct Address {
    link: Link,
    until: u64,
}

impl Address {
    pub(super) fn new(link: Link, now: u64) -> Self {
        // A tenth less, for the way there.
        let until = now.saturating_add(link.expires_s.saturating_mul(900));
        Self { link, until }
    }

    pub(super) fn link(&self, now: u64) -> Option<Link> {
        (now < self.until).then(|| self.link.clone())
    }
}

/// Waiting between attempts.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// A request waits for its answer.
    pub(super) asking: bool,
    pub(super) not_before: u64,
    /// The server said how long to wait.
    pub(super) told: bool,
    pub(super) failures: u32,
}

impl Patience {
    pub(super) fn is_due(&self, now: u64) -> bool {
        !self.asking && self.not_before <= now
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self { asking: self.asking, ..Self::default() };
    }

    /// On a new connection nothing is asked yet.
    pub(super) fn forget_asking(&mut self) {
        self.asking = false;
    }

    /// A person looks: what waits by the device's own choice waits no longer.
    pub(super) fn end_backoff(&mut self) {
        if !self.told {
            self.not_before = 0;
            self.failures = 0;
        }
    }

    /// When it is due, if that is later.
    pub(super) fn wake(&self, now: u64) -> Option<u64> {
        (!self.asking && self.not_before > now).then_some(self.not_before)
    }
}

/// At most one sign of progress of a file in this time, in milliseconds.
const PROGRESS: u64 = 250;

/// When progress was told last.
#[derive(Debug, Default)]
pub(super) struct Told(Option<u64>);

impl Told {
    /// Whether it is to be told now.
    pub(super) fn again(&mut self, now: u64) -> bool {
        let due = self.0.is_none_or(|last| now >= last + PROGRESS);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

impl Transfers {
    pub(super) fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Rules {
    /// When to try again what has failed so often; the first time at once, if so asked.
    pub(super) fn patience(&mut self, now: u64, patience: &mut Patience, told: Option<u64>, first_at_once: bool) {
        patience.asking = false;
        patience.failures = patience.failures.saturating_add(1);
        patience.told = told.is_some();
        let at_once = first_at_once && patience.failures == 1 && told.is_none();
        patience.not_before = if at_once { now } else { now + self.wait(told, patience.failures).max(1) };
    }

    /// Goes on with files.
    pub(super) fn pump_transfers(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        self.pump_uploads(turn)?;
        self.pump_downloads(turn)
    }

    /// What became of a part or of a file.
    pub(super) fn on_transfer(&mut self, turn: &mut Turn<'_>, number: u64, news: &News) -> Result<(), StoreError> {
        if self.transfers.uploads.has(number) {
            return self.on_put(turn, number, news);
        }
        self.on_got(turn, number, news)
    }

    /// An answer about a file.
    pub(super) fn on_media(
        &mut self,
        turn: &mut Turn<'_>,
        about: About,
        answer: MediaAnswer,
    ) -> Result<(), StoreError> {
        match about {
            About::Upload(media) if media == answer.media => self.on_upload(turn, media, answer.state),
            About::Upload(_) => self.media_refused(turn, about, None),
            About::Download(local) => {
                self.on_download_link(turn, local, answer.state);
                Ok(())
            }
        }
    }

    /// An answer that came late: that a file is stored is true all the same.
    pub(super) fn on_late_media(turn: &mut Turn<'_>, answer: &MediaAnswer) -> Result<(), StoreError> {
        if answer.state == MediaState::Complete { Self::on_upload_complete(turn, answer.media) } else { Ok(()) }
    }

    /// A request about a file was refused, or was not answered.
    pub(super) fn media_refused(
        &mut self,
        turn: &mut Turn<'_>,
        about: About,
        refusal: Option<&Refusal>,
    ) -> Result<(), StoreError> {
        match about {
            About::Upload(media) => self.upload_refused(turn, media, refusal),
            About::Download(local) => {
                self.download_refused(turn, local, refusal);
                Ok(())
            }
        }
    }

    /// A new connection: nothing is asked on it yet.
    pub(super) fn forget_media_asked(&mut self) {
        let Transfers { uploads, downloads, .. } = &mut self.transfers;
        uploads.patience().chain(downloads.patience()).for_each(Patience::forget_asking);
    }

    /// A person looks at the application.
    pub(super) fn end_media_backoffs(&mut self) {
        let Transfers { uploads, downloads, .. } = &mut self.transfers;
        uploads.patience().chain(downloads.patience()).for_each(Patience::end_backoff);
    }

    /// The network is cut: nothing moves any more.
    pub(super) fn stop_transfers(&mut self, turn: &mut Turn<'_>) {
        let Transfers { uploads, downloads, .. } = &mut self.transfers;
        let numbers = uploads.land().into_iter().chain(downloads.land());
        turn.outputs.extend(numbers.map(|number| Output::Transfer(Transfer::Stop { number })));
    }

    /// When something of files is due by itself.
    pub(super) fn transfers_wake(&mut self, now: u64) -> Option<u64> {
        let deadlines = self.transfers.downloads.deadlines(now);
        let Transfers { uploads, downloads, .. } = &mut self.transfers;
        let waits = uploads.patience().chain(downloads.patience()).filter_map(|patience| patience.wake(now));
        waits.min().into_iter().chain(deadlines).min()
    }

    /// Asks the server about a file.
    pub(super) fn ask_media(&mut self, turn: &mut Turn<'_>, about: About, frame: MediaAsk) {
        let MediaAsk { media, conversation, wish } = frame;
        self.ask(turn, Question::Media(about), |reference| {
            poste_protocol::Request::Media(poste_protocol::MediaFrame { reference, media, conversation, wish })
        });
    }
}

/// A request about a file, but for its number.
pub(super) struct MediaAsk {
    pub(super) media: MediaId,
    pub(super) conversation: poste_protocol::ConversationId,
    pub(super) wish: poste_protocol::MediaWish,
}
