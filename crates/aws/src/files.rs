//! Files in S3. The key of a file is its conversation, its user and its name.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    presigning::{PresignedRequest, PresigningConfig},
    types::{ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart},
};
use poste_domain::{
    FileId, Trouble,
    ports::{Attachments, Files, Result, StoredFile, StoredPart},
};
use poste_protocol::{Digest, Link, MediaFile, limits};

use crate::trouble::trouble;

/// How long an address can be used: long enough for a part on a slow line. Shorter, if the function's credentials end
/// before.
const LINK: Duration = Duration::from_mins(15);

/// What a file carries until it is sent. A rule of the bucket removes what carries it for too long.
const UNSENT: &str = "poste=unsent";

/// Pages that the parts of an upload fill at most, a thousand in each.
const PAGES: u32 = limits::MEDIA_PARTS.div_ceil(1_000) + 1;

/// Files in a bucket.
pub struct S3Files {
    client: Client,
    /// Signs addresses as devices reach them.
    outside: Client,
    bucket: String,
}

impl S3Files {
    /// In this bucket. `outside` is the bucket as devices reach it.
    pub fn new(client: Client, outside: Client, bucket: String) -> Self {
        Self { client, outside, bucket }
    }
}

fn key(id: &FileId) -> String {
    format!("{}/{}/{}", id.conversation, id.user, id.media)
}

/// Whether S3 says that there is no such thing.
fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    matches!(error.code(), Some("NoSuchKey" | "NoSuchUpload" | "NotFound"))
        || error.raw_response().is_some_and(|response| response.status().as_u16() == 404)
}

fn lifetime() -> Result<PresigningConfig> {
    PresigningConfig::expires_in(LINK).map_err(|error| Trouble::broken("files.sign", error))
}

fn link(request: &PresignedRequest) -> Link {
    // Whoever makes the request knows its own host and length.
    let own = |name: &str| ["host", "content-length"].contains(&name.to_ascii_lowercase().as_str());
    let headers = request.headers().filter(|(name, _)| !own(name));
    Link {
        url: request.uri().to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        expires_s: LINK.as_secs(),
    }
}

fn length(bytes: u64) -> Result<i64> {
    i64::try_from(bytes).map_err(|error| Trouble::broken("files.sign", error))
}

/// A length that S3 tells.
fn told(part: &'static str, bytes: Option<i64>) -> Result<u64> {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(|| Trouble::broken(part, "an answer without a length"))
}

/// A header's value that says: save this, under this name. RFC 6266, and RFC 5987 for the name.
fn attachment(name: Option<&str>) -> String {
    let Some(name) = name else { return "attachment".to_owned() };
    let spelled = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let name: String = name.bytes().map(spelled).collect();
    format!("attachment; filename*=UTF-8''{name}")
}

#[async_trait]
impl Attachments for S3Files {
    async fn keep(&self, id: &FileId) -> Result<bool> {
        match self.client.delete_object_tagging().bucket(&self.bucket).key(key(id)).send().await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(trouble("files.keep", &error)),
        }
    }

    async fn remove(&self, id: &FileId) -> Result<()> {
        let removed = self.client.delete_object().bucket(&self.bucket).key(key(id)).send().await;
        removed.map(drop).map_err(|error| trouble("files.remove", &error))
    }
}

