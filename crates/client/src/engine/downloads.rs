//! Files that the person wants to see: fetched into the cache when they are asked for, and not before.

use std::collections::BTreeMap;

use poste_protocol::{Attachment, Code, ConversationId, MediaState, MediaWish, MessageId, MessagePlace, Refusal};

use super::commands::Done;
use super::transfers::{About, Address, MediaAsk, News, Patience, Told, Transfer, Transfers};
use super::turn::Turn;
use super::{Engine, Now, Output, Rules};
use crate::error::NoFile;
use crate::{Error, Event, StoreError};

/// Downloads under way at a time.
const AT_ONCE: usize = 3;

/// Downloads that are wanted at a time.
const MOST: usize = 64;

/// How often in a row a download may fail without a byte.
const MOST_FAILURES: u32 = 8;

/// Without a byte for so long, in milliseconds, nobody waits any more. What came is kept.
const PATIENCE: u64 = 120_000;

/// Where a file may be on this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Where the person had it when they sent it; with when it was last changed.
    Own {
        /// Its path.
        path: String,
        /// Unix milliseconds.
        modified: Option<u64>,
    },
    /// In the cache.
    Cache {
        /// Its name there.
        name: String,
    },
}

/// What a wish for a file comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It is here.
    Here(Place),
    /// [`Transfer::Downloaded`] answers the inquiry of this number.
    Coming(u64),
}

/// Downloads that are wanted, by the messages' local numbers.
#[derive(Debug, Default)]
pub(super) struct Downloads {
    open: BTreeMap<i64, Download>,
    inquiries: u64,
}

#[derive(Debug)]
struct Download {
    conversation: ConversationId,
    place: MessagePlace,
    file: Attachment,
    /// In the cache.
    name: String,
    askers: Vec<u64>,
    patience: Patience,
    address: Option<Address>,
    /// The number of its transfer, and the bytes that are here.
    flying: Option<u64>,
    here: u64,
    /// Other bytes came than the message says, once.
    was_wrong: bool,
    deadline: u64,
    told: Told,
}

impl Downloads {
    pub(super) fn patience(&mut self) -> impl Iterator<Item = &mut Patience> {
        self.open.values_mut().map(|download| &mut download.patience)
    }

    pub(super) fn land(&mut self) -> Vec<u64> {
        self.open.values_mut().filter_map(|download| download.flying.take()).collect()
    }

    pub(super) fn deadlines(&self, now: u64) -> Option<u64> {
        self.open.values().map(|download| download.deadline.max(now + 1)).min()
    }

    fn busy(&self) -> usize {
        self.open.values().filter(|download| download.patience.asking || download.flying.is_some()).count()
    }
}

impl Engine {
    /// A person wants to see the file of a message. `is_there` looks whether it is on this device: at that place, with so
    /// many bytes.
    pub fn download(
        &mut self,
        now: Now,
        conversation: &ConversationId,
        id: MessageId,
        is_there: impl Fn(&Place, u64) -> bool,
    ) -> Done<Wanted> {
        self.command(now, |rules, turn| rules.want_file(turn, conversation, id, is_there))
    }

    /// Nobody wants the file of a message any more. What came of it is kept.
    pub fn stop_download(&mut self, now: Now, conversation: &ConversationId, id: MessageId) -> Done<()> {
        self.command(now, |rules, turn| {
            if let Some(holder) = turn.tx.holder(conversation, id)? {
                rules.end_download(turn, holder.local, &Err(NoFile::Stopped));
            }
            Ok(Ok(()))
        })
    }

    /// The names of everything that belongs into the cache's folder.
    pub fn cached_names(&mut self) -> Result<Vec<String>, StoreError> {
        self.store.read()?.cached_names()
    }
}

