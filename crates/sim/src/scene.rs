//! A scene: a deployment in memory on which a short story is played. The rules are the real ones; the devices speak the
//! frames of the wire; time passes when it is let; calls go wrong where the story wants it. The examples of
//! `docs/SEMANTICS.md` and the cases of `tests/rules.rs` are played on it.
//!
//! A story halts a function at a [`Moment`] of one of its calls. Where it is dropped then, the function has ended; where
//! it goes on, it was only slow. Nobody else can tell the two apart.

mod media;
mod phone;
mod wake;

use std::{
    cell::{Cell as Counter, RefCell},
    collections::BTreeMap,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use poste_domain::{
    Class, Interval, Membership, Retention,
    append::Settings,
    ports::{Clock, Parcel, Slot},
    routes::Caller,
};
use poste_protocol::{
    Author, Cell, Code, ConversationId, DeviceId, Envelope, EnvelopeId, Event, Fetch, FromServer, List, ListPage,
    ListPlace, Mark, MarkFrame, MarksFrame, MemberMark, MembersFrame, Message, MessageId, MessagePlace, Number,
    Outcome, Page, Pages, ReceiptsFrame, Reference, Refusal, Request, Role, SendFrame, Seq, Submission, Summary,
    SyncFrame, SyncRange, UserId, UserMark,
};
use tokio::{runtime::Runtime, sync::mpsc::UnboundedReceiver};
use uuid::Uuid;

use crate::{
    functions::Functions,
    memory::World,
    weather::{Halt, Mishap, Odds, Weather},
};

pub use crate::weather::Moment::{self, After, Before};
pub use media::LocalFile;
pub use phone::Phone;

/// A second.
pub const SECOND: Duration = Duration::from_secs(1);

/// A day.
pub const DAY: Duration = Duration::from_hours(24);

/// As many lanes in the head as a deployment has there (`poste-aws`, `LANES_IN_HEAD`).
pub const LANES_IN_HEAD: usize = 10;

/// What who seems to be connected is given to mark a message before being woken for it.
pub const WAKE_GRACE: Duration = Duration::from_secs(8);

/// A deployment in memory, and the time that passes on it.
pub struct Scene {
    stage: Rc<Stage>,
}

struct Stage {
    runtime: Runtime,
    world: Arc<World>,
    settings: RefCell<Settings>,
    functions: RefCell<Arc<Functions>>,
    /// Counts ids and connections.
    count: Counter<u64>,
    /// What the delivery queue holds, and how much came into it so far.
    queue: RefCell<(Vec<Parcel>, usize)>,
}

impl Default for Scene {
    fn default() -> Self {
        Self::new(LANES_IN_HEAD)
    }
}

impl Scene {
    /// Nothing is written yet. So many lanes live in a conversation's head, further ones on their own.
    pub fn new(lanes_in_head: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime of one thread");
        let world = {
            let _clock = runtime.enter();
            Arc::new(World::new(Weather::new(0, Odds::CALM), lanes_in_head))
        };
        let settings = Settings::default();
        let functions = RefCell::new(Arc::new(Functions::new(&world, &settings, WAKE_GRACE)));
        let (settings, count, queue) = (RefCell::new(settings), Counter::new(0), RefCell::default());
        Self { stage: Rc::new(Stage { runtime, world, settings, functions, count, queue }) }
    }

    /// Messages are kept for so long, from here on. The functions start anew, and remember nothing.
    pub fn keeps(&self, messages_for: Duration) {
        let mut settings = self.stage.settings.borrow_mut();
        settings.retention = Retention::of(millis(messages_for));
        *self.stage.functions.borrow_mut() = Arc::new(Functions::new(&self.stage.world, &settings, WAKE_GRACE));
    }

    /// The ports.
    pub fn world(&self) -> &World {
        &self.stage.world
    }

    /// Anything else on the ports, in the scene's time.
    pub fn plays<T>(&self, work: impl Future<Output = T>) -> T {
        self.stage.runtime.block_on(work)
    }

    /// A user's device. It has written nothing yet.
    pub fn device(&self, user: &str, device: &str) -> Device {
        let author = Author { user: user_id(user), device: DeviceId::new(device).expect("a well-formed device") };
        Device { stage: self.stage.clone(), author, numbers: RefCell::default() }
    }

    /// A user's device with the device library on it. The network is not there yet.
    pub fn phone(&self, user: &str, device: &str) -> Phone {
        Phone::new(self.stage.clone(), self.device(user, device).author)
    }

    /// The conversation of two users. It is there with the first envelope.
    pub fn direct(&self, one: &str, other: &str) -> Chat {
        let users = [user_id(one), user_id(other)];
        Chat { id: ConversationId::direct(&users[0], &users[1]), users: Some(users) }
    }

    /// A group. It is there when it was created.
    pub fn group(&self) -> Chat {
        Chat { id: ConversationId::of_group(Uuid::from_u128(self.stage.next().into())), users: None }
    }

    /// Calls that are made from here on are counted.
    pub fn counts_calls(&self) {
        self.stage.world.weather.listen();
    }

    /// The calls that were made since.
    pub fn calls(&self) -> Vec<&'static str> {
        self.stage.world.weather.heard()
    }

    /// Makes somebody a member who sees these numbers, from the first to the last; to the end without one.
    pub fn admits(&self, chat: &Chat, user: &str, seen: &[(u64, Option<u64>)]) {
        let interval = |(from, to): &(u64, Option<u64>)| Interval { from: seq(*from), to: to.map(seq) };
        self.stage.world.admit(&chat.id, &user_id(user), Membership::new(seen.iter().map(interval).collect()));
    }

    /// Time passes.
    pub fn passes(&self, time: Duration) {
        self.stage.runtime.block_on(tokio::time::advance(time));
    }

    /// The server's clock is wrong by so much from here on: it has jumped, or another function's clock is asked.
    pub fn clock_is_wrong_by(&self, seconds: i64) {
        self.stage.world.set_clock_wrong(seconds * 1_000);
    }

    /// The next such call fails there: before or after its effect.
    pub fn fails(&self, moment: Moment, class: Class) {
        self.stage.world.weather.arrange(moment, Mishap::Fails(class));
    }

    /// What was arranged and has not come does not come any more. Says whether all of it had come.
    pub fn calls_off(&self) -> bool {
        self.stage.world.weather.call_off().is_empty()
    }

    /// The answer to the next such call is lost, and the SDK makes the call a second time.
    pub fn is_made_again(&self, call: &'static str) {
        self.stage.world.weather.arrange(After(call), Mishap::IsMadeAgain);
    }

    /// The delivery queue hands out what it holds. What could not be posted stays in it.
    pub fn delivers(&self) {
        let functions = self.stage.functions.borrow().clone();
        let mut failed = Vec::new();
        loop {
            // What delivering queues, too: a large group's parts.
            let parcels = self.stage.parcels();
            self.stage.queue.borrow_mut().0.clear();
            if parcels.is_empty() {
                break;
            }
            let again = self.stage.runtime.block_on(functions.fanout.deliver(&parcels));
            failed.extend(again.into_iter().map(|position| parcels[position].clone()));
        }
        self.stage.queue.borrow_mut().0 = failed;
    }

    /// The same, and the function ends at this moment. Nobody took anything off the queue.
    pub fn delivers_until(&self, moment: Moment) {
        let parcels = self.stage.parcels();
        let functions = self.stage.functions.borrow().clone();
        drop(self.stage.until(moment, Box::pin(async move { functions.fanout.deliver(&parcels).await })));
    }

    /// The store removes all that it may remove by now. Returns how many slots it has removed so far.
    pub fn removes(&self) -> usize {
        let _clock = self.stage.runtime.enter();
        self.stage.world.remove_due();
        self.stage.world.removed()
    }

    /// What the log holds or held.
    pub fn log(&self, chat: &Chat) -> Vec<Slot> {
        self.stage.world.log_of(&chat.id)
    }

    /// Whether the store has a text, in any message of the log.
    pub fn stores(&self, chat: &Chat, text: &str) -> bool {
        let cells = self.stage.world.stored(&chat.id).into_iter();
        cells.flat_map(|cell| cell.messages).any(|message| message.body.contains(text))
    }

    /// Voids in the log.
    pub fn voids(&self, chat: &Chat) -> usize {
        self.log(chat).iter().filter(|slot| matches!(slot, Slot::Void(_))).count()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let outstanding = self.world.weather.outstanding();
        assert!(outstanding.is_empty() || std::thread::panicking(), "these moments never came: {outstanding:?}");
    }
}

