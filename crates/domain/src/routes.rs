//! A frame in, a frame out. Every bad frame gets an error and leaves the connection usable.

use std::collections::HashSet;

use poste_protocol::{
    Author, Code, ErrorFrame, Fetch, FromServer, Hello, List, MarkFrame, Marked, MarksFrame, MediaAnswer, MediaFrame,
    MembersFrame, MuteFrame, Muted, Outcome, PushAnswer, PushFrame, ReceiptsFrame, ReceiptsSet, Reference, Refusal,
    SendFrame, Sent, Submission, SyncFrame, Typing, Verdict, Watch, limits, parse,
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    Failure, MEASURED, append::Append, catch_up::CatchUp, marks::Marking, media::Media, presence::Presences,
    rates::Rates, read::Read, receipts::Receipts, registration::Registry, send, session::Session, way,
};

/// Who speaks, as the authorizer found out when the connection was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// User and device.
    pub author: Author,
    /// The connection, as the gateway names it.
    pub connection: String,
    /// When the gateway accepted the connection, in Unix milliseconds.
    pub connected_at_ms: u64,
    /// When the token runs out, in Unix milliseconds.
    pub token_expires_at_ms: u64,
}

/// `send`: every envelope gets a verdict of its own, and every mark that rides along a result.
pub async fn send(
    append: &Append,
    marking: &Marking,
    rates: &Rates,
    caller: &Caller,
    now_ms: u64,
    text: &str,
) -> FromServer {
    answer(caller, now_ms, text, |frame: SendFrame| async move {
        let within = 1..=limits::SUBMISSIONS;
        if !within.contains(&frame.submissions.len()) {
            return Err(Refusal::new(Code::TooMany, "a frame holds 1 to 16 envelopes").into());
        }
        let conversations: HashSet<_> = frame.submissions.iter().map(|s| &s.envelope.conversation).collect();
        if conversations.len() != frame.submissions.len() {
            return Err(Refusal::new(Code::BadFrame, "two envelopes of the frame are for one conversation").into());
        }
        if frame.marks.len() > limits::MARKS {
            return Err(Refusal::new(Code::TooMany, "a frame holds at most 50 marks").into());
        }
        rates.admit(&caller.author, frame.submissions.len() as u64, now_ms).await?;
        note_waiting(&caller.author, &frame.submissions);
        let (verdicts, marks) = send::take(append, marking, &caller.author, &frame).await;
        note_verdicts(&caller.author, &frame.submissions, &verdicts);
        Ok(FromServer::Sent(Sent { reference: frame.reference, verdicts, marks }))
    })
    .await
}

/// What has waited on its device for longer than this, in milliseconds, is told to the operator: longer than a request
/// takes to be given up, so it was written without a connection, or sent in vain.
const WAITED_MS: u64 = 10_000;

/// A line for the metric of how long messages wait in outboxes.
fn note_waiting(author: &Author, submissions: &[Submission]) {
    let late: Vec<_> = submissions.iter().filter(|submission| submission.age_ms > WAITED_MS).collect();
    let Some(oldest_ms) = late.iter().map(|submission| submission.age_ms).max() else { return };
    let attempts = late.iter().map(|submission| submission.attempt).max();
    let Author { user, device } = author;
    tracing::info!(metric = "waited", %user, %device, envelopes = late.len(), oldest_ms, attempts, "came late");
}

/// What became of the envelopes of a frame, for the log and the metrics.
fn note_verdicts(author: &Author, submissions: &[Submission], verdicts: &[Verdict]) {
    let (mut messages, mut repeats, mut refused) = (0, 0_u64, 0_u64);
    for (submission, Verdict { outcome, .. }) in submissions.iter().zip(verdicts) {
        way::judged(author, submission, outcome);
        match outcome {
            Outcome::Accepted { repeat: true, .. } => repeats += 1,
            Outcome::Accepted { .. } => messages += submission.envelope.messages.len(),
            Outcome::Refused { .. } => refused += 1,
        }
    }
    tracing::info!(target: MEASURED, metric = "send", envelopes = submissions.len(), messages, repeats, refused);
}

