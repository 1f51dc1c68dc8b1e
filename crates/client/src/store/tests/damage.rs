//! Damaged files: noticed, kept, and replaced by one with everything that was nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use poste_protocol::{
    Attachment, Author, Code, Digest, Envelope, EnvelopeId, MediaId, Message, MessageId, Number, Seq, UserId,
};
use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

use super::super::{Doubt, Receipts, Source, Store, UploadState};
use super::alice;
use super::formats::{with, write_format_1};
use crate::{Failure, OutboxState, State, StoreError};

fn me() -> Author {
    let (user, device) = alice();
    Author { user, device }
}

fn account(folder: &TempDir) -> PathBuf {
    folder.path().join("account.db")
}

fn open(path: &Path, doubt: Doubt) -> Result<Store, StoreError> {
    let me = me();
    Store::open_doubted(path, &me.user, &me.device, doubt)
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

/// What waits: per envelope (or none) the bodies, and the envelope's bytes.
type Waiting = BTreeMap<(String, Option<Uuid>), (Vec<String>, Option<String>)>;

fn waiting(store: &mut Store) -> Result<Waiting, StoreError> {
    let tx = store.read()?;
    let mut found = Waiting::new();
    for conversation in tx.conversations()? {
        for (message, envelope) in tx.waiting(&conversation.id)? {
            let json = envelope.map(|id| tx.outbox_envelope(id)).transpose()?.flatten().map(|row| row.json);
            let entry = found.entry((conversation.id.to_string(), envelope.map(|id| id.0))).or_default();
            entry.0.push(message.body);
            entry.1 = json;
        }
    }
    Ok(found)
}

/// A file with history and a full outbox: in each of some conversations two messages under way and two that wait.
fn fill(path: &Path, peers: usize, history: u64) -> Waiting {
    let me = me();
    let mut store = Store::open(path, &me.user, &me.device).unwrap();
    let tx = store.begin().unwrap();
    for peer in 0..peers {
        let name = format!("peer{peer}");
        let id = with(&name);
        tx.know_conversation(&id, Some(&UserId::new(&name).unwrap())).unwrap();
        for seq in 1..=history {
            let text = Message::new(MessageId::fresh(), format!("{name} {seq} {}", "h".repeat(200)));
            let cell = poste_protocol::Cell {
                seq: Seq::new(seq).unwrap(),
                envelope: EnvelopeId::fresh(),
                number: Number::new(seq).unwrap(),
                by: Author { user: UserId::new(&name).unwrap(), device: me.device.clone() },
                at: 1,
                messages: vec![text.clone()],
            };
            tx.settle(&id, &me.user, &cell, &text, cell.seq).unwrap();
        }
        tx.raise_cursor(&id, Seq::new(history).unwrap()).unwrap();
        let write = |body: &str| {
            let message =
                Message { written_at: Some(5), ..Message::new(MessageId::fresh(), format!("{name}: {body}")) };
            tx.add_own(&id, &me, &message, 7, 7).unwrap();
            message
        };
        let envelope = Envelope {
            id: EnvelopeId::fresh(),
            conversation: id.clone(),
            to: Some(UserId::new(&name).unwrap()),
            number: Number::new(4).unwrap(),
            messages: vec![write("first"), write("second")],
        };
        tx.put_under_way(&envelope, &serde_json::to_string(&envelope).unwrap()).unwrap();
        write("third");
        write("fourth");
    }
    tx.commit().unwrap();
    let waiting = waiting(&mut store).unwrap();
    store.close().unwrap();
    waiting
}

#[test]
fn a_file_with_another_header_is_kept_and_a_new_one_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = account(&folder);
    fill(&path, 3, 10);
    overwrite(&path, 0, &[0x5a; 100]);
    let before = fs::read(&path).unwrap();
    let mut store = open(&path, Doubt::None).unwrap();
    let recovery = store.read().unwrap().recovery().unwrap().expect("it was noticed");
    assert!(recovery.incomplete && recovery.messages == 0, "{recovery:?}");
    assert_eq!(fs::read(&recovery.kept).unwrap(), before, "as it was found");
    assert_eq!(store.read().unwrap().conversations().unwrap(), []);

    // It is told until the application has taken note of it, also after a restart.
    store.close().unwrap();
    let mut store = open(&path, Doubt::None).unwrap();
    let tx = store.begin().unwrap();
    assert_eq!(tx.recovery().unwrap(), Some(recovery));
    tx.forget_recovery().unwrap();
    assert_eq!(tx.recovery().unwrap(), None);
    tx.commit().unwrap();
}