impl Rules {
    fn want_file(
        &mut self,
        turn: &mut Turn<'_>,
        conversation: &ConversationId,
        id: MessageId,
        is_there: impl Fn(&Place, u64) -> bool,
    ) -> Result<Result<Wanted, Error>, StoreError> {
        let refuse = |why| Ok(Err(Error::Message { id, why }));
        let Some(holder) = turn.tx.holder(conversation, id)? else { return refuse("is not in this conversation") };
        let Some(file) = holder.file else { return refuse("has no file") };
        let local = holder.local;
        if let Some(own) = turn.tx.upload_of(local)? {
            let place = Place::Own { path: own.path, modified: own.modified };
            if is_there(&place, file.size) {
                return Ok(Ok(Wanted::Here(place)));
            }
        }
        if let Some(cached) = turn.tx.cached(local)?.filter(|cached| cached.here) {
            let place = Place::Cache { name: cached.name };
            if is_there(&place, file.size) {
                turn.tx.used(local, turn.time)?;
                return Ok(Ok(Wanted::Here(place)));
            }
        }
        let Some(place) = holder.place else { return Ok(Err(Error::NoFile(NoFile::Gone))) };
        if self.is_off() {
            return Ok(Err(Error::NoFile(NoFile::NoAnswer)));
        }
        let downloads = &mut self.transfers.downloads;
        if downloads.open.len() >= MOST && !downloads.open.contains_key(&local) {
            return Ok(Err(Error::NoFile(NoFile::TooMany)));
        }
        downloads.inquiries += 1;
        let inquiry = downloads.inquiries;
        if let Some(download) = downloads.open.get_mut(&local) {
            download.askers.push(inquiry);
            return Ok(Ok(Wanted::Coming(inquiry)));
        }
        let name = turn.tx.begin_download(local, &file, turn.time)?;
        let download = Download {
            conversation: conversation.clone(),
            place,
            file,
            name,
            askers: vec![inquiry],
            patience: Patience::default(),
            address: None,
            flying: None,
            here: 0,
            was_wrong: false,
            deadline: turn.now.mono + PATIENCE,
            told: Told::default(),
        };
        downloads.open.insert(local, download);
        self.bound_cache(turn)?;
        Ok(Ok(Wanted::Coming(inquiry)))
    }

    /// Makes room for what is wanted.
    fn bound_cache(&self, turn: &Turn<'_>) -> Result<(), StoreError> {
        let wanted: Vec<i64> = self.transfers.downloads.open.keys().copied().collect();
        turn.tx.bound_cache(self.tuning.cache_bytes, &wanted)
    }

    pub(super) fn pump_downloads(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let off = self.is_off();
        let over = |download: &Download| off || download.deadline <= now;
        let open = &self.transfers.downloads.open;
        let over: Vec<i64> = open.iter().filter(|(_, download)| over(download)).map(|(local, _)| *local).collect();
        for local in over {
            self.end_download(turn, local, &Err(NoFile::NoAnswer));
        }
        for (local, name) in turn.tx.take_removed()? {
            self.end_download(turn, local, &Err(NoFile::Gone));
            turn.updated([local]);
            turn.outputs.push(Output::Transfer(Transfer::Remove { name }));
        }
        let online = self.session().is_some();
        let mut room = AT_ONCE.saturating_sub(self.transfers.downloads.busy());
        let mut asks = Vec::new();
        let Transfers { downloads, last, .. } = &mut self.transfers;
        for (local, download) in &mut downloads.open {
            if room == 0 || download.flying.is_some() || !download.patience.is_due(now) {
                continue;
            }
            if let Some(link) = download.address.as_ref().and_then(|address| address.link(now)) {
                *last += 1;
                let number = *last;
                download.flying = Some(number);
                let (name, size, sha256) = (download.name.clone(), download.file.size, download.file.sha256);
                turn.outputs.push(Output::Transfer(Transfer::Get { number, name, size, sha256, link }));
            } else if online {
                download.patience.asking = true;
                let (media, conversation) = (download.file.id, download.conversation.clone());
                let wish = MediaWish::Get { message: download.place };
                asks.push((*local, MediaAsk { media, conversation, wish }));
            } else {
                continue;
            }
            room -= 1;
        }
        for (local, ask) in asks {
            self.ask_media(turn, About::Download(local), ask);
        }
        Ok(())
    }

