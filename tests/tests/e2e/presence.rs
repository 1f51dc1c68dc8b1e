//! D5: who is here and who is writing. Ephemeral, told to those who watch, and nothing else depends on it.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt;
use poste_client::{Client, Event, Events, Target};
use poste_protocol::{Code, ConversationId, UserId};
use poste_tests::{DEADLINE, Deployment, Device, account, eventually, open};
use tokio::sync::RwLock;

/// The table, which one of the tests takes away.
pub(crate) static TABLE: RwLock<()> = RwLock::const_new(());

/// Alice and bob, connected, who share a conversation.
async fn friends(deployment: &Deployment) -> (Device, Device, ConversationId) {
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut alices = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let (hello, _) = alices.tells(&bob, "hello").await;
    bobs.hears(&hello).await;
    (alices, bobs, hello.conversation)
}

/// Who is here of those whom a device watches, as it is answered.
async fn asks(device: &mut Device, conversation: &ConversationId) -> Vec<(UserId, bool)> {
    let watching = device.watch(std::slice::from_ref(conversation)).await.expect("an answer");
    watching.users.into_iter().map(|told| (told.user, told.until.is_some())).collect()
}

/// D5: both see each other come and go, at once; a device that watches nobody hears nothing.
#[tokio::test]
async fn both_see_each_other_come_and_go() {
    let _there = TABLE.read().await;
    let deployment = Deployment::here();
    let (mut alices, mut bobs, talk) = friends(&deployment).await;
    let (alice, bob) = (alices.user().clone(), bobs.user().clone());
    let mut tablet = deployment.device(&alice, "tablet").await;
    assert_eq!(asks(&mut alices, &talk).await, [(bob.clone(), false)]);
    assert_eq!(asks(&mut bobs, &talk).await, [(alice.clone(), true)]);
    alices.hears_of(&bob, &[true]).await;
    assert_eq!(asks(&mut bobs, &talk).await, [(alice.clone(), true)], "renewed");

    alices.goes_away().await;
    // Not told before: alice had nobody who watched her.
    bobs.hears_of(&alice, &[false]).await;
    assert_eq!(asks(&mut bobs, &talk).await, [(alice.clone(), false)]);
    bobs.hello().await;
    alices.hello().await;
    assert_eq!((alices.heard_of(&bob), bobs.heard_of(&alice)), (vec![true], vec![false]), "renewals are no news");
    tablet.hello().await;
    assert!(tablet.heard_of(&bob).is_empty(), "it watches nobody");
}

/// D5: a lease that is not renewed ends by itself, without a close; who comes back is told again.
#[tokio::test]
async fn a_lease_ends_by_itself() {
    let _there = TABLE.read().await;
    let deployment = Deployment::here();
    let (mut alices, mut bobs, talk) = friends(&deployment).await;
    let bob = bobs.user().clone();
    asks(&mut alices, &talk).await;
    let watching = bobs.watch(&[]).await.expect("an answer");
    alices.hears_of(&bob, &[true]).await;
    let told = alices.watch(std::slice::from_ref(&talk)).await.expect("an answer").users.remove(0);
    assert_eq!(told.until, Some(watching.now + 120_000), "until when, if nothing else is told");

    bobs.drop_connection();
    deployment.admin().let_leases_end(&bob).await;
    let told = alices.watch(std::slice::from_ref(&talk)).await.expect("an answer").users.remove(0);
    assert_eq!((told.until, told.seen), (None, Some(watching.now)), "last seen when the lease was taken");
    bobs.connect().await;
    bobs.watch(&[]).await.expect("an answer");
    alices.hears_of(&bob, &[true, true]).await;
}

/// D5, Q2: who shares no conversation with somebody learns nothing of them, whatever they name, and nobody is told of
/// strangers.
#[tokio::test]
async fn a_stranger_learns_nothing() {
    let _there = TABLE.read().await;
    let deployment = Deployment::here();
    let (mut alices, mut bobs, talk) = friends(&deployment).await;
    let (alice, bob) = (alices.user().clone(), bobs.user().clone());
    let mallory = deployment.user("mallory");
    let mut stranger = deployment.device(&mallory, "phone").await;
    asks(&mut bobs, &talk).await;
    let tried =
        [talk.clone(), ConversationId::direct(&mallory, &bob), ConversationId::new("g_1").expect("well formed")];
    let watching = stranger.watch(&tried).await.expect("an answer like any other");
    assert!(watching.users.is_empty(), "{watching:?}");
    asks(&mut alices, &talk).await;
    bobs.hears_of(&alice, &[true]).await;
    stranger.types(&talk).await;
    alices.types(&talk).await;
    bobs.hear("alice is writing", |device| (device.heard_typing(&talk) == [alice.clone()]).then_some(())).await;
    stranger.hello().await;
    bobs.hello().await;
    assert!(stranger.heard_of(&alice).is_empty() && stranger.heard_of(&bob).is_empty());
    assert!(bobs.heard_of(&mallory).is_empty() && stranger.heard_typing(&talk).is_empty());
    assert_eq!(bobs.heard_typing(&talk), [alice], "a stranger writes nowhere");
}

