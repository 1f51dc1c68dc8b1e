//! Files that the person wants to see.

use poste_protocol::{Digest, MediaId, MessageId};
use serde_json::{Value, json};

use super::{Rig, cell, with};
use crate::engine::{Input, Lost, News, Place, Transfer, Wanted};
use crate::{Error, Event, NoFile, Tuning};

/// Bob's message with a file of so many bytes, as a cell of the log.
fn holding(seq: u64, size: u64) -> (MessageId, Value) {
    let mut cell = cell(seq, "bob", "laptop", seq, &["look"]);
    let message = &mut cell["messages"][0];
    message["media"] =
        json!({"id": MediaId::fresh(), "size": size, "sha256": Digest::of(b"x"), "kind": "image/png", "name": "a.png"});
    (serde_json::from_value(message["id"].clone()).expect("an id"), cell)
}

impl Rig {
    /// Bob has sent files of so many bytes.
    fn with_files(sizes: &[u64]) -> (Self, Vec<MessageId>) {
        Self::with_files_tuned(sizes, Tuning { lazy_history: false, ..Tuning::default() })
    }

    fn with_files_tuned(sizes: &[u64], tuning: Tuning) -> (Self, Vec<MessageId>) {
        let mut rig = Self::tuned(tuning);
        rig.connect();
        rig.answer_list(&json!([]));
        let (ids, cells): (Vec<_>, Vec<_>) = sizes.iter().zip(1..).map(|(size, seq)| holding(seq, *size)).unzip();
        rig.deliver("bob", &json!(cells));
        rig.has_marked();
        rig.sent.clear();
        (rig, ids)
    }

    fn wants_file(&mut self, id: MessageId, here: &[&str]) -> Result<Wanted, Error> {
        let now = self.now;
        let is_there = |place: &Place, _| match place {
            Place::Own { path, .. } => here.contains(&path.as_str()),
            Place::Cache { name } => here.contains(&name.as_str()),
        };
        let (wanted, outputs) = self.engine().download(now, &with("bob"), id, is_there)?;
        self.take(outputs);
        Ok(wanted)
    }

    fn gives_link(&mut self) {
        let get = self.next("media");
        assert_eq!(get["op"], "get");
        let link = json!({"url": "http://store/x", "expires_s": 900});
        let answer = json!({"type": "media", "ref": get["ref"], "media": get["media"], "state": "link", "link": link});
        self.hears(&answer);
    }

    /// The next file that is to be fetched: its number, and its name in the cache.
    fn get(&mut self) -> (u64, String) {
        let place = self.transfers.iter().position(|transfer| matches!(transfer, Transfer::Get { .. }));
        let place = place.unwrap_or_else(|| panic!("nothing is to be fetched in {:?}", self.transfers));
        let Transfer::Get { number, name, .. } = self.transfers.remove(place) else { unreachable!("just seen") };
        (number, name)
    }

    fn fetches(&mut self, id: MessageId) -> String {
        self.wants_file(id, &[]).expect("it has a file");
        self.gives_link();
        let (number, name) = self.get();
        self.input(Input::Transfer(number, News::Done));
        name
    }

    fn answers(&mut self) -> Vec<(u64, Result<String, NoFile>)> {
        let answers = self.transfers.extract_if(.., |transfer| matches!(transfer, Transfer::Downloaded { .. }));
        let answers = answers.map(|transfer| match transfer {
            Transfer::Downloaded { inquiry, found } => (inquiry, found),
            _ => unreachable!("just seen"),
        });
        answers.collect()
    }

    fn here(&mut self, id: MessageId) -> bool {
        let message = self.messages("bob").into_iter().find(|message| message.id == id).expect("it is there");
        message.file.expect("it has a file").here
    }
}

#[test]
fn a_file_comes_when_it_is_wanted_and_once_for_all_who_want_it() {
    let (mut rig, ids) = Rig::with_files(&[1000]);
    let shown = rig.messages("bob").remove(0).file.expect("a file");
    assert_eq!((shown.file.size, shown.uploaded, shown.here), (1000, None, false));
    assert!(!rig.has_sent("media"), "lazily");
    assert_eq!(rig.wants_file(ids[0], &[]).expect("a file"), Wanted::Coming(1));
    let get = rig.sent[0].clone();
    assert!(get.contains(&format!("\"seq\":1,\"id\":\"{}\"", ids[0])), "{get}");
    assert_eq!(rig.wants_file(ids[0], &[]).expect("a file"), Wanted::Coming(2));
    rig.gives_link();
    assert!(!rig.has_sent("media"), "asked for once");
    let (number, name) = rig.get();
    rig.input(Input::Transfer(number, News::Moved(300)));
    let told = rig.events.iter().any(|event| matches!(event, Event::Progress { up: false, done: 300, size: 1000, .. }));
    assert!(told);
    rig.input(Input::Transfer(number, News::Done));
    assert_eq!(rig.answers(), [(1, Ok(name.clone())), (2, Ok(name.clone()))]);
    assert!(rig.here(ids[0]));
    let here = Wanted::Here(Place::Cache { name: name.clone() });
    assert_eq!(rig.wants_file(ids[0], &[&name]).expect("a file"), here);
    rig.restart();
    assert_eq!(rig.wants_file(ids[0], &[&name]).expect("a file"), here, "also offline");
    rig.begins();
    assert_eq!(rig.wants_file(ids[0], &[]).expect("a file"), Wanted::Coming(1), "the system has removed it");
}

impl Rig {
    fn begins(&mut self) {
        self.connect();
        self.answer_list(&json!([]));
    }
}