impl Stage {
    fn next(&self) -> u64 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }

    fn now_ms(&self) -> u64 {
        let _clock = self.runtime.enter();
        self.world.now_ms()
    }

    /// What time it is, whatever the server's clock says.
    fn right_now_ms(&self) -> u64 {
        let _clock = self.runtime.enter();
        self.world.right_now_ms()
    }

    fn caller(&self, author: &Author) -> Caller {
        Caller {
            author: author.clone(),
            connection: format!("c{}", self.next()),
            connected_at_ms: self.now_ms(),
            token_expires_at_ms: u64::MAX,
        }
    }

    /// What is at a place of the log, or was; nothing that there is where there is none.
    fn message_at(&self, chat: &Chat, place: u64) -> MessagePlace {
        let at = |slot: Slot| match slot {
            Slot::Cell(cell) => (cell.seq.get()..).zip(cell.messages).find(|(seq, _)| *seq == place),
            Slot::Void(_) => None,
        };
        let found = self.world.log_of(&chat.id).into_iter().find_map(at);
        let id = found.map_or_else(|| MessageId(Uuid::from_u128(self.next().into())), |(_, message)| message.id);
        MessagePlace { seq: seq(place), id }
    }

    /// A device's new connection.
    fn connects(&self, author: &Author) -> (Caller, UnboundedReceiver<String>) {
        let caller = self.caller(author);
        let functions = self.functions.borrow().clone();
        let registered = self.runtime.block_on(functions.session.connect(&caller));
        assert_eq!(registered, Ok(true), "a scene connects one after the other");
        let frames = self.world.open(&caller.connection);
        (caller, frames)
    }

    /// A frame on its way to a function.
    fn answers(&self, caller: Caller, text: String) -> Work<Option<FromServer>> {
        let (functions, now_ms) = (self.functions.borrow().clone(), self.now_ms());
        Box::pin(async move { functions.answer(&caller, now_ms, &text).await })
    }

    /// Everything in the delivery queue. It stays there.
    fn parcels(&self) -> Vec<Parcel> {
        let (waiting, taken) = &mut *self.queue.borrow_mut();
        let fresh = self.world.published_since(*taken);
        *taken += fresh.len();
        waiting.extend(fresh);
        waiting.clone()
    }

    /// Plays work until a call halts.
    fn until<T>(self: &Rc<Self>, moment: Moment, mut work: Work<T>) -> Halted<T> {
        let halt = Arc::new(Halt::default());
        self.world.weather.arrange(moment, Mishap::Halts(halt.clone()));
        self.runtime.block_on(async {
            tokio::select! {
                _ = &mut work => panic!("it came to its end without {moment:?}"),
                () = halt.reached() => {}
            }
        });
        Halted { work, halt, stage: self.clone() }
    }
}

