//! Searching what is on the device, by words.

use poste_protocol::ConversationId;
use rusqlite::params;

use super::Tx;
use super::columns::{int, uint};
use crate::{Found, FoundPlace, Hit, Piece, StoreError};

/// Words of a query that count, and characters of each. Nobody types more.
const WORDS: usize = 16;
const WORD: usize = 64;

/// Words of a message around what was found.
const SNIPPET: u32 = 24;

/// What a person typed, for the index: each word must be there, the last one may be the beginning of a word. Whatever
/// the text, it is words: nothing in it is taken for the index's own language. Nothing if there is no word in it.
fn query(text: &str) -> Option<String> {
    let words: Vec<String> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .take(WORDS)
        .map(|word| format!("\"{}\"", word.chars().take(WORD).collect::<String>().replace('"', "\"\"")))
        .collect();
    (!words.is_empty()).then(|| format!("{}*", words.join(" ")))
}

/// Takes a snippet apart at its marks.
fn pieces(snippet: &str, begin: &str, end: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut add = |text: &str, hit| {
        if !text.is_empty() {
            pieces.push(Piece { text: text.to_owned(), hit });
        }
    };
    let mut rest = snippet;
    while let Some((before, after)) = rest.split_once(begin) {
        let (hit, after) = after.split_once(end).unwrap_or((after, ""));
        add(before, false);
        add(hit, true);
        rest = after;
    }
    add(rest, false);
    pieces
}

/// Marks that are not in the text.
fn marks(text: &str) -> (String, String) {
    let mark = |kind: char, number: u32| format!("\u{e000}{kind}{number}\u{e001}");
    let free = |number: &u32| !text.contains(&mark('<', *number)) && !text.contains(&mark('>', *number));
    // A message is too short to have all of them.
    let number = (0..=10_000).find(free).unwrap_or_default();
    (mark('<', number), mark('>', number))
}

impl Tx<'_> {
    /// Messages that have these words, the newest first; of one conversation, or of all.
    pub fn search(
        &self,
        text: &str,
        conversation: Option<&ConversationId>,
        before: Option<FoundPlace>,
        limit: usize,
    ) -> Result<Found, StoreError> {
        let Some(query) = query(text) else { return Ok(Found::default()) };
        let (at, local) = before.map_or((i64::MAX, i64::MAX), |place| (int(place.at), place.local));
        let mut found = self.sql.prepare_cached(
            "SELECT m.local, coalesce(m.at, m.written_at, 0) AS time FROM search JOIN messages m ON m.local = search.rowid
             WHERE search MATCH ?1 AND (?2 IS NULL OR m.conversation = ?2)
                AND (coalesce(m.at, m.written_at, 0), m.local) < (?3, ?4)
             ORDER BY time DESC, m.local DESC LIMIT ?5",
        )?;
        let values = params![query, conversation.map(ConversationId::as_str), at, local, int(limit as u64 + 1)];
        let places =
            found.query_map(values, |row| Ok(FoundPlace { at: uint(row, "time")?, local: row.get("local")? }))?;
        let mut places = places.collect::<rusqlite::Result<Vec<_>>>()?;
        let more = places.len() > limit;
        places.truncate(limit);
        // Only of those that are shown: to make one, the message is read through.
        let mut snippet = self.sql.prepare_cached(
            "SELECT snippet(search, 0, ?3, ?4, '…', ?5) FROM search WHERE search MATCH ?1 AND rowid = ?2",
        )?;
        let mut hits = Vec::new();
        for place in &places {
            let Some(message) = self.message(place.local)? else { continue };
            let (begin, end) = marks(&message.body);
            let text: String = snippet.query_row(params![query, place.local, begin, end, SNIPPET], |row| row.get(0))?;
            hits.push(Hit { message, snippet: pieces(&text, &begin, &end) });
        }
        Ok(Found { hits, next: places.last().copied().filter(|_| more) })
    }
}
