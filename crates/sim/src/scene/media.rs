//! Files, as a device without the device library uploads and sends them.

use poste_domain::FileId;
use poste_protocol::{
    Attachment, Digest, Link, MediaFile, MediaFrame, MediaId, MediaState, MediaWish, Message, MessageId, PartWish,
    Request, part_count, part_range,
};

use super::{Chat, Device, FromServer, Halted, Moment, Refusal, Submission};

/// A file on a device. Its bytes are not there, only what their checksums would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// The device's name for it.
    pub media: MediaId,
    /// What it is.
    pub file: MediaFile,
    parts: Vec<Digest>,
}

impl Device {
    /// A picture of so many bytes.
    pub fn picture(&self, size: u64) -> LocalFile {
        let media = MediaId(self.fresh());
        let parts: Vec<_> =
            (1..=part_count(size)).map(|part| Digest::of(format!("{media} {part}").as_bytes())).collect();
        let file = MediaFile { size, sha256: Digest::of_parts(&parts), kind: "image/jpeg".to_owned() };
        LocalFile { media, file, parts }
    }

    /// Wants something of a file.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn wants(&self, chat: &Chat, media: MediaId, wish: MediaWish) -> Result<MediaState, Refusal> {
        state(self.stage.runtime.block_on(self.asks(&self.media_frame(chat, media, wish))))
    }

    /// Wants something of a file; the function halts.
    pub fn wants_until(
        &self,
        moment: Moment,
        chat: &Chat,
        media: MediaId,
        wish: MediaWish,
    ) -> Halted<Result<MediaState, Refusal>> {
        let asked = self.asks(&self.media_frame(chat, media, wish));
        self.stage.until(moment, Box::pin(async move { state(asked.await) }))
    }

    fn media_frame(&self, chat: &Chat, media: MediaId, wish: MediaWish) -> Request {
        let (reference, conversation) = (self.reference(), chat.id.clone());
        Request::Media(MediaFrame { reference, media, conversation, wish })
    }

    /// What begins the upload of a file, or goes on with it.
    pub fn beginning(&self, chat: &Chat, picture: &LocalFile) -> MediaWish {
        MediaWish::Begin { to: self.other(chat), file: picture.file.clone() }
    }

    /// An address for a part of a file.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn link(&self, chat: &Chat, picture: &LocalFile, part: u32) -> Result<Link, Refusal> {
        let wish = PartWish { part, sha256: picture.parts[part as usize - 1] };
        match self.wants(chat, picture.media, MediaWish::Parts { parts: vec![wish] })? {
            MediaState::Links { mut links } => Ok(links.remove(0).link),
            other => panic!("{other:?}"),
        }
    }

    /// Puts a part's bytes where they go. The status is that of S3.
    pub fn puts(&self, link: &Link, picture: &LocalFile, part: u32) -> u16 {
        let (_, bytes) = part_range(picture.file.size, part);
        self.stage.world.uploads(link, bytes, picture.parts[part as usize - 1])
    }

    /// Uploads what is missing of a file, and completes it.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn uploads(&self, chat: &Chat, picture: &LocalFile) -> Result<(), Refusal> {
        let mut state = self.wants(chat, picture.media, self.beginning(chat, picture))?;
        while let MediaState::Open { missing } = state {
            for part in missing.into_iter().flat_map(|(first, last)| first..=last) {
                let link = self.link(chat, picture, part)?;
                assert!([200, 412].contains(&self.puts(&link, picture, part)), "the store takes it");
            }
            state = self.wants(chat, picture.media, MediaWish::Complete)?;
        }
        assert_eq!(state, MediaState::Complete);
        Ok(())
    }

    /// Somebody sends a file: an envelope that is not sent yet.
    pub fn shows(&self, chat: &Chat, picture: &LocalFile) -> Submission {
        let LocalFile { media, file, .. } = picture;
        let attachment = Attachment {
            id: *media,
            size: file.size,
            sha256: file.sha256,
            kind: file.kind.clone(),
            name: None,
            pixels: None,
            thumbnail: None,
        };
        self.encloses(chat, vec![Message::of_media(MessageId(self.fresh()), "", attachment)])
    }

    /// Where the file of the message at a place can be downloaded from.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn gets(&self, chat: &Chat, media: MediaId, place: u64) -> Result<Link, Refusal> {
        let message = self.stage.message_at(chat, place);
        match self.wants(chat, media, MediaWish::Get { message })? {
            MediaState::Link { link } => Ok(link),
            other => panic!("{other:?}"),
        }
    }

    /// A file of this user, in the store.
    pub fn file(&self, chat: &Chat, picture: &LocalFile) -> FileId {
        FileId { conversation: chat.id.clone(), user: self.author.user.clone(), media: picture.media }
    }
}

fn state(answer: FromServer) -> Result<MediaState, Refusal> {
    match answer {
        FromServer::Media(answer) => Ok(answer.state),
        FromServer::Error(error) => Err(error.refusal),
        other => panic!("{other:?}"),
    }
}
