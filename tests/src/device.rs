//! A device that speaks the wire and nothing more.

use std::collections::HashMap;

use futures::{SinkExt, StreamExt};
use poste_protocol::{
    Author, Away, Cell, Code, ConversationId, DeliveryItem, DeviceId, Envelope, EnvelopeId, ErrorFrame, Event, Fetch,
    FromServer, Hello, List, ListPage, ListPlace, Mark, MarkFrame, MarkResult, MarksFrame, MarksPage, MediaFrame,
    MediaId, MediaState, MediaWish, MemberMark, MembersFrame, MembersPage, MuteFrame, Outcome, Page, Pages,
    PresenceNews, PushFrame, PushStatus, PushToken, ReceiptsFrame, Reference, Refusal, Request, SendFrame, Seq,
    Submission, SyncFrame, SyncRange, Typing, TypingNews, UserId, Verdict, Watch, Watching, Welcome, WokenBy, limits,
};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    Deployment, Replica, Showing, TokenWish, check_page,
    deployment::Socket,
    letters::{envelope, submission},
    wait::DEADLINE,
};

/// One device of a user. Not connected until [`Device::connect`]; cut off by [`Device::drop_connection`].
pub struct Device {
    deployment: Deployment,
    author: Author,
    socket: Option<Socket>,
    asked: u64,
    answers: HashMap<String, FromServer>,
    heard: Vec<DeliveryItem>,
    /// What came of a `sync` before its answer.
    posted: Vec<Pages>,
    /// What came of a `list` before its answer.
    listed: Vec<ListPage>,
    replaced: bool,
    presence: Vec<PresenceNews>,
    typing: Vec<TypingNews>,
    numbers: HashMap<ConversationId, u64>,
}

/// An envelope that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The number of its first message.
    pub seq: u64,
    /// When it was stored.
    pub at: u64,
    /// It had been stored before.
    pub repeat: bool,
}

impl Device {
    pub(crate) fn new(deployment: Deployment, user: UserId, device: DeviceId) -> Self {
        Self {
            deployment,
            author: Author { user, device },
            socket: None,
            asked: 0,
            answers: HashMap::new(),
            heard: Vec::new(),
            posted: Vec::new(),
            listed: Vec::new(),
            replaced: false,
            presence: Vec::new(),
            typing: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Who it is.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// Whose it is.
    pub fn user(&self) -> &UserId {
        &self.author.user
    }

    /// The conversation with another user.
    pub fn with(&self, peer: &UserId) -> ConversationId {
        ConversationId::direct(self.user(), peer)
    }

    /// Connects with a fresh token.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn connect(&mut self) {
        let token = self.deployment.token(&self.author.user, &TokenWish::default()).await;
        self.connect_with(&Showing::Bearer(token)).await;
    }

    /// Connects with what is given.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn connect_with(&mut self, showing: &Showing) {
        self.drop_connection();
        match self.deployment.handshake(Some(self.author.device.as_str()), showing).await {
            Ok((socket, _)) => self.socket = Some(socket),
            Err(refused) => panic!("{:?} is refused: {refused:?}", self.author),
        }
    }

