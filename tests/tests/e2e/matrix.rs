//! Who may do what: every action of the wire, by everybody. `docs/SECURITY.md` shows the table.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::future;
use poste_protocol::{
    Attachment, Away, Code, ConversationId, Digest, Envelope, Event, Fetch, FromServer, Hello, List, Mark, MarkFrame,
    MarksFrame, MediaFile, MediaFrame, MediaId, MediaState, MediaWish, MembersFrame, Message, MessageId, MessagePlace,
    MuteFrame, Outcome, PartWish, Platform, ProviderToken, PushFrame, PushStyle, PushToken, ReceiptsFrame, Request,
    Role, SyncFrame, SyncRange, Typing, UserId, Watch,
};
use poste_tests::{DEADLINE, Deployment, Device, Showing, Store, TokenWish, eventually, seq, submission};
use uuid::Uuid;

use crate::presence;

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It is done.
    Yes,
    /// It is answered, if it is answered at all, as if there were nothing there, and nothing happens.
    Nothing,
    /// It is refused.
    No(Code),
}

use Told::{No, Nothing, Yes};

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(200);

const STRANGE: Told = No(Code::NotMember);
const LATE: Told = No(Code::TokenExpired);
const BELOW: Told = No(Code::NotAllowed);
const TARGET: Told = No(Code::NoTarget);
const FILE: Told = No(Code::NoMedia);

/// Who tries. All but the first have a good token. The group is alice's; bob, carol and dave are its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Actor {
    /// Bob, on a connection whose token has run out since.
    Late,
    /// Mallory, who was never in.
    Stranger,
    /// Carol, who was removed.
    Former,
    /// Bob.
    Member,
    /// Bob, on another device than the one that wrote and uploaded.
    Tablet,
    /// Alice.
    Admin,
}

const ACTORS: [(Actor, &str); 6] = [
    (Actor::Late, "token has run out"),
    (Actor::Stranger, "stranger"),
    (Actor::Former, "former member"),
    (Actor::Member, "member"),
    (Actor::Tablet, "their other device"),
    (Actor::Admin, "admin"),
];

/// What is tried: an action, for `send` and `media` with what is in it; and what comes of it, by [`ACTORS`]. What is
/// somebody's own was written or begun by the same user, in time.
const TABLE: [(&str, [Told; 6]); 37] = [
    ("hello", [LATE, Yes, Yes, Yes, Yes, Yes]),
    ("send: text", [LATE, STRANGE, STRANGE, Yes, Yes, Yes]),
    ("send: edit, own", [LATE, STRANGE, STRANGE, Yes, Yes, Yes]),
    ("send: edit, another's", [LATE, STRANGE, STRANGE, TARGET, TARGET, TARGET]),
    ("send: delete, own", [LATE, STRANGE, STRANGE, Yes, Yes, Yes]),
    ("send: delete, another's", [LATE, STRANGE, STRANGE, TARGET, TARGET, Yes]),
    ("send: file, own", [LATE, STRANGE, STRANGE, Yes, Yes, Yes]),
    ("send: file, another's", [LATE, STRANGE, STRANGE, FILE, FILE, FILE]),
    ("send: event created, a new group", [LATE, Yes, Yes, Yes, Yes, Yes]),
    ("send: event created, this one", [LATE, STRANGE, STRANGE, BELOW, BELOW, BELOW]),
    ("send: event titled", [LATE, STRANGE, STRANGE, BELOW, BELOW, Yes]),
    ("send: event added", [LATE, STRANGE, STRANGE, BELOW, BELOW, Yes]),
    ("send: event removed", [LATE, STRANGE, STRANGE, BELOW, BELOW, Yes]),
    ("send: event role", [LATE, STRANGE, STRANGE, BELOW, BELOW, Yes]),
    ("send: event left", [LATE, STRANGE, STRANGE, Yes, Yes, Yes]),
    ("fetch", [LATE, STRANGE, Yes, Yes, Yes, Yes]),
    ("sync", [LATE, STRANGE, Yes, Yes, Yes, Yes]),
    ("list", [LATE, Nothing, Yes, Yes, Yes, Yes]),
    ("members", [LATE, STRANGE, STRANGE, Yes, Yes, Yes]),
    ("mark", [LATE, STRANGE, Yes, Yes, Yes, Yes]),
    (
        "mark: beyond the head",
        [LATE, STRANGE, No(Code::BadFrame), No(Code::BadFrame), No(Code::BadFrame), No(Code::BadFrame)],
    ),
    ("marks", [LATE, STRANGE, STRANGE, Yes, Yes, Yes]),
    ("receipts", [LATE, Yes, Yes, Yes, Yes, Yes]),
    ("watch", [LATE, Nothing, Nothing, Yes, Yes, Yes]),
    ("away", [Nothing; 6]),
    ("typing", [Nothing, Nothing, Nothing, Yes, Yes, Yes]),
    ("push", [LATE, Yes, Yes, Yes, Yes, Yes]),
    ("mute", [LATE, STRANGE, Yes, Yes, Yes, Yes]),
    ("media: begin", [LATE, STRANGE, STRANGE, Yes, Yes, Yes]),
    ("media: parts, own", [LATE, FILE, STRANGE, Yes, Yes, Yes]),
    ("media: parts, another's", [LATE, FILE, STRANGE, FILE, FILE, FILE]),
    ("media: complete, own", [LATE, FILE, Yes, Yes, Yes, Yes]),
    ("media: complete, another's", [LATE, FILE, FILE, FILE, FILE, FILE]),
    ("media: abort, own", [LATE, Nothing, Yes, Yes, Yes, Yes]),
    ("media: abort, another's", [LATE, Nothing, Nothing, Nothing, Nothing, Nothing]),
    ("media: get", [LATE, STRANGE, Yes, Yes, Yes, Yes]),
    ("media: get, from after one's time", [LATE, STRANGE, FILE, Yes, Yes, Yes]),
];

