//! Two threads of the client's own: one owns engine and store and is the only one that touches the disk, the other
//! runs the sockets. They speak through channels, so that nothing async ever waits for the disk.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use poste_protocol::{Author, ConversationId, MessageId};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::clock::Clock;
use crate::engine::{Engine, Input, News, Now, Output, Place, Transfer, Wanted};
use crate::error::NoFile;
use crate::files;
use crate::socket::{self, Dial};
use crate::store::{Doubt, Store};
use crate::transfer::Transfers;
use crate::{Backlog, ClientConfig, Connection, Counters, Error, Event, OutboxEntry, Receipt, StoreError};

/// Events that a listener may be behind before it misses some.
const EVENTS: usize = 4096;

/// How long a socket may take to close when the client is closed.
const GOODBYE: Duration = Duration::from_millis(200);

/// After so many damages of one file in one life of the client it is left alone.
const MOST_DAMAGES: u32 = 4;

/// How soon a file that could not be opened again is tried again, in milliseconds; doubled up to about a minute.
const REOPEN: u64 = 1_000;

/// What the engine's thread is told.
pub(crate) enum Told {
    /// By a handle.
    Call(Call),
    /// By the socket with that number.
    Socket(u64, Input),
    /// By the transfer with that number, of that life of the engine.
    Transfer(u64, u64, News),
    /// To end.
    Close,
}

pub(crate) type Call = Box<dyn FnOnce(&mut Driver) + Send>;

pub(crate) struct Runtime {
    tell: Sender<Told>,
    /// Only to subscribe with; the engine's thread holds the sender, so that listeners end with it.
    events: Mutex<broadcast::Receiver<Event>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Runtime {
    /// Starts the threads. `opened` is told when the store is open, or why it is not.
    pub(crate) fn start(config: ClientConfig, opened: oneshot::Sender<Result<(), StoreError>>) -> Result<Self, Error> {
        let dial = Dial::new(&config)?;
        let (tell, told) = channel();
        let (events, listener) = broadcast::channel(EVENTS);
        let (end, ended) = oneshot::channel();
        let sockets = Sockets::start(dial, tell.clone())?;
        std::thread::Builder::new()
            .name("poste-engine".into())
            .spawn(move || {
                // Dropped last: says that the file is closed.
                let _end = end;
                match Driver::open(config, sockets, events) {
                    Ok(driver) => {
                        if opened.send(Ok(())).is_ok() {
                            driver.run(&told);
                        }
                    }
                    Err(wrong) => {
                        let _ = opened.send(Err(wrong));
                    }
                }
            })
            .map_err(|source| StoreError::File { path: "the engine's thread".into(), source })?;
        Ok(Self { tell, events: Mutex::new(listener), ended: Mutex::new(Some(ended)) })
    }

    pub(crate) fn run(&self, call: Call) -> Result<(), Error> {
        self.tell.send(Told::Call(call)).map_err(|_| Error::Closed)
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).resubscribe()
    }

    pub(crate) async fn close(&self) {
        let _ = self.tell.send(Told::Close);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = self.tell.send(Told::Close);
    }
}

/// What a wish for a file comes to.
pub(crate) enum Download {
    Here(PathBuf),
    Coming(oneshot::Receiver<Result<PathBuf, NoFile>>),
}

/// What the client is doing.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Life {
    Awake(Engine),
    /// The file is let go of until the application resumes.
    Suspended,
    /// The file was found damaged, and could not be opened again yet: the disk may be full.
    Shut {
        doubt: Doubt,
        /// When to try again, on the monotonic clock.
        again: u64,
        failures: u32,
    },
}

/// The engine with its clock, its sockets and its listeners.
pub(crate) struct Driver {
    config: ClientConfig,
    life: Life,
    /// How often the file was found damaged.
    damages: u32,
    /// What the engines before this one have counted.
    counted: Counters,
    /// Whether the application wants a connection.
    network: bool,
    /// The conversation on the screen.
    open: Option<ConversationId>,
    /// A person looks at the application.
    front: bool,
    /// The person may be seen.
    visible: bool,
    /// What the person wants to see who is in.
    watched: Vec<ConversationId>,
    /// Who waits to be told who has a message, by the number of the inquiry.
    asked: HashMap<u64, oneshot::Sender<Option<Vec<Receipt>>>>,
    /// Who waits for a file, by the number of the inquiry.
    fetching: HashMap<u64, oneshot::Sender<Result<PathBuf, NoFile>>>,
    clock: Clock,
    sockets: Sockets,
    transfers: Transfers,
    events: broadcast::Sender<Event>,
}