/// `fetch`: a page.
pub async fn fetch(read: &Read, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(caller, now_ms, text, |frame: Fetch| async move {
        Ok(FromServer::Page(read.page(&caller.author, &frame).await?))
    })
    .await
}

/// `sync`: pages of many conversations.
pub async fn sync(catch_up: &CatchUp, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(caller, now_ms, text, |frame: SyncFrame| async move {
        let within = 1..=limits::RANGES;
        if !within.contains(&frame.ranges.len()) {
            return Err(Refusal::new(Code::TooMany, "a frame holds 1 to 50 ranges").into());
        }
        let conversations: HashSet<_> = frame.ranges.iter().map(|range| &range.conversation).collect();
        if conversations.len() != frame.ranges.len() {
            return Err(Refusal::new(Code::BadFrame, "two ranges of the frame are of one conversation").into());
        }
        Ok(FromServer::Pages(catch_up.sync(caller, &frame).await?))
    })
    .await
}

/// `list`: the user's conversations.
pub async fn list(catch_up: &CatchUp, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(
        caller,
        now_ms,
        text,
        |frame: List| async move { Ok(FromServer::List(catch_up.list(caller, &frame).await?)) },
    )
    .await
}

/// `members`: who is in a group.
pub async fn members(read: &Read, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(caller, now_ms, text, |frame: MembersFrame| async move {
        Ok(FromServer::Members(read.members(&caller.author, &frame).await?))
    })
    .await
}

/// `marks`: who has stored and read a message.
pub async fn marks(receipts: &Receipts, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(caller, now_ms, text, |frame: MarksFrame| async move {
        Ok(FromServer::Marks(receipts.page(&caller.author, &frame).await?))
    })
    .await
}

/// `mark`: every mark gets a result of its own.
pub async fn mark(marking: &Marking, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(caller, now_ms, text, |frame: MarkFrame| async move {
        let within = 1..=limits::MARKS;
        if !within.contains(&frame.marks.len()) {
            return Err(Refusal::new(Code::TooMany, "a frame holds 1 to 50 marks").into());
        }
        let results = marking.all(&caller.author, &frame.marks).await;
        Ok(FromServer::Marked(Marked { reference: frame.reference, results }))
    })
    .await
}

/// `receipts`: does the user give and get read receipts?
pub async fn receipts(marking: &Marking, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(caller, now_ms, text, |frame: ReceiptsFrame| async move {
        let on = marking.set_receipts(&caller.author, frame.on).await?;
        Ok(FromServer::Receipts(ReceiptsSet { reference: frame.reference, on }))
    })
    .await
}

/// `watch`: who is here?
pub async fn watch(presences: &Presences, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(caller, now_ms, text, |frame: Watch| async move {
        if frame.conversations.len() > limits::WATCHED {
            return Err(Refusal::new(Code::TooMany, "a device watches at most 50 conversations").into());
        }
        Ok(FromServer::Watching(presences.watch(&caller.author, &frame).await?))
    })
    .await
}

/// `away`. Never answered.
pub async fn away(presences: &Presences, caller: &Caller) {
    presences.away(&caller.author).await;
}

/// `typing`. Never answered: what is wrong with it is nobody's trouble.
pub async fn typing(presences: &Presences, caller: &Caller, now_ms: u64, text: &str) {
    if caller.token_expires_at_ms > now_ms
        && let Ok(frame) = parse::<Typing>(text)
    {
        presences.typing(&caller.author, &frame.conversation).await;
    }
}

/// `hello`: who am I, and would I be woken?
pub async fn hello(session: &Session, registry: &Registry, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(caller, now_ms, text, |frame: Hello| async move {
        if let Some(by) = &frame.woken_by {
            registry.woken(&caller.author, by);
        }
        let push = if frame.push { registry.awake(&caller.author).await } else { None };
        Ok(FromServer::Welcome(session.hello(caller, frame, push)))
    })
    .await
}