/// Everybody whom the table is about, and a fourth member.
struct World {
    alice: Device,
    bob: Device,
    tablet: Device,
    late: Device,
    carol: Device,
    dave: Device,
    mallory: Device,
}

/// A group in which an actor tries something once.
struct Scene {
    group: ConversationId,
    /// A message of the actor's user, written by another device if the actor is one; bob's for a stranger.
    own: MessagePlace,
    /// Somebody else's.
    others: MessagePlace,
    /// A file that the same user has uploaded; sent, if that is what it is about, in the message `shown`.
    own_file: MediaId,
    others_file: MediaId,
    shown: MessagePlace,
}

/// The bytes of every file.
const BYTES: &[u8] = b"three bytes and some more";

impl World {
    async fn new() -> Self {
        let deployment = Deployment::here();
        let users = ["alice", "bob", "carol", "dave", "mallory"].map(|name| deployment.user(name));
        let [alice, bob, carol, dave, mallory] = &users;
        let mut late = deployment.device_offline(bob, "late");
        // Let in, for the clocks' sake, and over in a moment.
        let wish = TokenWish { expires_in: Some(-28), ..TokenWish::default() };
        late.connect_with(&Showing::Bearer(deployment.token(bob, &wish).await)).await;
        Self {
            alice: deployment.device(alice, "phone").await,
            bob: deployment.device(bob, "phone").await,
            tablet: deployment.device(bob, "tablet").await,
            carol: deployment.device(carol, "phone").await,
            dave: deployment.device(dave, "phone").await,
            mallory: deployment.device(mallory, "phone").await,
            late,
        }
    }

    fn actor(&mut self, actor: Actor) -> &mut Device {
        match actor {
            Actor::Late => &mut self.late,
            Actor::Stranger => &mut self.mallory,
            Actor::Former => &mut self.carol,
            Actor::Member => &mut self.bob,
            Actor::Tablet => &mut self.tablet,
            Actor::Admin => &mut self.alice,
        }
    }

    /// Who has prepared what is the actor's own, and what is another's.
    fn authors(&mut self, actor: Actor) -> [&mut Device; 2] {
        match actor {
            Actor::Admin => [&mut self.alice, &mut self.bob],
            Actor::Former => [&mut self.carol, &mut self.alice],
            Actor::Late | Actor::Stranger | Actor::Member | Actor::Tablet => [&mut self.bob, &mut self.alice],
        }
    }

