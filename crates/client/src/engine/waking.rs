//! Waking: the server is told where the device can be woken, what woke it and what nobody shall be woken for; and says
//! how the registration stands. One request at a time, and nothing that anything else waits for.

use poste_protocol::{ConversationId, Hello, MuteFrame, PushFrame, PushStatus, PushToken, Refusal, Request, WokenBy};

use super::commands::Done;
use super::session::{Question, Tries};
use super::turn::Turn;
use super::{Engine, Now, Rules};
use crate::{Error, Event, StoreError};

/// What the server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    /// Where the device can be woken.
    Token(Option<PushToken>),
    /// Until when nobody is to be woken for a conversation.
    Mute(ConversationId, Option<u64>),
    /// That the device is awake, and by what. It asks how its registration stands.
    Awake(Option<WokenBy>),
}

/// Telling it, on one connection.
#[derive(Debug, Default)]
pub(super) struct Telling {
    tries: Tries,
    /// The server knows on this connection that the device is awake.
    awake: bool,
}

impl Telling {
    /// When the next attempt is due, if one has failed.
    pub(super) fn next_try(&self) -> Option<u64> {
        (!self.tries.in_flight && self.tries.failures > 0).then_some(self.tries.not_before)
    }
}

impl Engine {
    /// The device can be woken by this token, or shall not be.
    pub fn set_push(&mut self, now: Now, token: Option<&PushToken>) -> Done<()> {
        self.command(now, |_, turn| {
            let known = turn.tx.waking()?;
            let stands = known.due || token.is_none() || known.status == Some(PushStatus::Registered);
            if known.token.as_ref() != token || !stands {
                turn.tx.set_push(token)?;
            }
            Ok(Ok(()))
        })
    }

    /// Nobody of this user is to be woken for a conversation, until a time.
    pub fn mute(&mut self, now: Now, conversation: &ConversationId, until: Option<u64>) -> Done<()> {
        self.command(now, |_, turn| {
            if turn.tx.conversation(conversation)?.is_none() {
                return Ok(Err(Error::UnknownConversation));
            }
            if turn.tx.mute(conversation, until)? {
                turn.conversation_changed(conversation);
            }
            Ok(Ok(()))
        })
    }

    /// A push has woken the device.
    pub fn woken(&mut self, now: Now, by: &WokenBy) -> Done<()> {
        self.command(now, |_, turn| Ok(Ok(turn.tx.set_woken_by(Some(by))?)))
    }
}

impl Rules {
    /// Tells the server the next thing that it does not know.
    pub(super) fn pump_waking(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let now = turn.now.mono;
        let Some(session) = self.session_mut() else { return Ok(()) };
        if !session.telling.tries.is_due(now) {
            return Ok(());
        }
        let Some(wish) = next_wish(turn, session.telling.awake)? else { return Ok(()) };
        session.telling.tries.in_flight = true;
        self.ask(turn, Question::Wake(wish.clone()), |reference| match wish {
            Wish::Token(token) => Request::Push(PushFrame { reference, token }),
            Wish::Mute(conversation, until) => Request::Mute(MuteFrame { reference, conversation, until }),
            Wish::Awake(woken_by) => Request::Hello(Hello { reference, push: true, woken_by }),
        });
        Ok(())
    }

    /// The server has taken what it was told, or never will. It may have said how the registration stands.
    pub(super) fn on_woken(
        &mut self,
        turn: &mut Turn<'_>,
        wish: &Wish,
        status: Option<PushStatus>,
    ) -> Result<(), StoreError> {
        if let Some(session) = self.session_mut() {
            session.telling.tries.taken();
            session.telling.awake |= !matches!(wish, Wish::Mute(..));
        }
        let known = turn.tx.waking()?;
        match wish {
            Wish::Mute(conversation, until) => turn.tx.mute_told(conversation, *until)?,
            // The application has given another one meanwhile, which goes next.
            Wish::Token(token) if known.token != *token => {}
            Wish::Token(_) => {
                let status = status.unwrap_or(PushStatus::Off);
                turn.tx.push_told(status)?;
                turn.signs.push(Event::Push { status });
            }
            Wish::Awake(by) => {
                if by.is_some() && known.woken_by == *by {
                    turn.tx.set_woken_by(None)?;
                }
                if let (Some(status), Some(_), false) = (status, &known.token, known.due) {
                    turn.tx.note_push_status(status)?;
                    turn.signs.push(Event::Push { status });
                }
            }
        }
        Ok(())
    }

    /// It was not taken: again, after a wait.
    pub(super) fn wake_later(&mut self, turn: &Turn<'_>, refusal: Option<&Refusal>) {
        self.try_later(turn, refusal, 0, |session| &mut session.telling.tries);
    }
}

fn next_wish(turn: &Turn<'_>, awake: bool) -> Result<Option<Wish>, StoreError> {
    let known = turn.tx.waking()?;
    if known.due {
        return Ok(Some(Wish::Token(known.token)));
    }
    if known.woken_by.is_some() || (!awake && known.token.is_some()) {
        return Ok(Some(Wish::Awake(known.woken_by)));
    }
    let mute = turn.tx.mute_to_tell()?;
    Ok(mute.map(|(conversation, until)| Wish::Mute(conversation, until)))
}
