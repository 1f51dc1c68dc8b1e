//! Q2: each function's role permits what it needs and nothing else. Whatever the template permits is taken away, one
//! permission after another, and something fails each time.
//!
//! A binary of its own, which runs alone: what is taken away is taken away from everybody. What there is to take away is
//! read from the roles as they are deployed, so that a permission that nobody needs makes this fail.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::select};
use poste_protocol::{
    Attachment, Cell, ConversationId, Digest, Envelope, Event, LanePlace, Mark, MediaFile, MediaId, MediaState,
    MediaWish, Message, MessageId, MessagePlace, Number, PartWish, Platform, ProviderToken, PushStatus, PushStyle,
    PushToken, Request, Resolved, Submission, SyncRange, limits, part_range,
};
use poste_tests::{
    DEADLINE, Deployment, Device, Permission, Registered, Roles, Store, bodies, checksum, eventually, now_ms, resent,
    seq, submission,
};
use uuid::Uuid;

/// What cannot be checked here, and why. Everything else is.
const EXCEPTIONS: [(&str, &str); 7] = [
    ("logs:", "Lambda writes the logs in the role's name; the emulator does not ask for permission"),
    ("sqs:ReceiveMessage", "Lambda's poller receives in the role's name; the emulator's does not ask"),
    ("sqs:DeleteMessage", "the same"),
    ("sqs:GetQueueAttributes", "the same"),
    ("s3:PutObjectTagging", "AWS asks for it where an upload names tags; the emulator does not"),
    ("s3:ListBucket", "without it AWS refuses what is not there; the emulator says that it is not there"),
    ("sns:", "pushes go to what stands in for SNS, which knows no permissions"),
];

/// How long it may take until something fails.
const PATIENCE: Duration = DEADLINE.saturating_mul(2);
/// What a scene has queued is worked on by then, also when it was put off.
const SOON: Duration = Duration::from_secs(30);
/// Between two looks at what was judged.
const LOOK: Duration = Duration::from_millis(20);

type Work<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// What uses permissions.
struct Scene {
    name: &'static str,
    play: for<'a> fn(&'a Deployment) -> Work<'a>,
}

macro_rules! scenes {
    ($($name:ident),* $(,)?) => {
        [$(Scene { name: stringify!($name), play: |deployment| Box::pin($name(deployment)) }),*]
    };
}

