//! Searching: by words, whatever is typed; and what is gone is not found.

use poste_protocol::{Author, Cell, ConversationId, DeviceId, EnvelopeId, Message, MessageId, Number, Seq, UserId};
use proptest::prelude::*;

use super::super::Store;
use super::alice;
use super::formats::with;
use crate::Found;

/// A store with messages of others, each a millisecond after the one before.
fn store(messages: &[(&ConversationId, &str)]) -> Store {
    let (user, device) = alice();
    let mut store = Store::in_memory(&user, &device).unwrap();
    let tx = store.begin().unwrap();
    for ((conversation, body), place) in messages.iter().zip(1..) {
        tx.know_conversation(conversation, None).unwrap();
        let message = Message::new(MessageId::fresh(), *body);
        let cell = Cell {
            seq: Seq::new(place).unwrap(),
            envelope: EnvelopeId::fresh(),
            number: Number::new(place).unwrap(),
            by: Author { user: UserId::new("bob").unwrap(), device: DeviceId::new("laptop").unwrap() },
            at: 1_000 + place,
            messages: vec![message.clone()],
        };
        tx.settle(conversation, &user, &cell, &message, cell.seq).unwrap();
    }
    tx.commit().unwrap();
    store
}

fn bodies(found: &Found) -> Vec<&str> {
    found.hits.iter().map(|hit| hit.message.body.as_str()).collect()
}

fn search(store: &mut Store, text: &str) -> Vec<String> {
    let found = store.read().unwrap().search(text, None, None, 100).unwrap();
    bodies(&found).into_iter().map(str::to_owned).collect()
}

#[test]
fn all_words_must_be_there_and_accents_and_case_make_no_difference() {
    let bob = with("bob");
    let mut store = store(&[(&bob, "Café in Zürich"), (&bob, "a cafe elsewhere"), (&bob, "ZURICH, без кофе")]);
    assert_eq!(search(&mut store, "CAFE zurich"), ["Café in Zürich"]);
    assert_eq!(search(&mut store, "zürich"), ["ZURICH, без кофе", "Café in Zürich"], "the newest first");
    assert_eq!(search(&mut store, "БЕЗ"), ["ZURICH, без кофе"]);
    assert_eq!(search(&mut store, "zur"), ["ZURICH, без кофе", "Café in Zürich"], "the last word may be a beginning");
    assert_eq!(search(&mut store, "zur cafe"), [] as [&str; 0], "the others may not");
    assert_eq!(search(&mut store, ""), [] as [&str; 0]);
}

#[test]
fn nothing_that_is_typed_is_taken_for_the_indexs_own_language() {
    let bob = with("bob");
    let mut store = store(&[(&bob, "this OR that"), (&bob, "say \"hi\" NOT now"), (&bob, "body: near(you)")]);
    assert_eq!(search(&mut store, "this OR"), ["this OR that"]);
    assert_eq!(search(&mut store, "\"hi\""), ["say \"hi\" NOT now"]);
    assert_eq!(search(&mut store, "NOT"), ["say \"hi\" NOT now"]);
    assert_eq!(search(&mut store, "body:near(you) ^ * - :"), ["body: near(you)"]);
    for rubbish in ["\"", "\"\"\"", "*", "^", "a AND", "(", "NEAR(", "{x}:", "a\0b\"", "'; DROP TABLE messages", "🦀"]
    {
        search(&mut store, rubbish);
    }
    let long = "word ".repeat(10_000);
    assert_eq!(search(&mut store, &long), [] as [&str; 0]);
}

#[test]
fn hits_are_marked_in_a_part_of_the_text() {
    let bob = with("bob");
    let text = format!("{} the needle, a Needle {}", "before ".repeat(50), "after ".repeat(50));
    let tricky = "\u{e000}<0\u{e001} needle \u{e000}>0\u{e001}";
    let mut store = store(&[(&bob, &text), (&bob, tricky)]);
    let found = store.read().unwrap().search("needle", Some(&bob), None, 10).unwrap();
    let hits = |index: usize| {
        let pieces = found.hits[index].snippet.iter().filter(|piece| piece.hit);
        pieces.map(|piece| piece.text.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(hits(1), ["needle", "Needle"]);
    let shown: String = found.hits[1].snippet.iter().map(|piece| piece.text.as_str()).collect();
    assert!(shown.starts_with('…') && shown.ends_with('…') && shown.len() < 300, "{shown}");
    assert!(text.contains(shown.trim_matches('…')));
    // A text that looks as if it were marked is not taken for marked.
    assert_eq!(hits(0), ["needle"]);
    assert_eq!(found.hits[0].snippet.iter().map(|piece| piece.text.as_str()).collect::<String>(), tricky);
}

#[test]
fn what_is_dropped_or_taken_out_is_not_found_any_more() {
    let (user, device) = alice();
    let bob = with("bob");
    let mut store = store(&[(&bob, "a secret of bob")]);
    let tx = store.begin().unwrap();
    let me = Author { user, device };
    let own = Message { written_at: Some(9_000), ..Message::new(MessageId::fresh(), "a secret of mine") };
    tx.add_own(&bob, &me, &own, 9_000, 9_000).unwrap();
    tx.commit().unwrap();
    assert_eq!(search(&mut store, "secret"), ["a secret of mine", "a secret of bob"]);
    let tx = store.begin().unwrap();
    assert!(tx.delete_waiting(&bob, own.id).unwrap());
    tx.sql.execute("UPDATE messages SET body = 'redacted' WHERE body = 'a secret of bob'", []).unwrap();
    tx.commit().unwrap();
    assert_eq!(search(&mut store, "secret"), [] as [&str; 0]);
    assert_eq!(search(&mut store, "redacted"), ["redacted"]);
    // Nor is it in the index's pages.
    let tx = store.read().unwrap();
    let left: i64 = tx
        .sql
        .query_row("SELECT count(*) FROM search_data WHERE instr(block, CAST('secret' AS BLOB))", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
    tx.sql.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)", []).unwrap();
}

#[test]
fn thousands_of_hits_are_paged_without_one_twice_or_left_out() {
    let (bob, carol) = (with("bob"), with("carol"));
    let texts: Vec<String> =
        (0..6_000).map(|n| format!("number {n} {}", if n % 3 == 0 { "fizz" } else { "" })).collect();
    let messages: Vec<_> =
        texts.iter().enumerate().map(|(n, text)| (if n % 2 == 0 { &bob } else { &carol }, text.as_str())).collect();
    let mut store = store(&messages);
    let tx = store.read().unwrap();
    for (conversation, count) in [(None, 2_000), (Some(&bob), 1_000)] {
        let mut all = Vec::new();
        let mut before = None;
        loop {
            let found = tx.search("fizz", conversation, before, 190).unwrap();
            assert!(found.hits.len() <= 190);
            all.extend(found.hits.into_iter().map(|hit| hit.message));
            before = found.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(all.len(), count);
        assert!(all.windows(2).all(|pair| pair[0].at > pair[1].at), "newest first, each once");
        assert!(all.iter().all(|message| conversation.is_none_or(|id| message.conversation == *id)));
    }
    assert_eq!(bodies(&tx.search("5999", None, None, 10).unwrap()), ["number 5999 "]);
}

proptest! {
    #[test]
    fn no_text_makes_a_search_fail(text in any::<String>(), noise in "[\"*^():{}+ a-cAND\u{0}-]{0,40}") {
        let bob = with("bob");
        let mut store = store(&[(&bob, "a b c and"), (&bob, &text)]);
        search(&mut store, &text);
        search(&mut store, &noise);
        search(&mut store, &format!("{noise}{text}"));
    }
}
