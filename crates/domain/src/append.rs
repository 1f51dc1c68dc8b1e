//! Appending: authorise, place, write, publish. `docs/ARCHITECTURE.md` walks through it; the reasons are in
//! `docs/adr/0001-write-once-cells.md`.
//!
//! Every step may be repeated, by anyone, at any time: the lane says whether an envelope has its place, the cell says
//! whether it is written, and a repeat goes on from there. A crash between two steps leaves nothing that a retry or a
//! reader does not mend.
//!
//! In a group the head also says, with the place, by which event the author must be a member: who was removed before it
//! writes nothing there. An event gets its place only if no other did since its author's rights were looked at. See
//! [`roll`](crate::roll) and `docs/adr/0016-groups.md`.
//!
//! What edits and deletes do besides is in [`changes`].

mod changes;

use std::sync::Arc;

use futures::future::try_join_all;
use poste_protocol::{
    Author, Cell, Code, ConversationId, Envelope, Event, Outcome, Refusal, Resolved, Seq, Submission, UserId,
};

use changes::{Targets, no_target};

use crate::{
    Claim, Failure, FileId, Lane, LaneKey, Retention, Trouble,
    lane::{Standing, judge},
    media::no_media,
    membership::not_member,
    ports::{Attachments, Clock, Courier, Heads, Log, Members, News, Parcel, Placement, Placing, Slot, Terms},
    rights,
    roll::{Known, Roll},
};

/// How often one attempt begins another epoch, or looks for another place when readers put voids on the one it has.
/// Each loss means that the attempt was stalled for longer than the readers' grace, so more than one in a row says that
/// we are very slow.
const ROUNDS: usize = 4;

/// How far a late frame is looked for in the log, in slots (of large cells the store may bring fewer). Beyond it the
/// device is asked to find out by itself.
const LOOK_BACK: u32 = 200;

/// What a device waits after an attempt that lost every round, in milliseconds.
const SLOW_RETRY_MS: u64 = 1_000;

/// What a deployment chooses.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a message may have waited on its device before it is refused, in milliseconds.
    pub acceptance_ms: u64,
    /// How long messages are kept.
    pub retention: Retention,
}

impl Settings {
    /// Whether an envelope that waited so long is still taken. What waited for longer than messages are kept is not:
    /// a device that was put back to a backup looks in the log for what it has written, and would not find it there.
    fn accepts(&self, age_ms: u64) -> bool {
        age_ms <= self.acceptance_ms && self.retention.keeps(0, age_ms)
    }
}

impl Default for Settings {
    /// 30 days; for ever.
    fn default() -> Self {
        Self { acceptance_ms: 30 * 24 * 3600 * 1000, retention: Retention::FOREVER }
    }
}

/// Takes envelopes into the log.
pub struct Append {
    heads: Arc<dyn Heads>,
    log: Arc<dyn Log>,
    members: Arc<dyn Members>,
    roll: Roll,
    files: Arc<dyn Attachments>,
    courier: Arc<dyn Courier>,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

/// An envelope that is in the log.
#[derive(Debug)]
pub struct Stored {
    /// What its device is told, once the parcel is queued.
    pub outcome: Outcome,
    /// What is to be queued.
    pub parcel: Parcel,
}

/// One attempt to append an envelope.
struct Attempt<'a> {
    author: &'a Author,
    envelope: &'a Envelope,
    key: LaneKey,
    claim: Claim,
    targets: Targets,
    /// In a group: the event that the author was found to be a member as of.
    member_as_of: Seq,
    /// Why it is not taken, unless it has its place already.
    refusal: Option<Refusal>,
}

impl Append {
    /// On these ports.
    pub fn new(
        heads: Arc<dyn Heads>,
        log: Arc<dyn Log>,
        members: Arc<dyn Members>,
        files: Arc<dyn Attachments>,
        courier: Arc<dyn Courier>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let roll = Roll::new(heads.clone(), log.clone(), members.clone(), clock.clone(), settings.retention);
        Self { heads, log, members, roll, files, courier, clock, settings }
    }