/// Q2, and `docs/SECURITY.md`: no permission is superfluous.
#[tokio::test]
async fn whatever_is_taken_away_something_fails() {
    let deployment = Deployment::here();
    let Some(roles) = Roles::of(&deployment).await else {
        println!("not played: this emulator checks no permissions, or does not tell what it has judged");
        return;
    };
    let is_excepted = |permission: &&Permission| EXCEPTIONS.iter().any(|(some, _)| permission.action.starts_with(some));
    let checked: Vec<&Permission> = roles.permissions.iter().filter(|permission| !is_excepted(permission)).collect();
    assert!(checked.len() > 50, "the roles were read: {checked:?}");
    for (excepted, why) in EXCEPTIONS {
        println!("not checked: {excepted}: {why}");
    }

    // Whoever was here before has left connections to end, by the hundred.
    deployment.settles().await;
    // First everything as it is: which scene asks for which permission.
    let scenes = scenes();
    let mut played = Vec::new();
    roles.judged().await;
    for scene in &scenes {
        let began = Instant::now();
        (scene.play)(&deployment).await;
        let judged = roles.judged().await;
        let refused: Vec<_> = judged.iter().filter(|judged| !judged.allowed).collect();
        assert!(refused.is_empty(), "{}: refused with all permissions: {refused:?}", scene.name);
        played.push((began.elapsed(), scene, judged));
    }
    played.sort_by_key(|(time, ..)| *time);
    for (time, scene, _) in &played {
        println!("{} takes {time:.1?}", scene.name);
    }

    // What fails now is meant to, and need not be told.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut wrong = Vec::new();
    for permission in &checked {
        let asks = |(_, _, judged): &&(Duration, &Scene, Vec<_>)| judged.iter().any(|one| permission.is_asked_by(one));
        let mut candidates = played.iter().filter(asks).peekable();
        if candidates.peek().is_none() {
            wrong.push(format!("nobody asks for {permission:?}: is it needed? Then play what needs it."));
            continue;
        }
        roles.remove(permission).await;
        let mut failed = false;
        // What was judged late may have been taken for a later scene's.
        for (_, scene, _) in candidates {
            failed = fails(&deployment, &roles, permission, scene).await;
            if failed {
                break;
            }
        }
        roles.restore(permission).await;
        if !failed {
            wrong.push(format!("nothing fails without {permission:?}"));
        }
    }
    std::panic::set_hook(told);
    println!("{} permissions were taken away", checked.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for scene in &scenes {
        (scene.play)(&deployment).await;
    }
}

/// Plays a scene until somebody is refused for want of a permission.
async fn fails(deployment: &Deployment, roles: &Roles, permission: &Permission, scene: &Scene) -> bool {
    roles.judged().await;
    let playing = async {
        // Whether it breaks off or not, it may have queued what is refused in a moment.
        let _ = AssertUnwindSafe((scene.play)(deployment)).catch_unwind().await;
        tokio::time::sleep(SOON).await;
    };
    let watching = async {
        loop {
            if roles.judged().await.iter().any(|judged| !judged.allowed && permission.is_asked_by(judged)) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let both = select(Box::pin(playing), Box::pin(watching));
    matches!(tokio::time::timeout(PATIENCE, both).await, Ok(futures::future::Either::Right(_)))
}

fn scenes() -> Vec<Scene> {
    scenes![
        a_device_takes_another_ones_place,
        a_token_is_registered_and_changes_hands,
        somebody_mutes,
        somebody_reads_without_end,
        somebody_writes_without_end,
        somebody_writes_and_repeats,
        a_writer_stalled,
        more_devices_write_than_the_head_has_room_for,
        something_is_edited_and_deleted,
        marks_ride_along,
        a_file_is_sent_and_deleted,
        a_file_of_several_parts_is_given_up,
        a_group_changes,
        an_event_was_cut_short_and_send_applies_it,
        an_event_was_cut_short_and_sync_applies_it,
        an_event_was_cut_short_and_media_applies_it,
        an_event_was_never_written,
        somebody_reads,
        a_hole_is_filled,
        somebody_marks,
        a_connection_is_gone,
        what_is_no_parcel_is_put_off,
        a_message_goes_to_many,
        somebody_is_woken,
        an_endpoint_is_disabled,
        the_provider_is_down,
        friends_watch_each_other,
        a_group_is_watched,
        a_device_goes_on_after_a_conflict,
    ]
    .into()
}

/// Alice's phone and bob's, who have talked.
async fn friends(deployment: &Deployment) -> (Device, Device, ConversationId) {
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let mut bobs = deployment.device(&bob, "phone").await;
    let (hello, _) = phone.tells(&bob, "hello").await;
    bobs.hears(&hello).await;
    (phone, bobs, hello.conversation)
}

/// Alice, who has made a group, and bob, who is in it.
async fn group(deployment: &Deployment) -> (Device, Device, ConversationId) {
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    let mut phone = deployment.device(&alice, "phone").await;
    let bobs = deployment.device(&bob, "phone").await;
    let group = ConversationId::group();
    let event = phone.does(&group, Event::Created { title: "climbing".into(), members: vec![bob] });
    phone.sends(&event).await;
    (phone, bobs, group)
}

fn token() -> (PushToken, String) {
    let text = format!("permit-{}", Uuid::now_v7().simple());
    let token = ProviderToken::new(text.clone()).expect("well formed");
    (PushToken { platform: Platform::Fcm, token, style: PushStyle::Alert }, text)
}

async fn a_device_takes_another_ones_place(deployment: &Deployment) {
    let mut old = deployment.device(&deployment.user("alice"), "phone").await;
    let mut new = old.twin().await;
    old.is_replaced().await;
    old.is_closed().await;
    new.hello().await;
}

async fn a_token_is_registered_and_changes_hands(deployment: &Deployment) {
    let mut phone = deployment.device(&deployment.user("alice"), "phone").await;
    let mut bobs = deployment.device(&deployment.user("bob"), "phone").await;
    let (one, other) = (token().0, token().0);
    phone.registers(Some(one)).await;
    assert_eq!(phone.registers(Some(other.clone())).await, PushStatus::Registered);
    assert_eq!(phone.is_awake(None).await, PushStatus::Registered);
    assert_eq!(bobs.registers(Some(other)).await, PushStatus::Registered);
    bobs.registers(None).await;
}

async fn somebody_mutes(deployment: &Deployment) {
    let (_, mut bobs, conversation) = friends(deployment).await;
    bobs.mute(&conversation, Some(now_ms() + 3_600_000)).await.expect("muted");
}

async fn somebody_writes_and_repeats(deployment: &Deployment) {
    let (mut phone, bobs, _) = friends(deployment).await;
    let (letter, _) = phone.tells(bobs.user(), "again").await;
    phone.submit(resent(&letter)).await.expect("a repeat");
}

async fn a_writer_stalled(deployment: &Deployment) {
    let (mut phone, mut bobs, _) = friends(deployment).await;
    let (alice, bob) = (phone.user().clone(), bobs.user().clone());
    let stalled = phone.writes(&bob, "stalled");
    deployment.admin().place_only(phone.author(), &stalled).await;
    bobs.tells(&alice, "after it").await;
    phone.submit(resent(&stalled)).await.expect("placed anew");
}

async fn more_devices_write_than_the_head_has_room_for(deployment: &Deployment) {
    let (alice, bob) = (deployment.user("alice"), deployment.user("bob"));
    for n in 0..=10 {
        let mut device = deployment.device(&alice, &format!("device-{n}")).await;
        let (letter, _) = device.tells(&bob, "one").await;
        device.submit(resent(&letter)).await.expect("a repeat");
    }
}

async fn something_is_edited_and_deleted(deployment: &Deployment) {
    let (mut phone, bobs, _) = friends(deployment).await;
    let bob = bobs.user().clone();
    let (letter, accepted) = phone.tells(&bob, "a secret").await;
    let place = MessagePlace { seq: seq(accepted.seq), id: letter.messages[0].id };
    let mut edit = phone.writes(&bob, "another");
    edit.messages[0].edits = Some(place);
    phone.sends(&edit).await;
    let delete = phone.writes(&bob, "");
    let message = Message { deletes: Some(place), ..Message::new(MessageId::fresh(), "") };
    phone.sends(&Envelope { messages: vec![message], ..delete }).await;
}

async fn marks_ride_along(deployment: &Deployment) {
    let (phone, mut bobs, conversation) = friends(deployment).await;
    let letter = bobs.writes(phone.user(), "with a mark");
    let Request::Send(mut frame) = bobs.send_frame(vec![submission(&letter)]) else { unreachable!("a frame of send") };
    frame.marks = vec![Mark { conversation, delivered: Some(seq(1)), read: Some(seq(1)) }];
    bobs.ask(&Request::Send(frame)).await;
}

/// What is uploaded.
struct File {
    media: MediaId,
    bytes: Vec<u8>,
}

impl File {
    fn of(size: usize) -> Self {
        Self { media: MediaId::fresh(), bytes: vec![7; size] }
    }

    fn file(&self) -> MediaFile {
        MediaFile { size: self.bytes.len() as u64, sha256: checksum(&self.bytes), kind: "image/png".to_owned() }
    }

    async fn begins(&self, device: &mut Device, conversation: &ConversationId) -> MediaState {
        let begin = MediaWish::Begin { to: None, file: self.file() };
        device.wants(conversation, self.media, begin).await.expect("begun")
    }

    async fn uploads(&self, device: &mut Device, conversation: &ConversationId, part: u32) {
        let (from, bytes) = part_range(self.bytes.len() as u64, part);
        let at = |place: u64| usize::try_from(place).expect("small");
        let bytes = &self.bytes[at(from)..at(from + bytes)];
        let parts = vec![PartWish { part, sha256: Digest::of(bytes) }];
        let links = device.wants(conversation, self.media, MediaWish::Parts { parts }).await;
        let Ok(MediaState::Links { links }) = links else { panic!("{links:?}") };
        assert_eq!(Store::new().put(&links[0].link, bytes.to_vec()).await, 200);
    }

    fn shown(&self, envelope: Envelope) -> Envelope {
        let MediaFile { size, sha256, kind } = self.file();
        let media = Attachment { id: self.media, size, sha256, kind, name: None, pixels: None, thumbnail: None };
        Envelope { messages: vec![Message::of_media(MessageId::fresh(), "", media)], ..envelope }
    }
}

async fn a_file_is_sent_and_deleted(deployment: &Deployment) {
    let (mut phone, mut bobs, conversation) = friends(deployment).await;
    let bob = bobs.user().clone();
    let file = File::of(1_000);
    file.begins(&mut phone, &conversation).await;
    let early = file.shown(phone.writes(&bob, ""));
    phone.submit(submission(&early)).await.expect_err("it is not there yet");
    file.uploads(&mut phone, &conversation, 1).await;
    let complete = phone.wants(&conversation, file.media, MediaWish::Complete).await;
    assert_eq!(complete, Ok(MediaState::Complete));
    let shown = file.shown(phone.writes(&bob, ""));
    let place = phone.sends(&shown).await.seq;
    let message = MessagePlace { seq: seq(place), id: shown.messages[0].id };
    let got = bobs.wants(&conversation, file.media, MediaWish::Get { message }).await;
    let Ok(MediaState::Link { link }) = got else { panic!("{got:?}") };
    assert_eq!(Store::new().get(&link, None).await.expect("the bytes"), file.bytes);
    let delete = phone.writes(&bob, "");
    let gone = Message { deletes: Some(message), ..Message::new(MessageId::fresh(), "") };
    phone.sends(&Envelope { messages: vec![gone], ..delete }).await;
}

async fn a_file_of_several_parts_is_given_up(deployment: &Deployment) {
    let (mut phone, _, conversation) = friends(deployment).await;
    let file = File::of(12 << 20);
    file.begins(&mut phone, &conversation).await;
    file.uploads(&mut phone, &conversation, 1).await;
    file.begins(&mut phone, &conversation).await;
    phone.wants(&conversation, file.media, MediaWish::Abort).await.expect("given up");
    let small = File::of(1_000);
    small.begins(&mut phone, &conversation).await;
    small.uploads(&mut phone, &conversation, 1).await;
    phone.wants(&conversation, small.media, MediaWish::Abort).await.expect("given up");
}

async fn a_group_changes(deployment: &Deployment) {
    let (mut phone, mut bobs, group) = group(deployment).await;
    let carol = deployment.user("carol");
    let adds = phone.does(&group, Event::Added { users: vec![carol] });
    phone.sends(&adds).await;
    let hello = phone.says(&group, "hello");
    phone.sends(&hello).await;
    bobs.hears(&hello).await;
    bobs.members(&group, None).await.expect("members");
}

/// An event that was placed, and written, and not applied.
async fn cut_short(deployment: &Deployment, by: &Device, group: &ConversationId, written: bool) {
    let admin = deployment.admin();
    let place = admin.place_event(group).await;
    if !written {
        return;
    }
    let event = Event::Added { users: vec![deployment.user("dave")] };
    let message = Message { event: Some(event), ..Message::new(MessageId::fresh(), "") };
    let envelope = poste_tests::envelope(group, None, 9, &["x"]).id;
    let (by, at) = (by.author().clone(), now_ms());
    let number = Number::new(9).expect("positive");
    let cell = Cell { seq: seq(place), envelope, number, by, at, messages: vec![message] };
    admin.put_cell(group, &cell).await;
}

async fn an_event_was_cut_short_and_send_applies_it(deployment: &Deployment) {
    let (mut phone, mut bobs, group) = group(deployment).await;
    let hello = phone.says(&group, "hello");
    phone.sends(&hello).await;
    cut_short(deployment, &phone, &group, true).await;
    let after = bobs.says(&group, "after it");
    bobs.sends(&after).await;
    let adds = phone.does(&group, Event::Added { users: vec![deployment.user("erin")] });
    phone.sends(&adds).await;
}

async fn an_event_was_cut_short_and_sync_applies_it(deployment: &Deployment) {
    let (phone, mut bobs, group) = group(deployment).await;
    cut_short(deployment, &phone, &group, true).await;
    bobs.fetch(&group, seq(0), None).await.expect("a page");
    bobs.members(&group, None).await.expect("members");
}

async fn an_event_was_cut_short_and_media_applies_it(deployment: &Deployment) {
    let (phone, mut bobs, group) = group(deployment).await;
    cut_short(deployment, &phone, &group, true).await;
    File::of(1_000).begins(&mut bobs, &group).await;
}

async fn an_event_was_never_written(deployment: &Deployment) {
    let (phone, mut bobs, group) = group(deployment).await;
    cut_short(deployment, &phone, &group, false).await;
    File::of(1_000).begins(&mut bobs, &group).await;
}

async fn somebody_reads(deployment: &Deployment) {
    let (mut phone, mut bobs, conversation) = friends(deployment).await;
    let bob = bobs.user().clone();
    for _ in 0..4 {
        let many = phone.writes_all(&bob, &bodies(&"long ".repeat(100), limits::ENVELOPE_MESSAGES));
        phone.sends(&many).await;
    }
    bobs.list(None).await;
    let range = SyncRange { conversation: conversation.clone(), after: Some(seq(0)), limit: None };
    bobs.sync(vec![range], 16).await.expect("pages");
    bobs.fetch(&conversation, seq(0), None).await.expect("a page");
    bobs.sets_receipts(false).await;
    phone.receipts(&conversation, 1, None).await.expect("who has it");
}

async fn a_hole_is_filled(deployment: &Deployment) {
    let (phone, mut bobs, conversation) = friends(deployment).await;
    let admin = deployment.admin();
    let place = admin.reserve(&conversation, 2).await + 1;
    let envelope = poste_tests::envelope(&conversation, None, 9, &["behind the hole"]);
    let (by, at) = (phone.author().clone(), now_ms() - 60_000);
    let cell = Cell {
        seq: seq(place),
        envelope: envelope.id,
        number: envelope.number,
        by,
        at,
        messages: envelope.messages.clone(),
    };
    admin.put_cell(&conversation, &cell).await;
    bobs.fetch(&conversation, seq(0), None).await.expect("a page");
}

async fn somebody_marks(deployment: &Deployment) {
    let (mut phone, mut bobs, conversation) = friends(deployment).await;
    assert_eq!(bobs.marks(&conversation, Some(1), Some(1)).await, None);
    phone.hears_mark(&conversation, 1, 1).await;
}

async fn a_connection_is_gone(deployment: &Deployment) {
    let (mut phone, bobs, _) = friends(deployment).await;
    let now = now_ms();
    let gone = Registered { id: "gone=".to_owned(), since_ms: now - 3_600_000, until_ms: now + 3_600_000 };
    let admin = deployment.admin();
    admin.put_connection(bobs.user(), "lost", &gone).await;
    phone.tells(bobs.user(), "to both").await;
    eventually("it is removed", DEADLINE, async || {
        (!admin.connections(bobs.user()).await.contains_key("lost")).then_some(())
    })
    .await;
}

async fn what_is_no_parcel_is_put_off(deployment: &Deployment) {
    let (mut phone, mut bobs, _) = friends(deployment).await;
    deployment.admin().queue(&["no parcel".to_owned()]).await;
    let (hello, _) = phone.tells(bobs.user(), "behind it").await;
    bobs.hears(&hello).await;
}

async fn a_message_goes_to_many(deployment: &Deployment) {
    let (mut phone, mut bobs, group) = group(deployment).await;
    for _ in 0..3 {
        let users = (0..limits::EVENT_USERS).map(|_| deployment.user("many")).collect();
        let adds = phone.does(&group, Event::Added { users });
        phone.sends(&adds).await;
    }
    let hello = phone.says(&group, "hello to all");
    phone.sends(&hello).await;
    bobs.hears(&hello).await;
}

async fn somebody_is_woken(deployment: &Deployment) {
    let (mut phone, mut bobs, _) = friends(deployment).await;
    let (wish, text) = token();
    bobs.registers(Some(wish)).await;
    bobs.drop_connection();
    let (_, accepted) = phone.tells(bobs.user(), "wake up").await;
    deployment.provider().takes(&text, accepted.seq, PATIENCE).await;
}

async fn an_endpoint_is_disabled(deployment: &Deployment) {
    let (mut phone, mut bobs, _) = friends(deployment).await;
    let (wish, text) = token();
    bobs.registers(Some(wish)).await;
    let provider = deployment.provider();
    provider.fails(&text, Some("disabled")).await;
    bobs.drop_connection();
    phone.tells(bobs.user(), "wake up").await;
    eventually("it was tried", PATIENCE, async || (!provider.asked(&text).await.is_empty()).then_some(())).await;
    bobs.connect().await;
    eventually("it is buried", PATIENCE, async || (bobs.is_awake(None).await != PushStatus::Registered).then_some(()))
        .await;
}

async fn the_provider_is_down(deployment: &Deployment) {
    let (mut phone, mut bobs, _) = friends(deployment).await;
    let (wish, text) = token();
    bobs.registers(Some(wish)).await;
    let provider = deployment.provider();
    provider.fails(&text, Some("down")).await;
    bobs.drop_connection();
    phone.tells(bobs.user(), "wake up").await;
    eventually("it was tried twice", PATIENCE, async || (provider.asked(&text).await.len() > 1).then_some(())).await;
    provider.fails(&text, None).await;
}

/// Requests between two looks at what is counted of them, and how many there are at most: more than each instance lets
/// pass by itself.
const FLOOD: usize = 64;
const FLOODS: usize = 100;

async fn somebody_reads_without_end(deployment: &Deployment) {
    let (mut phone, _, _) = friends(deployment).await;
    let (admin, name) = (deployment.admin(), format!("sync/{}/phone", phone.user()));
    for _ in 0..FLOODS {
        for _ in 0..FLOOD {
            phone.list(None).await;
        }
        if admin.counts(&name).await {
            return;
        }
    }
    panic!("nobody counts what {name} asks for");
}

async fn somebody_writes_without_end(deployment: &Deployment) {
    let (mut phone, _, _) = friends(deployment).await;
    let (admin, name) = (deployment.admin(), format!("send/{}/phone", phone.user()));
    let peers: Vec<_> = (0..limits::SUBMISSIONS).map(|_| deployment.user("peer")).collect();
    let frame: Vec<_> = peers.iter().map(|peer| submission(&phone.writes(peer, "again"))).collect();
    for _ in 0..FLOODS {
        for _ in 0..FLOOD / limits::SUBMISSIONS {
            phone.send(frame.clone()).await.expect("it is taken");
        }
        if admin.counts(&name).await {
            return;
        }
    }
    panic!("nobody counts what {name} asks for");
}

async fn friends_watch_each_other(deployment: &Deployment) {
    let (mut phone, mut bobs, conversation) = friends(deployment).await;
    let (alice, bob) = (phone.user().clone(), bobs.user().clone());
    phone.watch(std::slice::from_ref(&conversation)).await.expect("an answer");
    bobs.watch(std::slice::from_ref(&conversation)).await.expect("an answer");
    phone.hears_of(&bob, &[true]).await;
    phone.types(&conversation).await;
    bobs.hear("alice is writing", |device| (device.heard_typing(&conversation) == [alice.clone()]).then_some(())).await;
    phone.goes_away().await;
    bobs.hears_of(&alice, &[false]).await;
}

async fn a_group_is_watched(deployment: &Deployment) {
    let (mut phone, _, group) = group(deployment).await;
    phone.watch(&[group]).await.expect("an answer");
}

async fn a_device_goes_on_after_a_conflict(deployment: &Deployment) {
    let (phone, bobs, _) = friends(deployment).await;
    let mut tablet = deployment.device(phone.user(), "tablet").await;
    let letter = tablet.writes(bobs.user(), "after a conflict");
    let resolved = Some(Resolved { lane: LanePlace { number: Number::FIRST, seq: seq(1) }, through: seq(1) });
    tablet.submit(Submission { resolved, ..submission(&letter) }).await.expect("taken");
}
