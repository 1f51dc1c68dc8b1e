//! The ports of media: uploads that were begun, and an object store that keeps no bytes, only how many there are and
//! their checksums. Its addresses are for [`World::uploads`] and [`World::downloads`].

use std::collections::BTreeMap;

use async_trait::async_trait;
use poste_domain::{
    FileId,
    ports::{Attachments, Files, Period, Quotas, Result, StoredFile, StoredPart, Upload, Uploads},
};
use poste_protocol::{ConversationId, Digest, Link, MediaFile, MediaId, UserId};

use super::World;

/// How long an address can be used, in seconds.
const LINK_S: u64 = 900;

#[derive(Default)]
pub(super) struct State {
    uploads: BTreeMap<FileId, Upload>,
    counted: BTreeMap<(String, Period), u64>,
    /// Uploads in parts, by their names.
    open: BTreeMap<String, (FileId, BTreeMap<u32, StoredPart>)>,
    files: BTreeMap<FileId, StoredFile>,
    named: u64,
}

impl World {
    /// A device puts bytes at an address. The status is that of S3.
    pub fn uploads(&self, link: &Link, bytes: u64, sha256: Digest) -> u16 {
        let fields: Vec<&str> = link.url.split(' ').collect();
        let state = &mut self.state().media;
        match fields.as_slice() {
            ["part", upload, part, size, sum] => {
                let Some((_, parts)) = state.open.get_mut(*upload) else { return 404 };
                if *size != bytes.to_string() || *sum != sha256.to_string() {
                    return 400;
                }
                let part = part.parse().expect("a part's number");
                parts.insert(part, StoredPart { part, size: bytes, sha256: Some(sha256), tag: sha256.to_string() });
                200
            }
            ["whole", conversation, user, media, size, sum] => {
                let id = file_id(conversation, user, media);
                if state.files.contains_key(&id) {
                    return 412;
                }
                if *size != bytes.to_string() || *sum != sha256.to_string() {
                    return 400;
                }
                state.files.insert(id, StoredFile { size: bytes, sha256, sent: false });
                200
            }
            other => panic!("no address to upload to: {other:?}"),
        }
    }

    /// A device gets what is at an address: how many bytes, and their checksum.
    pub fn downloads(&self, link: &Link) -> Option<(u64, Digest)> {
        let fields: Vec<&str> = link.url.split(' ').collect();
        let ["get", conversation, user, media] = fields.as_slice() else { panic!("no address to download from") };
        let stored = self.file(&file_id(conversation, user, media))?;
        Some((stored.size, stored.sha256))
    }

    /// A file, as it is in the store.
    pub fn file(&self, id: &FileId) -> Option<StoredFile> {
        self.state().media.files.get(id).cloned()
    }

    /// Uploads in parts that are not ended.
    pub fn open_uploads(&self) -> usize {
        self.state().media.open.len()
    }

    /// The store removes what was not sent, and ends what was not completed: the days for that are over.
    pub fn removes_what_was_not_sent(&self) {
        let state = &mut self.state().media;
        state.open.clear();
        state.files.retain(|_, file| file.sent);
    }

    /// What is remembered of uploads is forgotten: the days for that are over.
    pub fn forgets_uploads(&self) {
        self.state().media.uploads.clear();
    }
}

fn file_id(conversation: &str, user: &str, media: &str) -> FileId {
    FileId {
        conversation: ConversationId::new(conversation).expect("a conversation"),
        user: UserId::new(user).expect("a user"),
        media: media.parse::<MediaId>().expect("a file"),
    }
}

fn link(url: String) -> Link {
    Link { url, headers: BTreeMap::new(), expires_s: LINK_S }
}

#[async_trait]
impl Uploads for World {
    async fn upload(&self, id: &FileId) -> Result<Option<Upload>> {
        self.weather.call("uploads.get", || Ok(self.state().media.uploads.get(id).cloned())).await
    }

    async fn note(&self, id: &FileId, before: Option<&Upload>, upload: &Upload) -> Result<bool> {
        self.weather
            .call("uploads.note", || {
                let state = &mut self.state().media;
                let is_so = state.uploads.get(id).map(|there| &there.name) == before.map(|before| &before.name);
                if is_so {
                    state.uploads.insert(id.clone(), upload.clone());
                }
                Ok(is_so)
            })
            .await
    }

    async fn forget(&self, id: &FileId) -> Result<()> {
        self.weather
            .call("uploads.forget", || {
                self.state().media.uploads.remove(id);
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Quotas for World {
    async fn take(&self, name: &str, period: Period, amount: u64, most: u64) -> Result<bool> {
        self.weather
            .call("quotas.take", || {
                let state = &mut self.state().media;
                let counted = state.counted.entry((name.to_owned(), period)).or_default();
                let fits = counted.saturating_add(amount) <= most;
                if fits {
                    *counted += amount;
                }
                Ok(fits)
            })
            .await
    }
}

#[async_trait]
impl Attachments for World {
    async fn keep(&self, id: &FileId) -> Result<bool> {
        self.weather
            .call("files.keep", || Ok(self.state().media.files.get_mut(id).map(|file| file.sent = true).is_some()))
            .await
    }

    async fn remove(&self, id: &FileId) -> Result<()> {
        self.weather
            .call("files.remove", || {
                self.state().media.files.remove(id);
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Files for World {
    async fn begin(&self, id: &FileId, _: &str) -> Result<String> {
        self.weather
            .call("files.begin", || {
                let state = &mut self.state().media;
                state.named += 1;
                let name = format!("upload-{}", state.named);
                state.open.insert(name.clone(), (id.clone(), BTreeMap::new()));
                Ok(name)
            })
            .await
    }

    async fn parts(&self, _: &FileId, upload: &str) -> Result<Option<Vec<StoredPart>>> {
        self.weather
            .call("files.parts", || {
                let state = &self.state().media;
                Ok(state.open.get(upload).map(|(_, parts)| parts.values().cloned().collect()))
            })
            .await
    }

    async fn join(&self, id: &FileId, upload: &str, parts: &[StoredPart]) -> Result<bool> {
        self.weather
            .call("files.join", || {
                let state = &mut self.state().media;
                if state.files.contains_key(id) || state.open.remove(upload).is_none() {
                    return Ok(false);
                }
                let sums: Vec<Digest> = parts.iter().filter_map(|part| part.sha256).collect();
                let size = parts.iter().map(|part| part.size).sum();
                state.files.insert(id.clone(), StoredFile { size, sha256: Digest::of_parts(&sums), sent: false });
                Ok(true)
            })
            .await
    }

    async fn end(&self, _: &FileId, upload: &str) -> Result<()> {
        self.weather
            .call("files.end", || {
                self.state().media.open.remove(upload);
                Ok(())
            })
            .await
    }

    async fn look(&self, id: &FileId) -> Result<Option<StoredFile>> {
        self.weather.call("files.look", || Ok(self.file(id))).await
    }

    async fn part_link(&self, _: &FileId, upload: &str, part: u32, bytes: u64, sha256: &Digest) -> Result<Link> {
        Ok(link(format!("part {upload} {part} {bytes} {sha256}")))
    }

    async fn whole_link(&self, id: &FileId, file: &MediaFile) -> Result<Link> {
        let FileId { conversation, user, media } = id;
        Ok(link(format!("whole {conversation} {user} {media} {} {}", file.size, file.sha256)))
    }

    async fn get_link(&self, id: &FileId, _: &str, _: Option<&str>) -> Result<Link> {
        let FileId { conversation, user, media } = id;
        Ok(link(format!("get {conversation} {user} {media}")))
    }
}
