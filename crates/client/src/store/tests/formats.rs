//! Files of every format that was ever written are brought up to date, with everything in them.

use poste_protocol::{Code, ConversationId, EnvelopeId, MessageId, Number, Seq, UserId};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::super::{Receipts, Store};
use super::alice;
use crate::{OutboxState, State};

/// A file as format 1 was: a conversation with history, an envelope under way, one refused, and messages that wait.
pub(super) fn write_format_1(path: &std::path::Path) {
    let sql = Connection::open(path).unwrap();
    sql.pragma_update(None, "journal_mode", "WAL").unwrap();
    sql.execute_batch(include_str!("../schema_1.sql")).unwrap();
    sql.pragma_update(None, "user_version", 1).unwrap();
    sql.execute("INSERT INTO account (one, user, device) VALUES (1, 'alice', 'phone')", []).unwrap();
    let (bob, carol) = (with("bob"), with("carol"));
    for (id, peer, cursor, next) in [(&bob, "bob", 2, 5), (&carol, "carol", 0, 2)] {
        sql.execute(
            "INSERT INTO conversations (id, peer, cursor, head, next_number, active_at, delivered, delivered_told, read)
             VALUES (?1, ?2, ?3, ?3, ?4, 1000, ?3, ?3, ?3)",
            params![id.as_str(), peer, cursor, next],
        )
        .unwrap();
    }
    for (id, envelope, number, body, failure) in [
        (&bob, 10, 4, "under way", None),
        (&carol, 20, 1, "refused", Some(r#"{"code":"not_member","message":"no","retryable":false}"#)),
    ] {
        let json = format!(
            r#"{{"id":"{}","conversation":"{id}","to":"x","number":{number},"messages":[{{"id":"{}","body":"{body}"}}]}}"#,
            Uuid::from_u128(envelope),
            Uuid::from_u128(envelope + 1)
        );
        sql.execute(
            "INSERT INTO outbox (conversation, envelope, number, json, attempt, failure) VALUES (?, ?, ?, ?, 3, ?)",
            params![id.as_str(), Uuid::from_u128(envelope), number, json, failure],
        )
        .unwrap();
    }
    let rows = [
        (&bob, 1, "théâtre", 9, Some(1), None),
        (&bob, 2, "sent", 3, Some(2), None),
        (&bob, 11, "under way", 1, None, Some(10)),
        (&bob, 12, "waits", 1, None, None),
        (&carol, 21, "refused", 0, None, Some(20)),
        (&carol, 22, "held back", 1, None, None),
    ];
    for (id, message, body, state, seq, envelope) in rows {
        let by = if state == 9 { ("bob", "laptop") } else { ("alice", "phone") };
        sql.execute(
            "INSERT INTO messages (conversation, user, device, id, body, written_at, queued_at, state, seq, at, envelope)
             VALUES (?, ?, ?, ?, ?, 900, 900, ?, ?, ?, ?)",
            params![id.as_str(), by.0, by.1, Uuid::from_u128(message), body, state, seq, seq, envelope.map(Uuid::from_u128)],
        )
        .unwrap();
    }
}

pub(super) fn with(peer: &str) -> ConversationId {
    ConversationId::direct(&UserId::new("alice").unwrap(), &UserId::new(peer).unwrap())
}

#[test]
fn format_1_is_brought_up_to_date_with_everything_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("account.db");
    write_format_1(&path);
    let (user, device) = alice();
    let mut store = Store::open(&path, &user, &device).unwrap();
    let tx = store.read().unwrap();
    assert_eq!(tx.recovery().unwrap(), None);
    assert_eq!(tx.receipts().unwrap(), Receipts::default(), "nothing was decided");
    let row = tx.conversation(&with("bob")).unwrap().unwrap();
    assert_eq!((row.cursor, row.next_number, row.read), (Seq::new(2).unwrap(), Number::new(5).unwrap(), row.cursor));
    let list: Vec<_> = tx
        .history(&with("bob"), None, 10)
        .unwrap()
        .into_iter()
        .map(|m| (m.body, m.state, m.seq.map(Seq::get)))
        .collect();
    assert_eq!(
        list,
        [
            ("théâtre".into(), State::Received, Some(1)),
            ("sent".into(), State::Delivered, Some(2)),
            ("under way".into(), State::Pending, None),
            ("waits".into(), State::Pending, None)
        ]
    );
    let found = tx.search("theatre", None, None, 10).unwrap();
    assert_eq!(found.hits[0].message.body, "théâtre", "what was there is indexed");
    let mut entries = tx.outbox_entries().unwrap();
    entries.sort_by_key(|entry| (entry.peer.clone(), entry.number.is_none()));
    let states: Vec<_> = entries.iter().map(|e| (e.peer.as_ref().unwrap().as_str(), e.state, e.attempts)).collect();
    let (under_way, queued, failed) = (OutboxState::UnderWay, OutboxState::Queued, OutboxState::Failed);
    assert_eq!(states, [("bob", under_way, 3), ("bob", queued, 0), ("carol", failed, 3), ("carol", queued, 0)]);
    assert_eq!(entries[0].envelope, Some(EnvelopeId(Uuid::from_u128(10))));
    assert_eq!(entries[0].messages[0].id, MessageId(Uuid::from_u128(11)));
    assert_eq!(entries[2].failure.as_ref().unwrap().code, Code::NotMember);
}
