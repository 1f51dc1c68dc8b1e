//! The device's disk is full, or takes no writes at all: a clear error, nothing lost that `send` returned for, and on
//! with it when there is room again, without a restart.
//!
//! Played with the limit on the length of files (`RLIMIT_FSIZE`), which needs no privileges: a write beyond it fails,
//! half of it done if it began before. With a limit of nothing every write fails, also one over old bytes.

use std::path::Path;

use poste_client::{State, Target};
use poste_protocol::{ConversationId, MessageId, UserId};
use poste_tests::{DEADLINE, Deployment, Line, Mortal, Order, Told, as_shown, eventually, open};

use crate::MORTAL;

/// What has room beyond the longest file: some messages, but not many.
const ROOM: u64 = 100_000;
/// Long messages fill a disk sooner.
const LONG: usize = 4_000;
/// Nobody gets so many of them into the room that there is.
const TOO_MANY: u64 = 200;

/// A device with a disk that fills up, and somebody it talks to.
struct Trouble {
    deployment: Deployment,
    alice: UserId,
    bob: UserId,
    conversation: ConversationId,
    device: Mortal,
    /// What `send` returned for.
    written: Vec<MessageId>,
    label: u64,
}

impl Trouble {
    fn begin(folder: &Path) -> Self {
        let deployment = Deployment::here();
        let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
        let conversation = ConversationId::direct(&alice, &bob);
        let device = Mortal::start(MORTAL, folder, &alice, "phone");
        Self { deployment, alice, bob, conversation, device, written: Vec::new(), label: 0 }
    }

    fn does(&mut self, order: &Order) {
        let told = self.device.does(order);
        assert_eq!(told, Told::Done, "{order:?}");
    }

    /// Writes; or says why not.
    fn write(&mut self, bytes: usize) -> Result<(), String> {
        self.label += 1;
        match self.device.does(&Order::Write { to: self.bob.clone(), label: self.label, bytes }) {
            Told::Wrote { id } => self.written.push(id),
            Told::Refused { store: true, why } => return Err(why),
            other => panic!("trouble with the disk is told as such: {other:?}"),
        }
        Ok(())
    }

    /// Writes until there is no room. Says how many messages found some, and why the next did not.
    fn write_until_refused(&mut self) -> (u64, String) {
        for count in 0..TOO_MANY {
            if let Err(why) = self.write(LONG) {
                return (count, why);
            }
        }
        panic!("the disk is not full after {TOO_MANY} messages");
    }

    fn screen(&mut self) -> Vec<Line> {
        let told = self.device.does(&Order::Show);
        let Told::Shown { mut lists, .. } = told else { panic!("what is there can be read: {told:?}") };
        lists.remove(&self.conversation).unwrap_or_default()
    }

    /// What is there is what `send` returned for, in that order, and nothing else of this device.
    fn check_screen(&mut self) {
        let own: Vec<_> = self.screen().into_iter().filter(|line| line.own).collect();
        let ids: Vec<_> = own.iter().map(|line| line.id).collect();
        assert_eq!(ids, self.written, "exactly what `send` returned for");
        assert!(own.iter().all(|line| line.state != State::Failed), "{own:?}");
    }

    /// All is in the log, once, and the device shows the log with so many messages of others.
    async fn settles(&mut self, received: usize) {
        let user = self.alice.clone();
        let mut reader = self.deployment.device(&user, "reader").await;
        let log = eventually("the device shows the log, with all its messages in it", DEADLINE * 2, async || {
            let lines = self.screen();
            if !lines.iter().all(|line| line.seq.is_some()) || lines.len() != self.written.len() + received {
                return None;
            }
            let log = reader.whole_log(&self.conversation).await;
            let shown: Vec<_> = lines.iter().filter_map(|line| Some((line.seq?, line.id))).collect();
            (as_shown(&log) == shown).then_some(log)
        })
        .await;
        let own = log.iter().filter(|cell| cell.by.user == self.alice).flat_map(|cell| &cell.messages);
        assert_eq!(own.map(|message| message.id).collect::<Vec<_>>(), self.written, "once, in the order of writing");
    }
}