#[test]
fn what_is_cut_off_goes_on_with_the_same_address_or_another() {
    let (mut rig, ids) = Rig::with_files(&[1000]);
    rig.wants_file(ids[0], &[]).expect("a file");
    rig.gives_link();
    let (number, name) = rig.get();
    rig.input(Input::Transfer(number, News::Failed));
    rig.wait_for_wake();
    let (number, again) = rig.get();
    assert_eq!(name, again, "its part is gone on with");
    rig.input(Input::Transfer(number, News::Moved(10)));
    rig.input(Input::Transfer(number, News::Expired));
    rig.gives_link();
    let (number, _) = rig.get();
    rig.input(Input::Disconnected(Lost::Closed));
    rig.input(Input::Transfer(number, News::Done));
    assert_eq!(rig.answers(), [(1, Ok(name))], "without a connection, too");
}

#[test]
fn wrong_bytes_are_fetched_anew_once() {
    let (mut rig, ids) = Rig::with_files(&[1000]);
    rig.wants_file(ids[0], &[]).expect("a file");
    for _ in 0..2 {
        assert_eq!(rig.answers(), []);
        rig.gives_link();
        let (number, _) = rig.get();
        rig.input(Input::Transfer(number, News::Wrong));
    }
    assert_eq!(rig.answers(), [(1, Err(NoFile::Wrong))]);
    assert!(!rig.here(ids[0]));
}

#[test]
fn whoever_waits_is_told_when_it_cannot_be_had() {
    let (mut rig, ids) = Rig::with_files(&[1000]);
    rig.wants_file(ids[0], &[]).expect("a file");
    let get = rig.next("media");
    let no = json!({"type": "error", "ref": get["ref"], "code": "no_media", "message": "no", "retryable": false});
    rig.hears(&no);
    assert_eq!(rig.answers(), [(1, Err(NoFile::Gone))]);

    rig.wants_file(ids[0], &[]).expect("a file");
    rig.gives_link();
    let (number, _) = rig.get();
    rig.input(Input::Transfer(number, News::NoRoom("full".into())));
    assert_eq!(rig.answers(), [(2, Err(NoFile::NoRoom("full".into())))]);

    rig.wants_file(ids[0], &[]).expect("a file");
    rig.next("media");
    rig.wait(120_000);
    assert_eq!(rig.answers(), [(3, Err(NoFile::NoAnswer))], "not for ever");

    let now = rig.now;
    rig.wants_file(ids[0], &[]).expect("a file");
    let ((), outputs) = rig.engine().stop_download(now, &with("bob"), ids[0]).expect("it can be stopped");
    rig.take(outputs);
    assert_eq!(rig.answers(), [(4, Err(NoFile::Stopped))]);

    rig.wants_file(ids[0], &[]).expect("a file");
    rig.input(Input::Network(false));
    assert_eq!(rig.answers(), [(5, Err(NoFile::NoAnswer))]);
    assert!(matches!(rig.wants_file(ids[0], &[]), Err(Error::NoFile(NoFile::NoAnswer))));
    let text = rig.write("bob", "no file");
    assert!(matches!(rig.wants_file(text.id, &[]), Err(Error::Message { .. })));
}

#[test]
fn the_cache_is_bounded_and_what_was_not_looked_at_for_longest_goes_first() {
    let tuning = Tuning { lazy_history: false, cache_bytes: 2500, ..Tuning::default() };
    let (mut rig, ids) = Rig::with_files_tuned(&[1000, 1000, 1000, 9000], tuning);
    let mut names = Vec::new();
    for id in &ids[..2] {
        rig.wait(10);
        names.push(rig.fetches(*id));
    }
    rig.wait(10);
    let first = names[0].clone();
    rig.wants_file(ids[0], &[&first]).expect("it is here");
    rig.wait(10);
    rig.fetches(ids[2]);
    let removed = |rig: &mut Rig| -> Vec<String> {
        let removed = rig.transfers.extract_if(.., |transfer| matches!(transfer, Transfer::Remove { .. }));
        let removed = removed.map(|transfer| match transfer {
            Transfer::Remove { name } => name,
            _ => unreachable!("just seen"),
        });
        removed.collect()
    };
    assert_eq!(removed(&mut rig), [names[1].clone()]);
    assert_eq!(ids[..3].iter().map(|id| rig.here(*id)).collect::<Vec<_>>(), [true, false, true]);
    rig.wait(10);
    rig.fetches(ids[3]);
    assert_eq!(removed(&mut rig).len(), 2, "one that is longer than all stays alone");
    assert!(rig.here(ids[3]));
}

#[test]
fn a_message_that_is_deleted_takes_its_file_along() {
    let (mut rig, ids) = Rig::with_files(&[1000, 1000]);
    let name = rig.fetches(ids[0]);
    rig.wants_file(ids[1], &[]).expect("a file");
    let delete = |seq: u64, target: usize| {
        let mut cell = cell(seq, "bob", "laptop", seq, &[""]);
        cell["messages"][0]["deletes"] = json!({"seq": target + 1, "id": ids[target]});
        cell
    };
    rig.deliver("bob", &json!([delete(3, 0), delete(4, 1)]));
    assert!(rig.messages("bob").iter().all(|message| message.deleted && message.file.is_none()));
    assert!(rig.transfers.contains(&Transfer::Remove { name }));
    assert!(rig.answers().iter().any(|(_, found)| *found == Err(NoFile::Gone)), "nobody waits for it");
}

#[test]
fn a_few_at_a_time() {
    let (mut rig, ids) = Rig::with_files(&[10; 5]);
    for id in &ids {
        rig.wants_file(*id, &[]).expect("a file");
    }
    assert_eq!(rig.sent.len(), 3);
    rig.gives_link();
    let (number, _) = rig.get();
    assert_eq!(rig.sent.len(), 2, "a download is one of them, too");
    rig.input(Input::Transfer(number, News::Done));
    assert_eq!(rig.sent.len(), 3);
}