    /// Stores an envelope once, whatever happened to it before, and queues it for delivery.
    ///
    /// # Errors
    /// A refusal says that it is not stored and will not be. Trouble says nothing: the device tries again.
    pub async fn append(&self, author: &Author, submission: &Submission) -> Result<Outcome, Failure> {
        let Stored { outcome, parcel } = self.store(author, submission).await?;
        self.publish(&parcel).await?;
        Ok(outcome)
    }

    /// Queues what is to be told of an envelope that was stored.
    ///
    /// # Errors
    /// Trouble with the queue.
    pub(crate) async fn publish(&self, parcel: &Parcel) -> Result<(), Failure> {
        Ok(self.courier.publish(parcel).await?)
    }

    /// The first half of it. It may be acknowledged when the parcel is queued, and not before.
    ///
    /// # Errors
    /// As of all of it.
    pub async fn store(&self, author: &Author, submission: &Submission) -> Result<Stored, Failure> {
        let envelope = &submission.envelope;
        envelope.check()?;
        let authorised = self.authorise(author, envelope).await?;
        let targets = self.find_targets(envelope).await?;
        let (key, claim) = (LaneKey::of(author), Claim::of(envelope));
        let mut attempt = Attempt { author, envelope, key, claim, targets, member_as_of: Seq::ZERO, refusal: None };
        let placed = match authorised {
            Ok(as_of) => {
                attempt.member_as_of = as_of;
                self.admit(&mut attempt, submission.age_ms).await?;
                // What is not taken is refused, unless it has its place already: a repeat is a success however old it
                // is. The lane remembers the refusal, so that no attempt which is still alive stores the envelope.
                let claim = if attempt.refusal.is_none() { claim } else { claim.of_refusal() };
                match &submission.resolved {
                    Some(resolved) => self.place_over(&attempt, claim, resolved).await?,
                    None => self.place(&attempt, claim, Terms::Next).await?,
                }
            }
            Err(refusal) => self.refuse(&attempt, Terms::Next, refusal).await?,
        };
        let (cell, written) = match placed {
            Placed::Fresh(lane, roster) => match &attempt.refusal {
                Some(refusal) => return Err(refusal.clone().into()),
                None => self.write(&attempt, lane, roster).await?,
            },
            Placed::Earlier(lane) => self.take_up(&attempt, lane).await?,
            Placed::Written(cell) => (cell, Written::Before),
        };
        self.redact(&attempt, &cell).await?;
        self.pack(author, &envelope.conversation, *cell, written).await
    }

    /// What is to be queued of a cell that is in the log. An event is applied before anybody hears of it.
    async fn pack(
        &self,
        from: &Author,
        conversation: &ConversationId,
        cell: Cell,
        written: Written,
    ) -> Result<Stored, Failure> {
        let roster = match written {
            _ if !conversation.is_group() => Seq::ZERO,
            Written::Now(_) if cell.event().is_some() => self.roll.apply(conversation, &cell).await?.applied,
            Written::Now(roster) => roster,
            Written::Before => {
                let head = self.heads.head(conversation).await?.ok_or_else(headless)?;
                self.roll.settle(conversation, head.roster).await?.applied
            }
        };
        let outcome = Outcome::Accepted { seq: cell.seq, at: cell.at, repeat: matches!(written, Written::Before) };
        Ok(Stored { outcome, parcel: Parcel::of(from, conversation, roster, News::Cell(cell)) })
    }

    /// The sender is a member, as of the event that comes back, or may begin the conversation by writing. What it does
    /// to a group is judged when it gets its place. The inner refusal is that of somebody who was in a group: an
    /// envelope of theirs may have its place.
    async fn authorise(&self, author: &Author, envelope: &Envelope) -> Result<Result<Seq, Refusal>, Failure> {
        if envelope.event().is_some() {
            return Ok(Ok(Seq::ZERO));
        }
        match self.roll.find(&envelope.conversation, &author.user).await? {
            Some(known) if known.member.membership.is_open() => Ok(Ok(known.version)),
            Some(_) if envelope.conversation.is_group() => Ok(Err(not_member())),
            Some(_) => Err(not_member().into()),
            None => peer(author, envelope).map(|_| Ok(Seq::ZERO)),
        }
    }