    async fn scene(&mut self, actor: Actor, what: &str) -> Scene {
        let group = ConversationId::group();
        let [bob, carol, dave] = [&self.bob, &self.carol, &self.dave].map(|device| device.user().clone());
        let event = Event::Created { title: "climbing".into(), members: vec![bob, carol.clone(), dave] };
        let begins = self.alice.does(&group, event);
        self.alice.sends(&begins).await;
        let (files, afterwards) = (what.contains("file") || what.starts_with("media"), what.contains("after"));
        let [author, other] = self.authors(actor);
        let mut scene = Scene {
            own: writes(author, &group).await,
            others: writes(other, &group).await,
            own_file: MediaId::fresh(),
            others_file: MediaId::fresh(),
            shown: MessagePlace { seq: seq(1), id: MessageId::fresh() },
            group: group.clone(),
        };
        if files {
            uploads(author, &group, scene.own_file).await;
            uploads(other, &group, scene.others_file).await;
        }
        if what == "media: get" {
            let envelope = author.says(&group, "");
            scene.shown = shows(author, envelope, scene.own_file).await;
        }
        if actor == Actor::Former {
            let removes = self.alice.does(&group, Event::Removed { users: vec![carol] });
            self.alice.sends(&removes).await;
        }
        if afterwards {
            // Of somebody who is in.
            uploads(&mut self.dave, &group, scene.others_file).await;
            let envelope = self.dave.says(&group, "");
            scene.shown = shows(&mut self.dave, envelope, scene.others_file).await;
        }
        scene
    }

    /// What comes of it when somebody tries something, on a group of its own.
    async fn tries(&mut self, actor: Actor, what: &str, expected: Told) -> Told {
        let scene = self.scene(actor, what).await;
        if what == "typing" {
            return self.types(actor, &scene.group, expected).await;
        }
        let device = self.actor(actor);
        if what == "away" {
            device.post(&Request::Away(Away {})).await;
            return Nothing;
        }
        let asked = request(device, &scene, what);
        let mut answer = told(device.ask(&asked).await, &scene);
        // For 5 s an instance may remember that they were in, and says what it would say to a member who may not.
        let until = Instant::now() + DEADLINE;
        while actor == Actor::Former
            && expected == STRANGE
            && matches!(answer, No(Code::NoTarget | Code::NoMedia))
            && Instant::now() < until
        {
            tokio::time::sleep(AGAIN).await;
            let asked = request(device, &scene, what);
            answer = told(device.ask(&asked).await, &scene);
        }
        if answer == Yes && what.starts_with("media: abort") {
            // What is another's stays where it is; so it is said to be gone, and nothing happened.
            let [author, other] = self.authors(actor);
            let (owner, media) = match what {
                "media: abort, own" => (author, scene.own_file),
                _ => (other, scene.others_file),
            };
            let there = owner.wants(&scene.group, media, MediaWish::Complete).await;
            return if there == Ok(MediaState::Complete) { Nothing } else { Yes };
        }
        answer
    }

    /// Whether somebody who watches the group hears that the actor is writing.
    async fn types(&mut self, actor: Actor, group: &ConversationId, expected: Told) -> Told {
        let user = self.actor(actor).user().clone();
        let [_, witness] = self.authors(actor);
        witness.watch(std::slice::from_ref(group)).await.expect("watching");
        self.actor(actor).post(&Request::Typing(Typing { conversation: group.clone() })).await;
        if expected == Nothing {
            // Passed on after it, if both are.
            self.dave.types(group).await;
        }
        let awaited = if expected == Nothing { self.dave.user().clone() } else { user.clone() };
        let [_, witness] = self.authors(actor);
        witness
            .hear("that somebody is writing", |device| device.heard_typing(group).contains(&awaited).then_some(()))
            .await;
        if witness.heard_typing(group).contains(&user) { Yes } else { Nothing }
    }
}