/// `push`: where the device can be woken.
pub async fn push(registry: &Registry, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(caller, now_ms, text, |frame: PushFrame| async move {
        let status = registry.push(&caller.author, frame.token.as_ref()).await?;
        Ok(FromServer::Push(PushAnswer { reference: frame.reference, status }))
    })
    .await
}

/// `mute`: what nobody wants to be woken for.
pub async fn mute(registry: &Registry, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(caller, now_ms, text, |frame: MuteFrame| async move {
        registry.mute(&caller.author, &frame).await?;
        Ok(FromServer::Muted(Muted { reference: frame.reference, conversation: frame.conversation }))
    })
    .await
}

/// `media`: how a file is uploaded and downloaded.
pub async fn media(media: &Media, caller: &Caller, now_ms: u64, text: &str) -> FromServer {
    answer(caller, now_ms, text, |frame: MediaFrame| async move {
        let state = media.act(&caller.author, &frame).await?;
        Ok(FromServer::Media(MediaAnswer { reference: frame.reference, media: frame.media, state }))
    })
    .await
}

/// Holds back who asks too often. What the device is told then.
pub async fn hold_back(rates: &Rates, caller: &Caller, now_ms: u64, text: &str) -> Option<FromServer> {
    let refusal = rates.admit(&caller.author, 1, now_ms).await.err()?;
    let reference = parse::<Any>(text).ok().and_then(Any::into_reference);
    Some(FromServer::Error(ErrorFrame { reference, refusal }))
}

/// A frame of whatever action.
#[derive(Deserialize)]
struct Any {
    action: String,
    #[serde(rename = "ref", default)]
    reference: Option<serde_json::Value>,
}

impl Any {
    /// Its reference, if that is one.
    fn into_reference(self) -> Option<Reference> {
        serde_json::from_value(self.reference?).ok()
    }
}

/// What no route takes: not JSON, no action, or one that is not known.
pub fn unknown(text: &str) -> FromServer {
    match parse::<Any>(text) {
        Ok(any) => {
            let action: String = any.action.chars().take(limits::REFERENCE).collect();
            FromServer::Error(ErrorFrame {
                reference: any.into_reference(),
                refusal: Refusal::new(Code::UnknownAction, format!("there is no action {action:?}")),
            })
        }
        Err(error) => FromServer::Error(error),
    }
}

/// Reads the frame, holds the caller against the clock, and turns every no into an error frame.
async fn answer<T, F, R>(caller: &Caller, now_ms: u64, text: &str, act: F) -> FromServer
where
    T: DeserializeOwned + Referenced,
    F: FnOnce(T) -> R,
    R: Future<Output = Result<FromServer, Failure>>,
{
    let frame: T = match parse(text) {
        Ok(frame) => frame,
        Err(error) => return FromServer::Error(error),
    };
    let reference = Some(frame.reference().clone());
    if caller.token_expires_at_ms <= now_ms {
        let refusal = Refusal::new(Code::TokenExpired, "connect again with a fresh token");
        return FromServer::Error(ErrorFrame { reference, refusal });
    }
    match act(frame).await {
        Ok(answer) => answer,
        Err(failure) => FromServer::Error(ErrorFrame { reference, refusal: failure.into_refusal() }),
    }
}

trait Referenced {
    fn reference(&self) -> &Reference;
}

macro_rules! referenced {
    ($($frame:ty),+) => {
        $(impl Referenced for $frame {
            fn reference(&self) -> &Reference {
                &self.reference
            }
        })+
    };
}

referenced!(
    SendFrame,
    Fetch,
    SyncFrame,
    List,
    MarkFrame,
    MarksFrame,
    MediaFrame,
    MembersFrame,
    ReceiptsFrame,
    Watch,
    Hello,
    PushFrame,
    MuteFrame
);
