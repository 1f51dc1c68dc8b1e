//! Offline, and back: pages.

use futures::join;
use poste_protocol::{Cell, limits};
use poste_tests::{Deployment, Replica, bodies, seq};

/// Messages in a page if the device does not say.
const USUAL_PAGE: usize = 100;

/// O1, O3, O4: what is too much for one frame comes in several pages, in order, nothing twice, nothing missing.
#[tokio::test]
async fn catching_up_across_pages_by_bytes() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device_offline(&bob, "phone");
    let mut written = Vec::new();
    for i in 0..20 {
        // From small to nearly a whole frame, so that pages end at all kinds of places.
        let envelope = phone.writes(&bob, &"x".repeat(1 + i * 1_150));
        phone.sends(&envelope).await;
        written.push(envelope);
    }
    bobs.connect().await;
    let conversation = bobs.with(&alice);
    let mut replica = Replica::new(conversation.clone());
    let pages = replica.catch_up(&mut bobs).await;
    assert!(pages >= 7, "220 KB in {pages} frames of 32 KiB");
    replica.is_contiguous();
    let cells = replica.cells();
    assert!(cells.iter().map(|c| &c.messages).eq(written.iter().map(|e| &e.messages)), "all, in order");

    // A page is good from every place of the log, also one at which none had ended before.
    for (i, cell) in cells.iter().enumerate() {
        let page = bobs.fetch(&conversation, cell.seq, None).await.expect("a page");
        assert_eq!(page.cells[..], cells[i + 1..i + 1 + page.cells.len()], "after {}", cell.seq);
        assert_eq!(page.more, i + 1 + page.cells.len() < cells.len(), "after {}", cell.seq);
        assert!(!page.cells.is_empty() || cell.seq == cells[cells.len() - 1].seq);
    }
}

/// O1, O3, O4: pages by the number of messages, with every limit that a device may give.
#[tokio::test]
async fn catching_up_across_pages_by_messages() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    for i in 0..12 {
        let envelope = phone.writes_all(&bob, &bodies(&format!("envelope {i}"), limits::ENVELOPE_MESSAGES));
        phone.sends(&envelope).await;
    }
    for i in 0..15 {
        phone.tells(&bob, &format!("one more {i}")).await;
    }
    let all = 12 * limits::ENVELOPE_MESSAGES + 15;
    let mut bobs = deployment.device(&bob, "phone").await;
    let conversation = bobs.with(&alice);
    let mut reference: Option<Vec<Cell>> = None;
    for limit in
        [None, Some(0), Some(1), Some(7), Some(25), Some(26), Some(100), Some(315), Some(10_000), Some(u32::MAX)]
    {
        let most = match limit {
            None => USUAL_PAGE,
            Some(limit) => usize::try_from(limit).expect("small").clamp(1, limits::PAGE_MESSAGES),
        };
        let mut replica = Replica::new(conversation.clone());
        loop {
            let page = bobs.fetch(&conversation, replica.cursor(), limit).await.expect("a page");
            let messages: usize = page.cells.iter().map(|c| c.messages.len()).sum();
            assert!(messages <= most || page.cells.len() == 1, "limit {limit:?}: {messages} messages in a page");
            replica.turn(&page);
            let at_the_end = usize::try_from(page.through.get()).expect("small") == all;
            // A full page that ends with the log may say `more`: nobody has looked beyond it.
            assert!(page.more || at_the_end, "limit {limit:?}: {page:?}");
            assert!(!page.more || !at_the_end || messages >= most, "limit {limit:?}: {page:?}");
            if !page.more {
                break;
            }
        }
        replica.is_contiguous();
        let cells = replica.cells();
        assert_eq!(*reference.get_or_insert_with(|| cells.clone()), cells, "limit {limit:?}: the same list");
    }
}

/// O1, O3: a cursor at the end or beyond it gets an empty page that moves nothing; one inside a cell skips nothing.
#[tokio::test]
async fn odd_cursors() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let five = phone.writes_all(&bob, &bodies("message", 5));
    phone.sends(&five).await;
    let (six, _) = phone.tells(&bob, "the sixth").await;
    for after in [6, 7, 1_000, limits::INTEGER] {
        let page = phone.fetch(&five.conversation, seq(after), None).await.expect("a page");
        assert!(page.cells.is_empty() && !page.more && page.retry_after_ms.is_none(), "after {after}: {page:?}");
        assert_eq!(page.through.get(), after);
    }
    // Ours never ask so, but a cursor inside a cell must not make a hole of the rest of the cell.
    let fetch = poste_protocol::Request::Fetch(poste_protocol::Fetch {
        reference: phone.reference(),
        conversation: five.conversation.clone(),
        after: Some(seq(3)),
        before: None,
        limit: None,
    });
    let poste_protocol::FromServer::Page(page) = phone.ask(&fetch).await else { panic!("a page") };
    assert_eq!(page.through.get(), 6);
    assert!(page.cells.iter().any(|cell| cell.envelope == six.id));
    assert_eq!(deployment.admin().log(&five.conversation).await.len(), 2, "no void was put inside a cell");
}

/// O3, O4, D1, failure 4: who comes and goes while others write misses nothing: what was written before the fetch is in
/// the page, what comes after is delivered or in a later page.
#[tokio::test]
async fn coming_and_going_while_others_write() {
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let conversation = phone.with(&bob);
    phone.tells(&bob, "the first").await;
    let writing = async {
        let mut last = None;
        for i in 0..80 {
            last = Some(phone.tells(&bob, &format!("{i}")).await.0);
        }
        last.expect("there is a last one")
    };
    let going = async {
        let mut replica = Replica::new(conversation.clone());
        for _ in 0..12 {
            bobs.connect().await;
            replica.catch_up(&mut bobs).await;
            for cell in bobs.heard(&conversation) {
                replica.take(cell);
            }
        }
        (replica, bobs)
    };
    let (last, (mut replica, mut bobs)) = join!(writing, going);
    replica.catch_up(&mut bobs).await;
    replica.is_contiguous();
    assert_eq!(replica.cells().len(), 81);
    assert_eq!(replica.cells().last().map(|cell| cell.envelope), Some(last.id));
}