    /// Whether what a member has written is taken, if it has no place yet.
    async fn admit(&self, attempt: &mut Attempt<'_>, age_ms: u64) -> Result<(), Failure> {
        let Attempt { author, envelope, targets, .. } = &*attempt;
        if !self.settings.accepts(age_ms) {
            attempt.refusal = Some(expired());
        } else if !targets.are_open_to(&author.user, None) {
            // An admin may delete what others wrote. What is remembered of who is one may be too old.
            let known = match self.heads.head(&envelope.conversation).await? {
                Some(head) if envelope.conversation.is_group() => {
                    self.roll.as_of(&envelope.conversation, &author.user, head.roster).await?
                }
                _ => None,
            };
            if let Some(known) = known
                && self.moderates(attempt, &known).await?
            {
                attempt.member_as_of = known.version;
            } else {
                attempt.refusal = Some(no_target());
            }
        }
        if attempt.refusal.is_none() && !self.keep_files(attempt.author, attempt.envelope).await? {
            attempt.refusal = Some(no_media());
        }
        Ok(())
    }

    /// Keeps the files that an envelope refers to. Says whether all of them are there.
    async fn keep_files(&self, author: &Author, envelope: &Envelope) -> Result<bool, Trouble> {
        let files = envelope.messages.iter().filter_map(|m| FileId::of(&envelope.conversation, &author.user, m));
        let kept = files.map(|file| async move { self.files.keep(&file).await });
        Ok(try_join_all(kept).await?.into_iter().all(|there| there))
    }

    /// Whether the author may change all that the envelope changes, what others wrote included.
    async fn moderates(&self, attempt: &Attempt<'_>, known: &Known) -> Result<bool, Failure> {
        let group = self.roll.settle(&attempt.envelope.conversation, known.version).await?;
        let membership = rights::moderates(&group, known.member.role_now()).then_some(&known.member.membership);
        Ok(attempt.targets.are_open_to(&attempt.author.user, membership))
    }