    /// Where a file can be had.
    pub(super) fn on_download_link(&mut self, turn: &mut Turn<'_>, local: i64, state: MediaState) {
        let MediaState::Link { link } = state else { return self.download_refused(turn, local, None) };
        if let Some(download) = self.transfers.downloads.open.get_mut(&local) {
            download.patience.asking = false;
            download.address = Some(Address::new(link, turn.now.mono));
        }
    }

    pub(super) fn download_refused(&mut self, turn: &mut Turn<'_>, local: i64, refusal: Option<&Refusal>) {
        match refusal {
            Some(no) if !no.may_pass() && no.code != Code::UnknownAction => {
                self.end_download(turn, local, &Err(NoFile::Gone));
            }
            _ => self.download_later(turn, local, refusal.and_then(|no| no.retry_after_ms), false),
        }
    }

    /// What became of a file's bytes.
    pub(super) fn on_got(&mut self, turn: &mut Turn<'_>, number: u64, news: &News) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let found = self.transfers.downloads.open.iter_mut().find(|(_, download)| download.flying == Some(number));
        let Some((local, download)) = found else { return Ok(()) };
        let local = *local;
        if let News::Moved(bytes) = news {
            download.here = *bytes;
            download.deadline = now + PATIENCE;
            download.patience.failures = 0;
            if download.told.again(now) {
                let (conversation, id) = (download.conversation.clone(), download.place.id);
                let (done, size) = (*bytes, download.file.size);
                turn.signs.push(Event::Progress { conversation, id, up: false, done, size });
            }
            return Ok(());
        }
        download.flying = None;
        match news {
            News::Done => {
                turn.tx.downloaded(local)?;
                turn.tx.used(local, turn.time)?;
                turn.updated([local]);
                self.bound_cache(turn)?;
                if let Some(download) = self.transfers.downloads.open.get(&local) {
                    let name = download.name.clone();
                    self.end_download(turn, local, &Ok(name));
                }
            }
            News::Wrong if download.was_wrong => self.end_download(turn, local, &Err(NoFile::Wrong)),
            News::Wrong => {
                download.was_wrong = true;
                download.address = None;
            }
            News::NoRoom(why) => self.end_download(turn, local, &Err(NoFile::NoRoom(why.clone()))),
            News::Gone => {
                // Removed just now, or never there: the server knows, once it is asked again.
                download.address = None;
                self.download_later(turn, local, None, false);
            }
            News::Expired => {
                download.address = None;
                self.download_later(turn, local, None, true);
            }
            _ => self.download_later(turn, local, None, false),
        }
        Ok(())
    }

    fn download_later(&mut self, turn: &mut Turn<'_>, local: i64, told: Option<u64>, first_at_once: bool) {
        let Some(mut download) = self.transfers.downloads.open.remove(&local) else { return };
        self.patience(turn.now.mono, &mut download.patience, told, first_at_once);
        let over = download.patience.failures >= MOST_FAILURES;
        self.transfers.downloads.open.insert(local, download);
        if over {
            self.end_download(turn, local, &Err(NoFile::NoAnswer));
        }
    }

    /// Whoever waits for a file is told.
    fn end_download(&mut self, turn: &mut Turn<'_>, local: i64, found: &Result<String, NoFile>) {
        let Some(download) = self.transfers.downloads.open.remove(&local) else { return };
        if let Some(number) = download.flying {
            turn.outputs.push(Output::Transfer(Transfer::Stop { number }));
        }
        for inquiry in download.askers {
            turn.outputs.push(Output::Transfer(Transfer::Downloaded { inquiry, found: found.clone() }));
        }
    }
}
