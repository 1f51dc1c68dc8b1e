//! Bytes between files and the object store. What is to be moved the engine says; here it is moved, a chunk at a time,
//! and what became of it is reported.

use std::collections::HashMap;
use std::io::{ErrorKind, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use poste_protocol::{Digest, Link};
use reqwest::{Body, RequestBuilder, StatusCode, header};
use rustls::{ClientConfig as TlsConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::time::{Instant, interval, timeout};

use crate::engine::{News, Transfer};
use crate::files::{CHUNK, checksum, checksum_of_file};

/// So long may a connection to the store take.
const CONNECT: Duration = Duration::from_secs(15);

/// Without a byte for so long a transfer has failed. However slow it is, it goes on while it goes on.
const STALL: Duration = Duration::from_mins(1);

/// After the last byte the system's own buffers may still have to be sent, over a slow network.
const ANSWER: Duration = Duration::from_mins(5);

/// How often progress is reported, at most.
const PROGRESS: Duration = Duration::from_millis(250);

/// What a file is called while it is not there as a whole.
const PART: &str = "part";

/// The store, by way of its addresses.
pub(crate) struct Transfers {
    cache: PathBuf,
    handle: tokio::runtime::Handle,
    running: HashMap<u64, tokio::task::JoinHandle<()>>,
    report: Arc<dyn Fn(u64, News) + Send + Sync>,
}

impl Transfers {
    pub(crate) fn new(
        cache: PathBuf,
        handle: tokio::runtime::Handle,
        report: Arc<dyn Fn(u64, News) + Send + Sync>,
    ) -> Self {
        Self { cache, handle, running: HashMap::new(), report }
    }

    /// Where a file of the cache is.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.cache.join(name)
    }

    /// Does what the engine says; all but the answer to whoever waits.
    pub(crate) fn carry_out(&mut self, transfer: Transfer) {
        self.running.retain(|_, task| !task.is_finished());
        match transfer {
            Transfer::Put { number, path, from, bytes, sha256, link } => {
                let report = self.reporter(number);
                let task = async move { report(put(path.into(), from, bytes, sha256, link, &report).await) };
                self.running.insert(number, self.handle.spawn(task));
            }
            Transfer::Get { number, name, size, sha256, link } => {
                let (report, path) = (self.reporter(number), self.path_of(&name));
                let task = async move { report(get(&path, size, sha256, link, &report).await) };
                self.running.insert(number, self.handle.spawn(task));
            }
            Transfer::Stop { number } => {
                if let Some(task) = self.running.remove(&number) {
                    task.abort();
                }
            }
            Transfer::Remove { name } => {
                for path in [part_of(&self.path_of(&name)), self.path_of(&name)] {
                    remove(&path);
                }
            }
            Transfer::Downloaded { .. } => {}
        }
    }

    /// Stops everything: nothing may run once the process is in the background, and nothing for an engine that is gone.
    pub(crate) fn stop(&mut self) {
        self.running.drain().for_each(|(_, task)| task.abort());
    }

    /// Removes from the cache what is not in its books.
    pub(crate) fn sweep(&self, known: &[String]) {
        let Ok(entries) = std::fs::read_dir(&self.cache) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let name = name.strip_suffix(&format!(".{PART}")).unwrap_or(name);
            if !known.iter().any(|known| known == name) {
                remove(&path);
            }
        }
    }

    fn reporter(&self, number: u64) -> impl Fn(News) + Send + Sync + use<> {
        let report = Arc::clone(&self.report);
        move |news| report(number, news)
    }
}

impl Drop for Transfers {
    fn drop(&mut self) {
        self.stop();
    }
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(wrong) if wrong.kind() != ErrorKind::NotFound => {
            tracing::warn!(%wrong, "a file of the cache could not be removed");
        }
        _ => {}
    }
}

fn part_of(path: &Path) -> PathBuf {
    path.with_added_extension(PART)
}

/// The one client of the process. Its certificates are checked by the roots that the socket's are.
fn http() -> Option<&'static reqwest::Client> {
    static HTTP: OnceLock<Option<reqwest::Client>> = OnceLock::new();
    let made = HTTP.get_or_init(|| {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls = TlsConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // An address is signed for one request: it leads nowhere else.
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(CONNECT);
        builder.tls_backend_preconfigured(tls).build().ok()
    });
    made.as_ref()
}

