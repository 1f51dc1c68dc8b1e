//! Own files on their way to the object store. A message waits for its file, and what was written after it in its
//! conversation waits for the message; nothing else does.
//!
//! What is done next follows from what the server says is missing, so a kill, a lost answer and an expired address all
//! come to the same: it is begun again, and goes on with the parts that are not there.

use std::collections::{BTreeMap, BTreeSet};

use poste_protocol::{
    Code, ConversationId, MediaFile, MediaId, MediaState, MediaWish, PartLink, PartWish, Refusal, UserId, limits,
    part_count, part_range,
};

use super::commands::Done;
use super::transfers::{About, Address, MediaAsk, News, Patience, Told, Transfer};
use super::turn::Turn;
use super::{Engine, Now, Output, Rules};
use crate::files::Prepared;
use crate::store::{OutboxRow, Upload as Row, UploadState};
use crate::{Event, Failure, Message, StoreError, Target};

/// Uploads that are looked at; the others wait behind them.
const LOOKED_AT: usize = 16;

/// Uploads under way at a time.
const AT_ONCE: usize = 3;

/// After a part was cut off, so many of its upload go one at a time. Where the network often goes, less has to be sent
/// again, and a part is through in less time.
const STEADY: u32 = 8;

/// After so many refusals of a message whose file the server says it has, somebody should look.
const MOST_REFUSED: u32 = 3;

/// Uploads under way.
#[derive(Debug, Default)]
pub(super) struct Uploads(BTreeMap<MediaId, Upload>);

#[derive(Debug)]
struct Upload {
    /// The message's local number.
    message: Option<i64>,
    size: u64,
    step: Step,
    patience: Patience,
    /// Parts that have gone through since one was cut off.
    steady: u32,
    /// Parts that the store does not have.
    missing: BTreeSet<u32>,
    addresses: BTreeMap<u32, Address>,
    /// By the numbers of their transfers: which part, and how many of its bytes have gone.
    flying: BTreeMap<u64, (u32, u64)>,
    told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// To find out what is missing.
    Begin,
    /// To send that.
    Parts,
    /// To say that all is there.
    Complete,
    /// To say that it is not wanted any more.
    Abort,
}

impl Uploads {
    pub(super) fn has(&self, number: u64) -> bool {
        self.0.values().any(|upload| upload.flying.contains_key(&number))
    }

    pub(super) fn patience(&mut self) -> impl Iterator<Item = &mut Patience> {
        self.0.values_mut().map(|upload| &mut upload.patience)
    }

    /// Nothing is under way any more. Gives the numbers of what was.
    pub(super) fn land(&mut self) -> Vec<u64> {
        let land = |upload: &mut Upload| {
            if !upload.flying.is_empty() {
                upload.steady = 0;
            }
            std::mem::take(&mut upload.flying).into_keys()
        };
        self.0.values_mut().flat_map(land).collect()
    }

    fn with(&mut self, number: u64) -> Option<(MediaId, &mut Upload)> {
        let found = self.0.iter_mut().find(|(_, upload)| upload.flying.contains_key(&number));
        found.map(|(media, upload)| (*media, upload))
    }

    fn flying(&self) -> usize {
        self.0.values().map(|upload| upload.flying.len()).sum()
    }
}

impl Upload {
    fn of(row: &Row, size: u64) -> Self {
        Self {
            message: row.message,
            size,
            step: if row.state == UploadState::Unwanted { Step::Abort } else { Step::Begin },
            patience: Patience::default(),
            // Begun before this process: something has ended it.
            steady: if row.sent > 0 { 0 } else { STEADY },
            missing: BTreeSet::new(),
            addresses: BTreeMap::new(),
            flying: BTreeMap::new(),
            told: Told::default(),
        }
    }

    /// Whether one more part may be under way.
    fn has_room(&self) -> bool {
        self.steady >= STEADY || self.flying.is_empty()
    }

    fn is_busy(&self) -> bool {
        self.patience.asking || !self.flying.is_empty()
    }

    /// Parts that are missing and not under way.
    fn waiting(&self) -> impl Iterator<Item = u32> {
        let under_way: BTreeSet<u32> = self.flying.values().map(|(part, _)| *part).collect();
        self.missing.iter().copied().filter(move |part| !under_way.contains(part))
    }

    /// The next part that has an address.
    fn next_part(&self, now: u64) -> Option<(u32, poste_protocol::Link)> {
        self.waiting().find_map(|part| Some((part, self.addresses.get(&part)?.link(now)?)))
    }

    /// Bytes that the store has.
    fn stored(&self) -> u64 {
        self.size - self.missing.iter().map(|part| part_range(self.size, *part).1).sum::<u64>()
    }