type Work<T> = Pin<Box<dyn Future<Output = T>>>;

/// A function that stands still at a moment. Dropped, it has ended there.
#[must_use = "a function that is dropped has ended"]
pub struct Halted<T> {
    work: Work<T>,
    halt: Arc<Halt>,
    stage: Rc<Stage>,
}

impl<T> Halted<T> {
    /// It was only slow: it goes on, and comes to its answer.
    pub fn goes_on(self) -> T {
        self.halt.release();
        self.stage.runtime.block_on(self.work)
    }

    /// The function ends here, without an answer.
    pub fn ends(self) {}
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// Its id; that of two users follows from them.
    pub id: ConversationId,
    users: Option<[UserId; 2]>,
}

/// What a device is told of an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Stored by this attempt, at this place.
    Accepted(u64),
    /// Stored by an earlier attempt, at this place.
    Repeat(u64),
    /// Not stored by this attempt.
    Refused(Refusal),
}

impl Answer {
    /// The place of an envelope that this attempt stored.
    pub fn accepted(self) -> u64 {
        match self {
            Self::Accepted(place) => place,
            other => panic!("{other:?}"),
        }
    }

    /// The place of an envelope that is stored.
    pub fn place(self) -> u64 {
        match self {
            Self::Accepted(place) | Self::Repeat(place) => place,
            Self::Refused(refusal) => panic!("refused: {refusal}"),
        }
    }

