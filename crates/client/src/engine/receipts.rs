//! Who has a message: asked of the server, page by page, when the application wants to know.
//!
//! Only the server knows it exactly: who came later has a mark beyond a message that they do not see, and in a large
//! group nobody is told of others' marks by themselves. What is answered raises the states of own messages, too.
//!
//! And whether the user gives and gets read receipts at all, which the server is told as soon as it can be.
//!
//! An inquiry outlives a lost connection, but not its deadline: somebody waits for it.

use std::collections::BTreeMap;

use poste_protocol::{ConversationId, MarksFrame, MarksPage, MessageId, ReceiptsFrame, Refusal, Request, Seq, UserId};

use super::commands::Done;
use super::link::Link;
use super::session::{Question, Session, Tries};
use super::turn::Turn;
use super::{Engine, Now, Output, Rules};
use crate::store::Receipts;
use crate::{Error, Receipt, State, StoreError};

/// What the application wants to know.
#[derive(Debug)]
pub(super) struct Inquiry {
    conversation: ConversationId,
    seq: Seq,
    /// It is not waited for any longer.
    deadline: u64,
    in_flight: bool,
    not_before: u64,
    failures: u32,
    after: Option<UserId>,
    found: Vec<Receipt>,
}

/// All that is asked for, by number.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    last: u64,
    open: BTreeMap<u64, Inquiry>,
}

impl Engine {
    /// Asks who has an own message. [`Output::Receipts`] with this number tells, or that there was no answer in time.
    pub fn ask_receipts(&mut self, now: Now, id: MessageId) -> Done<u64> {
        self.command(now, |rules, turn| rules.ask_receipts(turn, id))
    }

    /// Gives and gets read receipts from now on, or does neither. It is on the disk when this returns.
    pub fn set_receipts(&mut self, now: Now, on: bool) -> Done<()> {
        self.command(now, |_, turn| Ok(Ok(turn.tx.set_receipts(Receipts { on, waits: true })?)))
    }
}

/// The setting on its way to the server.
#[derive(Debug, Default)]
pub(super) struct Setting {
    tries: Tries,
    /// It was told on this connection: what a list says may be older.
    told: bool,
}

impl Setting {
    /// When it is told again, if it waits.
    pub(super) fn wake(&self) -> u64 {
        if self.tries.in_flight { 0 } else { self.tries.not_before }
    }
}

impl Rules {
    /// Tells the server whether the user gives read receipts. What was read waits until it has confirmed that.
    pub(super) fn pump_setting(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let is_due = |session: &Session| session.setting.tries.is_due(now);
        if !self.session().is_some_and(is_due) {
            return Ok(());
        }
        let Receipts { on, waits } = turn.tx.receipts()?;
        if !waits {
            return Ok(());
        }
        if let Some(session) = self.session_mut() {
            session.setting.tries.in_flight = true;
            session.setting.told = true;
        }
        self.ask(turn, Question::Receipts(on), |reference| Request::Receipts(ReceiptsFrame { reference, on }));
        Ok(())
    }

    /// The server says what holds. If the person has decided otherwise meanwhile, that is told next.
    pub(super) fn on_receipts_set(&mut self, turn: &mut Turn<'_>, asked: bool, holds: bool) -> Result<(), StoreError> {
        if let Some(session) = self.session_mut() {
            session.setting.tries.taken();
        }
        if turn.tx.receipts()?.on == asked {
            turn.tx.set_receipts(Receipts { on: holds, waits: false })?;
        }
        Ok(())
    }

    pub(super) fn setting_later(&mut self, turn: &Turn<'_>, refusal: Option<&Refusal>) {
        self.try_later(turn, refusal, 1, |session| &mut session.setting.tries);
    }

    /// What the list says, which another device of the user may have decided.
    pub(super) fn on_receipts_listed(&mut self, turn: &mut Turn<'_>, on: bool) -> Result<(), StoreError> {
        let known = turn.tx.receipts()?;
        let is_older = self.session().is_some_and(|session| session.setting.told);
        if !known.waits && !is_older && known.on != on {
            turn.tx.set_receipts(Receipts { on, waits: false })?;
        }
        Ok(())
    }
}

impl Inquiries {
    /// A new connection: nothing is under way on it.
    pub(super) fn forget_under_way(&mut self) {
        for inquiry in self.open.values_mut() {
            inquiry.in_flight = false;
            inquiry.not_before = 0;
        }
    }