/// C1, C2, I9: the disk fills up, with a network and without, and has room again.
#[tokio::test]
async fn a_full_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trouble = Trouble::begin(&folder.path().join("alice"));
    let bobs = open(&trouble.deployment, &folder.path().join("bob"), &trouble.bob, "phone", true).await;
    let mut received = 0;
    let mut refused = 0;
    for network in [true, false, true] {
        trouble.does(&if trouble.label == 0 { Order::Open { network } } else { Order::Network { on: network } });
        trouble.write(0).expect("there is room");
        trouble.does(&Order::FillDisk { room: Some(ROOM) });
        let (count, why) = trouble.write_until_refused();
        println!("network: {network}; {count} more messages of {LONG} bytes, then: {why}");
        trouble.check_screen();
        for body in ["1 while it was full", "2 and again"] {
            bobs.send(Target::User(trouble.alice.clone()), body).await.expect("this disk is not full");
            received += 1;
        }
        for _ in 0..20 {
            refused += usize::from(trouble.write(LONG).is_err());
        }
        trouble.check_screen();
        trouble.does(&Order::FreeDisk);
        trouble.write(LONG).expect("there is room again");
        trouble.does(&Order::Network { on: true });
        trouble.settles(received).await;
    }
    assert!(refused > 0, "it was full");
    bobs.close().await;
}

/// C1, C2, I9: no write at all succeeds for a while, twenty times over.
#[tokio::test]
async fn a_disk_that_takes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trouble = Trouble::begin(&folder.path().join("alice"));
    trouble.does(&Order::Open { network: true });
    for _ in 0..20 {
        trouble.write(0).expect("the disk works");
        trouble.does(&Order::FillDisk { room: None });
        trouble.write(0).expect_err("nothing can be written");
        trouble.does(&Order::Pause { ms: 20 });
        trouble.write(LONG).expect_err("nothing can be written");
        trouble.check_screen();
        trouble.does(&Order::FreeDisk);
        trouble.write(LONG).expect("the disk works again");
        trouble.check_screen();
    }
    trouble.settles(0).await;
}

/// C2: what was on the disk when the process was killed on a full one is there when it starts again, also while the
/// disk is still full: then it opens, or says why not, and opens when there is room.
#[tokio::test]
async fn killed_on_a_full_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("alice");
    let mut trouble = Trouble::begin(&place);
    trouble.does(&Order::Open { network: false });
    for room in [Some(ROOM), Some(0), None] {
        trouble.write(0).expect("there is room");
        trouble.does(&Order::FillDisk { room });
        trouble.write_until_refused();
        let next = Mortal::start(MORTAL, &place, &trouble.alice, "phone");
        assert!(std::mem::replace(&mut trouble.device, next).kill().killed);
        trouble.does(&Order::FillDisk { room });
        match trouble.device.does(&Order::Open { network: false }) {
            Told::Done => {
                trouble.check_screen();
                trouble.write_until_refused();
                trouble.check_screen();
                trouble.does(&Order::FreeDisk);
            }
            Told::Refused { store: true, why } => {
                println!("opened with {room:?} bytes of room: {why}");
                trouble.does(&Order::FreeDisk);
                trouble.does(&Order::Open { network: false });
            }
            other => panic!("it opens, or says why not: {other:?}"),
        }
        trouble.check_screen();
    }
    trouble.does(&Order::Network { on: true });
    trouble.settles(0).await;
}

/// C2: an account that is new on a disk that is full is refused, and made when there is room.
#[tokio::test]
async fn a_new_account_on_a_full_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trouble = Trouble::begin(&folder.path().join("alice"));
    for room in [None, Some(0), Some(3_000), Some(20_000)] {
        trouble.does(&Order::FillDisk { room });
        let told = trouble.device.does(&Order::Open { network: false });
        assert!(matches!(told, Told::Refused { store: true, .. }), "with {room:?} bytes of room: {told:?}");
    }
    trouble.does(&Order::FreeDisk);
    trouble.does(&Order::Open { network: true });
    trouble.write(0).expect("there is room");
    trouble.settles(0).await;
}