    /// Why an envelope was refused.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            stored => panic!("{stored:?}"),
        }
    }

    /// The code of a refusal.
    pub fn code(self) -> Code {
        self.refusal().code
    }
}

/// A device that keeps nothing but its numbers. A clone is a backup: it goes on from the numbers of then.
#[derive(Clone)]
pub struct Device {
    stage: Rc<Stage>,
    author: Author,
    numbers: RefCell<BTreeMap<ConversationId, Number>>,
}

impl Device {
    /// User and device.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// Somebody writes: a new envelope with the device's next number, not sent yet.
    pub fn writes<const N: usize>(&self, chat: &Chat, bodies: [&str; N]) -> Submission {
        let message = |body| Message::new(MessageId(self.fresh()), body);
        self.encloses(chat, bodies.into_iter().map(message).collect())
    }

    /// Somebody gives the message at a place another text: an envelope that is not sent yet.
    pub fn edits(&self, chat: &Chat, place: u64, body: &str) -> Submission {
        let edits = Some(self.stage.message_at(chat, place));
        self.encloses(chat, vec![Message { edits, ..Message::new(MessageId(self.fresh()), body) }])
    }

    /// Somebody deletes the message at a place, for everyone: an envelope that is not sent yet.
    pub fn deletes(&self, chat: &Chat, place: u64) -> Submission {
        let deletes = Some(self.stage.message_at(chat, place));
        self.encloses(chat, vec![Message { deletes, ..Message::new(MessageId(self.fresh()), "") }])
    }

    /// Somebody does something to a group: an envelope that is not sent yet.
    pub fn does(&self, group: &Chat, event: Event) -> Submission {
        self.encloses(group, vec![Message::of_event(MessageId(self.fresh()), event)])
    }

    /// Somebody creates a group.
    pub fn creates<const N: usize>(&self, group: &Chat, title: &str, users: [&str; N]) -> Submission {
        self.does(group, Event::Created { title: title.to_owned(), members: users.map(user_id).into() })
    }

    /// Somebody adds users to a group.
    pub fn adds<const N: usize>(&self, group: &Chat, users: [&str; N]) -> Submission {
        self.does(group, Event::Added { users: users.map(user_id).into() })
    }

    /// Somebody removes users from a group.
    pub fn removes<const N: usize>(&self, group: &Chat, users: [&str; N]) -> Submission {
        self.does(group, Event::Removed { users: users.map(user_id).into() })
    }

    /// Somebody leaves a group.
    pub fn leaves(&self, group: &Chat) -> Submission {
        self.does(group, Event::Left)
    }

    /// Somebody gives a role in a group.
    pub fn gives(&self, group: &Chat, user: &str, role: Role) -> Submission {
        self.does(group, Event::Role { user: user_id(user), role })
    }

    fn fresh(&self) -> Uuid {
        Uuid::from_u128(self.stage.next().into())
    }

    /// The other user of a direct conversation.
    fn other(&self, chat: &Chat) -> Option<UserId> {
        chat.users.clone().map(|[one, other]| if one == self.author.user { other } else { one })
    }

    fn encloses(&self, chat: &Chat, messages: Vec<Message>) -> Submission {
        let mut numbers = self.numbers.borrow_mut();
        let number = numbers.get(&chat.id).map_or(Number::FIRST, |number| number.next());
        numbers.insert(chat.id.clone(), number);
        let to = self.other(chat);
        let (id, conversation) = (EnvelopeId(self.fresh()), chat.id.clone());
        let envelope = Envelope { id, conversation, to, number, messages };
        Submission { envelope, age_ms: 0, attempt: 1, resolved: None }
    }

