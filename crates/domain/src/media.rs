//! Media: files go to the store first, and then a message refers to them. Nothing of a file passes through here; what
//! is here plans an upload, signs its requests, and sees to it that it is what was announced.
//!
//! A file is its user's, in one conversation, under a name that the device has made: that is its [`FileId`], and where
//! it is in the store. So whether a message may refer to a file is a question to the store alone: is it there? And a
//! file that is there is whole, as the store itself has put it together from its parts, or has taken it as one.
//!
//! Until a message is sent that refers to it, a file carries a mark at the store, which removes what carries it for too
//! long. Sending takes the mark off, before the message is written: where the store has been faster, the message is
//! refused, and the device uploads again. What a function leaves behind that ends right between the two is not removed;
//! its device comes back and writes the message.
//!
//! Every step may be repeated, by anyone, at any time.

use std::sync::Arc;

use poste_protocol::{
    Author, Code, ConversationId, Digest, Fetch, Link, MediaFile, MediaFrame, MediaId, MediaState, MediaWish, Message,
    MessagePlace, PartLink, PartWish, Reference, Refusal, UserId, limits, part_count, part_range,
};

use crate::{
    Failure,
    membership::not_member,
    ports::{Clock, Files, Period, Quotas, StoredPart, Upload, Uploads},
    read::Read,
    roll::Roll,
};

/// How often one request looks again when others were at the same upload.
const ROUNDS: usize = 4;

/// What a device waits when they were faster every time, in milliseconds.
const BUSY_RETRY_MS: u64 = 500;

/// The quota is for so many seconds.
const DAY_S: u64 = 24 * 3600;

/// Which file: whose, where it was uploaded to, and the device's name for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The conversation.
    pub conversation: ConversationId,
    /// The user who uploads it.
    pub user: UserId,
    /// Its name.
    pub media: MediaId,
}

impl FileId {
    /// The file that a user's message refers to.
    pub fn of(conversation: &ConversationId, user: &UserId, message: &Message) -> Option<Self> {
        let media = message.media.as_ref()?.id;
        Some(Self { conversation: conversation.clone(), user: user.clone(), media })
    }
}

/// What a deployment takes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes of a file.
    pub most_bytes: u64,
    /// Bytes that a user may begin to upload in a day.
    pub daily_bytes: u64,
    /// Types of files: `image/jpeg`, `image/*` or `*/*`.
    pub kinds: Vec<String>,
}

impl Settings {
    fn takes(&self, kind: &str) -> bool {
        self.kinds.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some("*/") => true,
            Some(of) => kind.starts_with(of),
            None => kind.eq_ignore_ascii_case(allowed),
        })
    }
}

impl Default for Settings {
    /// 2 GiB a file, 10 GiB a day, anything.
    fn default() -> Self {
        const GIB: u64 = 1024 * 1024 * 1024;
        Self { most_bytes: 2 * GIB, daily_bytes: 10 * GIB, kinds: vec!["*/*".to_owned()] }
    }
}

/// Plans, signs and completes uploads, and signs downloads.
pub struct Media {
    uploads: Arc<dyn Uploads>,
    quotas: Arc<dyn Quotas>,
    files: Arc<dyn Files>,
    read: Arc<Read>,
    roll: Roll,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

/// How far an upload is.
enum Progress {
    /// The store has these parts of it.
    Parts(Vec<StoredPart>),
    /// It is done.
    Whole,
    /// The store knows nothing of it: it took too long, was ended, or what came of it was removed.
    Lost,
}

impl Media {
    /// On these ports.
    pub fn new(
        uploads: Arc<dyn Uploads>,
        quotas: Arc<dyn Quotas>,
        files: Arc<dyn Files>,
        read: Arc<Read>,
        roll: Roll,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        Self { uploads, quotas, files, read, roll, clock, settings }
    }

    /// Does what a device wants of a file.
    ///
    /// # Errors
    /// A refusal, as `docs/PROTOCOL.md` has them; trouble with a part, after which the same again is safe.
    pub async fn act(&self, author: &Author, frame: &MediaFrame) -> Result<MediaState, Failure> {
        let (conversation, user, media) = (frame.conversation.clone(), author.user.clone(), frame.media);
        let id = FileId { conversation, user, media };
        match &frame.wish {
            MediaWish::Begin { to, file } => self.begin(&id, to.as_ref(), file).await,
            MediaWish::Parts { parts } => self.links(&id, parts).await,
            MediaWish::Complete => self.complete(&id).await,
            MediaWish::Abort => self.abort(&id).await,
            MediaWish::Get { message } => self.get(author, &frame.reference, &id, *message).await,
        }
    }