    /// Another connection of the same device; this one stays open.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn twin(&self) -> Self {
        let mut twin = Self::new(self.deployment.clone(), self.author.user.clone(), self.author.device.clone());
        twin.connect().await;
        twin
    }

    /// The network is gone: no closing handshake, and what was under way is lost.
    pub fn drop_connection(&mut self) {
        self.socket = None;
        self.answers.clear();
    }

    /// Sends text as it is.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn say(&mut self, text: &str) {
        let socket = self.socket.as_mut().expect("connected");
        socket.send(Message::text(text)).await.expect("the socket takes a frame");
    }

    /// A reference for the next request.
    ///
    /// # Panics
    /// Never.
    pub fn reference(&mut self) -> Reference {
        self.asked += 1;
        Reference::new(format!("r{}", self.asked)).expect("short")
    }

    /// Sends a request and does not wait for its answer.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn post(&mut self, request: &Request) {
        let text = serde_json::to_string(request).expect("a request has only plain fields");
        self.say(&text).await;
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Panics
    /// When none comes.
    pub async fn ask(&mut self, request: &Request) -> FromServer {
        self.post(request).await;
        self.answer(reference_of(request)).await
    }

    /// Waits for the answer to a request that was sent.
    ///
    /// # Panics
    /// When none comes.
    pub async fn answer(&mut self, reference: &Reference) -> FromServer {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(answer) = self.answers.remove(reference.as_str()) {
                return answer;
            }
            let what = format!("the answer to {reference:?}");
            if let Some(stray) = self.read(&what, deadline).await {
                panic!("{:?} waits for {what} and gets {stray:?}", self.author);
            }
        }
    }

    /// Sends text as it is, and waits for the next frame that is no delivery.
    ///
    /// # Panics
    /// When none comes.
    pub async fn ask_raw(&mut self, text: &str) -> FromServer {
        self.say(text).await;
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(reference) = self.answers.keys().next().cloned() {
                return self.answers.remove(&reference).expect("it was there a moment ago");
            }
            let shown: String = text.chars().take(200).collect();
            if let Some(stray) = self.read(&format!("the answer to {shown}"), deadline).await {
                return stray;
            }
        }
    }

    /// Reads one frame. Deliveries and answers are kept; what is neither comes back.
    async fn read(&mut self, what: &str, deadline: Instant) -> Option<FromServer> {
        let author = &self.author;
        let socket = self.socket.as_mut().expect("connected");
        let Ok(message) = tokio::time::timeout_at(deadline, socket.next()).await else {
            panic!("{author:?} waited {DEADLINE:?} for this: {what}")
        };
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return None,
            other => panic!("{author:?} waits for {what} and loses the connection: {other:?}"),
        };
        assert!(text.len() <= limits::FRAME_BYTES, "a frame of {} bytes is over the limit", text.len());
        let frame: FromServer = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{author:?} waits for {what} and gets no frame of ours ({error}): {text}"));
        match frame {
            FromServer::Delivery(delivery) => self.heard.extend(delivery.items),
            FromServer::Pages(pages) if pages.follows => self.posted.push(pages),
            FromServer::List(list) if list.follows => self.listed.push(list),
            FromServer::Replaced(_) => self.replaced = true,
            FromServer::Presence(news) => self.presence.push(news),
            FromServer::Typing(news) => self.typing.push(news),
            FromServer::Unknown => panic!("{author:?} gets a frame of a type that is not in the protocol: {text}"),
            frame => match frame.reference() {
                Some(reference) => {
                    self.answers.insert(reference.as_str().to_owned(), frame);
                }
                None => return Some(frame),
            },
        }
        None
    }

    // ---- requests

    /// Asks who this is.
    ///
    /// # Panics
    /// When it is not welcome.
    pub async fn hello(&mut self) -> Welcome {
        let reference = self.reference();
        match self.ask(&Request::Hello(Hello::new(reference))).await {
            FromServer::Welcome(welcome) => welcome,
            other => panic!("hello is answered with {other:?}"),
        }
    }

    /// Registers a push token; without one, ends the registration.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn registers(&mut self, token: Option<PushToken>) -> PushStatus {
        let reference = self.reference();
        match self.ask(&Request::Push(PushFrame { reference, token })).await {
            FromServer::Push(answer) => answer.status,
            other => panic!("push is answered with {other:?}"),
        }
    }

    /// Says that it is awake, woken by this, and asks whether it would be woken.
    ///
    /// # Panics
    /// When it is not told.
    pub async fn is_awake(&mut self, woken_by: Option<WokenBy>) -> PushStatus {
        let hello = Hello { push: true, woken_by, ..Hello::new(self.reference()) };
        match self.ask(&Request::Hello(hello)).await {
            FromServer::Welcome(welcome) => welcome.push.expect("it asked"),
            other => panic!("hello is answered with {other:?}"),
        }
    }

    /// Mutes a conversation until a time, or no longer.
    ///
    /// # Errors
    /// Why it was refused.
    ///
    /// # Panics
    /// When it is answered with something else.
    pub async fn mute(&mut self, conversation: &ConversationId, until: Option<u64>) -> Result<(), ErrorFrame> {
        let (reference, conversation) = (self.reference(), conversation.clone());
        match self.ask(&Request::Mute(MuteFrame { reference, conversation, until })).await {
            FromServer::Muted(_) => Ok(()),
            FromServer::Error(error) => Err(error),
            other => panic!("mute is answered with {other:?}"),
        }
    }

    /// A `send` frame.
    pub fn send_frame(&mut self, submissions: Vec<Submission>) -> Request {
        Request::Send(SendFrame { reference: self.reference(), submissions, marks: Vec::new() })
    }

    /// Sends envelopes in one frame.
    ///
    /// # Errors
    /// The frame was refused as a whole.
    ///
    /// # Panics
    /// When the verdicts are not for these envelopes, in this order.
    pub async fn send(&mut self, submissions: Vec<Submission>) -> Result<Vec<Verdict>, ErrorFrame> {
        let ids: Vec<EnvelopeId> = submissions.iter().map(|s| s.envelope.id).collect();
        let request = self.send_frame(submissions);
        match self.ask(&request).await {
            FromServer::Sent(sent) => {
                let answered: Vec<EnvelopeId> = sent.verdicts.iter().map(|v| v.envelope).collect();
                assert_eq!(answered, ids, "a verdict for each envelope, in the frame's order");
                Ok(sent.verdicts)
            }
            FromServer::Error(error) => Err(error),
            other => panic!("send is answered with {other:?}"),
        }
    }

    /// Sends one envelope and tells what became of it.
    ///
    /// # Errors
    /// Why it was refused.
    ///
    /// # Panics
    /// When the whole frame was refused.
    pub async fn submit(&mut self, submission: Submission) -> Result<Accepted, Refusal> {
        let mut verdicts = self.send(vec![submission]).await.expect("the frame is well formed");
        accepted(verdicts.remove(0).outcome)
    }

    /// Sends one envelope for the first time; it is taken.
    ///
    /// # Panics
    /// When it is not.
    pub async fn sends(&mut self, envelope: &Envelope) -> Accepted {
        self.submit(submission(envelope)).await.expect("the envelope is taken")
    }

    /// The device's next envelope to a peer, with one message.
    pub fn writes(&mut self, peer: &UserId, body: &str) -> Envelope {
        self.writes_all(peer, &[body])
    }

    /// The device's next envelope to a peer.
    pub fn writes_all(&mut self, peer: &UserId, bodies: &[impl AsRef<str>]) -> Envelope {
        let conversation = self.with(peer);
        let number = self.numbers.entry(conversation.clone()).or_default();
        *number += 1;
        envelope(&conversation, Some(peer), *number, bodies)
    }

    /// Writes one message to a peer and sends it.
    ///
    /// # Panics
    /// When it is not taken.
    pub async fn tells(&mut self, peer: &UserId, body: &str) -> (Envelope, Accepted) {
        let envelope = self.writes(peer, body);
        let accepted = self.sends(&envelope).await;
        (envelope, accepted)
    }

    /// The device's next envelope to a group, with one message.
    pub fn says(&mut self, group: &ConversationId, body: &str) -> Envelope {
        let number = self.numbers.entry(group.clone()).or_default();
        *number += 1;
        envelope(group, None, *number, &[body])
    }

    /// The device's next envelope to a group, with an event.
    pub fn does(&mut self, group: &ConversationId, event: Event) -> Envelope {
        let mut envelope = self.says(group, "");
        envelope.messages[0].event = Some(event);
        envelope
    }

    /// A page of a group's members.
    ///
    /// # Errors
    /// Why it was refused.
    ///
    /// # Panics
    /// When something else is answered.
    pub async fn members(&mut self, group: &ConversationId, after: Option<UserId>) -> Result<MembersPage, ErrorFrame> {
        let (reference, conversation) = (self.reference(), group.clone());
        match self.ask(&Request::Members(MembersFrame { reference, conversation, after })).await {
            FromServer::Members(page) => Ok(page),
            FromServer::Error(error) => Err(error),
            other => panic!("members is answered with {other:?}"),
        }
    }

    /// Who has stored and read what is at a place, a page of them.
    ///
    /// # Errors
    /// Why it was refused.
    ///
    /// # Panics
    /// When something else is answered.
    pub async fn receipts(
        &mut self,
        conversation: &ConversationId,
        seq: u64,
        after: Option<UserId>,
    ) -> Result<MarksPage, ErrorFrame> {
        let (reference, conversation, seq) = (self.reference(), conversation.clone(), crate::seq(seq));
        match self.ask(&Request::Marks(MarksFrame { reference, conversation, seq, after })).await {
            FromServer::Marks(page) => Ok(page),
            FromServer::Error(error) => Err(error),
            other => panic!("marks is answered with {other:?}"),
        }
    }

    /// Wants something of a file.
    ///
    /// # Errors
    /// The refusal.
    ///
    /// # Panics
    /// When the answer is another one.
    pub async fn wants(
        &mut self,
        conversation: &ConversationId,
        media: MediaId,
        wish: MediaWish,
    ) -> Result<MediaState, Refusal> {
        let (reference, conversation) = (self.reference(), conversation.clone());
        match self.ask(&Request::Media(MediaFrame { reference, media, conversation, wish })).await {
            FromServer::Media(answer) => Ok(answer.state),
            FromServer::Error(error) => Err(error.refusal),
            other => panic!("media is answered with {other:?}"),
        }
    }

    /// Gives and gets read receipts from now on, or does neither.
    ///
    /// # Panics
    /// When that is not confirmed.
    pub async fn sets_receipts(&mut self, on: bool) {
        let reference = self.reference();
        match self.ask(&Request::Receipts(ReceiptsFrame { reference, on })).await {
            FromServer::Receipts(set) => assert_eq!(set.on, on),
            other => panic!("receipts is answered with {other:?}"),
        }
    }

    /// What comes after a cursor.
    ///
    /// # Errors
    /// Why it was refused.
    ///
    /// # Panics
    /// When the page does not keep its promise, see [`check_page`].
    pub async fn fetch(
        &mut self,
        conversation: &ConversationId,
        after: Seq,
        limit: Option<u32>,
    ) -> Result<Page, ErrorFrame> {
        let fetch = Fetch {
            reference: self.reference(),
            conversation: conversation.clone(),
            after: Some(after),
            before: None,
            limit,
        };
        match self.ask(&Request::Fetch(fetch.clone())).await {
            FromServer::Page(page) => {
                check_page(&fetch, &page);
                Ok(page)
            }
            FromServer::Error(error) => Err(error),
            other => panic!("fetch is answered with {other:?}"),
        }
    }

    /// Catches up: what comes after these cursors, or at the end, frame by frame.
    ///
    /// # Errors
    /// Why it was refused.
    pub async fn sync(&mut self, ranges: Vec<SyncRange>, frames: u32) -> Result<Vec<Pages>, ErrorFrame> {
        let request = Request::Sync(SyncFrame { reference: self.reference(), ranges, frames: Some(frames) });
        match self.ask(&request).await {
            FromServer::Pages(last) => {
                let mut came = std::mem::take(&mut self.posted);
                came.push(last);
                Ok(came)
            }
            FromServer::Error(error) => Err(error),
            other => panic!("sync is answered with {other:?}"),
        }
    }

    /// The whole log, by pages from the start.
    ///
    /// # Panics
    /// When a page is refused or does not keep its promise.
    pub async fn whole_log(&mut self, conversation: &ConversationId) -> Vec<Cell> {
        let mut replica = Replica::new(conversation.clone());
        replica.catch_up(self).await;
        replica.cells()
    }

    /// A frame of the list of conversations.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn list(&mut self, after: Option<ListPlace>) -> ListPage {
        let reference = self.reference();
        match self.ask(&Request::List(List { reference, after, frames: Some(1), previews: None })).await {
            FromServer::List(page) => page,
            other => panic!("list is answered with {other:?}"),
        }
    }

    /// All frames of a list, in their order.
    ///
    /// # Panics
    /// When it is refused, or a frame is missing.
    pub async fn lists(&mut self, request: &Request) -> Vec<ListPage> {
        match self.ask(request).await {
            FromServer::List(last) => {
                let mut came = std::mem::take(&mut self.listed);
                came.push(last);
                assert!((0..).zip(&came).all(|(place, frame)| frame.before == place), "each in its place");
                came
            }
            other => panic!("list is answered with {other:?}"),
        }
    }

    /// Sends marks.
    ///
    /// # Errors
    /// The frame was refused as a whole.
    ///
    /// # Panics
    /// When the results are not for these marks, in this order.
    pub async fn mark(&mut self, marks: Vec<Mark>) -> Result<Vec<MarkResult>, ErrorFrame> {
        let asked: Vec<ConversationId> = marks.iter().map(|m| m.conversation.clone()).collect();
        let reference = self.reference();
        match self.ask(&Request::Mark(MarkFrame { reference, marks })).await {
            FromServer::Marked(marked) => {
                let answered: Vec<_> = marked.results.iter().map(|r| r.conversation.clone()).collect();
                assert_eq!(answered, asked, "a result for each mark, in the frame's order");
                Ok(marked.results)
            }
            FromServer::Error(error) => Err(error),
            other => panic!("mark is answered with {other:?}"),
        }
    }

    /// Sends one mark and tells why it was refused, if it was.
    ///
    /// # Panics
    /// When the whole frame was refused.
    pub async fn marks(
        &mut self,
        conversation: &ConversationId,
        delivered: Option<u64>,
        read: Option<u64>,
    ) -> Option<Code> {
        let mark = Mark {
            conversation: conversation.clone(),
            delivered: delivered.map(crate::seq),
            read: read.map(crate::seq),
        };
        let mut results = self.mark(vec![mark]).await.expect("the frame is well formed");
        results.remove(0).error.map(|error| error.code)
    }

    /// Says that the person is here, and asks who else is.
    ///
    /// # Errors
    /// Why it was refused.
    ///
    /// # Panics
    /// When it is answered with something else.
    pub async fn watch(&mut self, conversations: &[ConversationId]) -> Result<Watching, ErrorFrame> {
        let watch = Watch { reference: self.reference(), conversations: conversations.to_vec() };
        match self.ask(&Request::Watch(watch)).await {
            FromServer::Watching(watching) => Ok(watching),
            FromServer::Error(error) => Err(error),
            other => panic!("watch is answered with {other:?}"),
        }
    }

    /// Says that the person is not here any more.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn goes_away(&mut self) {
        self.post(&Request::Away(Away {})).await;
    }

    /// Says that the person is writing.
    ///
    /// # Panics
    /// When there is no connection.
    pub async fn types(&mut self, conversation: &ConversationId) {
        self.post(&Request::Typing(Typing { conversation: conversation.clone() })).await;
    }

    // ---- what comes by itself

    /// Whether a user was said to be here, for each time that it was said without being asked for.
    pub fn heard_of(&self, user: &UserId) -> Vec<bool> {
        let told = self.presence.iter().flat_map(|news| &news.users).filter(|told| told.user == *user);
        told.map(|told| told.until.is_some()).collect()
    }

    /// Who was said to write in a conversation, for each time that it was said.
    pub fn heard_typing(&self, conversation: &ConversationId) -> Vec<UserId> {
        let said = self.typing.iter().filter(|news| news.conversation == *conversation);
        said.map(|news| news.user.clone()).collect()
    }

    /// Waits until this was said of a user, each time in turn.
    ///
    /// # Panics
    /// When it is not.
    pub async fn hears_of(&mut self, user: &UserId, here: &[bool]) {
        let what = format!("the news of {user}: {here:?}");
        self.hear(&what, |device| (device.heard_of(user) == here).then_some(())).await;
    }

    /// Every copy of a cell that has come so far without being asked for, in the order of coming.
    pub fn heard(&self, conversation: &ConversationId) -> Vec<Cell> {
        let items = self.heard.iter().filter(|item| item.conversation == *conversation);
        items.flat_map(|item| item.cells.iter().cloned()).collect()
    }

    /// Every mark that has come so far, in the order of coming.
    pub fn heard_marks(&self, conversation: &ConversationId) -> Vec<MemberMark> {
        let items = self.heard.iter().filter(|item| item.conversation == *conversation);
        items.flat_map(|item| item.marks.iter().cloned()).collect()
    }

    /// Waits until an envelope has come.
    ///
    /// # Panics
    /// When it does not.
    pub async fn hears(&mut self, envelope: &Envelope) -> Cell {
        let what = format!("the delivery of {}", envelope.id);
        self.hear(&what, |device| {
            device.heard(&envelope.conversation).into_iter().find(|cell| cell.envelope == envelope.id)
        })
        .await
    }

    /// Waits until a mark has come.
    ///
    /// # Panics
    /// When it does not.
    pub async fn hears_mark(&mut self, conversation: &ConversationId, delivered: u64, read: u64) -> MemberMark {
        let what = format!("a mark of {delivered} delivered and {read} read");
        self.hear(&what, |device| {
            let marks = device.heard_marks(conversation).into_iter();
            marks.into_iter().find(|mark| mark.delivered.get() == delivered && mark.read.get() == read)
        })
        .await
    }

    /// Waits until the server has said that another connection has the place of this one.
    ///
    /// # Panics
    /// When it does not.
    pub async fn is_replaced(&mut self) {
        self.hear("the news that it is replaced", |device| device.replaced.then_some(())).await;
    }

    /// Waits until the server has closed the connection. What comes before is passed over.
    ///
    /// # Panics
    /// When it does not.
    pub async fn is_closed(&mut self) {
        let author = &self.author;
        let socket = self.socket.as_mut().expect("connected");
        let closing = async {
            while let Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_))) = socket.next().await {}
        };
        let closed = tokio::time::timeout(DEADLINE, closing).await;
        assert!(closed.is_ok(), "{author:?} waited {DEADLINE:?} for its connection to be closed");
        self.drop_connection();
    }

    /// Waits until something is among what was heard.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn hear<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if let Some(stray) = self.read(what, deadline).await {
                panic!("{:?} waits for {what} and gets {stray:?}", self.author);
            }
        }
    }
}

fn reference_of(request: &Request) -> &Reference {
    match request {
        Request::Watch(f) => &f.reference,
        Request::Away(_) | Request::Typing(_) => panic!("it is not answered: {request:?}"),
        Request::Hello(f) => &f.reference,
        Request::Send(f) => &f.reference,
        Request::Fetch(f) => &f.reference,
        Request::Sync(f) => &f.reference,
        Request::List(f) => &f.reference,
        Request::Mark(f) => &f.reference,
        Request::Members(f) => &f.reference,
        Request::Push(f) => &f.reference,
        Request::Mute(f) => &f.reference,
        Request::Marks(f) => &f.reference,
        Request::Receipts(f) => &f.reference,
        Request::Media(f) => &f.reference,
    }
}

/// An outcome, as a result.
fn accepted(outcome: Outcome) -> Result<Accepted, Refusal> {
    match outcome {
        Outcome::Accepted { seq, at, repeat } => Ok(Accepted { seq: seq.get(), at, repeat }),
        Outcome::Refused { error } => Err(error),
    }
}
