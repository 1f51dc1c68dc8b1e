//! A file that a person sends: read once, part by part, before its message is written.

mod thumbnail;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use poste_protocol::{Attachment, Digest, MediaId, limits, part_count, part_range};
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::store::Source;

/// So much of a file is in memory at a time.
pub(crate) const CHUNK: usize = 64 * 1024;

/// The type of what nothing is known about.
const UNKNOWN: &str = "application/octet-stream";

/// A file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// What the message says of it.
    pub file: Attachment,
    /// What the upload needs to know.
    pub source: Source,
}

/// Reads a file through, and makes a thumbnail if it is a picture. Never more than a part of it is in memory.
///
/// # Errors
/// [`Error::File`] for what is no file, is empty or longer than the wire allows, cannot be read, or changes meanwhile;
/// and for a kind that is no media type.
pub(crate) fn prepare(path: &Path, kind: Option<String>) -> Result<Prepared, Error> {
    let wrong = |why: &str| Error::File { path: path.display().to_string(), why: why.to_owned() };
    let io = |cause: std::io::Error| wrong(&cause.to_string());
    let path = std::path::absolute(path).map_err(io)?;
    let Some(text) = path.to_str() else { return Err(wrong("its path is not UTF-8")) };
    let mut open = File::open(&path).map_err(io)?;
    let (size, modified) = stat(&open).map_err(io)?.ok_or_else(|| wrong("not a file"))?;
    if size == 0 {
        return Err(wrong("it is empty"));
    }
    if size > limits::MEDIA_BYTES {
        return Err(wrong("it is longer than 5 TiB"));
    }
    let mut parts = Vec::new();
    for part in 1..=part_count(size) {
        let (from, bytes) = part_range(size, part);
        parts.push(checksum(&mut open, from, bytes).map_err(io)?.ok_or_else(|| wrong("it became shorter meanwhile"))?);
    }
    if stat(&open).map_err(io)? != Some((size, modified)) {
        return Err(wrong("it changed meanwhile"));
    }
    let picture = thumbnail::of(&mut open);
    let kind = kind.unwrap_or_else(|| match &picture {
        Some(picture) => picture.kind.to_owned(),
        None => kind_of(&path).to_owned(),
    });
    let file = Attachment {
        id: MediaId::fresh(),
        size,
        sha256: Digest::of_parts(&parts),
        kind,
        name: path.file_name().map(|name| name.to_string_lossy().chars().take(limits::MEDIA_NAME).collect()),
        pixels: picture.as_ref().map(|picture| picture.pixels),
        thumbnail: picture.and_then(|picture| picture.jpeg),
    };
    Ok(Prepared { file, source: Source { path: text.to_owned(), modified, parts } })
}

/// Length and time of the last change of what is a file.
pub(crate) fn stat(file: &File) -> std::io::Result<Option<(u64, Option<u64>)>> {
    let found = file.metadata()?;
    Ok(found.is_file().then(|| (found.len(), modified(&found))))
}

fn modified(found: &std::fs::Metadata) -> Option<u64> {
    let since = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// Whether the file is as it was found.
pub(crate) fn is_as_found(path: &Path, size: u64, when: Option<u64>) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == size && modified(&found) == when)
}

/// The checksum of a range of a file; nothing if the file ends before it does.
pub(crate) fn checksum(file: &mut File, from: u64, bytes: u64) -> std::io::Result<Option<Digest>> {
    file.seek(SeekFrom::Start(from))?;
    let mut hash = Sha256::new();
    let mut rest = bytes;
    let mut chunk = vec![0; CHUNK];
    while rest > 0 {
        let most = usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK);
        match file.read(&mut chunk[..most]) {
            Ok(0) => return Ok(None),
            Ok(read) => {
                hash.update(&chunk[..read]);
                rest -= read as u64;
            }
            Err(wrong) if wrong.kind() == std::io::ErrorKind::Interrupted => {}
            Err(wrong) => return Err(wrong),
        }
    }
    Ok(Some(Digest::from_bytes(hash.finalize().into())))
}

/// The checksum of a whole file that must have so many bytes; nothing if it has others.
pub(crate) fn checksum_of_file(path: &Path, size: u64) -> std::io::Result<Option<Digest>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != size {
        return Ok(None);
    }
    let mut parts = Vec::new();
    for part in 1..=part_count(size) {
        let (from, bytes) = part_range(size, part);
        let Some(digest) = checksum(&mut file, from, bytes)? else { return Ok(None) };
        parts.push(digest);
    }
    Ok(Some(Digest::of_parts(&parts)))
}

/// What a file is, by the end of its name.
fn kind_of(path: &Path) -> &'static str {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "aac" => "audio/aac",
        "avif" => "image/avif",
        "bmp" => "image/bmp",
        "csv" => "text/csv",
        "flac" => "audio/flac",
        "gif" => "image/gif",
        "gz" => "application/gzip",
        "heic" => "image/heic",
        "htm" | "html" => "text/html",
        "jpeg" | "jpg" => "image/jpeg",
        "json" => "application/json",
        "m4a" => "audio/mp4",
        "md" => "text/markdown",
        "mov" => "video/quicktime",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "ogg" => "audio/ogg",
        "opus" => "audio/opus",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "txt" => "text/plain",
        "wav" => "audio/wav",
        "webm" => "video/webm",
        "webp" => "image/webp",
        "zip" => "application/zip",
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests;
