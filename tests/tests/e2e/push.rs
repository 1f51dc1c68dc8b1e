//! Waking: who is pushed to, when, and what a provider in trouble does to the rest: nothing.

use std::time::{Duration, Instant};

use futures::future;
use poste_domain::ports::Wake;
use poste_protocol::{Platform, ProviderToken, PushStatus, PushStyle, PushToken, UserId, WokenBy};
use poste_tests::{Deployment, Device, Provider, eventually, now_ms, seq};
use uuid::Uuid;

/// How long a push may take that is due: the machine builds beside the tests.
const SOON: Duration = Duration::from_secs(30);

/// Fifty receives, a second apart.
const UNTIL_DEAD: Duration = Duration::from_mins(3);

/// Retries wait up to a minute when a provider was down for some seconds.
const AFTER_AN_OUTAGE: Duration = Duration::from_mins(2);

fn token(text: &str) -> PushToken {
    let token = ProviderToken::new(text).expect("well formed");
    PushToken { platform: Platform::Fcm, token, style: PushStyle::Alert }
}

/// A device that can be woken by a token of its own, connected.
async fn wakeable(deployment: &Deployment, user: &UserId, device: &str) -> (Device, String) {
    let mut device = deployment.device(user, device).await;
    let text = format!("{}-{}", device.author().device, Uuid::now_v7().simple());
    assert_eq!(device.registers(Some(token(&text))).await, PushStatus::Registered);
    (device, text)
}

/// The connection ends, and the server knows.
async fn leaves(deployment: &Deployment, device: &mut Device) {
    device.drop_connection();
    let (admin, user, name) = (deployment.admin(), device.user().clone(), device.author().device.clone());
    eventually("the connection is removed", SOON, async || {
        (!admin.connections(&user).await.contains_key(name.as_str())).then_some(())
    })
    .await;
}

/// Waits until everything that was queued before has been looked at: a message to somebody else, whose grace began later,
/// has been pushed.
async fn everything_is_looked_at(deployment: &Deployment, provider: &Provider, sender: &mut Device) {
    let zombie = deployment.user("zombie");
    let (_silent, token) = wakeable(deployment, &zombie, "phone").await;
    sender.tells(&zombie, "the last").await;
    provider.takes(&token, 1, SOON).await;
}

/// P3, P4: an offline device gets one push, at once, without content; the sender's other device gets none.
#[tokio::test]
async fn who_is_offline_is_pushed_to_once() {
    let deployment = Deployment::here();
    let provider = deployment.provider();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let (mut tablet, tablets) = wakeable(&deployment, &alice, "tablet").await;
    let (mut bobs, bobs_token) = wakeable(&deployment, &bob, "phone").await;
    leaves(&deployment, &mut bobs).await;
    leaves(&deployment, &mut tablet).await;
    let sent = now_ms();
    let (envelope, _) = phone.tells(&bob, "a secret of ours").await;
    let push = provider.takes(&bobs_token, 1, SOON).await;
    println!("an offline device was pushed to after {} ms", push.at_ms.saturating_sub(sent));
    assert_eq!((push.conversation.as_str(), push.badge), (envelope.conversation.as_str(), 1));
    assert!(!push.message.to_string().contains("secret"), "{}", push.message);
    assert!(push.message["GCM"].as_str().is_some_and(|text| text.contains("fcmV1Message") && text.len() < 4096));
    assert!(push.attributes["AWS.SNS.MOBILE.FCM.TTL"].is_string(), "{}", push.attributes);
    // The same again, as after a lost answer.
    phone.sends(&envelope).await;
    everything_is_looked_at(&deployment, &provider, &mut phone).await;
    assert_eq!(provider.asked(&bobs_token).await.len(), 1);
    assert_eq!(provider.asked(&tablets).await, [], "nobody is pushed to for what they wrote");
    // What woke it is said and counted; it is here.
    bobs.connect().await;
    let by = WokenBy { conversation: envelope.conversation.clone(), seq: Some(seq(1)), push: None };
    assert_eq!(bobs.is_awake(Some(by)).await, PushStatus::Registered);
}