    /// Whether the author may do this to the group, as of the event that comes back.
    async fn permit(&self, attempt: &Attempt<'_>, event: &Event) -> Result<Permit, Failure> {
        let (conversation, user) = (&attempt.envelope.conversation, &attempt.author.user);
        let roster = self.heads.head(conversation).await?.map_or(Seq::ZERO, |head| head.roster);
        let group = self.roll.settle(conversation, roster).await?;
        let known = self.roll.as_of(conversation, user, roster).await?;
        let role = known.as_ref().and_then(|known| known.member.role_now());
        let mut permitted = rights::permit(event, &group, role);
        if let (Ok(()), Event::Created { members: users, .. } | Event::Added { users }) = (&permitted, event) {
            permitted = rights::room(&group, users.len() as u64);
            if permitted.is_err() {
                // Those who are in already take no room.
                let keys: Vec<_> = users.iter().map(|user| (conversation.clone(), user.clone())).collect();
                let several = self.members.several(&keys).await?;
                let inside = several.iter().filter(|(_, _, member)| member.role_now().is_some()).count();
                permitted = rights::room(&group, (users.len() - inside) as u64);
            }
        }
        match permitted {
            Ok(()) => Ok(Permit::Granted(roster)),
            Err(refusal) if known.is_some() => Ok(Permit::Denied(refusal)),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// A claim of the attempt gets a place, or the lane says where its envelope stands.
    async fn place(&self, attempt: &Attempt<'_>, claim: Claim, terms: Terms) -> Result<Placed, Failure> {
        let Attempt { author, envelope, key, .. } = attempt;
        let conversation = &envelope.conversation;
        let retention = self.settings.retention;
        for _ in 0..ROUNDS {
            let roster = match envelope.event() {
                Some(event) => match self.permit(attempt, event).await? {
                    Permit::Granted(roster) => Some(roster).filter(|_| claim.count > 0),
                    Permit::Denied(refusal) => return self.refuse(attempt, terms, refusal).await,
                },
                None => None,
            };
            let now_ms = self.clock.now_ms();
            let placement = Placement { conversation, lane: key, claim, terms, now_ms, retention, roster };
            match self.heads.place(&placement).await? {
                Placing::Placed { first, roster } => {
                    let lane = Lane::taken(&claim, first);
                    return match self.objection(attempt, lane, roster).await? {
                        None => Ok(Placed::Fresh(lane, roster)),
                        Some(refusal) => self.refuse(attempt, Terms::Anew(lane), refusal).await,
                    };
                }
                Placing::Standing(lane) => return self.stand(attempt, lane).await,
                Placing::EpochOver(head) => {
                    self.heads.turn(conversation, &head, &head.next_epochs(retention, now_ms)).await?;
                }
                // What its author may do is looked at again.
                Placing::RosterMoved => {}
                Placing::NoConversation => {
                    if envelope.event().is_none() {
                        // The head is made last: where there is one, everybody who belongs in is in. A founding that
                        // was cut short, by whichever side, is done again as a whole. Of a group the head is made
                        // first; nobody is in before its first event is applied.
                        self.members.found_direct(conversation, &author.user, peer(author, envelope)?).await?;
                    }
                    self.heads.create(conversation, retention, now_ms).await?;
                }
            }
        }
        Err(slow())
    }

    /// Why the author may not write where the lane now has its place. An event has been judged as of its place.
    async fn objection(&self, attempt: &Attempt<'_>, lane: Lane, roster: Seq) -> Result<Option<Refusal>, Failure> {
        let Attempt { author, envelope, targets, member_as_of, .. } = attempt;
        let admitted = attempt.refusal.is_none() && roster <= *member_as_of;
        if !envelope.conversation.is_group() || envelope.event().is_some() || lane.is_refused() || admitted {
            return Ok(None);
        }
        let known = self.roll.as_of(&envelope.conversation, &author.user, roster).await?;
        let Some(known) = known.filter(|known| known.member.membership.sees(lane.first)) else {
            return Ok(Some(not_member()));
        };
        if targets.are_open_to(&author.user, None) {
            return Ok(None);
        }
        if known.version > roster || known.member.version > roster {
            // Who was an admin at the place is not noted any more.
            return Err(slow());
        }
        Ok((!self.moderates(attempt, &known).await?).then(no_target))
    }

    /// Refuses an envelope of somebody who is or was in, for good: the lane remembers it, so that no attempt which is
    /// still alive stores it. Unless it has its place already: then it may be stored.
    async fn refuse(&self, attempt: &Attempt<'_>, terms: Terms, refusal: Refusal) -> Result<Placed, Failure> {
        let Attempt { envelope, key, claim, .. } = attempt;
        let conversation = &envelope.conversation;
        let retention = self.settings.retention;
        let number = if let Terms::Anew(lane) = terms { lane.number } else { claim.number };
        let claim = Claim { number, ..claim.of_refusal() };
        for _ in 0..ROUNDS {
            let now_ms = self.clock.now_ms();
            let placement = Placement { conversation, lane: key, claim, terms, now_ms, retention, roster: None };
            match self.heads.place(&placement).await? {
                Placing::Standing(lane) if judge(&attempt.claim, Some(lane)) == Standing::Refused => {
                    return Err(refusal.into());
                }
                // What is not among the author's envelopes that were stored will not be.
                Placing::Standing(lane) if terms == Terms::Next => {
                    let stands = self.stand(attempt, lane).await;
                    let conflict = |failure: &Failure| matches!(failure, Failure::Refused(no) if no.lane.is_some());
                    return if stands.as_ref().is_err_and(conflict) { Err(refusal.into()) } else { stands };
                }
                // Another attempt has placed it elsewhere meanwhile; the next one finds out.
                Placing::Standing(_) => return Err(slow()),
                Placing::EpochOver(head) => {
                    self.heads.turn(conversation, &head, &head.next_epochs(retention, now_ms)).await?;
                }
                Placing::Placed { .. } | Placing::RosterMoved | Placing::NoConversation => return Err(refusal.into()),
            }
        }
        Err(slow())
    }

    /// A device goes on from the lane that it was told of, with what it has not found in the log. That must not turn up
    /// there later: the lane's last place is decided first, and the lane must not have moved meanwhile, by an attempt
    /// of the device's earlier life that is still alive.
    async fn place_over(&self, attempt: &Attempt<'_>, claim: Claim, resolved: &Resolved) -> Result<Placed, Failure> {
        let Some(lane) = self.heads.lane(&attempt.envelope.conversation, &attempt.key).await? else {
            return self.place(attempt, claim, Terms::Next).await;
        };
        if judge(&attempt.claim, Some(lane)) != Standing::New {
            return self.stand(attempt, lane).await;
        }
        if lane.place() != resolved.lane {
            return Err(lane_conflict(lane).into());
        }
        if resolved.through < lane.first
            && !lane.is_refused()
            && let Decided::Written(_) = self.decide(&attempt.envelope.conversation, lane.first).await?
        {
            return Err(lane_conflict(lane).into());
        }
        self.place(attempt, claim, Terms::Over(lane)).await
    }

    /// The lane did not take the claim: where does its envelope stand then?
    async fn stand(&self, attempt: &Attempt<'_>, lane: Lane) -> Result<Placed, Failure> {
        match judge(&attempt.claim, Some(lane)) {
            Standing::Repeat(lane) => Ok(Placed::Earlier(lane)),
            Standing::Refused => Err(attempt.refusal.clone().unwrap_or_else(expired).into()),
            Standing::Late(lane) => {
                let back = self.log.before(&attempt.envelope.conversation, lane.first, LOOK_BACK).await?;
                let written = back.slots.into_iter().find_map(|slot| attempt.own(slot));
                written.map(Placed::Written).ok_or_else(|| lane_conflict(lane).into())
            }
            // It would be new: the lane has moved since it was looked at.
            Standing::Conflict(_) | Standing::New => Err(lane_conflict(lane).into()),
        }
    }

    /// An earlier attempt was given a place, and is still at it or has ended. Its cell is there, or will never be: then
    /// the envelope gets a place of now. Nothing is ever written at a place that was given long ago.
    async fn take_up(&self, attempt: &Attempt<'_>, lane: Lane) -> Result<(Box<Cell>, Written), Failure> {
        let claim = match self.decide(&attempt.envelope.conversation, lane.first).await? {
            Decided::Written(slot) => return Ok((attempt.own(slot).ok_or_else(foreign)?, Written::Before)),
            // Perhaps it was there and was removed: nobody can tell any more. The refusal takes the place, too: another
            // attempt may have found it shut before the store removed that, and would place the envelope anew.
            Decided::Gone => attempt.claim.of_refusal(),
            // Its file was there when it was placed, and is gone.
            Decided::Shut if attempt.lacks_a_file() => attempt.claim.of_refusal(),
            Decided::Shut => attempt.claim,
        };
        match self.place_anew(attempt, claim, lane).await? {
            Placed::Written(cell) => Ok((cell, Written::Before)),
            Placed::Fresh(lane, _) if lane.is_refused() => Err(attempt.refusal.clone().unwrap_or_else(expired).into()),
            Placed::Fresh(lane, roster) => self.write(attempt, lane, roster).await,
            Placed::Earlier(lane) => self.write(attempt, attempt.shared(lane)?, Seq::ZERO).await,
        }
    }

    /// After this nothing can be written at a place any more.
    async fn decide(&self, conversation: &ConversationId, place: Seq) -> Result<Decided, Failure> {
        let mut there = self.log.before(conversation, place, 1).await?.slots.pop().filter(|slot| slot.seq() == place);
        if there.is_none() {
            let head = self.heads.head(conversation).await?.ok_or_else(headless)?;
            if place <= head.floor(self.clock.now_ms()) {
                return Ok(Decided::Gone);
            }
            there = self.put(conversation, &Slot::Void(place)).await?;
        }
        Ok(match there {
            Some(slot @ Slot::Cell(_)) => Decided::Written(slot),
            Some(Slot::Void(_)) | None => Decided::Shut,
        })
    }

    /// Puts the cell at its place, or finds it there, or places it anew where somebody was first.
    async fn write(
        &self,
        attempt: &Attempt<'_>,
        mut lane: Lane,
        mut roster: Seq,
    ) -> Result<(Box<Cell>, Written), Failure> {
        let Attempt { author, envelope, .. } = attempt;
        for _ in 0..ROUNDS {
            let cell = Cell {
                seq: lane.first,
                envelope: envelope.id,
                number: lane.number,
                by: (*author).clone(),
                at: self.clock.now_ms(),
                messages: self.register(attempt, lane.first).await?,
            };
            let slot = Slot::Cell(cell);
            match self.put(&envelope.conversation, &slot).await? {
                None => return Ok((attempt.own(slot).ok_or_else(foreign)?, Written::Now(roster))),
                Some(Slot::Void(_)) => match self.place_anew(attempt, attempt.claim, lane).await? {
                    Placed::Fresh(other, as_of) => (lane, roster) = (other, as_of),
                    Placed::Earlier(other) => lane = attempt.shared(other)?,
                    Placed::Written(cell) => return Ok((cell, Written::Before)),
                },
                Some(there) => return Ok((attempt.own(there).ok_or_else(foreign)?, Written::Before)),
            }
        }
        Err(slow())
    }

    /// The place that the lane holds is lost. The claim gets another, unless another attempt has got it one.
    async fn place_anew(&self, attempt: &Attempt<'_>, claim: Claim, lane: Lane) -> Result<Placed, Failure> {
        self.place(attempt, Claim { number: lane.number, ..claim }, Terms::Anew(lane)).await
    }

    async fn put(&self, conversation: &ConversationId, slot: &Slot) -> Result<Option<Slot>, Trouble> {
        self.log.put(conversation, slot, self.settings.retention.removal(self.clock.now_ms())).await
    }
}

impl Attempt<'_> {
    /// Who moved the lane did so while this attempt was at it: the place is as good as an own one. Not in a group, where
    /// only who was given it knows whether the author is a member there.
    fn shared(&self, lane: Lane) -> Result<Lane, Failure> {
        if self.envelope.conversation.is_group() { Err(slow()) } else { Ok(lane) }
    }

    fn lacks_a_file(&self) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.code == Code::NoMedia)
    }

    /// The attempt's own cell, if that is what the slot is.
    fn own(&self, slot: Slot) -> Option<Box<Cell>> {
        match slot {
            Slot::Cell(cell) if cell.envelope == self.envelope.id && cell.by == *self.author => Some(Box::new(cell)),
            _ => None,
        }
    }
}

