//! A large group: everybody hears of a message once, and what that costs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use poste_protocol::{ConversationId, Event, UserId, limits};
use poste_tests::{Deployment, Device};

use crate::alone;

/// Members, each with a device that is connected.
const MEMBERS: usize = 500;
/// Devices that ask for something at once.
const AT_ONCE: usize = 10;
/// When nothing was asked of the stack for so long, what was to be done is done: longer than wake-ups wait.
const QUIET: Duration = Duration::from_secs(7);

/// What is asked of the stack while something is done, until it is quiet.
async fn cost(deployment: &Deployment, work: impl Future<Output = ()>) -> BTreeMap<String, u64> {
    let counted = async || deployment.requests().await.expect("it has counted before");
    let before = counted().await;
    work.await;
    let mut after = counted().await;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = counted().await;
        if now == after {
            break;
        }
        after = now;
    }
    after
        .into_iter()
        .map(|(name, count)| (name.clone(), count - before.get(&name).copied().unwrap_or(0)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn posts(cost: &BTreeMap<String, u64>) -> u64 {
    cost.get("POST @connections").copied().unwrap_or(0)
}

/// Everybody's marks on a place, by pages.
async fn inquiry(device: &mut Device, group: &ConversationId, place: u64) -> (Vec<(UserId, u64, u64)>, usize) {
    let (mut marks, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = device.receipts(group, place, after).await.expect("told");
        pages += 1;
        marks.extend(page.marks.into_iter().map(|mark| (mark.user, mark.delivered.get(), mark.read.get())));
        match page.next {
            Some(next) => after = Some(next),
            None => return (marks, pages),
        }
    }
}

/// L4, D2, D3, O7: in a group of five hundred a message reaches every live device once; all mark it, and nobody but who
/// asks is told of that.
#[tokio::test]
async fn a_message_reaches_each_of_five_hundred_once() {
    let (_alone, deployment) = alone().await;
    if deployment.requests().await.is_none() {
        println!("not played: this emulator does not count what it is asked");
        return;
    }
    let owner = deployment.user("owner");
    let mut phone = deployment.device(&owner, "phone").await;
    let mut users: Vec<UserId> = (1..MEMBERS).map(|_| deployment.user("member")).collect();
    users.sort();
    let group = ConversationId::group();
    let began = Instant::now();
    for (n, some) in users.chunks(limits::EVENT_USERS).enumerate() {
        let event = match n {
            0 => Event::Created { title: "choir".into(), members: some.to_vec() },
            _ => Event::Added { users: some.to_vec() },
        };
        let event = phone.does(&group, event);
        phone.sends(&event).await;
    }
    println!("a group of {MEMBERS} was made in {:.1?}", began.elapsed());
    let began = Instant::now();
    let mut devices = Vec::new();
    for some in users.chunks(AT_ONCE) {
        devices.extend(join_all(some.iter().map(async |user| deployment.device(user, "phone").await)).await);
    }
    println!("{} devices connected in {:.1?}", devices.len(), began.elapsed());
    // What functions remember is what they remember of a group that is in use.
    cost(&deployment, async {
        let warm = phone.says(&group, "is everybody here?");
        phone.sends(&warm).await;
        join_all(devices.iter_mut().map(async |device| device.hears(&warm).await)).await;
    })
    .await;

    let hello = phone.says(&group, "hello");
    let mut place = 0;
    let message = cost(&deployment, async {
        let began = Instant::now();
        place = phone.sends(&hello).await.seq;
        let mut times: Vec<_> = join_all(devices.iter_mut().map(async |device| {
            device.hears(&hello).await;
            began.elapsed()
        }))
        .await;
        times.sort();
        println!("heard by half within {:.1?}, by all within {:.1?}", times[times.len() / 2], times[times.len() - 1]);
    })
    .await;
    println!("one message to {MEMBERS}: {message:?}");
    assert_eq!(posts(&message), (MEMBERS - 1) as u64, "a post for each live device but the author's");
    // An answer comes after all that was posted before.
    for some in devices.chunks_mut(AT_ONCE) {
        join_all(some.iter_mut().map(async |device| {
            device.hello().await;
            let heard = device.heard(&group);
            assert_eq!(heard.iter().filter(|cell| cell.envelope == hello.id).count(), 1, "once");
        }))
        .await;
    }

    let marks = cost(&deployment, async {
        for some in devices.chunks_mut(AT_ONCE) {
            let marked =
                join_all(some.iter_mut().map(async |device| device.marks(&group, Some(place), Some(place)).await));
            assert!(marked.await.iter().all(Option::is_none), "all are taken");
        }
    })
    .await;
    println!("{} marks, delivered and read in one: {marks:?}", devices.len());
    assert_eq!(posts(&marks), 0, "nobody is told by themselves");
    let mut told = (Vec::new(), 0);
    let asked = cost(&deployment, async { told = inquiry(&mut phone, &group, place).await }).await;
    println!("who has it? {} pages: {asked:?}", told.1);
    assert_eq!(told.0, users.iter().map(|user| (user.clone(), place, place)).collect::<Vec<_>>());
    phone.hello().await;
    assert_eq!(phone.heard_marks(&group), []);
}
