//! Bytes against a store of a few lines, which does what it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use poste_protocol::{Digest, part_count, part_range};

use super::*;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What the store does with a request: a status, and the bytes of the answer. Of these it may say that there are more
/// than there are: then the answer is cut off.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) bytes: Vec<u8>,
    pub(crate) announced: usize,
}

impl Reply {
    pub(crate) fn whole(status: u16, bytes: Vec<u8>) -> Self {
        Self { status, announced: bytes.len(), bytes }
    }
}

/// A store. Ends with the test.
pub(crate) struct Store {
    pub(crate) address: String,
    pub(crate) seen: Arc<Mutex<Vec<Request>>>,
}

impl Store {
    pub(crate) fn new(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/a/file", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(&stream, &log, &*answer));
            }
        });
        Self { address, seen }
    }

    fn link(&self) -> Link {
        let headers = [("x-amz-checksum-sha256".to_owned(), "sum".to_owned())].into();
        Link { url: self.address.clone(), headers, expires_s: 900 }
    }

    fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: &TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Reply) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let request = Request { line: line.trim_end().to_owned(), headers, body };
        let reply = answer(&request);
        log.lock().unwrap().push(request);
        let mut out = stream;
        write!(out, "HTTP/1.1 {} x\r\ncontent-length: {}\r\n\r\n", reply.status, reply.announced).ok()?;
        out.write_all(&reply.bytes).ok()?;
        if reply.announced > reply.bytes.len() {
            out.shutdown(std::net::Shutdown::Both).ok();
            return None;
        }
    }
}

/// Bytes that are not the same anywhere.
pub(crate) fn bytes(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| u8::try_from((at * 31 + at / 251 + at / 65_521) % 256).unwrap()).collect()
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let size = bytes.len() as u64;
    let part = |part| {
        let (from, length) = part_range(size, part);
        Digest::of(&bytes[usize::try_from(from).unwrap()..usize::try_from(from + length).unwrap()])
    };
    Digest::of_parts(&(1..=part_count(size)).map(part).collect::<Vec<_>>())
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

const SIZE: usize = 6 * 1024 * 1024 + 7;

/// A file of two parts.
fn a_file() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film");
    let bytes = bytes(SIZE);
    std::fs::write(&path, &bytes).unwrap();
    (folder, path, bytes)
}

#[test]
fn a_part_is_put_as_it_is_with_the_headers_that_belong_to_it() {
    let (_folder, path, bytes) = a_file();
    let store = Store::new(|_| Reply::whole(200, Vec::new()));
    let (from, length) = part_range(SIZE as u64, 2);
    let part = &bytes[usize::try_from(from).unwrap()..];
    let moved = Mutex::new(Vec::new());
    let report = |news| moved.lock().unwrap().push(news);
    assert_eq!(run(put(path, from, length, Digest::of(part), store.link(), &report)), News::Done);
    let [request] = &store.requests()[..] else { panic!("one request") };
    assert!(request.line.starts_with("PUT /a/file "), "{}", request.line);
    assert_eq!(request.headers["x-amz-checksum-sha256"], "sum");
    assert_eq!(request.headers["content-length"], length.to_string());
    assert!(!request.headers.contains_key("transfer-encoding"), "the store takes no chunks");
    assert!(request.body == part);
}

#[test]
fn what_the_store_says_of_a_part_is_passed_on() {
    let (_folder, path, bytes) = a_file();
    let first = part_range(SIZE as u64, 1).1;
    let sum = Digest::of(&bytes[..usize::try_from(first).unwrap()]);
    let said = [(200, News::Done), (412, News::Whole), (403, News::Expired), (404, News::Gone), (503, News::Failed)];
    for (status, news) in said.into_iter().chain([(400, News::Failed), (301, News::Failed)]) {
        let store = Store::new(move |_| Reply::whole(status, b"<Error/>".to_vec()));
        assert_eq!(run(put(path.clone(), 0, first, sum, store.link(), &|_| {})), news, "{status}");
    }
    let nowhere = Link { url: "http://127.0.0.1:1/x".into(), headers: BTreeMap::new(), expires_s: 1 };
    assert_eq!(run(put(path.clone(), 0, first, sum, nowhere, &|_| {})), News::Failed);
    let cut = Store::new(|_| Reply { status: 200, bytes: Vec::new(), announced: 10 });
    assert_eq!(run(put(path, 0, first, sum, cut.link(), &|_| {})), News::Done, "the status says it");
}