    fn begin_again(&mut self) {
        self.step = Step::Begin;
        self.addresses.clear();
    }
}

impl Engine {
    /// Writes a message with a file. Both are on the disk when this returns; the file goes first.
    pub fn send_file(&mut self, now: Now, to: Target, file: Prepared, caption: String) -> Done<Message> {
        self.command(now, |rules, turn| {
            let Prepared { file, source } = file;
            let media = file.id;
            let written = rules.write(turn, to, caption, Some(file))?;
            if let Ok(message) = &written {
                let Some((local, ..)) = turn.tx.own(&rules.me.user, message.id)? else {
                    return Err(StoreError::Damaged("a message just written is not there".into()));
                };
                turn.tx.add_upload(local, media, &message.conversation, &source)?;
                return Ok(turn.tx.message(local)?.map_or(written, Ok));
            }
            Ok(written)
        })
    }
}

impl Rules {
    /// Goes on with the uploads that are due.
    pub(super) fn pump_uploads(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let rows = turn.tx.uploads_to_do(LOOKED_AT)?;
        self.drop_uploads_but(turn, &rows);
        if rows.is_empty() || self.is_off() {
            return Ok(());
        }
        for row in &rows {
            self.know_upload(turn, row)?;
        }
        if self.session().is_some() {
            for row in &rows {
                self.ask_about_upload(turn, row)?;
            }
        }
        self.put_parts(turn, &rows)
    }

    /// What is not to be done any more is stopped and forgotten.
    fn drop_uploads_but(&mut self, turn: &mut Turn<'_>, rows: &[Row]) {
        let over = self.transfers.uploads.0.extract_if(.., |media, upload| {
            let row = rows.iter().find(|row| row.media == *media);
            row.is_none_or(|row| (row.state == UploadState::Unwanted) != (upload.step == Step::Abort))
        });
        for number in over.flat_map(|(_, upload)| upload.flying.into_keys()) {
            turn.outputs.push(Output::Transfer(Transfer::Stop { number }));
        }
    }

    fn know_upload(&mut self, turn: &Turn<'_>, row: &Row) -> Result<(), StoreError> {
        if self.transfers.uploads.0.contains_key(&row.media) {
            return Ok(());
        }
        let file = row.message.map(|local| turn.tx.attachment(local)).transpose()?.flatten();
        self.transfers.uploads.0.insert(row.media, Upload::of(row, file.map_or(0, |file| file.size)));
        Ok(())
    }

    /// Asks the server what comes next for an upload, if it is due.
    fn ask_about_upload(&mut self, turn: &mut Turn<'_>, row: &Row) -> Result<(), StoreError> {
        let (now, parts_at_once) = (turn.now.mono, self.tuning.parts);
        let busy = self.transfers.uploads.0.values().filter(|upload| upload.is_busy()).count();
        let Some(upload) = self.transfers.uploads.0.get_mut(&row.media) else { return Ok(()) };
        if !upload.patience.is_due(now) || (!upload.is_busy() && busy >= AT_ONCE) {
            return Ok(());
        }
        if upload.step == Step::Parts && upload.missing.is_empty() {
            upload.step = Step::Complete;
        }
        let wish = match upload.step {
            Step::Abort => MediaWish::Abort,
            // What is still under way is waited for: it may change the answer.
            Step::Begin | Step::Complete if !upload.flying.is_empty() => return Ok(()),
            Step::Complete => MediaWish::Complete,
            Step::Begin => {
                let file = row.message.map(|local| turn.tx.attachment(local)).transpose()?.flatten();
                let Some(file) = file else { return Ok(()) };
                let to = addressee(turn, &row.conversation)?;
                MediaWish::Begin { to, file: MediaFile { size: file.size, sha256: file.sha256, kind: file.kind } }
            }
            Step::Parts => {
                upload.addresses.retain(|_, address| address.link(now).is_some());
                let known = |part: &u32| upload.addresses.contains_key(part);
                if upload.waiting().filter(known).count() >= parts_at_once {
                    return Ok(());
                }
                let next: Vec<u32> = upload.waiting().filter(|part| !known(part)).take(limits::PART_LINKS).collect();
                if next.is_empty() {
                    return Ok(());
                }
                let wish = |part| Ok(PartWish { part, sha256: turn.tx.checksum_of_part(row.media, part)? });
                MediaWish::Parts { parts: next.into_iter().map(wish).collect::<Result<_, StoreError>>()? }
            }
        };
        upload.patience.asking = true;
        let ask = MediaAsk { media: row.media, conversation: row.conversation.clone(), wish };
        self.ask_media(turn, About::Upload(row.media), ask);
        Ok(())
    }