    /// Sends an envelope.
    pub fn sends(&self, submission: &Submission) -> Answer {
        self.sends_together(&[submission]).remove(0)
    }

    /// Sends envelopes for several conversations in one frame.
    pub fn sends_together(&self, submissions: &[&Submission]) -> Vec<Answer> {
        let (count, asked) = (submissions.len(), self.asks(&self.send_frame(submissions)));
        verdicts(self.stage.runtime.block_on(asked), count)
    }

    /// Sends an envelope, and along with it how far the device has stored and its person has read. What became of both.
    pub fn sends_and_marks(
        &self,
        submission: &Submission,
        chat: &Chat,
        delivered: Option<u64>,
        read: Option<u64>,
    ) -> (Answer, Option<Refusal>) {
        let marks = vec![Mark { conversation: chat.id.clone(), delivered: delivered.map(seq), read: read.map(seq) }];
        let (reference, submissions) = (self.reference(), vec![submission.clone()]);
        let asked = self.asks(&Request::Send(SendFrame { reference, submissions, marks }));
        match self.stage.runtime.block_on(asked) {
            FromServer::Sent(sent) => {
                assert_eq!(sent.marks.len(), 1, "one result for each mark");
                let error = sent.marks[0].error.clone();
                (verdicts(FromServer::Sent(sent), 1).remove(0), error)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends an envelope; the function halts.
    pub fn sends_until(&self, moment: Moment, submission: &Submission) -> Halted<Answer> {
        let asked = self.asks(&self.send_frame(&[submission]));
        self.stage.until(moment, Box::pin(async move { verdicts(asked.await, 1).remove(0) }))
    }

    /// Fetches the page after a number.
    pub fn reads(&self, chat: &Chat, after: u64) -> Page {
        self.fetches(chat, after, None).expect("a page")
    }

    /// Fetches the page after a number, of about so many messages.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn fetches(&self, chat: &Chat, after: u64, limit: Option<u32>) -> Result<Page, Refusal> {
        page(self.stage.runtime.block_on(self.asks(&self.fetch_frame(chat, after, limit))))
    }

    /// Catches up on a new connection, from these cursors on or at the end: what comes, frame by frame.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn syncs(&self, wanted: &[(&Chat, Option<u64>)], frames: u32) -> Result<Vec<Pages>, Refusal> {
        let range = |(chat, after): &(&Chat, Option<u64>)| SyncRange {
            conversation: chat.id.clone(),
            after: after.map(seq),
            limit: None,
        };
        let ranges = wanted.iter().map(range).collect();
        let request = Request::Sync(SyncFrame { reference: self.reference(), ranges, frames: Some(frames) });
        let pages = |frame| match frame {
            FromServer::Pages(pages) => Ok(pages),
            FromServer::Error(error) => Err(error.refusal),
            other => panic!("{other:?}"),
        };
        self.streams(&request).into_iter().map(pages).collect()
    }

    /// Fetches the newest page, or the one that ends right before a number, of about so many messages.
    pub fn reads_back(&self, chat: &Chat, before: Option<u64>, limit: u32) -> Page {
        self.fetches_back(chat, before, limit).expect("a page")
    }

    /// Fetches the newest page, or the one that ends right before a number, of about so many messages.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn fetches_back(&self, chat: &Chat, before: Option<u64>, limit: u32) -> Result<Page, Refusal> {
        let (reference, conversation) = (self.reference(), chat.id.clone());
        let (before, limit) = (before.map(seq), Some(limit));
        let fetch = Request::Fetch(Fetch { reference, conversation, after: None, before, limit });
        page(self.stage.runtime.block_on(self.asks(&fetch)))
    }

    /// Fetches; the function halts.
    pub fn reads_until(&self, moment: Moment, chat: &Chat, after: u64) -> Halted<Page> {
        let asked = self.asks(&self.fetch_frame(chat, after, None));
        self.stage.until(moment, Box::pin(async move { page(asked.await).expect("a page") }))
    }