impl Driver {
    fn open(config: ClientConfig, mut sockets: Sockets, events: broadcast::Sender<Event>) -> Result<Self, StoreError> {
        let mut engine = engine(&config, Doubt::None)?;
        let transfers = sockets.transfers(config.cache_folder());
        transfers.sweep(&engine.cached_names()?);
        let (network, visible) = (config.network, config.visible);
        Ok(Self {
            config,
            life: Life::Awake(engine),
            damages: 0,
            counted: Counters::default(),
            network,
            open: None,
            front: false,
            visible,
            watched: Vec::new(),
            asked: HashMap::new(),
            fetching: HashMap::new(),
            clock: Clock::new(),
            sockets,
            transfers,
            events,
        })
    }

    pub(crate) fn read<T>(&mut self, look: impl FnOnce(&mut Engine) -> Result<T, StoreError>) -> Result<T, Error> {
        let result = look(self.engine()?);
        if let Err(wrong) = &result {
            self.mend(wrong);
        }
        Ok(result?)
    }

    pub(crate) fn command<T>(
        &mut self,
        act: impl FnOnce(&mut Engine, Now) -> Result<(T, Vec<Output>), Error>,
    ) -> Result<T, Error> {
        let now = self.clock.now();
        match act(self.engine()?, now) {
            Ok((value, outputs)) => {
                self.carry_out(outputs);
                Ok(value)
            }
            Err(refused) => {
                if let Error::Store(wrong) = &refused {
                    self.mend(wrong);
                }
                Err(refused)
            }
        }
    }

    pub(crate) fn ask_receipts(&mut self, id: MessageId) -> Result<oneshot::Receiver<Option<Vec<Receipt>>>, Error> {
        let inquiry = self.command(|engine, now| engine.ask_receipts(now, id))?;
        let (tell, answer) = oneshot::channel();
        self.asked.insert(inquiry, tell);
        Ok(answer)
    }

    /// Where the file of a message is, or who will say so.
    pub(crate) fn download(&mut self, conversation: &ConversationId, id: MessageId) -> Result<Download, Error> {
        let cache = self.config.cache_folder();
        let path = |place: &Place| match place {
            Place::Own { path, .. } => PathBuf::from(path),
            Place::Cache { name } => cache.join(name),
        };
        let is_there = |place: &Place, size| match place {
            Place::Own { modified, .. } => files::is_as_found(&path(place), size, *modified),
            Place::Cache { .. } => std::fs::metadata(path(place)).is_ok_and(|found| found.len() == size),
        };
        Ok(match self.command(|engine, now| engine.download(now, conversation, id, is_there))? {
            Wanted::Here(place) => Download::Here(path(&place)),
            Wanted::Coming(inquiry) => {
                let (tell, answer) = oneshot::channel();
                self.fetching.insert(inquiry, tell);
                Download::Coming(answer)
            }
        })
    }

    pub(crate) fn backlog(&mut self) -> Result<Backlog, Error> {
        let now = self.clock.now();
        self.read(|engine| engine.backlog(now))
    }

    pub(crate) fn outbox(&mut self) -> Result<Vec<OutboxEntry>, Error> {
        let now = self.clock.now();
        self.read(|engine| engine.outbox(now))
    }

    pub(crate) fn input(&mut self, input: Input) {
        let Life::Awake(engine) = &mut self.life else { return };
        match engine.handle(self.clock.now(), input) {
            Ok(outputs) => self.carry_out(outputs),
            Err(wrong) => {
                tracing::error!(%wrong, "the account's file failed; connecting anew");
                self.sockets.hang_up();
                self.mend(&wrong);
            }
        }
    }

    fn engine(&mut self) -> Result<&mut Engine, Error> {
        if let Life::Shut { .. } = self.life {
            self.reopen()?;
        }
        match &mut self.life {
            Life::Awake(engine) => Ok(engine),
            _ => Err(Error::Suspended),
        }
    }

    pub(crate) fn set_network(&mut self, on: bool) {
        self.network = on;
        self.input(Input::Network(on));
    }

    pub(crate) fn open_conversation(&mut self, id: ConversationId) {
        self.open = Some(id);
        self.input(Input::Open(self.open.clone()));
    }

    pub(crate) fn close_conversation(&mut self, id: &ConversationId) {
        if self.open.as_ref() == Some(id) {
            self.open = None;
            self.input(Input::Open(None));
        }
    }

    pub(crate) fn set_front(&mut self, front: bool) {
        self.front = front;
        self.input(if front { Input::Foreground } else { Input::Background });
    }

    pub(crate) fn set_visible(&mut self, visible: bool) {
        self.visible = visible;
        self.input(Input::Visible(visible));
    }

    pub(crate) fn watch(&mut self, conversations: Vec<ConversationId>) {
        self.watched = conversations;
        self.input(Input::Watch(self.watched.clone()));
    }