async fn writes(device: &mut Device, group: &ConversationId) -> MessagePlace {
    let envelope = device.says(group, "hello");
    let accepted = device.sends(&envelope).await;
    MessagePlace { seq: seq(accepted.seq), id: envelope.messages[0].id }
}

fn file() -> MediaFile {
    MediaFile { size: BYTES.len() as u64, sha256: Digest::of(BYTES), kind: "image/png".to_owned() }
}

fn part() -> Vec<PartWish> {
    vec![PartWish { part: 1, sha256: Digest::of(BYTES) }]
}

/// Uploads a file as a whole.
async fn uploads(device: &mut Device, group: &ConversationId, media: MediaId) {
    device.wants(group, media, MediaWish::Begin { to: None, file: file() }).await.expect("begun");
    match device.wants(group, media, MediaWish::Parts { parts: part() }).await {
        Ok(MediaState::Links { links }) => assert_eq!(Store::new().put(&links[0].link, BYTES.to_vec()).await, 200),
        Ok(MediaState::Complete) => {}
        other => panic!("{other:?}"),
    }
}

fn with_file(media: MediaId) -> Message {
    let MediaFile { size, sha256, kind } = file();
    let attached = Attachment { id: media, size, sha256, kind, name: None, pixels: None, thumbnail: None };
    Message::of_media(MessageId::fresh(), "", attached)
}

/// Sends a message with a file.
async fn shows(device: &mut Device, envelope: Envelope, media: MediaId) -> MessagePlace {
    let envelope = Envelope { messages: vec![with_file(media)], ..envelope };
    let accepted = device.sends(&envelope).await;
    MessagePlace { seq: seq(accepted.seq), id: envelope.messages[0].id }
}

/// What is asked.
fn request(device: &mut Device, scene: &Scene, what: &str) -> Request {
    let (reference, conversation) = (device.reference(), scene.group.clone());
    let user = || UserId::new("erin").expect("well formed");
    let media = |media, wish| {
        Request::Media(MediaFrame { reference: reference.clone(), media, conversation: conversation.clone(), wish })
    };
    let marked = |delivered| {
        let mark = Mark { conversation: conversation.clone(), delivered: Some(seq(delivered)), read: None };
        Request::Mark(MarkFrame { reference: reference.clone(), marks: vec![mark] })
    };
    match what {
        "hello" => return Request::Hello(Hello::new(reference)),
        "fetch" => {
            return Request::Fetch(Fetch { reference, conversation, after: Some(seq(0)), before: None, limit: None });
        }
        "sync" => {
            let ranges = vec![SyncRange { conversation, after: Some(seq(0)), limit: None }];
            return Request::Sync(SyncFrame { reference, ranges, frames: Some(1) });
        }
        "list" => return Request::List(List { reference, after: None, frames: Some(1), previews: None }),
        "members" => return Request::Members(MembersFrame { reference, conversation, after: None }),
        "mark" => return marked(1),
        "mark: beyond the head" => return marked(1_000_000),
        "marks" => return Request::Marks(MarksFrame { reference, conversation, seq: seq(1), after: None }),
        "receipts" => return Request::Receipts(ReceiptsFrame { reference, on: true }),
        "watch" => return Request::Watch(Watch { reference, conversations: vec![conversation] }),
        "mute" => return Request::Mute(MuteFrame { reference, conversation, until: Some(1) }),
        "push" => {
            let token = ProviderToken::new(Uuid::now_v7().to_string()).expect("visible characters");
            let token = PushToken { platform: Platform::Fcm, token, style: PushStyle::Alert };
            return Request::Push(PushFrame { reference, token: Some(token) });
        }
        "media: begin" => return media(MediaId::fresh(), MediaWish::Begin { to: None, file: file() }),
        "media: parts, own" => return media(scene.own_file, MediaWish::Parts { parts: part() }),
        "media: parts, another's" => return media(scene.others_file, MediaWish::Parts { parts: part() }),
        "media: complete, own" => return media(scene.own_file, MediaWish::Complete),
        "media: complete, another's" => return media(scene.others_file, MediaWish::Complete),
        "media: abort, own" => return media(scene.own_file, MediaWish::Abort),
        "media: abort, another's" => return media(scene.others_file, MediaWish::Abort),
        "media: get" => return media(scene.own_file, MediaWish::Get { message: scene.shown }),
        "media: get, from after one's time" => {
            return media(scene.others_file, MediaWish::Get { message: scene.shown });
        }
        _ => {}
    }
    let text = |body: &str| Message::new(MessageId::fresh(), body);
    let event = |event| Message::of_event(MessageId::fresh(), event);
    let created = || event(Event::Created { title: "mine".into(), members: Vec::new() });
    let message = match what {
        "send: text" => text("hi"),
        "send: edit, own" => Message { edits: Some(scene.own), ..text("hi") },
        "send: edit, another's" => Message { edits: Some(scene.others), ..text("hi") },
        "send: delete, own" => Message { deletes: Some(scene.own), ..text("") },
        "send: delete, another's" => Message { deletes: Some(scene.others), ..text("") },
        "send: file, own" => with_file(scene.own_file),
        "send: file, another's" => with_file(scene.others_file),
        "send: event created, a new group" | "send: event created, this one" => created(),
        "send: event titled" => event(Event::Titled { title: "ours".into() }),
        "send: event added" => event(Event::Added { users: vec![user()] }),
        "send: event removed" => event(Event::Removed { users: vec![user()] }),
        "send: event role" => event(Event::Role { user: device.user().clone(), role: Role::Admin }),
        "send: event left" => event(Event::Left),
        other => panic!("nobody knows how to try {other:?}"),
    };
    let group = if what.ends_with("a new group") { ConversationId::group() } else { conversation };
    let envelope = Envelope { messages: vec![message], ..device.says(&group, "") };
    device.send_frame(vec![submission(&envelope)])
}