#[test]
fn what_waits_is_saved_with_its_envelopes_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = account(&folder);
    let before = fill(&path, 5, 50);
    let mut store = open(&path, Doubt::Damaged).unwrap();
    assert_eq!(waiting(&mut store).unwrap(), before);
    let tx = store.read().unwrap();
    let recovery = tx.recovery().unwrap().expect("it was replaced");
    assert_eq!((recovery.messages, recovery.envelopes, recovery.conversations), (20, 5, 5));
    assert!(!recovery.incomplete);
    let row = tx.conversation(&with("peer0")).unwrap().unwrap();
    assert_eq!((row.cursor, row.next_number), (Seq::ZERO, Number::FIRST), "the log is fetched anew, the lane asked");
    assert_eq!(row.peer, Some(UserId::new("peer0").unwrap()));
    assert_eq!(tx.history(&with("peer0"), None, 100).unwrap().len(), 4);
    assert!(tx.marks_to_send(1).unwrap().is_empty());
}

#[test]
fn what_the_person_has_read_and_what_was_refused_is_saved_from_the_oldest_format_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = account(&folder);
    write_format_1(&path);
    let mut store = open(&path, Doubt::Damaged).unwrap();
    let tx = store.read().unwrap();
    assert!(!tx.recovery().unwrap().unwrap().incomplete);
    assert_eq!(tx.conversation(&with("bob")).unwrap().unwrap().read, Seq::new(2).unwrap());
    assert_eq!(tx.marks_to_send(10).unwrap(), [], "nothing is marked that this file does not have");
    let entries = tx.outbox_entries().unwrap();
    let failed: Vec<_> = entries.iter().filter(|entry| entry.state == OutboxState::Failed).collect();
    assert_eq!(failed[0].messages[0].state, State::Failed);
    assert_eq!(tx.outbox_envelope(EnvelopeId(Uuid::from_u128(10))).unwrap().unwrap().attempt, 3);
    let bodies: Vec<_> = tx.waiting(&with("bob")).unwrap().into_iter().map(|(message, _)| message.body).collect();
    assert_eq!(bodies, ["under way", "waits"]);
}

#[test]
fn a_decision_on_read_receipts_is_saved_and_still_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = account(&folder);
    let decided = Receipts { on: false, waits: true };
    let mut store = open(&path, Doubt::None).unwrap();
    let tx = store.begin().unwrap();
    tx.set_receipts(decided).unwrap();
    tx.commit().unwrap();
    store.close().unwrap();
    let mut store = open(&path, Doubt::Damaged).unwrap();
    let tx = store.read().unwrap();
    assert!(tx.recovery().unwrap().is_some());
    assert_eq!(tx.receipts().unwrap(), decided);
}