    pub(crate) fn connection(&self) -> Connection {
        match &self.life {
            Life::Awake(engine) => engine.connection(),
            _ => Connection::Off,
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut sum = self.counted;
        if let Life::Awake(engine) = &self.life {
            sum += engine.counters();
        }
        sum
    }

    /// Ends the engine as a kill would, and lets go of the file.
    pub(crate) fn suspend(&mut self) -> Result<(), Error> {
        self.input(Input::Network(false));
        self.transfers.stop();
        self.sockets.hang_up_and_wait();
        Ok(self.end(Life::Suspended).map_or(Ok(()), |engine| engine.into_store().close())?)
    }

    pub(crate) fn resume(&mut self) -> Result<(), Error> {
        match self.life {
            Life::Awake(_) => Ok(()),
            Life::Suspended => Ok(self.begin(Doubt::None)?),
            Life::Shut { .. } => Ok(self.reopen()?),
        }
    }

    fn end(&mut self, life: Life) -> Option<Engine> {
        self.counted = self.counters();
        // What the engine was asked it will not answer.
        self.asked.clear();
        self.fetching.clear();
        self.transfers = self.sockets.transfers(self.config.cache_folder());
        match std::mem::replace(&mut self.life, life) {
            Life::Awake(engine) => Some(engine),
            _ => None,
        }
    }

    fn begin(&mut self, doubt: Doubt) -> Result<(), StoreError> {
        self.life = Life::Awake(engine(&self.config, doubt)?);
        self.tell(Event::Missed { count: 0 });
        self.input(Input::Open(self.open.clone()));
        self.tell_engine_who_looks();
        self.input(Input::Network(self.network));
        Ok(())
    }

    /// If the file is at fault, it is opened again, and replaced if it is found damaged. Once in doubt is checked; a
    /// second time is no doubt any more. What is found damaged again and again is left alone: then it is the disk.
    fn mend(&mut self, wrong: &StoreError) {
        if !wrong.is_damage() || self.damages >= MOST_DAMAGES {
            return;
        }
        self.damages += 1;
        let doubt =
            if self.damages == 1 && matches!(wrong, StoreError::Sqlite(sql) if sql.sqlite_error_code().is_some()) {
                Doubt::Suspected
            } else {
                Doubt::Damaged
            };
        tracing::error!(%wrong, ?doubt, "the account's file seems to be damaged");
        self.sockets.hang_up();
        drop(self.end(Life::Shut { doubt, again: 0, failures: 0 }));
        if let Err(wrong) = self.reopen() {
            tracing::error!(%wrong, "the account's file could not be opened again");
        }
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        let Life::Shut { doubt, failures, .. } = self.life else { return Ok(()) };
        let opened = self.begin(doubt);
        if opened.is_err() {
            let wait = REOPEN.saturating_mul(1 << failures.min(6));
            self.life = Life::Shut { doubt, again: self.clock.now().mono + wait, failures: failures.saturating_add(1) };
        }
        opened
    }

    fn next_wake(&self) -> Option<u64> {
        match &self.life {
            Life::Awake(engine) => engine.next_wake(),
            Life::Suspended => None,
            Life::Shut { again, .. } => Some(*again),
        }
    }

    fn tick(&mut self) {
        if let Life::Shut { again, .. } = self.life
            && self.clock.now().mono >= again
            && let Err(wrong) = self.reopen()
        {
            tracing::error!(%wrong, "the account's file could not be opened again");
        }
        self.input(Input::Tick);
    }

    fn tell(&self, event: Event) {
        // Without listeners there is nobody to tell.
        let _ = self.events.send(event);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Connect { fresh_token } => self.sockets.connect(fresh_token),
                Output::Disconnect => self.sockets.hang_up(),
                Output::Frame(text) => self.sockets.send(text),
                Output::Event(event) => self.tell(event),
                Output::Transfer(Transfer::Downloaded { inquiry, found }) => {
                    if let Some(asker) = self.fetching.remove(&inquiry) {
                        // Nobody listens any more if the caller was cancelled.
                        let _ = asker.send(found.map(|name| self.transfers.path_of(&name)));
                    }
                }
                Output::Transfer(transfer) => self.transfers.carry_out(transfer),
                Output::Receipts { inquiry, found } => {
                    if let Some(asker) = self.asked.remove(&inquiry) {
                        // Nobody listens any more if the caller was cancelled.
                        let _ = asker.send(found);
                    }
                }
            }
        }
    }

    /// A new engine takes nobody to look at it, and the person to be visible.
    fn tell_engine_who_looks(&mut self) {
        if !self.visible {
            self.input(Input::Visible(false));
        }
        if !self.watched.is_empty() {
            self.input(Input::Watch(self.watched.clone()));
        }
        if self.front {
            self.input(Input::Foreground);
        }
    }

    fn run(mut self, told: &Receiver<Told>) {
        self.tell_engine_who_looks();
        self.input(Input::Network(self.network));
        loop {
            let next = match self.next_wake() {
                None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wake) => told.recv_timeout(self.clock.until(wake)),
            };
            match next {
                Ok(Told::Call(call)) => call(&mut self),
                Ok(Told::Socket(number, input)) if self.sockets.is_current(number) => self.input(input),
                Ok(Told::Transfer(life, number, news)) if self.sockets.lives == life => {
                    self.input(Input::Transfer(number, news));
                }
                Ok(Told::Socket(..) | Told::Transfer(..)) => {}
                Err(RecvTimeoutError::Timeout) => self.tick(),
                Ok(Told::Close) | Err(RecvTimeoutError::Disconnected) => {
                    if self.front {
                        // Others are told that the person has gone.
                        self.input(Input::Background);
                    }
                    return;
                }
            }
        }
    }
}