    /// Begins an upload, or finds out how far it is.
    async fn begin(&self, id: &FileId, to: Option<&UserId>, file: &MediaFile) -> Result<MediaState, Failure> {
        file.check()?;
        if file.size > self.settings.most_bytes {
            let most = self.settings.most_bytes;
            return Err(Refusal::new(Code::TooBig, format!("a file is at most {most} bytes here")).into());
        }
        if !self.settings.takes(&file.kind) {
            return Err(Refusal::new(Code::NotAllowed, "files of this type are not taken here").into());
        }
        self.authorise(id, to).await?;
        for _ in 0..ROUNDS {
            let before = self.uploads.upload(id).await?;
            match &before {
                Some(upload) if upload.file != *file => return Err(conflict("the id is another file's").into()),
                Some(upload) => match self.progress(id, upload).await? {
                    Progress::Parts(parts) => return Ok(MediaState::Open { missing: missing(file, &parts) }),
                    Progress::Whole => return Ok(MediaState::Complete),
                    Progress::Lost => {}
                },
                // What is remembered of uploads is forgotten in time; what was uploaded, and sent, is not.
                None => match self.files.look(id).await? {
                    Some(stored) if stored.size == file.size && stored.sha256 == file.sha256 => {
                        return Ok(MediaState::Complete);
                    }
                    Some(_) => return Err(conflict("the id is another file's").into()),
                    None => self.count(id, file).await?,
                },
            }
            let several = part_count(file.size) > 1;
            let upload = Upload {
                file: file.clone(),
                name: if several { Some(self.files.begin(id, &file.kind).await?) } else { None },
                begun_at: self.clock.now_ms(),
            };
            if self.uploads.note(id, before.as_ref(), &upload).await? {
                return Ok(MediaState::Open { missing: missing(file, &[]) });
            }
            if let Some(name) = &upload.name {
                self.files.end(id, name).await?;
            }
        }
        Err(Refusal::new(Code::Busy, "others are at the same upload").after_ms(BUSY_RETRY_MS).into())
    }

    /// The user is in, or may begin the conversation by writing.
    async fn authorise(&self, id: &FileId, to: Option<&UserId>) -> Result<(), Failure> {
        let begins = || to.is_some_and(|to| id.conversation == ConversationId::direct(&id.user, to));
        match self.roll.now(&id.conversation, &id.user).await? {
            Some(known) if known.member.membership.is_open() => Ok(()),
            None if begins() => Ok(()),
            _ => Err(not_member().into()),
        }
    }

    /// Counts what a user begins to upload. A call that was made again by the SDK, or an attempt that ended right after
    /// it, counts twice: the quota is a bound on harm and not a bill.
    async fn count(&self, id: &FileId, file: &MediaFile) -> Result<(), Failure> {
        let now = self.clock.now_ms();
        let (name, day) = (format!("media/{}", id.user), Period::at(DAY_S, now));
        if self.quotas.take(&name, day, file.size, self.settings.daily_bytes).await? {
            return Ok(());
        }
        Err(Refusal::new(Code::OverQuota, "too much uploaded today").after_ms(day.end_ms().saturating_sub(now)).into())
    }

    async fn progress(&self, id: &FileId, upload: &Upload) -> Result<Progress, Failure> {
        if let Some(name) = &upload.name
            && let Some(parts) = self.files.parts(id, name).await?
        {
            return Ok(Progress::Parts(parts));
        }
        Ok(match self.files.look(id).await? {
            Some(_) => Progress::Whole,
            None if upload.name.is_none() => Progress::Parts(Vec::new()),
            None => Progress::Lost,
        })
    }

    /// Addresses of parts.
    async fn links(&self, id: &FileId, wishes: &[PartWish]) -> Result<MediaState, Failure> {
        if !(1..=limits::PART_LINKS).contains(&wishes.len()) {
            return Err(Refusal::new(Code::TooMany, "a frame asks for 1 to 10 parts").into());
        }
        // Who may begin a conversation by writing has shown that when the upload was begun.
        let known = self.roll.now(&id.conversation, &id.user).await?;
        if known.is_some_and(|known| !known.member.membership.is_open()) {
            return Err(not_member().into());
        }
        let Upload { file, name, .. } = self.uploads.upload(id).await?.ok_or_else(no_media)?;
        let mut links = Vec::with_capacity(wishes.len());
        for PartWish { part, sha256 } in wishes.iter().copied() {
            if !(1..=part_count(file.size)).contains(&part) {
                return Err(Refusal::new(Code::BadFrame, "the file has no such part").into());
            }
            let link = match &name {
                Some(name) => self.files.part_link(id, name, part, part_range(file.size, part).1, &sha256).await?,
                None if sha256 != file.sha256 => return Err(conflict("the bytes are not what was announced").into()),
                None => self.files.whole_link(id, &file).await?,
            };
            links.push(PartLink { part, link });
        }
        Ok(MediaState::Links { links })
    }