/// P3, D6: who is online and marks gets no push; a connection that is open and never marks holds it up for the grace.
#[tokio::test]
async fn who_marks_is_left_alone_and_who_does_not_is_pushed_to() {
    let deployment = Deployment::here();
    let provider = deployment.provider();
    let (alice, bob, carol) = (deployment.user("alice"), deployment.user("bob"), deployment.user("carol"));
    let mut phone = deployment.device(&alice, "phone").await;
    let (mut bobs, bobs_token) = wakeable(&deployment, &bob, "phone").await;
    let (_zombie, carols_token) = wakeable(&deployment, &carol, "phone").await;
    let (to_bob, _) = phone.tells(&bob, "marked").await;
    bobs.hears(&to_bob).await;
    assert_eq!(bobs.marks(&to_bob.conversation, Some(1), None).await, None);
    let sent = now_ms();
    phone.tells(&carol, "never marked").await;
    let push = provider.takes(&carols_token, 1, SOON).await;
    let grace = u64::from(deployment.stack().push_grace_seconds) * 1_000;
    let waited = push.at_ms.saturating_sub(sent);
    println!("a silent connection was pushed to after {waited} ms; the grace is {grace} ms");
    assert!(waited + 1_000 >= grace, "not before the grace: {waited}");
    everything_is_looked_at(&deployment, &provider, &mut phone).await;
    assert_eq!(provider.asked(&bobs_token).await, []);
    assert_eq!(provider.asked(&carols_token).await.len(), 1);
}

/// P3: muted conversations are silent, until they are muted no longer.
#[tokio::test]
async fn what_is_muted_is_silent() {
    let deployment = Deployment::here();
    let provider = deployment.provider();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let (mut bobs, token) = wakeable(&deployment, &bob, "phone").await;
    let conversation = phone.with(&bob);
    assert!(bobs.mute(&conversation, Some(now_ms() + 3_600_000)).await.is_err(), "there is no such conversation yet");
    let (first, _) = phone.tells(&bob, "first").await;
    bobs.hears(&first).await;
    bobs.marks(&conversation, Some(1), None).await;
    bobs.mute(&conversation, Some(now_ms() + 3_600_000)).await.expect("muted");
    leaves(&deployment, &mut bobs).await;
    phone.tells(&bob, "unheard").await;
    everything_is_looked_at(&deployment, &provider, &mut phone).await;
    assert_eq!(provider.asked(&token).await, []);
    bobs.connect().await;
    bobs.mute(&conversation, None).await.expect("muted no longer");
    leaves(&deployment, &mut bobs).await;
    phone.tells(&bob, "heard").await;
    assert_eq!(provider.takes(&token, 3, SOON).await.badge, 3);
}

/// P2: a disabled endpoint is removed, and its device asked for another token; a token that another account registers
/// wakes the first one's device no more.
#[tokio::test]
async fn tokens_die_and_change_hands() {
    let deployment = Deployment::here();
    let provider = deployment.provider();
    let (alice, bob, carol) = (deployment.user("alice"), deployment.user("bob"), deployment.user("carol"));
    let mut phone = deployment.device(&alice, "phone").await;
    let (mut bobs, dead) = wakeable(&deployment, &bob, "phone").await;
    provider.fails(&dead, Some("disabled")).await;
    leaves(&deployment, &mut bobs).await;
    phone.tells(&bob, "to nobody").await;
    eventually("the provider was asked", SOON, async || (!provider.asked(&dead).await.is_empty()).then_some(())).await;
    bobs.connect().await;
    let stands = async || {
        let mut other = bobs.twin().await;
        other.is_awake(None).await
    };
    eventually("a new token is wanted", SOON, async || (stands().await == PushStatus::Renew).then_some(())).await;
    provider.fails(&dead, None).await;
    let another = format!("shared-{}", Uuid::now_v7().simple());
    bobs.connect().await;
    assert_eq!(bobs.registers(Some(token(&another))).await, PushStatus::Registered);
    assert_eq!(bobs.is_awake(None).await, PushStatus::Registered);
    // Carol signs in on bob's phone.
    let mut carols = deployment.device(&carol, "phone").await;
    assert_eq!(carols.registers(Some(token(&another))).await, PushStatus::Registered);
    assert_eq!(bobs.is_awake(None).await, PushStatus::None);
    leaves(&deployment, &mut bobs).await;
    leaves(&deployment, &mut carols).await;
    phone.tells(&bob, "not for carol").await;
    let (to_carol, _) = phone.tells(&carol, "for carol").await;
    let push = provider.takes(&another, 1, SOON).await;
    assert_eq!(push.conversation, to_carol.conversation.as_str());
    everything_is_looked_at(&deployment, &provider, &mut phone).await;
    assert_eq!(provider.asked(&another).await.len(), 1);
    // And carol leaves.
    carols.connect().await;
    assert_eq!(carols.registers(None).await, PushStatus::None);
    leaves(&deployment, &mut carols).await;
    phone.tells(&carol, "for nobody").await;
    everything_is_looked_at(&deployment, &provider, &mut phone).await;
    assert_eq!(provider.asked(&another).await.len(), 1);
}