fn with_headers(request: RequestBuilder, link: &Link) -> RequestBuilder {
    link.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// What an answer of the store means that is neither the bytes nor their receipt.
fn refusal(status: StatusCode) -> News {
    match status {
        StatusCode::FORBIDDEN => News::Expired,
        StatusCode::NOT_FOUND => News::Gone,
        StatusCode::PRECONDITION_FAILED => News::Whole,
        _ => {
            tracing::info!(%status, "the store did not take a request");
            News::Failed
        }
    }
}

/// The error without the address, which opens what it leads to.
fn failed(wrong: reqwest::Error) -> News {
    tracing::info!(wrong = %wrong.without_url(), "a transfer has failed");
    News::Failed
}

async fn put(path: PathBuf, from: u64, bytes: u64, sha256: Digest, link: Link, report: &impl Fn(News)) -> News {
    let Some(http) = http() else { return News::Failed };
    let checked = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || checksum(&mut std::fs::File::open(path)?, from, bytes)).await
    };
    match checked {
        Ok(Ok(Some(found))) if found == sha256 => {}
        Ok(Ok(_)) => return News::Changed,
        Ok(Err(wrong)) => return News::Unreadable(wrong.to_string()),
        // Stopped, with all else.
        Err(_) => return News::Failed,
    }
    let opened = async {
        let mut file = tokio::fs::File::open(&path).await?;
        file.seek(SeekFrom::Start(from)).await?;
        std::io::Result::Ok(file.take(bytes))
    };
    let file = match opened.await {
        Ok(file) => file,
        Err(wrong) => return News::Unreadable(wrong.to_string()),
    };
    let moved = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&moved);
    // Should the file change between the two readings, the store refuses the bytes: it has the checksum, too.
    let chunks = futures::stream::try_unfold(file, move |mut file| {
        let count = Arc::clone(&count);
        async move {
            let mut chunk = vec![0; CHUNK];
            let read = file.read(&mut chunk).await?;
            chunk.truncate(read);
            count.fetch_add(read as u64, Ordering::Relaxed);
            std::io::Result::Ok((read > 0).then_some((chunk, file)))
        }
    });
    let request = with_headers(http.put(&link.url), &link).header(header::CONTENT_LENGTH, bytes);
    let mut answer = std::pin::pin!(request.body(Body::wrap_stream(chunks)).send());
    let mut ticks = interval(PROGRESS);
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        tokio::select! {
            answer = &mut answer => return match answer {
                Ok(answer) if answer.status().is_success() => News::Done,
                Ok(answer) => refusal(answer.status()),
                Err(wrong) => failed(wrong),
            },
            _ = ticks.tick() => {
                let now = moved.load(Ordering::Relaxed);
                if now > seen {
                    (seen, since) = (now, Instant::now());
                    report(News::Moved(now));
                } else if since.elapsed() > if now == bytes { ANSWER } else { STALL } {
                    return News::Failed;
                }
            }
        }
    }
}

async fn get(path: &Path, size: u64, sha256: Digest, link: Link, report: &impl Fn(News)) -> News {
    let no_room = |wrong: std::io::Error| News::NoRoom(wrong.to_string());
    let part = part_of(path);
    let opened = async {
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        let file = tokio::fs::OpenOptions::new().create(true).append(true).open(&part).await?;
        let here = file.metadata().await?.len();
        std::io::Result::Ok((file, here))
    };
    let (mut file, mut here) = match opened.await {
        Ok(opened) => opened,
        Err(wrong) => return no_room(wrong),
    };
    if here > size {
        if let Err(wrong) = file.set_len(0).await {
            return no_room(wrong);
        }
        here = 0;
    }
    if here < size
        && let Err(news) = fetch(&mut file, &mut here, size, &link, report).await
    {
        return news;
    }
    // What is called a file is one, also after a power cut.
    if let Err(wrong) = file.sync_all().await {
        return no_room(wrong);
    }
    drop(file);
    let (of, to) = (part.clone(), path.to_owned());
    let kept = tokio::task::spawn_blocking(move || {
        if checksum_of_file(&of, size)? == Some(sha256) {
            std::fs::rename(&of, &to)?;
            return Ok(News::Done);
        }
        std::fs::remove_file(&of)?;
        std::io::Result::Ok(News::Wrong)
    });
    kept.await.map_or(News::Failed, |kept| kept.unwrap_or_else(no_room))
}

/// Appends what is missing.
async fn fetch(
    file: &mut tokio::fs::File,
    here: &mut u64,
    size: u64,
    link: &Link,
    report: &impl Fn(News),
) -> Result<(), News> {
    let no_room = |wrong: std::io::Error| News::NoRoom(wrong.to_string());
    let mut request = with_headers(http().ok_or(News::Failed)?.get(&link.url), link);
    if *here > 0 {
        request = request.header(header::RANGE, format!("bytes={here}-"));
    }
    let answer = timeout(STALL, request.send()).await.map_err(|_| News::Failed)?.map_err(failed)?;
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::OK if *here == 0 => {}
        StatusCode::OK | StatusCode::RANGE_NOT_SATISFIABLE => {
            // Whoever it is that does not give the rest: from the beginning, then.
            file.set_len(0).await.map_err(no_room)?;
            *here = 0;
            if answer.status() != StatusCode::OK {
                return Err(News::Failed);
            }
        }
        status => return Err(refusal(status)),
    }
    let mut chunks = answer.bytes_stream();
    let mut reported = Instant::now();
    while *here < size {
        let chunk = match timeout(STALL, chunks.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(wrong))) => return Err(failed(wrong)),
            Ok(None) | Err(_) => return Err(News::Failed),
        };
        // What comes beyond the end is none of it.
        let wanted = usize::try_from(size - *here).unwrap_or(usize::MAX).min(chunk.len());
        file.write_all(&chunk[..wanted]).await.map_err(no_room)?;
        *here += wanted as u64;
        if reported.elapsed() >= PROGRESS || *here == size {
            reported = Instant::now();
            report(News::Moved(*here));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
