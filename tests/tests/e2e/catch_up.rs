//! Offline, and back: pages.

use futures::join;
use poste_protocol::{Cell, Code, ConversationId, Seq, SyncRange, limits};
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

/// O2, O3: one request brings what was missed in many conversations, what is wanted first first, in full frames and no
/// more of them than asked for; a connection that is lost in the middle loses nothing of what came.
#[tokio::test]
async fn catching_up_with_many_conversations_at_once() {
    let deployment = Deployment::here();
    let bob = deployment.user("bob");
    let mut wanted = Vec::new();
    for (n, count) in [60, 1, 2, 3].into_iter().enumerate() {
        let friend = deployment.user(&format!("friend{n}"));
        let mut phone = deployment.device(&friend, "phone").await;
        for i in 0..count {
            phone.tells(&bob, &format!("{i} {}", "x".repeat(2_000))).await;
        }
        wanted.push((phone.with(&bob), count));
    }
    let mut bobs = deployment.device(&bob, "phone").await;
    let range =
        |conversation: &ConversationId, after| SyncRange { conversation: conversation.clone(), after, limit: None };
    let stranger = ConversationId::direct(&deployment.user("friend0"), &deployment.user("friend1"));
    let mut ranges: Vec<_> = wanted[1..].iter().map(|(id, _)| range(id, Some(Seq::ZERO))).collect();
    ranges.extend([range(&stranger, None), range(&wanted[0].0, Some(Seq::ZERO))]);
    let frames = bobs.sync(ranges, 3).await.expect("pages");
    assert_eq!(frames.len(), 3);
    let refused: Vec<_> = frames.iter().flat_map(|frame| &frame.refused).collect();
    assert_eq!((refused.len(), &refused[0].conversation, refused[0].error.code), (1, &stranger, Code::NotMember));
    let mut cursors = std::collections::HashMap::new();
    let mut take = |frames: &[poste_protocol::Pages]| {
        let mut order = Vec::new();
        for page in frames.iter().flat_map(|frame| &frame.pages) {
            let cursor = cursors.entry(page.conversation.clone()).or_insert(Seq::ZERO);
            assert_eq!((page.after, page.cells.len() as u64), (*cursor, page.through.get() - page.after.get()));
            *cursor = page.through;
            order.push(page.conversation.clone());
        }
        order.dedup();
        (order, cursors[&wanted[0].0])
    };
    let (order, cursor) = take(&frames);
    let expected: Vec<_> = wanted[1..].iter().chain(&wanted[..1]).map(|(id, _)| id.clone()).collect();
    assert_eq!(order, expected);
    assert!(cursor.get() > 20 && cursor.get() < 60, "{cursor}: the rest did not fit");

    bobs.connect().await;
    let frames = bobs.sync(vec![range(&wanted[0].0, Some(cursor))], 16).await.expect("pages");
    assert_eq!(take(&frames).1.get(), 60);
    assert!(frames.last().is_some_and(|frame| frame.pages.last().is_some_and(|page| !page.more)));
}