#[test]
fn uploads_are_saved_but_for_those_that_do_not_know_their_parts_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = account(&folder);
    let mut store = open(&path, Doubt::None).unwrap();
    let tx = store.begin().unwrap();
    let id = with("bob");
    tx.know_conversation(&id, None).unwrap();
    let part = Digest::of(b"x");
    let mut uploads = Vec::new();
    for _ in 0..4 {
        let media = MediaId::fresh();
        let (kind, sha256) = ("a/b".to_owned(), part);
        let file = Attachment { id: media, size: 1, sha256, kind, name: None, pixels: None, thumbnail: None };
        let message = Message::of_media(MessageId::fresh(), "", file);
        let local = tx.add_own(&id, &me(), &message, 7, 7).unwrap();
        let source = Source { path: format!("/{media}"), modified: Some(3), parts: vec![part] };
        tx.add_upload(local, media, &id, &source).unwrap();
        uploads.push(media);
    }
    assert!(tx.complete_upload(uploads[1]).unwrap());
    tx.fail_upload(uploads[2], &Failure { code: Code::NoMedia, message: "gone".into() }).unwrap();
    tx.commit().unwrap();
    store.close().unwrap();
    let torn = rusqlite::Connection::open(&path).unwrap();
    torn.execute("UPDATE uploads SET parts = x'00' WHERE media = ?", [uploads[3].0]).unwrap();
    drop(torn);

    let mut store = open(&path, Doubt::Damaged).unwrap();
    let tx = store.read().unwrap();
    assert_eq!(tx.recovery().unwrap().unwrap().messages, 4);
    let state = |media| tx.upload(media).unwrap().map(|upload| upload.state);
    let (waits, complete) = (Some(UploadState::Waiting), Some(UploadState::Complete));
    assert_eq!(uploads.iter().map(|media| state(*media)).collect::<Vec<_>>(), [waits, complete, waits, None]);
    let found = tx.upload(uploads[0]).unwrap().unwrap();
    assert_eq!((found.path, found.modified, found.conversation), (format!("/{}", uploads[0]), Some(3), id.clone()));
    assert_eq!(tx.checksum_of_part(uploads[0], 1).unwrap(), part);
    assert!(tx.pending(&id, 10).unwrap().is_empty(), "the first is waited for");
    let files = tx.history(&id, None, 10).unwrap().into_iter().map(|message| message.file.unwrap().file.id);
    assert_eq!(files.collect::<Vec<_>>(), uploads);
}

#[test]
fn a_file_that_is_gone_while_its_log_is_there_is_no_new_account() {
    for emptied in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = account(&folder);
        let store = open(&path, Doubt::None).unwrap();
        let log = path.with_extension("db-wal");
        let bytes = fs::read(&log).unwrap();
        drop(store);
        fs::remove_file(&path).unwrap();
        if emptied {
            fs::write(&path, []).unwrap();
        }
        fs::write(&log, &bytes).unwrap();
        let mut store = open(&path, Doubt::None).unwrap();
        let recovery = store.read().unwrap().recovery().unwrap().expect("it was noticed");
        assert!(recovery.incomplete);
        assert_eq!(fs::read(format!("{}-wal", recovery.kept)).unwrap(), bytes);
    }
}

#[test]
fn doubt_is_settled_by_reading_the_file_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = account(&folder);
    let before = fill(&path, 2, 10);
    let mut store = open(&path, Doubt::Suspected).unwrap();
    assert_eq!(store.read().unwrap().recovery().unwrap(), None, "nothing was wrong with it");
    assert_eq!(waiting(&mut store).unwrap(), before);
}

#[test]
fn the_last_two_damaged_files_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = account(&folder);
    for _ in 0..5 {
        fill(&path, 1, 0);
        open(&path, Doubt::Damaged).unwrap().close().unwrap();
        open(&path, Doubt::None).unwrap().close().unwrap();
        fs::remove_file(&path).unwrap();
    }
    let name = |file: fs::DirEntry| file.file_name().into_string().unwrap();
    let left: BTreeSet<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|file| name(file.unwrap()).trim_end_matches("-wal").trim_end_matches("-shm").to_owned())
        .collect();
    let expected = ["account.db.damaged-4", "account.db.damaged-5", "account.lock"];
    assert_eq!(left, expected.map(str::to_owned).into());
}

/// Bytes of a page.
const PAGE: usize = 4096;

/// Damage that reads well: one row says that it is somebody else's, or is there twice in the place of another.
#[test]
fn a_row_that_became_another_is_missed() {
    for becomes_its_neighbour in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = account(&folder);
        fill(&path, 2, 3);
        let mut bytes = fs::read(&path).unwrap();
        let find = |text: &[u8], from: usize| {
            from + bytes[from..].windows(text.len()).position(|window| window == text).unwrap()
        };
        let number = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        let body = find(b"peer0: third", 0);
        let (page, inside) = (body / PAGE * PAGE, body % PAGE);
        assert_eq!(bytes[page], 0x0d, "a leaf of a table");
        // The page's header is 8 bytes, with the count of its rows; then comes where each begins.
        let begins = |row: usize| number(page + 8 + 2 * row);
        let rows = 0..number(page + 3);
        let row = rows.filter(|row| begins(*row) < inside).max_by_key(|row| begins(*row)).unwrap();
        let user = find(b"alice", page + begins(row));
        assert!(user < body);
        if becomes_its_neighbour {
            let neighbour = page + 8 + 2 * if row == 0 { 1 } else { row - 1 };
            bytes.copy_within(neighbour..neighbour + 2, page + 8 + 2 * row);
        } else {
            bytes[user] = b'A';
        }
        fs::write(&path, bytes).unwrap();
        let mut store = open(&path, Doubt::Damaged).unwrap();
        let recovery = store.read().unwrap().recovery().unwrap().expect("it was replaced");
        assert_eq!((recovery.messages, recovery.incomplete), (7, true));
    }
}