/// P3: a device that does not come is pushed to now and then only, and the last push comes after the last message.
#[tokio::test]
async fn a_burst_is_pushed_twice_or_thrice() {
    let deployment = Deployment::here();
    let provider = deployment.provider();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let (mut bobs, token) = wakeable(&deployment, &bob, "phone").await;
    leaves(&deployment, &mut bobs).await;
    let mut last = 0;
    for i in 0..20 {
        phone.tells(&bob, &format!("{i}")).await;
        last = now_ms();
    }
    eventually("the queue is empty", AFTER_AN_OUTAGE, async || {
        let pushes = provider.taken(&token).await;
        (pushes.last().is_some_and(|push| push.at_ms >= last)).then_some(())
    })
    .await;
    everything_is_looked_at(&deployment, &provider, &mut phone).await;
    let pushes = provider.taken(&token).await;
    println!("20 messages at once made {} pushes", pushes.len());
    let interval = u64::from(deployment.stack().push_interval_seconds) * 1_000;
    assert!(pushes.windows(2).all(|two| two[1].at_ms + 500 >= two[0].at_ms + interval), "{pushes:?}");
}

/// How long a message takes to a device that is online, and marks it.
async fn live(from: &mut Device, to: &mut Device) -> Duration {
    let sent = Instant::now();
    let (message, accepted) = from.tells(to.user(), "meanwhile").await;
    to.hears(&message).await;
    let took = sent.elapsed();
    to.marks(&message.conversation, Some(accepted.seq), None).await;
    took
}

/// P1, P2, failures 5 and 6: a provider that is down for a while under load. The log and live connections do not notice;
/// the queue holds one message for each that was written and no more; the rate is respected; afterwards whoever still
/// needs it is woken, and nobody else.
#[tokio::test]
async fn a_provider_in_trouble_harms_nobody() {
    const PEOPLE: usize = 40;
    let deployment = Deployment::here();
    let (provider, admin) = (deployment.provider(), deployment.admin());
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let run = format!("trouble-{}", Uuid::now_v7().simple());
    let mut people = Vec::new();
    for i in 0..PEOPLE {
        let mut device = deployment.device(&deployment.user(&format!("p{i}")), "phone").await;
        assert_eq!(device.registers(Some(token(&format!("{run}-{i:03}")))).await, PushStatus::Registered);
        leaves(&deployment, &mut device).await;
        people.push(device);
    }
    // The same load on a good day, to compare with.
    let (mut carols, _) = wakeable(&deployment, &deployment.user("carol"), "phone").await;
    leaves(&deployment, &mut carols).await;
    let mut well = Vec::new();
    for _ in 0..PEOPLE {
        phone.tells(carols.user(), "are you there?").await;
        well.push(live(&mut phone, &mut bobs).await);
    }
    let faults = ["down", "throttled", "slow"];
    let (mut ill, mut deepest) = (Vec::new(), 0);
    for (i, device) in people.iter().enumerate() {
        provider.fails(&run, Some(faults[i * faults.len() / PEOPLE])).await;
        phone.tells(device.user(), "are you there?").await;
        ill.push(live(&mut phone, &mut bobs).await);
        deepest = deepest.max(admin.wakes_waiting().await);
    }
    // Every second one comes by itself and reads.
    for device in people.iter_mut().step_by(2) {
        device.connect().await;
        let conversation = device.with(&alice);
        assert_eq!(device.marks(&conversation, Some(1), None).await, None);
    }
    let asked = provider.asked(&run).await.len();
    assert!(provider.taken(&run).await.is_empty());
    let mended = now_ms();
    provider.fails(&run, None).await;
    let waiting = (1..PEOPLE).step_by(2).map(|i| format!("{run}-{i:03}"));
    let pushes = future::join_all(waiting.map(|token| {
        let provider = &provider;
        async move { provider.takes(&token, 1, AFTER_AN_OUTAGE).await }
    }));
    let last = pushes.await.iter().map(|push| push.at_ms).max().unwrap_or_default();
    everything_is_looked_at(&deployment, &provider, &mut phone).await;
    let all = provider.asked("").await;
    let fastest =
        all.iter().map(|a| all.iter().filter(|b| (a.at_ms..a.at_ms + 1_000).contains(&b.at_ms)).count()).max();
    well.sort();
    ill.sort();
    println!(
        "{PEOPLE} wake-ups in trouble: {asked} failed tries, at most {deepest} in the queue, all pushed {} ms after the \
         provider was well; at most {} publishes in a second (the rate is {}, a burst of as many besides); send to \
         receipt of live messages before and meanwhile: p50 {:?} and {:?}, p95 {:?} and {:?}",
        last.saturating_sub(mended),
        fastest.unwrap_or_default(),
        deployment.stack().push_rate,
        well[PEOPLE / 2],
        ill[PEOPLE / 2],
        well[PEOPLE * 95 / 100],
        ill[PEOPLE * 95 / 100],
    );
    let taken = provider.taken(&run).await;
    assert_eq!(taken.len(), PEOPLE / 2, "each once, and none for what is marked");
    let most = usize::try_from(deployment.stack().push_rate).expect("few") * 2;
    assert!(fastest.unwrap_or_default() <= most, "at most a full bucket and what flows into it");
    // One for each message to somebody away and one for each live one; the other tests have theirs in the same queue.
    assert!(
        deepest <= u64::try_from(4 * PEOPLE).expect("few"),
        "a failed wake-up stays one message of the queue: {deepest}"
    );
}

