//! The object store, as devices reach it: by addresses that are signed for them.

use std::time::Duration;

use poste_protocol::{Digest, Link, part_bytes};

/// A request with all its bytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Puts and gets.
#[derive(Clone)]
pub struct Store {
    http: reqwest::Client,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// Without any proxy.
    ///
    /// # Panics
    /// When there is no way to make requests.
    pub fn new() -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        Self { http: http.expect("a client") }
    }

    /// Puts bytes at an address, with the headers that belong to it. The status.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn put(&self, link: &Link, bytes: Vec<u8>) -> u16 {
        let mut put = self.http.put(&link.url).body(bytes);
        for (name, value) in &link.headers {
            put = put.header(name, value);
        }
        put.send().await.expect("an answer").status().as_u16()
    }

    /// Gets what is at an address, from a byte on if one is named.
    ///
    /// # Errors
    /// The status, if it is no success.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, link: &Link, from: Option<u64>) -> Result<Vec<u8>, u16> {
        let mut get = self.http.get(&link.url);
        if let Some(from) = from {
            get = get.header("range", format!("bytes={from}-"));
        }
        let answer = get.send().await.expect("an answer");
        let status = answer.status();
        let right = if from.is_some() { status.as_u16() == 206 } else { status.is_success() };
        if !right {
            return Err(status.as_u16());
        }
        Ok(answer.bytes().await.expect("the bytes").to_vec())
    }
}

/// The checksum of a file.
pub fn checksum(bytes: &[u8]) -> Digest {
    let part = usize::try_from(part_bytes(bytes.len() as u64)).expect("a part fits in memory");
    Digest::of_parts(&bytes.chunks(part).map(Digest::of).collect::<Vec<_>>())
}