#[async_trait]
impl Files for S3Files {
    async fn begin(&self, id: &FileId, kind: &str) -> Result<String> {
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key(id))
            .content_type(kind)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .tagging(UNSENT)
            .send()
            .await
            .map_err(|error| trouble("files.begin", &error))?;
        begun.upload_id.ok_or_else(|| Trouble::broken("files.begin", "an upload without a name"))
    }

    async fn parts(&self, id: &FileId, upload: &str) -> Result<Option<Vec<StoredPart>>> {
        let mut parts = Vec::new();
        let mut after = None;
        for _ in 0..PAGES {
            let list = self.client.list_parts().bucket(&self.bucket).key(key(id)).upload_id(upload);
            let page = match list.set_part_number_marker(after).send().await {
                Ok(page) => page,
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(trouble("files.parts", &error)),
            };
            for part in page.parts.unwrap_or_default() {
                let number = part.part_number.and_then(|number| u32::try_from(number).ok());
                parts.push(StoredPart {
                    part: number.ok_or_else(|| Trouble::broken("files.parts", "a part without a number"))?,
                    size: told("files.parts", part.size)?,
                    sha256: part.checksum_sha256.and_then(|sum| sum.parse().ok()),
                    tag: part.e_tag.unwrap_or_default(),
                });
            }
            after = page.next_part_number_marker;
            if page.is_truncated != Some(true) || after.is_none() {
                return Ok(Some(parts));
            }
        }
        Err(Trouble::broken("files.parts", "more parts than there can be"))
    }

    async fn join(&self, id: &FileId, upload: &str, parts: &[StoredPart]) -> Result<bool> {
        let completed = |part: &StoredPart| {
            CompletedPart::builder()
                .part_number(i32::try_from(part.part).unwrap_or(i32::MAX))
                .e_tag(&part.tag)
                .set_checksum_sha256(part.sha256.map(|sum| sum.to_string()))
                .build()
        };
        let parts = parts.iter().map(completed).collect();
        let joined = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key(id))
            .upload_id(upload)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            // What is sent already is not put back to unsent.
            .if_none_match("*")
            .send()
            .await;
        match joined {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) if matches!(error.code(), Some("PreconditionFailed" | "ConditionalRequestConflict")) => {
                Ok(false)
            }
            Err(error) => Err(trouble("files.join", &error)),
        }
    }

    async fn end(&self, id: &FileId, upload: &str) -> Result<()> {
        let end = self.client.abort_multipart_upload().bucket(&self.bucket).key(key(id)).upload_id(upload);
        match end.send().await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(trouble("files.end", &error)),
        }
    }

    async fn look(&self, id: &FileId) -> Result<Option<StoredFile>> {
        let head = self.client.head_object().bucket(&self.bucket).key(key(id)).checksum_mode(ChecksumMode::Enabled);
        let tags = self.client.get_object_tagging().bucket(&self.bucket).key(key(id));
        let head = match head.send().await {
            Ok(head) => head,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(trouble("files.look", &error)),
        };
        let tags = match tags.send().await {
            Ok(tags) => tags,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(trouble("files.look", &error)),
        };
        // Of several parts it is told with their number behind it.
        let sum = head.checksum_sha256.as_deref().and_then(|sum| sum.split('-').next()?.parse::<Digest>().ok());
        Ok(Some(StoredFile {
            size: told("files.look", head.content_length)?,
            sha256: sum.ok_or_else(|| Trouble::broken("files.look", "a file without a checksum"))?,
            sent: tags.tag_set.is_empty(),
        }))
    }

    async fn part_link(&self, id: &FileId, upload: &str, part: u32, bytes: u64, sha256: &Digest) -> Result<Link> {
        let request = self
            .outside
            .upload_part()
            .bucket(&self.bucket)
            .key(key(id))
            .upload_id(upload)
            .part_number(i32::try_from(part).unwrap_or(i32::MAX))
            .content_length(length(bytes)?)
            .checksum_sha256(sha256.to_string())
            .presigned(lifetime()?)
            .await;
        request.map(|request| link(&request)).map_err(|error| trouble("files.sign", &error))
    }

    async fn whole_link(&self, id: &FileId, file: &MediaFile) -> Result<Link> {
        let request = self
            .outside
            .put_object()
            .bucket(&self.bucket)
            .key(key(id))
            .content_type(&file.kind)
            .content_length(length(file.size)?)
            .checksum_sha256(file.sha256.to_string())
            .tagging(UNSENT)
            .if_none_match("*")
            .presigned(lifetime()?)
            .await;
        request.map(|request| link(&request)).map_err(|error| trouble("files.sign", &error))
    }

    async fn get_link(&self, id: &FileId, kind: &str, name: Option<&str>) -> Result<Link> {
        let request = self
            .outside
            .get_object()
            .bucket(&self.bucket)
            .key(key(id))
            .response_content_type(kind)
            .response_content_disposition(attachment(name))
            .presigned(lifetime()?)
            .await;
        request.map(|request| link(&request)).map_err(|error| trouble("files.sign", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_said_so_that_no_header_ends_in_it() {
        assert_eq!(attachment(None), "attachment");
        assert_eq!(attachment(Some("harbour.mp4")), "attachment; filename*=UTF-8''harbour.mp4");
        assert_eq!(attachment(Some("a b\"\r\n;é")), "attachment; filename*=UTF-8''a%20b%22%0D%0A%3B%C3%A9");
    }
}