    /// Sends the parts that have an address, of the upload that has the fewest under way first.
    fn put_parts(&mut self, turn: &mut Turn<'_>, rows: &[Row]) -> Result<(), StoreError> {
        let now = turn.now.mono;
        while self.transfers.uploads.flying() < self.tuning.parts {
            let number = self.transfers.next_number();
            let uploads = &mut self.transfers.uploads.0;
            let ready = rows.iter().filter_map(|row| {
                let upload =
                    uploads.get(&row.media).filter(|upload| upload.step == Step::Parts && upload.has_room())?;
                let part = upload.next_part(now).filter(|_| upload.patience.not_before <= now)?;
                Some((upload.flying.len(), row, part))
            });
            let Some((_, row, (part, link))) = ready.min_by_key(|(flying, ..)| *flying) else { break };
            let Some(upload) = uploads.get_mut(&row.media) else { break };
            let (from, bytes) = part_range(upload.size, part);
            upload.flying.insert(number, (part, 0));
            let sha256 = turn.tx.checksum_of_part(row.media, part)?;
            let path = row.path.clone();
            turn.outputs.push(Output::Transfer(Transfer::Put { number, path, from, bytes, sha256, link }));
        }
        Ok(())
    }

    /// What the server says of an upload.
    pub(super) fn on_upload(
        &mut self,
        turn: &mut Turn<'_>,
        media: MediaId,
        state: MediaState,
    ) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let Some(mut upload) = self.transfers.uploads.0.remove(&media) else { return Ok(()) };
        upload.patience.asking = false;
        match state {
            MediaState::Complete => return Self::on_upload_complete(turn, media),
            MediaState::Gone => return turn.tx.forget_upload(media),
            MediaState::Open { missing } if upload.step != Step::Abort => {
                let last = part_count(upload.size);
                upload.missing = missing.iter().flat_map(|(first, until)| *first.max(&1)..=*until.min(&last)).collect();
                if upload.step == Step::Complete {
                    // All had been sent: something is strange, and not to be tried at full speed.
                    self.patience(now, &mut upload.patience, None, true);
                } else if upload.step == Step::Begin && upload.patience.failures == 0 {
                    upload.patience.succeeded();
                }
                upload.step = Step::Parts;
                turn.tx.note_sent(media, upload.stored())?;
                tell_progress(turn, &mut upload)?;
            }
            MediaState::Links { links } if upload.step == Step::Parts => {
                let new = links.into_iter().map(|PartLink { part, link }| (part, Address::new(link, now)));
                let before = upload.addresses.len();
                upload.addresses.extend(new.filter(|(part, _)| upload.missing.contains(part)));
                if upload.addresses.len() == before {
                    self.patience(now, &mut upload.patience, None, false);
                }
            }
            // Not what was asked for.
            _ => self.patience(now, &mut upload.patience, None, false),
        }
        self.transfers.uploads.0.insert(media, upload);
        Ok(())
    }

    /// A file is stored as a whole: its message may go.
    pub(super) fn on_upload_complete(turn: &mut Turn<'_>, media: MediaId) -> Result<(), StoreError> {
        if turn.tx.complete_upload(media)?
            && let Some(local) = turn.tx.upload(media)?.and_then(|row| row.message)
        {
            turn.updated([local]);
        }
        Ok(())
    }

    /// The server did not take a request about an upload, or did not answer it.
    pub(super) fn upload_refused(
        &mut self,
        turn: &mut Turn<'_>,
        media: MediaId,
        refusal: Option<&Refusal>,
    ) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let Some(mut upload) = self.transfers.uploads.0.remove(&media) else { return Ok(()) };
        let told = refusal.and_then(|no| no.retry_after_ms);
        match refusal {
            // Whatever the reason: there is nothing that could be aborted.
            Some(no) if upload.step == Step::Abort && !no.may_pass() => return turn.tx.forget_upload(media),
            Some(no) if no.code == Code::NoMedia && upload.step != Step::Begin => {
                upload.begin_again();
                self.patience(now, &mut upload.patience, told, true);
            }
            Some(no) if !no.may_pass() && no.code != Code::UnknownAction => {
                self.transfers.uploads.0.insert(media, upload);
                return Self::fail_upload(turn, media, &no.into());
            }
            _ => self.patience(now, &mut upload.patience, told, false),
        }
        self.transfers.uploads.0.insert(media, upload);
        Ok(())
    }

    /// What became of a part.
    pub(super) fn on_put(&mut self, turn: &mut Turn<'_>, number: u64, news: &News) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let Some((media, upload)) = self.transfers.uploads.with(number) else { return Ok(()) };
        if let News::Moved(bytes) = news {
            if let Some((_, moved)) = upload.flying.get_mut(&number) {
                *moved = *bytes;
            }
            return tell_progress(turn, upload);
        }
        let Some((part, _)) = upload.flying.remove(&number) else { return Ok(()) };
        let mut patience = std::mem::take(&mut upload.patience);
        let asking = patience.asking;
        match news {
            News::Done => {
                upload.missing.remove(&part);
                upload.addresses.remove(&part);
                upload.steady = upload.steady.saturating_add(1);
                patience.succeeded();
                turn.tx.note_sent(media, upload.stored())?;
                tell_progress(turn, upload)?;
            }
            News::Whole => upload.begin_again(),
            News::Expired => {
                // The others are as old.
                upload.addresses.clear();
                self.patience(now, &mut patience, None, true);
            }
            News::Gone => {
                upload.begin_again();
                self.patience(now, &mut patience, None, true);
            }
            News::Unreadable(why) => {
                let message = format!("the file cannot be read any more: {why}");
                return Self::fail_upload(turn, media, &Failure { code: Code::NoMedia, message });
            }
            News::Changed => {
                let message = "the file is not what it was when the message was written".to_owned();
                return Self::fail_upload(turn, media, &Failure { code: Code::NoMedia, message });
            }
            _ => {
                upload.steady = 0;
                self.patience(now, &mut patience, None, false);
            }
        }
        patience.asking = asking;
        if let Some(upload) = self.transfers.uploads.0.get_mut(&media) {
            upload.patience = patience;
        }
        Ok(())
    }

    /// An upload has failed, and is shown as failed. What was under way of it is stopped by the next pump.
    fn fail_upload(turn: &mut Turn<'_>, media: MediaId, failure: &Failure) -> Result<(), StoreError> {
        tracing::warn!(code = ?failure.code, %media, "an upload has failed");
        turn.tx.fail_upload(media, failure)?;
        if let Some(row) = turn.tx.upload(media)? {
            turn.updated(row.message);
            turn.conversation_changed(&row.conversation);
        }
        Ok(())
    }

    /// The server says that it does not have the file of a message. If this device can, it uploads it again, and the
    /// message goes in another envelope. Says whether that is so.
    pub(super) fn upload_again(turn: &mut Turn<'_>, row: &OutboxRow) -> Result<bool, StoreError> {
        let mut uploads = Vec::new();
        for local in turn.tx.locals_of_envelope(row.envelope)? {
            uploads.extend(turn.tx.upload_of(local)?);
        }
        if uploads.is_empty() || uploads.iter().any(|upload| upload.refused >= MOST_REFUSED) {
            return Ok(false);
        }
        turn.tx.dissolve(row.envelope)?;
        for upload in uploads {
            turn.tx.upload_again(upload.media, upload.refused.saturating_add(1))?;
            turn.updated(upload.message);
        }
        Ok(true)
    }

    /// A message whose upload has failed is to go again.
    pub(super) fn retry_upload(
        &mut self,
        turn: &mut Turn<'_>,
        local: i64,
        message: &Message,
    ) -> Result<(), StoreError> {
        let Some(mut file) = turn.tx.attachment(local)? else { return Ok(()) };
        if message.failure.as_ref().is_some_and(|failure| failure.code == Code::MediaConflict) {
            // The name may be in use for another file.
            file.id = MediaId(self.fresh_uuid(turn));
        }
        turn.tx.retry_upload(local, &file, turn.time)?;
        turn.updated([local]);
        turn.conversation_changed(&message.conversation);
        Ok(())
    }
}

/// The other user, as an envelope would name them.
fn addressee(turn: &Turn<'_>, conversation: &ConversationId) -> Result<Option<UserId>, StoreError> {
    Ok(turn.tx.conversation(conversation)?.and_then(|row| super::form::addressee(&row)))
}

/// Tells how far an upload is, if that was not told just now.
fn tell_progress(turn: &mut Turn<'_>, upload: &mut Upload) -> Result<(), StoreError> {
    if upload.told.again(turn.now.mono)
        && let Some(local) = upload.message
        && let Some(message) = turn.tx.message(local)?
    {
        let done = upload.stored() + upload.flying.values().map(|(_, moved)| moved).sum::<u64>();
        let (conversation, id, size) = (message.conversation, message.id, upload.size);
        turn.signs.push(Event::Progress { conversation, id, up: true, done: done.min(size), size });
    }
    Ok(())
}