/// P2, failure 5: what is no wake-up holds up nothing beside it, and ends with the dead letters.
#[tokio::test]
async fn what_is_no_wake_up_holds_up_nothing() {
    let deployment = Deployment::here();
    let provider = deployment.provider();
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let (mut bobs, token) = wakeable(&deployment, &bob, "phone").await;
    leaves(&deployment, &mut bobs).await;
    let (admin, poison) = (deployment.admin(), format!("no wake-up {}", Uuid::now_v7().simple()));
    admin.queue_wakes(&[poison.clone(), "{}".to_owned()]).await;
    phone.tells(&bob, "hi").await;
    provider.takes(&token, 1, SOON).await;
    let dead = eventually("it is dead", UNTIL_DEAD, async || admin.take_dead_wake(&poison).await).await;
    println!("what is no wake-up was received {} times", dead.receives);
    assert_eq!(dead.body, poison);
}

/// P2: a dead letter that is moved back wakes its device, if it is still needed and worth it. (The emulator lacks
/// `StartMessageMoveTask`, so the test moves them.)
#[tokio::test]
async fn a_redrive_wakes_who_still_needs_it() {
    let deployment = Deployment::here();
    let (provider, admin) = (deployment.provider(), deployment.admin());
    let (alice, bob, carol, dave) =
        (deployment.user("alice"), deployment.user("bob"), deployment.user("carol"), deployment.user("dave"));
    let mut phone = deployment.device(&alice, "phone").await;
    // Nobody of them can be woken yet: the wake-ups come to nothing.
    let mut dead = Vec::new();
    let day = Duration::from_hours(24);
    for (user, age) in [(&bob, Duration::from_hours(5)), (&carol, Duration::from_hours(5)), (&dave, day)] {
        let (message, _) = phone.tells(user, "hi").await;
        let at_ms = now_ms() - u64::try_from(age.as_millis()).expect("short");
        let (envelope, conversation, users) = (Some(message.id), message.conversation, vec![user.clone()]);
        let wake = Wake { envelope, conversation, seq: seq(1), through: seq(1), at_ms, users, content: None };
        dead.push(serde_json::to_string(&wake).expect("JSON"));
    }
    everything_is_looked_at(&deployment, &provider, &mut phone).await;
    let mut tokens = Vec::new();
    for user in [&bob, &carol, &dave] {
        let (mut device, token) = wakeable(&deployment, user, "phone").await;
        if *user == carol {
            assert_eq!(device.marks(&device.with(&alice), Some(1), None).await, None);
        }
        leaves(&deployment, &mut device).await;
        tokens.push(token);
    }
    admin.bury_wakes(&dead).await;
    for body in &dead {
        let letter = eventually("it is there", SOON, async || admin.take_dead_wake(body).await).await;
        admin.queue_wakes(&[letter.body]).await;
    }
    assert_eq!(provider.takes(&tokens[0], 1, SOON).await.badge, 1);
    everything_is_looked_at(&deployment, &provider, &mut phone).await;
    assert_eq!(provider.asked(&tokens[1]).await, [], "it is marked");
    assert_eq!(provider.asked(&tokens[2]).await, [], "it is old");
}
