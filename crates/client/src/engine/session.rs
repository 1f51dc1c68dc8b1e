//! What belongs to one connection and is forgotten with it.

use std::collections::BTreeMap;

use poste_protocol::{Cell, ConversationId, EnvelopeId, LanePlace, ListPlace, Reference, Refusal, Request, Seq};

use super::groups::Asking;
use super::presence::Lease;
use super::receipts::Setting;
use super::transfers::About;
use super::turn::Turn;
use super::waking::{Telling, Wish};
use super::{Output, Rules};
use crate::store::MarkToSend;

/// To put a long file together takes its time; after 29 seconds the gateway gives up.
const MEDIA_DEADLINE: u64 = 30_000;

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) deadline: u64,
    pub(super) question: Question,
}

#[derive(Debug)]
pub(super) enum Question {
    Hello,
    Send {
        envelopes: Vec<(ConversationId, EnvelopeId)>,
        /// Those that ride along.
        marks: Vec<MarkToSend>,
    },
    Sync(Box<Syncing>),
    /// The page before what is here.
    Older(ConversationId),
    List(Listed),
    Members(ConversationId),
    /// Who has a message of the conversation, for the inquiry with this number.
    Marks(u64, ConversationId),
    /// Whether the user gives read receipts: so they do, from now on.
    Receipts(bool),
    Mark(Vec<MarkToSend>),
    /// Best effort: no connection is given up for want of its answer.
    Watch,
    Wake(Wish),
    /// Best effort, too.
    Media(About),
}

/// What was asked for with a `sync`.
#[derive(Debug)]
pub(super) struct Syncing {
    /// The request's number.
    pub(super) number: u64,
    pub(super) ranges: Vec<Range>,
    /// The server sends no more.
    pub(super) frames_left: u32,
}

/// A conversation of a `sync`.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) conversation: ConversationId,
    /// Nothing of it is here: its newest page was asked for.
    pub(super) entering: bool,
}

/// What came of a request for the list.
#[derive(Debug)]
pub(super) struct Listed {
    /// The request's number.
    pub(super) number: u64,
    /// Frames that came.
    pub(super) came: u32,
    /// How many there are, once the last one has come.
    pub(super) all: Option<u32>,
    /// Where the list goes on, said by the last one.
    pub(super) next: Option<ListPlace>,
}

/// How far the list of conversations is.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(super) struct Listing {
    pub(super) done: bool,
    pub(super) in_flight: bool,
    pub(super) after: Option<ListPlace>,
    /// Requests that were answered.
    pub(super) answered: u32,
    /// The whole of it came in several: now its beginning is asked for once more.
    pub(super) closing: bool,
    pub(super) not_before: u64,
    /// The server said how long to wait.
    pub(super) told: bool,
    pub(super) failures: u32,
}

/// Fetching of one conversation.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(super) struct Sync {
    /// There is, or may be, something after the cursor.
    pub(super) wanted: bool,
    /// The request in which it was asked for, until that has said all that it will.
    pub(super) in_flight: Option<u64>,
    pub(super) not_before: u64,
    /// The server said how long to wait.
    pub(super) told: bool,
    /// It was wanted again while a fetch was in flight, which may have been answered before.
    pub(super) again: bool,
    /// The highest number that is known to be written, not only reserved.
    pub(super) written: Seq,
    /// The last page ended where the log did.
    pub(super) at_end: bool,
    /// Fetches in a row that brought nothing.
    pub(super) idle: u32,
    pub(super) active_at: u64,
    /// The person has not read everything.
    pub(super) unread: bool,
    /// Cells that came before what is between them and the cursor.
    pub(super) beyond: BTreeMap<Seq, Cell>,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            wanted: false,
            in_flight: None,
            not_before: 0,
            told: false,
            again: false,
            written: Seq::ZERO,
            at_end: false,
            idle: 0,
            active_at: 0,
            unread: false,
            beyond: BTreeMap::new(),
        }
    }
}

impl Sync {
    /// Asks for a fetch at `at` or, if it is wanted sooner already, then.
    pub(super) fn want(&mut self, at: u64) {
        self.not_before = if self.wanted { self.not_before.min(at) } else { at };
        self.told = false;
        self.wanted = true;
        self.again = self.in_flight.is_some();
    }

    /// That request has said all that it will of the conversation. Whether it was asked for in it.
    pub(super) fn landed(&mut self, number: u64) -> bool {
        let landed = self.in_flight == Some(number);
        if landed {
            self.in_flight = None;
        }
        landed
    }

    /// Something is known to be in the log up to here.
    pub(super) fn know_written(&mut self, seq: Seq) {
        self.written = self.written.max(seq);
    }
}

/// Sending in one conversation.
#[derive(Debug, Default)]
pub(super) struct Sending {
    pub(super) in_flight: Option<EnvelopeId>,
    pub(super) not_before: u64,
    /// The server said how long to wait.
    pub(super) told: bool,
    pub(super) failures: u32,
    /// A frame in which it was joined with others was refused as a whole: send it in one of its own.
    pub(super) alone: bool,
    pub(super) conflict: Option<Conflict>,
}

/// The server knows the device's lane otherwise than the device does.
#[derive(Debug)]
pub(super) struct Conflict {
    pub(super) lane: LanePlace,
    pub(super) since: u64,
    /// There is nothing to read for this user: nothing of theirs is in the log.
    pub(super) unreadable: bool,
}

/// What is said on this connection until it is taken, one attempt at a time.
#[derive(Debug, Default)]
pub(super) struct Tries {
    pub(super) in_flight: bool,
    pub(super) not_before: u64,
    pub(super) failures: u32,
}

impl Tries {
    pub(super) fn is_due(&self, now: u64) -> bool {
        !self.in_flight && self.not_before <= now
    }