/// What an answer says of the group.
fn told(answer: FromServer, scene: &Scene) -> Told {
    let unless = |refusal: Option<Code>| refusal.map_or(Yes, No);
    match answer {
        FromServer::Error(error) => No(error.refusal.code),
        FromServer::Sent(mut sent) => match sent.verdicts.remove(0).outcome {
            Outcome::Accepted { .. } => Yes,
            Outcome::Refused { error } => No(error.code),
        },
        FromServer::Marked(marked) => unless(marked.results[0].error.as_ref().map(|error| error.code)),
        FromServer::Pages(pages) => unless(pages.refused.first().map(|refused| refused.error.code)),
        FromServer::List(page) => {
            let listed = page.conversations.iter().any(|summary| summary.conversation == scene.group);
            if listed { Yes } else { Nothing }
        }
        FromServer::Watching(watching) => {
            if watching.users.is_empty() {
                Nothing
            } else {
                Yes
            }
        }
        _ => Yes,
    }
}

/// Q2: everybody may do what the table says, and nothing else.
#[tokio::test]
async fn everybody_may_do_what_the_table_says() {
    let _there = presence::TABLE.read().await;
    let columns = future::join_all(ACTORS.iter().enumerate().map(|(column, (actor, _))| async move {
        let mut world = Box::pin(World::new()).await;
        if *actor == Actor::Late {
            eventually("the token runs out", DEADLINE, async || {
                let answer = world.late.ask_raw(r#"{"action":"hello","ref":"late?"}"#).await;
                matches!(answer, FromServer::Error(error) if error.refusal.code == Code::TokenExpired).then_some(())
            })
            .await;
        }
        let mut told = Vec::new();
        for (what, expected) in &TABLE {
            told.push(world.tries(*actor, what, expected[column]).await);
        }
        told
    }))
    .await;
    let mut wrong = Vec::new();
    for (row, (what, expected)) in TABLE.iter().enumerate() {
        for (column, (_, name)) in ACTORS.iter().enumerate() {
            let told = columns[column][row];
            if told != expected[column] {
                wrong.push(format!("{what}, {name}: {told:?} and not {:?}", expected[column]));
            }
        }
    }
    println!("{}", table());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Q2: without a good token nobody gets as far as an action.
#[tokio::test]
async fn without_a_good_token_nobody_connects() {
    let deployment = Deployment::here();
    let alice = deployment.user("alice");
    let good = TokenWish::default;
    let wishes = [
        ("expired", TokenWish { expires_in: Some(-60), ..good() }),
        ("of another issuer", TokenWish { issuer: Some("https://elsewhere.example"), ..good() }),
        ("for another device", TokenWish { bound_to: Some("tablet"), ..good() }),
    ];
    let mut shown = vec![("none", Showing::Nothing)];
    for (what, wish) in wishes {
        shown.push((what, Showing::Bearer(deployment.token(&alice, &wish).await)));
    }
    for (what, showing) in shown {
        let refused = deployment.handshake(Some("phone"), &showing).await.err().map(|refused| refused.status);
        assert!(refused.is_some_and(|status| [401, 403].contains(&status)), "{what}: {refused:?}");
    }
}

/// An action, an event or a wish of media that the protocol has is in the table.
#[test]
fn the_table_has_every_action() {
    let protocol = document("asyncapi.yaml");
    let rows = |prefix: &str| -> BTreeSet<&str> {
        let rows = TABLE.iter().filter_map(|(what, _)| what.strip_prefix(prefix));
        rows.filter_map(|what| what.split([',', ':']).next()).collect()
    };
    let mut actions = BTreeSet::new();
    let mut operation = "";
    for line in section(&protocol, "operations:") {
        match line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
            Some(name) => operation = name.trim_end_matches(':'),
            None if line == "    action: \"receive\"" => drop(actions.insert(operation)),
            None => {}
        }
    }
    assert_eq!(rows(""), actions);
    let schemas = section(&protocol, "  schemas:").join("\n");
    let constants = |of: &str| -> BTreeSet<&str> {
        let lines = section(&schemas, of).into_iter();
        lines
            .filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("const: \"")?.strip_suffix('"'))
            .collect()
    };
    let mut events = constants("    Event:");
    events.remove("unknown");
    assert_eq!(rows("send: event "), events);
    assert_eq!(rows("media: "), constants("    MediaFrame:"));
}