    /// The members of a group, in the order of their ids.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn members(&self, group: &Chat) -> Result<Vec<(String, Role)>, Refusal> {
        let (mut members, mut after) = (Vec::new(), None);
        loop {
            let (reference, conversation) = (self.reference(), group.id.clone());
            let frame = Request::Members(MembersFrame { reference, conversation, after });
            match self.stage.runtime.block_on(self.asks(&frame)) {
                FromServer::Members(page) => {
                    members.extend(page.members.into_iter().map(|member| (member.user.to_string(), member.role)));
                    after = page.next;
                }
                FromServer::Error(error) => return Err(error.refusal),
                other => panic!("{other:?}"),
            }
            if after.is_none() {
                return Ok(members);
            }
        }
    }

    /// Who has stored and read what is at a place: user, delivered and read, in the order of their ids.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn receipts(&self, chat: &Chat, place: u64) -> Result<Vec<(String, u64, u64)>, Refusal> {
        let (mut marks, mut after) = (Vec::new(), None);
        loop {
            let (reference, conversation) = (self.reference(), chat.id.clone());
            let frame = Request::Marks(MarksFrame { reference, conversation, seq: seq(place), after });
            match self.stage.runtime.block_on(self.asks(&frame)) {
                FromServer::Marks(page) => {
                    let of = |mark: UserMark| (mark.user.to_string(), mark.delivered.get(), mark.read.get());
                    marks.extend(page.marks.into_iter().map(of));
                    after = page.next;
                }
                FromServer::Error(error) => return Err(error.refusal),
                other => panic!("{other:?}"),
            }
            if after.is_none() {
                return Ok(marks);
            }
        }
    }

    /// The user gives and gets read receipts from here on, or does neither.
    pub fn sets_receipts(&self, on: bool) {
        let frame = Request::Receipts(ReceiptsFrame { reference: self.reference(), on });
        match self.stage.runtime.block_on(self.asks(&frame)) {
            FromServer::Receipts(set) => assert_eq!(set.on, on, "it was decided last"),
            other => panic!("{other:?}"),
        }
    }

    /// The user's conversations.
    pub fn lists(&self) -> Vec<Summary> {
        let list = List { reference: self.reference(), after: None, frames: Some(1), previews: None };
        match self.stage.runtime.block_on(self.asks(&Request::List(list))) {
            FromServer::List(list) => list.conversations,
            other => panic!("{other:?}"),
        }
    }

    /// A list on a new connection, from a place on: what comes, frame by frame. With the last messages of so many.
    pub fn lists_from(&self, after: Option<ListPlace>, frames: u32, previews: u32) -> Vec<ListPage> {
        let (frames, previews) = (Some(frames), Some(previews));
        let request = Request::List(List { reference: self.reference(), after, frames, previews });
        let list = |frame| match frame {
            FromServer::List(list) => list,
            other => panic!("{other:?}"),
        };
        self.streams(&request).into_iter().map(list).collect()
    }

    /// All frames of an answer, on a new connection.
    fn streams(&self, request: &Request) -> Vec<FromServer> {
        let (caller, mut line) = self.stage.connects(&self.author);
        let text = serde_json::to_string(request).expect("a frame has only plain fields");
        let answer = self.stage.runtime.block_on(self.stage.answers(caller, text)).expect("it is answered");
        let mut came = Vec::new();
        while let Ok(frame) = line.try_recv() {
            came.push(serde_json::from_str(&frame).expect("a frame"));
        }
        came.push(answer);
        came
    }

    /// Tells how far the device has stored, and its person has read.
    ///
    /// # Errors
    /// The refusal, if there is one.
    pub fn marks(&self, chat: &Chat, delivered: Option<u64>, read: Option<u64>) -> Result<(), Refusal> {
        marked(self.stage.runtime.block_on(self.asks(&self.mark_frame(chat, delivered, read))))
    }

    /// Tells how far the device has stored; the function halts.
    pub fn marks_until(&self, moment: Moment, chat: &Chat, delivered: u64) -> Halted<Result<(), Refusal>> {
        let asked = self.asks(&self.mark_frame(chat, Some(delivered), None));
        self.stage.until(moment, Box::pin(async move { marked(asked.await) }))
    }

    /// Connects. A device has one connection; the newest counts.
    pub fn connects(&self) -> Line {
        let (caller, frames) = self.stage.connects(&self.author);
        Line { frames, connection: caller.connection, stage: self.stage.clone() }
    }

    fn reference(&self) -> Reference {
        Reference::new(self.stage.next().to_string()).expect("digits, and few")
    }

    fn send_frame(&self, submissions: &[&Submission]) -> Request {
        let submissions = submissions.iter().map(|submission| (*submission).clone()).collect();
        Request::Send(SendFrame { reference: self.reference(), submissions, marks: Vec::new() })
    }

    fn fetch_frame(&self, chat: &Chat, after: u64, limit: Option<u32>) -> Request {
        let (reference, conversation) = (self.reference(), chat.id.clone());
        Request::Fetch(Fetch { reference, conversation, after: Some(seq(after)), before: None, limit })
    }

    fn mark_frame(&self, chat: &Chat, delivered: Option<u64>, read: Option<u64>) -> Request {
        let mark = Mark { conversation: chat.id.clone(), delivered: delivered.map(seq), read: read.map(seq) };
        Request::Mark(MarkFrame { reference: self.reference(), marks: vec![mark] })
    }

    fn asks(&self, request: &Request) -> Work<FromServer> {
        let text = serde_json::to_string(request).expect("a frame has only plain fields");
        let asked = self.stage.answers(self.stage.caller(&self.author), text);
        Box::pin(async move { asked.await.expect("it is answered") })
    }
}

