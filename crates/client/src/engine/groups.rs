//! Groups: what people do to them, and who is in. What happens to a group is a message like any other, sent through the
//! outbox in its order; it counts when it comes back in the log.

use poste_protocol::{
    ConversationId, Event, GroupMember, GroupSummary, MembersFrame, MembersPage, Message as Written, Refusal, Request,
    Role, Seq, UserId,
};
use rand::RngExt;
use uuid::Builder;

use super::commands::Done;
use super::form::check_message;
use super::session::Question;
use super::turn::Turn;
use super::{Engine, Now, Rules};
use crate::store::Group;
use crate::{Conversation, Error, Message, StoreError};

/// Groups whose members are asked for at once.
const ASKED_AT_ONCE: usize = 2;

/// Pages of members as they come.
#[derive(Debug, Default)]
pub(super) struct Asking {
    pub(super) in_flight: bool,
    pub(super) not_before: u64,
    failures: u32,
    /// The event that the first page is as of, and its title.
    first: Option<(Seq, String)>,
    members: Vec<GroupMember>,
    next: Option<UserId>,
    /// The server will not say.
    given_up: bool,
}

impl Engine {
    /// Begins a group. It is here, with its first message, when this returns; it is made on the server when that can be
    /// sent.
    pub fn create_group(&mut self, now: Now, title: String, members: Vec<UserId>) -> Done<Conversation> {
        self.command(now, |rules, turn| rules.create_group(turn, title, members))
    }

    /// Does something to a group. It is on the disk, pending, when this returns.
    pub fn group_event(&mut self, now: Now, group: &ConversationId, event: Event) -> Done<Message> {
        self.command(now, |rules, turn| {
            if !group.is_group() || turn.tx.conversation(group)?.is_none() {
                return Ok(Err(Error::UnknownConversation));
            }
            rules.write_event(turn, group, event)
        })
    }
}

impl Rules {
    fn create_group(
        &mut self,
        turn: &mut Turn<'_>,
        title: String,
        members: Vec<UserId>,
    ) -> Result<Result<Conversation, Error>, StoreError> {
        let id = ConversationId::of_group(Builder::from_random_bytes(self.rng.random()).into_uuid());
        let members: Vec<UserId> = members.into_iter().filter(|user| *user != self.me.user).collect();
        let event = Event::Created { title: title.clone(), members };
        turn.tx.know_conversation(&id, None)?;
        let role = Some(Some(Role::Admin));
        turn.tx.set_group(&id, &Group { title: Some(title), role, as_of: Seq::ZERO, roster: Some(Seq::ZERO) })?;
        for user in event.concerns(&self.me.user) {
            turn.tx.set_role_of(&id, &user, event.role_after(&self.me.user, &user, None))?;
        }
        if let Err(refused) = self.write_event(turn, &id, event)? {
            return Ok(Err(refused));
        }
        turn.tx
            .conversation_view(&id)?
            .map(Ok)
            .ok_or_else(|| StoreError::Damaged("a conversation just made is not there".into()))
    }

    fn write_event(
        &mut self,
        turn: &mut Turn<'_>,
        id: &ConversationId,
        event: Event,
    ) -> Result<Result<Message, Error>, StoreError> {
        let written_at = Some(turn.now.wall);
        let message = Written { written_at, ..Written::of_event(self.fresh_message_id(turn), event) };
        self.write_message(turn, id, &message)
    }

    /// Writes a message to a conversation that is known, unless the person is known not to be in.
    pub(super) fn write_message(
        &mut self,
        turn: &mut Turn<'_>,
        id: &ConversationId,
        message: &Written,
    ) -> Result<Result<Message, Error>, StoreError> {
        let Some(row) = turn.tx.conversation(id)? else { return Ok(Err(Error::UnknownConversation)) };
        if id.is_group() && turn.tx.group(id)?.role == Some(None) {
            return Ok(Err(Error::NotInGroup));
        }
        if let Err(refused) = check_message(&row, message) {
            return Ok(Err(refused));
        }
        let local = turn.tx.add_own(id, &self.me, message, turn.now.wall, turn.time)?;
        turn.note_clock()?;
        turn.added(local);
        turn.conversation_changed(id);
        turn.tx.message(local)?.map(Ok).ok_or_else(|| StoreError::Damaged("a message just written is not there".into()))
    }