#[test]
fn a_file_that_is_not_what_it_was_is_never_sent() {
    let (_folder, path, mut bytes) = a_file();
    let store = Store::new(|_| Reply::whole(200, Vec::new()));
    let (from, length) = part_range(SIZE as u64, 2);
    let sum = Digest::of(&bytes[usize::try_from(from).unwrap()..]);
    let again = || run(put(path.clone(), from, length, sum, store.link(), &|_| {}));
    bytes[SIZE - 1] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(again(), News::Changed);
    std::fs::write(&path, &bytes[..SIZE - 1]).unwrap();
    assert_eq!(again(), News::Changed, "shorter");
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(again(), News::Unreadable(_)));
    assert!(store.requests().is_empty(), "not a byte");
}

/// A store that has these bytes, and gives what is asked for of them.
fn having(bytes: &[u8]) -> Store {
    let bytes = bytes.to_vec();
    Store::new(move |request| match request.headers.get("range") {
        None => Reply::whole(200, bytes.clone()),
        Some(range) => {
            let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
            Reply::whole(206, bytes[from..].to_vec())
        }
    })
}

fn fetched(path: &Path, bytes: &[u8], store: &Store) -> News {
    run(get(path, bytes.len() as u64, digest(bytes), store.link(), &|_| {}))
}

#[test]
fn a_file_is_here_whole_or_not_at_all_and_goes_on_where_it_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache/file");
    let bytes = bytes(SIZE);
    let cut = bytes.clone();
    let half = Store::new(move |_| Reply { status: 200, bytes: cut[..SIZE / 2].to_vec(), announced: SIZE });
    assert_eq!(fetched(&path, &bytes, &half), News::Failed);
    assert!(!path.exists());
    let here = std::fs::metadata(part_of(&path)).unwrap().len();
    assert!(here > 0 && here <= (SIZE / 2) as u64);
    let rest = having(&bytes);
    assert_eq!(fetched(&path, &bytes, &rest), News::Done);
    assert_eq!(rest.requests()[0].headers["range"], format!("bytes={here}-"));
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert!(!part_of(&path).exists());
}

#[test]
fn a_whole_part_needs_no_network_and_one_that_is_too_long_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let bytes = bytes(1000);
    let store = having(&bytes);
    std::fs::write(part_of(&path), &bytes).unwrap();
    assert_eq!(fetched(&path, &bytes, &store), News::Done);
    assert!(store.requests().is_empty());
    std::fs::write(part_of(&path), [&bytes[..], b"more"].concat()).unwrap();
    assert_eq!(fetched(&path, &bytes, &store), News::Done);
    assert!(!store.requests()[0].headers.contains_key("range"));
}

#[test]
fn wrong_bytes_are_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let bytes = bytes(1000);
    std::fs::write(part_of(&path), b"something else").unwrap();
    let store = having(&bytes);
    assert_eq!(fetched(&path, &bytes, &store), News::Wrong, "what was here before is not of this file");
    assert!(!path.exists() && !part_of(&path).exists());
    assert_eq!(fetched(&path, &bytes, &store), News::Done);
}

#[test]
fn a_store_that_gives_no_ranges_gives_it_from_the_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let bytes = bytes(1000);
    std::fs::write(part_of(&path), &bytes[..10]).unwrap();
    let all = bytes.clone();
    let store = Store::new(move |_| Reply::whole(200, all.clone()));
    assert_eq!(fetched(&path, &bytes, &store), News::Done);
    assert!(std::fs::read(&path).unwrap() == bytes);
    for (status, news) in [(403, News::Expired), (404, News::Gone), (500, News::Failed)] {
        let store = Store::new(move |_| Reply::whole(status, Vec::new()));
        std::fs::write(part_of(&path), &bytes[..10]).unwrap();
        assert_eq!(fetched(&path, &bytes, &store), news);
        assert_eq!(std::fs::metadata(part_of(&path)).unwrap().len(), 10, "what came is kept");
    }
}

#[test]
fn a_cache_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in the way"), "").unwrap();
    let bytes = bytes(10);
    let news = fetched(&folder.path().join("in the way/file"), &bytes, &having(&bytes));
    assert!(matches!(news, News::NoRoom(_)), "{news:?}");
}

#[test]
fn what_is_not_in_the_books_is_swept_out() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut transfers =
        Transfers::new(folder.path().to_owned(), runtime.handle().clone(), Arc::new(|_, _| panic!("nothing moves")));
    for name in ["known", "begun.part", "old", "old.part"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    transfers.sweep(&["known".into(), "begun".into()]);
    let left = || {
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(left(), ["begun.part", "known"]);
    transfers.carry_out(Transfer::Remove { name: "begun".into() });
    transfers.carry_out(Transfer::Remove { name: "never".into() });
    assert_eq!(left(), ["known"]);
}