/// A live connection, seen from the device.
pub struct Line {
    connection: String,
    frames: UnboundedReceiver<String>,
    stage: Rc<Stage>,
}

/// What came on a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What others wrote, in the order of arrival.
    pub cells: Vec<Cell>,
    /// How far others are.
    pub marks: Vec<MemberMark>,
}

impl Line {
    /// What has come since it was asked last.
    pub fn hears(&mut self) -> Heard {
        let mut heard = Heard::default();
        while let Ok(frame) = self.frames.try_recv() {
            let Ok(FromServer::Delivery(delivery)) = serde_json::from_str(&frame) else { continue };
            for item in delivery.items {
                heard.cells.extend(item.cells);
                heard.marks.extend(item.marks);
            }
        }
        heard
    }

    /// The connection is gone, and nobody has said so.
    pub fn breaks(self) {
        self.stage.world.close(&self.connection);
    }
}

/// The messages of cells, each with its place.
pub fn texts<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> Vec<(u64, &'a str)> {
    let messages = cells.into_iter().flat_map(Cell::numbered);
    messages.map(|(seq, message)| (seq.get(), message.body.as_str())).collect()
}

/// The same envelope, after its device has let it wait.
pub fn aged(submission: &Submission, by: Duration) -> Submission {
    Submission { age_ms: submission.age_ms + millis(by), ..submission.clone() }
}

fn verdicts(answer: FromServer, count: usize) -> Vec<Answer> {
    match answer {
        FromServer::Sent(sent) => sent
            .verdicts
            .into_iter()
            .map(|verdict| match verdict.outcome {
                Outcome::Accepted { seq, repeat: false, .. } => Answer::Accepted(seq.get()),
                Outcome::Accepted { seq, repeat: true, .. } => Answer::Repeat(seq.get()),
                Outcome::Refused { error } => Answer::Refused(error),
            })
            .collect(),
        FromServer::Error(error) => vec![Answer::Refused(error.refusal); count],
        other => panic!("{other:?}"),
    }
}

fn page(answer: FromServer) -> Result<Page, Refusal> {
    match answer {
        FromServer::Page(page) => Ok(page),
        FromServer::Error(error) => Err(error.refusal),
        other => panic!("{other:?}"),
    }
}

fn marked(answer: FromServer) -> Result<(), Refusal> {
    match answer {
        FromServer::Marked(marked) => marked.results.into_iter().find_map(|result| result.error).map_or(Ok(()), Err),
        FromServer::Error(error) => Err(error.refusal),
        other => panic!("{other:?}"),
    }
}

fn user_id(name: &str) -> UserId {
    UserId::new(name).expect("a well-formed user")
}

fn seq(number: u64) -> Seq {
    Seq::ZERO.plus(number)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