    /// Takes in what the list says of a group.
    pub(super) fn on_group_summary(
        turn: &mut Turn<'_>,
        id: &ConversationId,
        told: &GroupSummary,
    ) -> Result<(), StoreError> {
        let known = turn.tx.group(id)?;
        if told.roster < known.as_of {
            return Ok(());
        }
        let role = Some((!told.left).then_some(told.role));
        let group = Group { title: Some(told.title.clone()), role, as_of: told.roster, ..known.clone() };
        if group != known {
            turn.tx.set_group(id, &group)?;
            turn.conversation_changed(id);
        }
        Ok(())
    }

    /// Asks who is in, where that is not known.
    pub(super) fn pump_members(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let Some(session) = self.session() else { return Ok(()) };
        if session.members.values().any(|asking| asking.in_flight) {
            return Ok(());
        }
        // More than were asked for on this connection: those that the server does not tell of keep nobody waiting.
        let wanted = turn.tx.groups_to_ask_for(session.members.len() + ASKED_AT_ONCE)?;
        let waits = |asking: &Asking| asking.given_up || asking.not_before > now;
        let due = wanted.into_iter().filter(|id| !session.members.get(id).is_some_and(waits));
        let due: Vec<ConversationId> = due.take(ASKED_AT_ONCE).collect();
        for conversation in due {
            let Some(session) = self.session_mut() else { return Ok(()) };
            let asking = session.members.entry(conversation.clone()).or_default();
            asking.in_flight = true;
            let after = asking.next.clone();
            self.ask(turn, Question::Members(conversation.clone()), |reference| {
                Request::Members(MembersFrame { reference, conversation, after })
            });
        }
        Ok(())
    }

    /// A page of members. With the last one they are known, and what has happened since is replayed.
    pub(super) fn on_members(&mut self, turn: &mut Turn<'_>, page: MembersPage) -> Result<(), StoreError> {
        let id = &page.conversation;
        let Some(session) = self.session_mut() else { return Ok(()) };
        let asking = session.members.entry(id.clone()).or_default();
        asking.in_flight = false;
        asking.failures = 0;
        asking.first.get_or_insert((page.roster, page.title));
        asking.members.extend(page.members);
        // A list that points back to where it was would never end.
        if page.next.is_some() && page.next > asking.next {
            asking.next = page.next;
            return Ok(());
        }
        let Some(Asking { first: Some((roster, title)), members, .. }) = session.members.remove(id) else {
            return Ok(());
        };
        let known = turn.tx.group(id)?;
        if known.roster.is_some() {
            return Ok(());
        }
        turn.tx.clear_members(id)?;
        for member in &members {
            turn.tx.set_role_of(id, &member.user, Some(member.role))?;
        }
        let mut group = Group { roster: Some(roster), ..known };
        if roster >= group.as_of {
            let mine = members.iter().find(|member| member.user == self.me.user).map(|member| member.role);
            group = Group { title: Some(title), role: Some(mine), as_of: roster, ..group };
        }
        turn.tx.set_group(id, &group)?;
        let cursor = turn.tx.conversation(id)?.map_or(Seq::ZERO, |row| row.cursor);
        turn.tx.replay(id, &self.me, cursor)?;
        turn.conversation_changed(id);
        Ok(())
    }

    pub(super) fn members_refused(&mut self, turn: &Turn<'_>, id: &ConversationId, refusal: Option<&Refusal>) {
        let Some(session) = self.session_mut() else { return };
        let asking = session.members.entry(id.clone()).or_default();
        let failures = asking.failures.saturating_add(1);
        *asking = Asking { failures, given_up: refusal.is_some_and(|no| !no.may_pass()), ..Asking::default() };
        let not_before = turn.now.mono + self.wait(refusal.and_then(|no| no.retry_after_ms), failures);
        if let Some(asking) = self.session_mut().and_then(|session| session.members.get_mut(id)) {
            asking.not_before = not_before;
        }
    }

    /// What happened to a group up to the cursor counts now.
    pub(super) fn replay(&mut self, turn: &mut Turn<'_>, id: &ConversationId, cursor: Seq) -> Result<(), StoreError> {
        if id.is_group() && turn.tx.replay(id, &self.me, cursor)? {
            turn.conversation_changed(id);
        }
        Ok(())
    }
}