/// D5: writing reaches those who watch, and nobody is flooded: not by a device that says it at every key.
#[tokio::test]
async fn writing_is_told_to_those_who_watch() {
    let _there = TABLE.read().await;
    let deployment = Deployment::here();
    let (mut alices, mut bobs, talk) = friends(&deployment).await;
    let mut tablet = deployment.device(bobs.user(), "tablet").await;
    asks(&mut bobs, &talk).await;
    asks(&mut alices, &talk).await;
    let began = std::time::Instant::now();
    for _ in 0..30 {
        alices.types(&talk).await;
    }
    bobs.hear("alice is writing", |device| (!device.heard_typing(&talk).is_empty()).then_some(())).await;
    alices.hello().await;
    bobs.hello().await;
    tablet.hello().await;
    // Each instance of the function passes on one in two seconds.
    let most = usize::try_from(began.elapsed().as_secs() / 2 + 1).expect("few") * 2;
    assert!(bobs.heard_typing(&talk).len() <= most, "{:?}", bobs.heard_typing(&talk));
    assert!(tablet.heard_typing(&talk).is_empty(), "it watches nobody");
    assert!(alices.heard_typing(&talk).is_empty(), "nor does the writer's own device hear of it");
    for nonsense in [r#"{"action":"typing"}"#, r#"{"action":"typing","conversation":5}"#, r#"{"action":"away","x":[]}"#]
    {
        alices.say(nonsense).await;
    }
    assert_eq!(alices.hello().await.user, *alices.user(), "not answered, not even with an error");
}

/// D5: somebody who comes and goes twenty times is told of a bounded number of times, and in the end as it is.
#[tokio::test]
async fn flapping_floods_nobody() {
    let _there = TABLE.read().await;
    let deployment = Deployment::here();
    let (mut alices, mut bobs, talk) = friends(&deployment).await;
    let bob = bobs.user().clone();
    asks(&mut alices, &talk).await;
    let began = std::time::Instant::now();
    let mut renew_ms = 0;
    for _ in 0..20 {
        renew_ms = bobs.watch(&[]).await.expect("an answer").renew_ms;
        bobs.goes_away().await;
        bobs.connect().await;
    }
    let last = bobs.watch(&[]).await.expect("an answer");
    alices.hello().await;
    // In five seconds, that bob came and that he went.
    let most = usize::try_from(began.elapsed().as_secs() / 5 + 1).expect("few") * 2;
    let told = alices.heard_of(&bob);
    assert!(!told.is_empty() && told.len() <= most, "{told:?} in {:?}", began.elapsed());
    assert!(renew_ms <= 50_000 && last.renew_ms <= 50_000);
    assert_eq!(asks(&mut alices, &talk).await, [(bob, true)]);
}

/// D5: with the table of presence gone, envelopes are sent, delivered and fetched as ever, and a device whose person looks
/// keeps its connection. Back again, it works again.
#[tokio::test]
async fn messages_go_on_without_presence() {
    let _gone = TABLE.write().await;
    let deployment = Deployment::here();
    let admin = deployment.admin();
    let folder = tempfile::tempdir().expect("a folder");
    let (mut alices, mut bobs, talk) = friends(&deployment).await;
    let (carol, bob) = (deployment.user("carol"), bobs.user().clone());
    admin.remove_presence().await;
    // Whatever happens, the others have their table again.
    let tried = AssertUnwindSafe(async move {
        let refused = alices.watch(std::slice::from_ref(&talk)).await.expect_err("nobody can say who is here");
        assert_eq!((refused.refusal.code, refused.refusal.retryable), (Code::Unavailable, true));
        alices.types(&talk).await;
        alices.goes_away().await;
        for n in 0..5 {
            let (envelope, _) = alices.tells(&bob, &format!("without presence {n}")).await;
            bobs.hears(&envelope).await;
            let (answer, _) = bobs.tells(&alices.user().clone(), "so what").await;
            alices.hears(&answer).await;
        }
        assert_eq!(bobs.whole_log(&talk).await.len(), 11);

        let client = open(&Deployment::here(), folder.path(), &carol, "phone", true).await;
        client.foreground().await.expect("open");
        client.watch(vec![ConversationId::direct(&carol, &bob)]).await.expect("open");
        for body in ["one", "two", "three"] {
            client.send(Target::User(bob.clone()), body).await.expect("it is on the disk");
            eventually("it is acknowledged", DEADLINE, async || {
                client.outbox().await.expect("readable").is_empty().then_some(())
            })
            .await;
        }
        assert_eq!(client.counters().await.expect("open").connections, 1, "no connection is given up for it");
        client.close().await;
        (alices, talk, bob)
    })
    .catch_unwind()
    .await;
    admin.restore_presence().await;
    let (mut alices, talk, bob) = tried.unwrap_or_else(|failed| resume_unwind(failed));
    assert_eq!(asks(&mut alices, &talk).await, [(bob, false)]);
}

/// Q2, D5: only one function may touch the table, as the template says; that it is held to that, all these tests show.
#[test]
fn no_other_function_may_touch_presence() {
    let template = include_str!("../../../infra/template.yaml");
    let mut part = "";
    for line in template.lines() {
        if line.starts_with("  ") && !line.starts_with("   ") {
            part = line.trim().trim_end_matches(':');
        }
        let table = line.contains("Presence.Arn") || line.trim_end().ends_with("!Ref Presence");
        // Alarms look at all functions.
        let function = line.contains("PresenceFunction") && !part.ends_with("Alarm");
        let named = table || function;
        assert!(!named || part.contains("Presence"), "{part} names the table or the function of presence: {line}");
    }
}

/// Waits until the application is told something.
async fn told<T>(events: &mut Events, what: &str, mut look: impl FnMut(Event) -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look(events.next().await.expect("the client is open")) {
                return found;
            }
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("waited {DEADLINE:?} for this: {what}"))
}