    /// When something is due.
    pub(super) fn wake(&self, now: u64) -> Option<u64> {
        let next = |inquiry: &Inquiry| {
            let waits = !inquiry.in_flight && inquiry.not_before > now;
            if waits { inquiry.not_before.min(inquiry.deadline) } else { inquiry.deadline }
        };
        self.open.values().map(next).min()
    }
}

impl Rules {
    fn ask_receipts(&mut self, turn: &mut Turn<'_>, id: MessageId) -> Result<Result<u64, Error>, StoreError> {
        let refuse = |why| Ok(Err(Error::Message { id, why }));
        let Some((_, message, _)) = turn.tx.own(&self.me.user, id)? else { return refuse("is not known") };
        let Some(seq) = message.seq else { return refuse("was not sent yet") };
        let conversation = message.conversation;
        if conversation.is_group() && turn.tx.group(&conversation)?.role == Some(None) {
            return Ok(Err(Error::NotInGroup));
        }
        if matches!(self.link, Link::Off) {
            return Ok(Err(Error::NoAnswer));
        }
        let deadline = turn.now.mono + self.tuning.request_deadline;
        self.inquiries.last += 1;
        self.inquiries.open.insert(
            self.inquiries.last,
            Inquiry {
                conversation,
                seq,
                deadline,
                in_flight: false,
                not_before: 0,
                failures: 0,
                after: None,
                found: Vec::new(),
            },
        );
        Ok(Ok(self.inquiries.last))
    }

    /// Gives up what nobody waits for any more, also without a connection, and asks for the rest.
    pub(super) fn pump_inquiries(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let over: Vec<u64> = self
            .inquiries
            .open
            .iter()
            .filter(|(_, inquiry)| inquiry.deadline <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in over {
            self.end_inquiry(turn, number, false);
        }
        if self.session().is_none() {
            return;
        }
        let mut frames = Vec::new();
        for (number, inquiry) in &mut self.inquiries.open {
            if !inquiry.in_flight && inquiry.not_before <= now {
                inquiry.in_flight = true;
                frames.push((*number, inquiry.conversation.clone(), inquiry.seq, inquiry.after.clone()));
            }
        }
        for (number, conversation, seq, after) in frames {
            self.ask(turn, Question::Marks(number, conversation.clone()), |reference| {
                Request::Marks(MarksFrame { reference, conversation, seq, after })
            });
        }
    }

    /// A page of marks.
    pub(super) fn on_marks(&mut self, turn: &mut Turn<'_>, number: u64, page: MarksPage) -> Result<(), StoreError> {
        let mut moved = false;
        for mark in page.marks.iter().filter(|mark| mark.user != self.me.user) {
            moved |= turn.tx.raise_mark_of(&page.conversation, &mark.user, mark.delivered, mark.read)?;
        }
        if moved {
            self.raise_own_states(turn, &page.conversation)?;
        }
        let Some(inquiry) = self.inquiries.open.get_mut(&number) else { return Ok(()) };
        inquiry.in_flight = false;
        inquiry.failures = 0;
        let having = page.marks.into_iter().filter(|mark| mark.user != self.me.user && mark.delivered >= inquiry.seq);
        inquiry.found.extend(having.map(|mark| Receipt {
            state: if mark.read >= inquiry.seq { State::Read } else { State::Delivered },
            user: mark.user,
        }));
        // A list that points back to where it was would never end.
        if page.next > inquiry.after {
            inquiry.after = page.next;
        } else {
            self.end_inquiry(turn, number, true);
        }
        Ok(())
    }

    /// There was no page: again, after a wait, unless the server will never give it.
    pub(super) fn marks_refused(&mut self, turn: &mut Turn<'_>, number: u64, refusal: Option<&Refusal>) {
        if refusal.is_some_and(|no| !no.may_pass()) {
            return self.end_inquiry(turn, number, false);
        }
        let Some(inquiry) = self.inquiries.open.get_mut(&number) else { return };
        inquiry.failures = inquiry.failures.saturating_add(1);
        let failures = inquiry.failures;
        let wait = self.wait(refusal.and_then(|no| no.retry_after_ms), failures).max(1);
        if let Some(inquiry) = self.inquiries.open.get_mut(&number) {
            inquiry.in_flight = false;
            inquiry.not_before = turn.now.mono + wait;
        }
    }

    fn end_inquiry(&mut self, turn: &mut Turn<'_>, number: u64, answered: bool) {
        if let Some(inquiry) = self.inquiries.open.remove(&number) {
            turn.outputs.push(Output::Receipts { inquiry: number, found: answered.then_some(inquiry.found) });
        }
    }
}