    pub(super) fn taken(&mut self) {
        self.in_flight = false;
        self.failures = 0;
    }
}

#[derive(Debug, Default)]
pub(super) struct Marking {
    pub(super) tries: Tries,
    /// When marks that wait go in a frame of their own.
    pub(super) alone_at: Option<u64>,
    /// The server does not know marks that ride along, or a frame in which some did was refused as a whole: they go in
    /// frames of their own.
    pub(super) alone: bool,
}

impl Marking {
    /// Marks go out; the next ones not before then.
    pub(super) fn put_out(&mut self, next: u64) {
        self.tries.in_flight = true;
        self.tries.not_before = next;
        self.alone_at = None;
    }
}

/// A live connection.
#[derive(Debug)]
pub(super) struct Session {
    /// By the number that is their `ref`.
    pub(super) requests: BTreeMap<u64, Asked>,
    /// When the last frame went either way.
    pub(super) active: u64,
    pub(super) renew_at: u64,
    /// Whether it was made with a token that was fetched for it.
    pub(super) fresh_token: bool,
    /// Whether the server has answered anything.
    pub(super) answered: bool,
    pub(super) list: Listing,
    pub(super) sync: BTreeMap<ConversationId, Sync>,
    pub(super) sending: BTreeMap<ConversationId, Sending>,
    pub(super) marking: Marking,
    pub(super) setting: Setting,
    pub(super) lease: Lease,
    pub(super) members: BTreeMap<ConversationId, Asking>,
    pub(super) telling: Telling,
}

impl Session {
    pub(super) fn new(now: u64, renew_at: u64, fresh_token: bool) -> Self {
        Self {
            requests: BTreeMap::new(),
            active: now,
            renew_at,
            fresh_token,
            answered: false,
            list: Listing {
                done: false,
                in_flight: false,
                after: None,
                answered: 0,
                closing: false,
                not_before: now,
                told: false,
                failures: 0,
            },
            sync: BTreeMap::new(),
            sending: BTreeMap::new(),
            marking: Marking::default(),
            setting: Setting::default(),
            lease: Lease::default(),
            members: BTreeMap::new(),
            telling: Telling::default(),
        }
    }

    /// What waits by the device's own choice waits no longer. What the server told is kept.
    pub(super) fn end_backoffs(&mut self, now: u64) {
        if !self.list.told {
            self.list.not_before = self.list.not_before.min(now);
        }
        for sync in self.sync.values_mut().filter(|sync| !sync.told) {
            sync.not_before = sync.not_before.min(now);
            sync.idle = 0;
        }
        for sending in self.sending.values_mut().filter(|sending| !sending.told) {
            sending.not_before = sending.not_before.min(now);
            sending.failures = 0;
        }
    }

    pub(super) fn sync(&mut self, id: &ConversationId) -> &mut Sync {
        self.sync.entry(id.clone()).or_default()
    }

    pub(super) fn sending(&mut self, id: &ConversationId) -> &mut Sending {
        self.sending.entry(id.clone()).or_default()
    }

    pub(super) fn count_asked(&self, which: impl Fn(&Question) -> bool) -> usize {
        self.requests.values().filter(|asked| which(&asked.question)).count()
    }
}

impl Rules {
    /// The number of the next request.
    pub(super) fn next_reference(&self) -> u64 {
        self.last_reference + 1
    }

    /// Sends a request on the live connection, and notes that it waits for an answer.
    pub(super) fn ask(&mut self, turn: &mut Turn<'_>, question: Question, request: impl FnOnce(Reference) -> Request) {
        self.ask_in(turn, question, |reference| serde_json::to_string(&request(reference)));
    }

    /// The same, with a frame of its own making.
    pub(super) fn ask_in(
        &mut self,
        turn: &mut Turn<'_>,
        question: Question,
        write: impl FnOnce(Reference) -> Result<String, serde_json::Error>,
    ) {
        self.last_reference += 1;
        let number = self.last_reference;
        let reference = Reference::new(number.to_string()).expect("a decimal number has 1 to 20 characters");
        let patience = match question {
            Question::Media(_) => MEDIA_DEADLINE.max(self.tuning.request_deadline),
            _ => self.tuning.request_deadline,
        };
        let deadline = turn.now.mono + patience;
        if self.put_out(turn, write(reference))
            && let Some(session) = self.session_mut()
        {
            session.requests.insert(number, Asked { deadline, question });
        }
    }

    /// Sends a request that is not answered.
    pub(super) fn say(&mut self, turn: &mut Turn<'_>, request: &Request) {
        self.put_out(turn, serde_json::to_string(request));
    }

    /// It was not taken: again, after a wait of at least so long.
    pub(super) fn try_later(
        &mut self,
        turn: &Turn<'_>,
        refusal: Option<&Refusal>,
        least: u64,
        tries: impl Fn(&mut Session) -> &mut Tries,
    ) {
        let Some(session) = self.session_mut() else { return };
        let failed = tries(session);
        failed.in_flight = false;
        failed.failures = failed.failures.saturating_add(1);
        let failures = failed.failures;
        let not_before = turn.now.mono + self.wait(refusal.and_then(|no| no.retry_after_ms), failures).max(least);
        if let Some(session) = self.session_mut() {
            tries(session).not_before = not_before;
        }
    }

    fn put_out(&mut self, turn: &mut Turn<'_>, written: Result<String, serde_json::Error>) -> bool {
        let Some(session) = self.session_mut() else { return false };
        match written {
            Ok(text) => {
                session.active = turn.now.mono;
                self.counters.frames_sent += 1;
                turn.outputs.push(Output::Frame(text));
                true
            }
            Err(wrong) => {
                tracing::error!(%wrong, "a request could not be written");
                false
            }
        }
    }
}