/// The lines below a line, as far as they are further in.
fn section<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().skip_while(|line| *line != heading).skip(1).collect();
    let lines: Vec<&str> = lines.into_iter().take_while(|line| depth(line) > depth(heading)).collect();
    assert!(!lines.is_empty(), "there is no {heading:?}");
    lines
}

/// The table, as Markdown has it.
fn table() -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heading: Vec<String> = ["tried"].into_iter().chain(ACTORS.map(|(_, name)| name)).map(str::to_owned).collect();
    let shown = |told: &Told| match told {
        Yes => "yes".to_owned(),
        Nothing => "nothing".to_owned(),
        No(code) => format!("`{}`", serde_json::to_value(code).expect("plain").as_str().unwrap_or_default()),
    };
    let rows = TABLE.iter().map(|(what, told)| {
        let what =
            what.split_once(": ").map_or_else(|| format!("`{what}`"), |(action, rest)| format!("`{action}`: {rest}"));
        line(&[what].into_iter().chain(told.iter().map(shown)).collect::<Vec<_>>())
    });
    [line(&heading), "|---|---|---|---|---|---|---|\n".to_owned()].into_iter().chain(rows).collect()
}

fn path(name: &str) -> std::path::PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "docs", name].iter().collect()
}

fn document(name: &str) -> String {
    std::fs::read_to_string(path(name)).expect("a document")
}

/// `UPDATE_DOCS=1` writes it.
#[test]
fn the_document_shows_the_table() {
    const MARKS: [&str; 2] = ["<!-- who may do what -->\n", "<!-- end -->"];
    let text = document("SECURITY.md");
    let (before, rest) = text.split_once(MARKS[0]).expect("the document says where");
    let (shown, after) = rest.split_once(MARKS[1]).expect("and where it ends");
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        let written = [before, MARKS[0], &table(), MARKS[1], after].concat();
        std::fs::write(path("SECURITY.md"), written).expect("it can be written");
        return;
    }
    assert_eq!(shown, table(), "docs/SECURITY.md is out of date: run with UPDATE_DOCS=1 to write it");
}
