//! Files in S3. The key of a file is its conversation, its user and its name.

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    types::{ChecksumAlgorithm, ChecksumMode, CompletedMultipartUpload, CompletedPart},
};
use poste_domain::{
    FileId, Trouble,
    ports::{Attachments, Files, Result, StoredFile, StoredPart},
};
use poste_protocol::{Digest, Link, MediaFile, limits};

use crate::{
    links::{LENGTH, Links, Request, spelled},
    trouble::trouble,
};

/// The header of a checksum that S3 holds what comes against.
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// What a file carries until it is sent. A rule of the bucket removes what carries it for too long.
const UNSENT: &str = "poste=unsent";

/// Pages that the parts of an upload fill at most, a thousand in each.
const PAGES: u32 = limits::MEDIA_PARTS.div_ceil(1_000) + 1;

/// Files of messages, in a bucket.
pub struct S3Attachments {
    client: Client,
    bucket: String,
}

impl S3Attachments {
    /// In this bucket.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }
}

/// All that is done with files in a bucket.
pub struct S3Files {
    client: Client,
    bucket: String,
    attachments: S3Attachments,
    links: Links,
}

impl S3Files {
    /// In this bucket, to which the links lead.
    pub fn new(client: Client, bucket: String, links: Links) -> Self {
        let attachments = S3Attachments::new(client.clone(), bucket.clone());
        Self { client, bucket, attachments, links }
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

/// A length that S3 tells.
fn told(part: &'static str, bytes: Option<i64>) -> Result<u64> {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(|| Trouble::broken(part, "an answer without a length"))
}

/// A header's value that says: save this, under this name. RFC 6266, and RFC 5987 for the name.
fn attachment(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("attachment; filename*=UTF-8''{}", spelled(name)),
        None => "attachment".to_owned(),
    }
}

#[async_trait]
impl Attachments for S3Attachments {
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
impl Attachments for S3Files {
    async fn keep(&self, id: &FileId) -> Result<bool> {
        self.attachments.keep(id).await
    }

    async fn remove(&self, id: &FileId) -> Result<()> {
        self.attachments.remove(id).await
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
        let (number, length, sum) = (part.to_string(), bytes.to_string(), sha256.to_string());
        let query = &[("partNumber", &*number), ("uploadId", upload)];
        let headers = &[(LENGTH, &*length), (CHECKSUM, &sum)];
        self.links.link(&Request { method: "PUT", key: &key(id), query, headers }).await
    }

    async fn whole_link(&self, id: &FileId, file: &MediaFile) -> Result<Link> {
        let (length, sum) = (file.size.to_string(), file.sha256.to_string());
        let headers = &[
            (LENGTH, &*length),
            ("content-type", &file.kind),
            (CHECKSUM, &sum),
            ("x-amz-tagging", UNSENT),
            ("if-none-match", "*"),
        ];
        self.links.link(&Request { method: "PUT", key: &key(id), query: &[], headers }).await
    }

    async fn get_link(&self, id: &FileId, kind: &str, name: Option<&str>) -> Result<Link> {
        let disposition = attachment(name);
        let query = &[("response-content-disposition", &*disposition), ("response-content-type", kind)];
        self.links.link(&Request { method: "GET", key: &key(id), query, headers: &[] }).await
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
