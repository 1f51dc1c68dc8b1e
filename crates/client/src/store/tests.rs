//! The file: what it is set to, and who may open it.

mod damage;
mod formats;
mod search;

use poste_protocol::{ConversationId, DeviceId, Seq, UserId};

use super::Store;
use crate::StoreError;

fn alice() -> (UserId, DeviceId) {
    (UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap())
}

#[test]
fn it_is_flushed_at_every_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (user, device) = alice();
    let store = Store::open(&folder.path().join("a/b/account.db"), &user, &device).unwrap();
    assert_eq!(store.pragma("journal_mode"), "wal");
    assert_eq!(store.pragma("synchronous"), "2", "FULL");
    assert_eq!(store.pragma("foreign_keys"), "1");
    assert_eq!(store.pragma("busy_timeout"), "5000");
    assert_eq!(store.pragma("user_version"), super::FORMAT.to_string());
}

#[test]
fn what_was_committed_is_there_and_what_was_not_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("account.db");
    let (user, device) = alice();
    let id = ConversationId::direct(&user, &UserId::new("bob").unwrap());
    let mut store = Store::open(&path, &user, &device).unwrap();
    let tx = store.begin().unwrap();
    tx.know_conversation(&id, None).unwrap();
    tx.raise_cursor(&id, Seq::new(7).unwrap()).unwrap();
    tx.commit().unwrap();
    let tx = store.begin().unwrap();
    tx.raise_cursor(&id, Seq::new(9).unwrap()).unwrap();
    drop(tx);
    drop(store);
    let mut store = Store::open(&path, &user, &device).unwrap();
    assert_eq!(store.read().unwrap().conversation(&id).unwrap().unwrap().cursor.get(), 7);
}

#[test]
fn one_writer_and_any_number_of_readers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("account.db");
    let (user, device) = alice();
    let store = Store::open(&path, &user, &device).unwrap();
    assert!(matches!(Store::open(&path, &user, &device), Err(StoreError::AlreadyOpen { .. })));
    let mut reader = Store::open_to_read(&path).unwrap();
    assert_eq!(reader.read().unwrap().conversations().unwrap(), []);
    let id = ConversationId::new("x").unwrap();
    assert!(reader.read().unwrap().know_conversation(&id, None).is_err(), "a reader cannot write");
    drop(store);
    Store::open(&path, &user, &device).unwrap();
}

#[test]
fn a_file_of_another_account_or_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("account.db");
    let (user, device) = alice();
    drop(Store::open(&path, &user, &device).unwrap());
    let tablet = DeviceId::new("tablet").unwrap();
    assert!(matches!(Store::open(&path, &user, &tablet), Err(StoreError::OtherAccount { .. })));
    let later = rusqlite::Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", 99).unwrap();
    drop(later);
    assert!(matches!(Store::open(&path, &user, &device), Err(StoreError::Newer { found: 99, .. })));
}