/// An engine over the account's file, with its network cut.
fn engine(config: &ClientConfig, doubt: Doubt) -> Result<Engine, StoreError> {
    let store = Store::open_doubted(&config.path, &config.user, &config.device, doubt)?;
    let me = Author { user: config.user.clone(), device: config.device.clone() };
    Ok(Engine::new(store, me, config.tuning.clone(), rand::random()))
}

/// The thread of the sockets, seen from the engine's. At most one socket at a time is listened to.
struct Sockets {
    dial: Arc<Dial>,
    tell: Sender<Told>,
    handle: tokio::runtime::Handle,
    /// Ends the thread, which gives the last socket a moment to say goodbye.
    stop: Option<oneshot::Sender<Option<tokio::task::JoinHandle<()>>>>,
    /// The last socket.
    socket: Option<tokio::task::JoinHandle<()>>,
    thread: Option<JoinHandle<()>>,
    number: u64,
    /// How many engines have had their transfers here.
    lives: u64,
    /// To the socket of that number. Dropped to close it.
    frames: Option<mpsc::UnboundedSender<String>>,
}

impl Sockets {
    fn start(dial: Dial, tell: Sender<Told>) -> Result<Self, Error> {
        let failed = |source| Error::Store(StoreError::File { path: "the socket's thread".into(), source });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<Option<tokio::task::JoinHandle<()>>>();
        let thread = std::thread::Builder::new()
            .name("poste-socket".into())
            .spawn(move || {
                runtime.block_on(async {
                    if let Ok(Some(socket)) = stopped.await {
                        // With a close frame the server knows at once; nothing else depends on it.
                        let _ = tokio::time::timeout(GOODBYE, socket).await;
                    }
                });
                // A name that is still being looked up is not waited for.
                runtime.shutdown_background();
            })
            .map_err(failed)?;
        Ok(Self {
            dial: Arc::new(dial),
            tell,
            handle,
            stop: Some(stop),
            socket: None,
            thread: Some(thread),
            number: 0,
            lives: 0,
            frames: None,
        })
    }

    /// Transfers on the same thread, for an engine that begins.
    fn transfers(&mut self, cache: PathBuf) -> Transfers {
        self.lives += 1;
        let (life, tell) = (self.lives, Mutex::new(self.tell.clone()));
        let report = move |number, news| {
            let tell = tell.lock().unwrap_or_else(PoisonError::into_inner);
            // The engine's thread has ended: nobody wants to know.
            let _ = tell.send(Told::Transfer(life, number, news));
        };
        Transfers::new(cache, self.handle.clone(), Arc::new(report))
    }

    fn is_current(&self, number: u64) -> bool {
        self.number == number && self.frames.is_some()
    }

    fn connect(&mut self, fresh_token: bool) {
        self.number += 1;
        let (frames, to_send) = mpsc::unbounded_channel();
        self.frames = Some(frames);
        let (number, tell) = (self.number, self.tell.clone());
        let report = move |input| {
            // The engine's thread has ended: nobody wants to know.
            let _ = tell.send(Told::Socket(number, input));
        };
        self.socket = Some(self.handle.spawn(socket::run(Arc::clone(&self.dial), fresh_token, to_send, report)));
    }

    fn send(&mut self, text: String) {
        if let Some(frames) = &self.frames {
            // A socket that is gone has reported so, or is about to.
            let _ = frames.send(text);
        }
    }

    fn hang_up(&mut self) {
        self.frames = None;
    }

    /// Gives the last socket a moment to say goodbye: nothing may run once the process is in the background.
    fn hang_up_and_wait(&mut self) {
        self.hang_up();
        if let Some(socket) = self.socket.take() {
            let _ = self.handle.block_on(async { tokio::time::timeout(GOODBYE, socket).await });
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.frames = None;
        if let Some(stop) = self.stop.take() {
            // A thread that has ended needs no telling.
            let _ = stop.send(self.socket.take());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