#[test]
fn a_kill_in_the_middle_of_the_replacement_loses_nothing() {
    // Before the damaged file is moved aside, nothing has happened; afterwards the rest is made up for.
    for moved in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = account(&folder);
        let before = fill(&path, 2, 5);
        let old = fs::read(&path).unwrap();
        open(&path, Doubt::Damaged).unwrap().close().unwrap();
        fs::rename(&path, path.with_extension("db.new")).unwrap();
        let aside = path.with_extension("db.damaged-1");
        fs::write(path.with_extension("db-wal"), b"the damaged file's").unwrap();
        if !moved {
            fs::rename(&aside, &path).unwrap();
            fs::write(path.with_extension("db.new"), b"half of it").unwrap();
        }
        let mut store = open(&path, Doubt::None).unwrap();
        assert_eq!(waiting(&mut store).unwrap(), before);
        assert_eq!(store.read().unwrap().recovery().unwrap().is_some(), moved);
        assert!(!path.with_extension("db.new").exists());
        if moved {
            assert_eq!(fs::read(&aside).unwrap(), old);
            assert_eq!(fs::read(path.with_extension("db.damaged-1-wal")).unwrap(), b"the damaged file's");
        }
    }
}

#[test]
fn a_file_of_another_account_or_a_later_version_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = account(&folder);
    fill(&path, 1, 0);
    let (user, _) = alice();
    let tablet = poste_protocol::DeviceId::new("tablet").unwrap();
    let other = Store::open_doubted(&path, &user, &tablet, Doubt::Damaged);
    assert!(matches!(other, Err(StoreError::OtherAccount { .. })));
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(open(&path, Doubt::Damaged), Err(StoreError::Newer { found: 99, .. })));
    assert!(!path.with_extension("db.damaged-1").exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Wherever the damage is: the file opens again, and what is not said to be lost is there.
    #[test]
    fn whatever_is_damaged_the_account_opens_and_nothing_is_lost_silently(
        places in prop::collection::vec((any::<prop::sample::Index>(), 1..3000_usize, any::<u8>()), 1..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = account(&folder);
        let before = fill(&path, 12, 40);
        let length = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
        for (place, count, byte) in &places {
            let at = place.index(length);
            overwrite(&path, at as u64, &vec![*byte; (*count).min(length - at)]);
        }
        let mut store = match open(&path, Doubt::None) {
            // The header's format number was hit: refused, and not touched.
            Err(StoreError::Newer { .. }) => return Ok(()),
            opened => opened.unwrap(),
        };
        let mut found = waiting(&mut store);
        if found.is_err() {
            store.close().ok();
            let mut again = open(&path, Doubt::Damaged).unwrap();
            found = waiting(&mut again);
            store = again;
        }
        let found = found.unwrap();
        let Some(recovery) = store.read().unwrap().recovery().unwrap() else { return Ok(()) };
        for ((conversation, envelope), (bodies, json)) in &found {
            if let Some(json) = json {
                let original = &before[&(conversation.clone(), *envelope)];
                // Damage inside of a text is not seen; but then it is the same text everywhere.
                prop_assert_eq!(original.1.as_ref().map(String::len), Some(json.len()));
                prop_assert_eq!(original.0.len(), bodies.len());
            }
        }
        let count = |waiting: &Waiting| waiting.values().map(|(bodies, _)| bodies.len()).sum::<usize>();
        if !recovery.incomplete {
            prop_assert_eq!(count(&found), count(&before));
        }
        prop_assert_eq!(recovery.messages, count(&found) as u64);
    }
}