    /// Puts the parts together that the store has.
    async fn complete(&self, id: &FileId) -> Result<MediaState, Failure> {
        for _ in 0..ROUNDS {
            let Some(upload) = self.uploads.upload(id).await? else {
                return self.files.look(id).await?.map(|_| MediaState::Complete).ok_or_else(|| no_media().into());
            };
            let mut parts = match self.progress(id, &upload).await? {
                Progress::Whole => return Ok(MediaState::Complete),
                Progress::Lost => return Err(no_media().into()),
                Progress::Parts(parts) => parts,
            };
            let missing = missing(&upload.file, &parts);
            let Some(name) = upload.name.as_ref().filter(|_| missing.is_empty()) else {
                return Ok(MediaState::Open { missing });
            };
            parts.sort_by_key(|part| part.part);
            let sums: Option<Vec<Digest>> = parts.iter().map(|part| part.sha256).collect();
            if sums.map(|sums| Digest::of_parts(&sums)) != Some(upload.file.sha256) {
                self.files.end(id, name).await?;
                self.uploads.forget(id).await?;
                return Err(conflict("the bytes are not what was announced").into());
            }
            // Whether it is there is what the store says afterwards.
            self.files.join(id, name, &parts).await?;
        }
        Err(Refusal::new(Code::Busy, "the store is still putting it together").after_ms(BUSY_RETRY_MS).into())
    }

    /// Removes what there is of an upload. What was sent stays.
    async fn abort(&self, id: &FileId) -> Result<MediaState, Failure> {
        if let Some(name) = self.uploads.upload(id).await?.and_then(|upload| upload.name) {
            self.files.end(id, &name).await?;
        }
        if self.files.look(id).await?.is_some_and(|stored| !stored.sent) {
            self.files.remove(id).await?;
        }
        self.uploads.forget(id).await?;
        Ok(MediaState::Gone)
    }

    /// An address to download from, for who sees the message that refers to the file.
    async fn get(
        &self,
        author: &Author,
        reference: &Reference,
        id: &FileId,
        place: MessagePlace,
    ) -> Result<MediaState, Failure> {
        let fetch = Fetch {
            reference: reference.clone(),
            conversation: id.conversation.clone(),
            after: None,
            before: Some(place.seq.next()),
            limit: Some(1),
        };
        let page = self.read.page(author, &fetch).await?;
        let found = page.cells.iter().find_map(|cell| {
            let (_, message) = cell.numbered().find(|(seq, message)| *seq == place.seq && message.id == place.id)?;
            let media = message.media.as_ref().filter(|media| media.id == id.media)?;
            Some((FileId { user: cell.by.user.clone(), ..id.clone() }, media))
        });
        let (file, media) = found.ok_or_else(no_media)?;
        let link: Link = self.files.get_link(&file, &media.kind, media.name.as_deref()).await?;
        Ok(MediaState::Link { link })
    }
}

/// Which parts of a file the store lacks, in runs. A part of another length than it must have is none.
fn missing(file: &MediaFile, parts: &[StoredPart]) -> Vec<(u32, u32)> {
    let count = part_count(file.size);
    let mut there: Vec<u32> = parts
        .iter()
        .filter(|part| (1..=count).contains(&part.part) && part.size == part_range(file.size, part.part).1)
        .map(|part| part.part)
        .collect();
    there.sort_unstable();
    let mut runs = Vec::new();
    let mut next = 1;
    for part in there.into_iter().chain([count + 1]) {
        if part > next {
            runs.push((next, part - 1));
        }
        next = next.max(part + 1);
    }
    runs.truncate(limits::MISSING_RUNS);
    runs
}

pub(crate) fn no_media() -> Refusal {
    Refusal::new(Code::NoMedia, "there is no such file here")
}

fn conflict(why: &str) -> Refusal {
    Refusal::new(Code::MediaConflict, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(part: u32, size: u64) -> StoredPart {
        StoredPart { part, size, sha256: Some(Digest::of(b"")), tag: String::new() }
    }

    #[test]
    fn what_is_missing_comes_in_runs() {
        let whole = limits::PART_BYTES;
        let file = MediaFile { size: 4 * whole + 1, sha256: Digest::of(b""), kind: "a/b".to_owned() };
        for (there, runs) in [
            (vec![], vec![(1, 5)]),
            (vec![part(1, whole), part(2, whole)], vec![(3, 5)]),
            (vec![part(5, 1), part(3, whole)], vec![(1, 2), (4, 4)]),
            (vec![part(1, whole), part(2, whole - 1)], vec![(2, 5)]),
            (vec![part(5, whole), part(6, whole)], vec![(1, 5)]),
            ((1..=4).map(|n| part(n, whole)).chain([part(5, 1)]).collect(), vec![]),
        ] {
            assert_eq!(missing(&file, &there), runs);
        }
        let many = MediaFile { size: 10_000 * whole, ..file };
        let odd: Vec<_> = (1..=5_000).map(|n| part(2 * n, whole)).collect();
        assert_eq!(missing(&many, &odd).len(), limits::MISSING_RUNS);
    }

    #[test]
    fn a_deployment_says_which_types_it_takes() {
        let takes = |kinds: &[&str], kind| {
            let kinds = kinds.iter().map(ToString::to_string).collect();
            Settings { kinds, ..Settings::default() }.takes(kind)
        };
        assert!(takes(&["*/*"], "video/mp4"));
        assert!(takes(&["image/*", "video/mp4"], "image/png"));
        assert!(takes(&["image/*", "video/mp4"], "video/mp4"));
        assert!(!takes(&["image/*", "video/mp4"], "video/webm"));
        assert!(!takes(&["image/*"], "imagery/png"));
        assert!(!takes(&[], "image/png"));
    }
}