async fn looks(client: &Client, talk: &ConversationId) {
    client.watch(vec![talk.clone()]).await.expect("open");
    client.foreground().await.expect("open");
}

/// D5, C7: two applications see each other come, write and go; what was written by key after key ends by itself. Who hides
/// is not seen, and sees nobody.
#[tokio::test]
async fn two_applications_see_each_other() {
    let _there = TABLE.read().await;
    let deployment = Deployment::here();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let talk = ConversationId::direct(&alice, &bob);
    let folder = tempfile::tempdir().expect("a folder");
    let configure = |user: &UserId| {
        let mut config = account(&deployment.stack().socket_url, &folder.path().join(user.as_str()), user, "phone");
        config.tuning.typing_shown = 1_000;
        config
    };
    let alices = Client::open(configure(&alice)).await.expect("it opens");
    let bobs = Client::open(configure(&bob)).await.expect("it opens");
    let (mut alice_is_told, mut bob_is_told) = (alices.events(), bobs.events());
    alices.send(Target::User(bob.clone()), "hello").await.expect("it is on the disk");
    told(&mut bob_is_told, "the message", |event| matches!(event, Event::Added { .. }).then_some(())).await;

    let here = |whom: &UserId, online: bool| {
        let whom = whom.clone();
        move |event| match event {
            Event::Presence { seen } => (seen.user == whom && seen.online == online).then_some(()),
            _ => None,
        }
    };
    let writing = |on: bool| move |event| matches!(event, Event::Typing { typing, .. } if typing == on).then_some(());
    looks(&alices, &talk).await;
    told(&mut alice_is_told, "bob is not here yet", here(&bob, false)).await;
    looks(&bobs, &talk).await;
    told(&mut alice_is_told, "bob comes", here(&bob, true)).await;
    told(&mut bob_is_told, "alice is here", here(&alice, true)).await;

    for _ in 0..10 {
        bobs.typing(talk.clone()).await.expect("open");
    }
    told(&mut alice_is_told, "bob writes", writing(true)).await;
    told(&mut alice_is_told, "bob writes no more", writing(false)).await;

    bobs.background().await.expect("open");
    told(&mut bob_is_told, "who hides sees nobody", here(&alice, false)).await;
    told(&mut alice_is_told, "bob goes", here(&bob, false)).await;
    assert!(bobs.seen().await.expect("open").is_empty());
    let counted = bobs.counters().await.expect("open").frames_sent;
    bobs.typing(talk.clone()).await.expect("open");
    assert_eq!(bobs.counters().await.expect("open").frames_sent, counted, "nothing is sent in the background");
    alices.close().await;
    bobs.close().await;
}
