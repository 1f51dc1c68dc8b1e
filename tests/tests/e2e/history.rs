//! A fresh device of somebody who has been here for a while.

use std::path::Path;

use poste_client::{Client, Start};
use poste_protocol::{ConversationId, Seq, UserId};
use poste_tests::{DEADLINE, Deployment, Device, account, bodies, eventually, seq};

/// Messages in each of the conversations.
const LOGS: [usize; 3] = [130, 61, 3];

/// Messages that a page is asked for, about.
const PAGE: u32 = 20;

/// Messages of an envelope.
const TOGETHER: usize = 7;

async fn open(deployment: &Deployment, folder: &Path, user: &UserId) -> Client {
    let mut config = account(&deployment.stack().socket_url, folder, user, "tablet");
    config.tuning.lazy_history = true;
    config.tuning.history_page = PAGE;
    Client::open(config).await.expect("the account opens")
}

/// From where (exclusive) and up to where a client has a conversation, and what of it.
async fn shown(client: &Client, id: &ConversationId) -> (Seq, Seq, Vec<(u64, String)>) {
    let known = client.conversation(id.clone()).await.expect("readable").expect("it is known");
    let messages = client.history(id.clone(), None, 1_000).await.expect("readable");
    let messages = messages.into_iter().map(|m| (m.seq.expect("it has its place").get(), m.body)).collect();
    (known.oldest, known.cursor, messages)
}

/// The next page of history. Returns where what is here begins then (exclusive).
async fn pages_back(client: &Client, id: &ConversationId) -> Seq {
    let (before, cursor, _) = shown(client, id).await;
    assert!(client.older(id.clone()).await.expect("it is known"), "there is more before {before}");
    let (after, cursor_then, _) = eventually("an older page comes", DEADLINE, async || {
        let shown = shown(client, id).await;
        (shown.0 < before).then_some(shown)
    })
    .await;
    assert_eq!(cursor, cursor_then, "history moves no cursor");
    after
}

async fn log_of(device: &mut Device, id: &ConversationId) -> Vec<(u64, String)> {
    let cells = device.whole_log(id).await;
    let messages = cells.iter().flat_map(|cell| (cell.seq.get()..).zip(&cell.messages));
    messages.map(|(seq, message)| (seq, message.body.clone())).collect()
}

/// O2, O3, O6: the list of conversations is there at once, with what is unread; each conversation is entered at its end,
/// with one page; older pages come when they are asked for and only then, also after the connection and the process have
/// ended in between; in the end everything is as in the log.
#[tokio::test]
async fn a_fresh_device_begins_at_the_end_and_goes_back_as_it_is_asked() {
    let deployment = Deployment::here();
    let alice = deployment.user("alice");
    let mut phone = deployment.device(&alice, "phone").await;
    let mut ids = Vec::new();
    let mut bobs = None;
    for (nth, count) in LOGS.into_iter().enumerate() {
        let peer = deployment.user(["bob", "carol", "dave"][nth]);
        let mut theirs = deployment.device(&peer, "phone").await;
        for (turn, bodies) in bodies(&format!("in {nth}"), count).chunks(TOGETHER).enumerate() {
            let (writer, reader) = if turn % 4 == 1 { (&mut phone, &peer) } else { (&mut theirs, &alice) };
            let envelope = writer.writes_all(reader, bodies);
            writer.sends(&envelope).await;
        }
        ids.push(phone.with(&peer));
        bobs.get_or_insert(theirs);
    }
    let mut bobs = bobs.expect("bob wrote");
    let bob = &ids[0];
    // On the phone, all of carol's was read, and most of bob's.
    assert_eq!(phone.marks(&ids[1], Some(61), Some(61)).await, None);
    assert_eq!(phone.marks(bob, Some(130), Some(120)).await, None);

    let folder = tempfile::tempdir().expect("a folder");
    let tablet = open(&deployment, folder.path(), &alice).await;
    let list = eventually("the list is there", DEADLINE, async || {
        let list = tablet.conversations().await.expect("readable");
        (list.len() == LOGS.len()).then_some(list)
    })
    .await;
    for (id, (count, read)) in ids.iter().zip(LOGS.into_iter().zip([120, 61, 0])) {
        let known = list.iter().find(|known| known.id == *id).expect("it is in the list");
        assert_eq!(
            (known.head.get(), known.read),
            (count as u64, seq(read)),
            "that something is unread is told at once"
        );
    }
    for (id, count) in ids.iter().zip(LOGS) {
        let (oldest, _, messages) = eventually("the newest page is there", DEADLINE, async || {
            let shown = shown(&tablet, id).await;
            (shown.1.get() == count as u64).then_some(shown)
        })
        .await;
        let log = log_of(&mut phone, id).await;
        assert_eq!(messages[..], log[usize::try_from(oldest.get()).expect("small")..], "the end of the log");
        assert!(messages.len() <= PAGE as usize && messages.len() > PAGE as usize - TOGETHER || count < TOGETHER);
        let window = tablet.window(id.clone(), Start::Newest, 1_000).await.expect("it is known");
        assert_eq!((window.older, window.older_on_server), (false, oldest > Seq::ZERO));
    }
    for (id, unread) in ids.iter().zip([4, 0, 3]) {
        let known = tablet.conversation(id.clone()).await.expect("readable").expect("it is known");
        assert_eq!(known.unread, unread, "what others wrote after the last that was read");
    }
    let counters = tablet.counters().await.expect("open");
    assert_eq!(counters.pages, LOGS.len() as u64, "one page for each conversation, and nothing that nobody asked for");

    // Back a page; then, with a wish that is not carried out, the connection ends; then the process.
    let first = pages_back(&tablet, bob).await;
    tablet.set_network(false).await.expect("open");
    assert!(tablet.older(bob.clone()).await.expect("it is known"));
    assert_eq!(shown(&tablet, bob).await.0, first);
    tablet.set_network(true).await.expect("open");
    let second = eventually("the wish survives the connection", DEADLINE, async || {
        let (oldest, ..) = shown(&tablet, bob).await;
        (oldest < first).then_some(oldest)
    })
    .await;
    tablet.close().await;
    let (_, news) = bobs.tells(&alice, "news").await;
    let tablet = open(&deployment, folder.path(), &alice).await;
    let (oldest, ..) = eventually("the news are there", DEADLINE, async || {
        let shown = shown(&tablet, bob).await;
        (shown.1.get() == news.seq).then_some(shown)
    })
    .await;
    assert_eq!(oldest, second, "what came is kept, and nothing is fetched again");

    for id in &ids {
        while shown(&tablet, id).await.0 > Seq::ZERO {
            pages_back(&tablet, id).await;
        }
        assert!(!tablet.older(id.clone()).await.expect("it is known"), "that was the beginning");
        assert_eq!(shown(&tablet, id).await.2, log_of(&mut phone, id).await, "all of the log");
        let window = tablet.window(id.clone(), Start::Newest, 1_000).await.expect("it is known");
        assert!(!window.older && !window.older_on_server);
    }
    tablet.close().await;
}