/// What there is at a place for ever.
enum Decided {
    /// A cell.
    Written(Slot),
    /// Nothing.
    Shut,
    /// Nothing any more, perhaps.
    Gone,
}

/// Who wrote a cell that is there.
enum Written {
    /// This attempt. In a group: its author is a member as of this event, or a later one.
    Now(Seq),
    /// An earlier one.
    Before,
}

/// Whether the author of an event may do that.
enum Permit {
    /// Yes, as of this event.
    Granted(Seq),
    /// No, though they are or were in.
    Denied(Refusal),
}

/// Where an envelope stands after placing.
enum Placed {
    /// It has this place, as of now; in a group, as of this event.
    Fresh(Lane, Seq),
    /// It has this place, and had it before; whether it is written there is not known.
    Earlier(Lane),
    /// It is in the log.
    Written(Box<Cell>),
}

/// The other side of the direct conversation that the envelope may begin.
fn peer<'a>(author: &Author, envelope: &'a Envelope) -> Result<&'a UserId, Failure> {
    envelope
        .to
        .as_ref()
        .filter(|peer| envelope.conversation == ConversationId::direct(&author.user, peer))
        .ok_or_else(|| not_member().into())
}

fn lane_conflict(lane: Lane) -> Refusal {
    Refusal {
        lane: Some(lane.place()),
        ..Refusal::new(Code::LaneConflict, "this device's envelopes went on from another state")
    }
}

fn expired() -> Refusal {
    Refusal::new(Code::Expired, "waited longer than the acceptance window")
}

fn slow() -> Failure {
    Refusal::new(Code::Busy, "others were faster, again and again").after_ms(SLOW_RETRY_MS).into()
}

fn headless() -> Trouble {
    Trouble::broken("heads.get", "the head is gone")
}

fn foreign() -> Trouble {
    Trouble::broken("log.put", "another envelope is at a place of ours")
}
