//! Appending: authorise, place, write, publish. `docs/ARCHITECTURE.md` walks through it; the reasons are in
//! `docs/adr/0001-write-once-cells.md`.
//!
//! Every step may be repeated, by anyone, at any time: the lane says whether an envelope has its place, the cell says
//! whether it is written, and a repeat goes on from there. A crash between two steps leaves nothing that a retry or a
//! reader does not mend.
//!
//! What edits and deletes do besides is in [`changes`].

mod changes;

use std::sync::Arc;

use poste_protocol::{
    Author, Cell, Code, ConversationId, Envelope, Outcome, Refusal, Resolved, Seq, Submission, UserId,
};

use changes::{Targets, no_target};

use crate::{
    Claim, Failure, Lane, LaneKey, Retention, Trouble,
    lane::{Standing, judge},
    membership::{Roll, not_member},
    ports::{Clock, Courier, Heads, Log, Members, News, Parcel, Placement, Placing, Slot, Terms},
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
    courier: Arc<dyn Courier>,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

/// One attempt to append an envelope.
struct Attempt<'a> {
    author: &'a Author,
    envelope: &'a Envelope,
    key: LaneKey,
    claim: Claim,
    targets: Targets,
    /// Why it is not taken, unless it has its place already.
    refusal: Option<Refusal>,
}

impl Append {
    /// On these ports.
    pub fn new(
        heads: Arc<dyn Heads>,
        log: Arc<dyn Log>,
        members: Arc<dyn Members>,
        courier: Arc<dyn Courier>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let roll = Roll::new(members.clone(), clock.clone());
        Self { heads, log, members, roll, courier, clock, settings }
    }

    /// Stores an envelope once, whatever happened to it before, and queues it for delivery.
    ///
    /// # Errors
    /// A refusal says that it is not stored and will not be. Trouble says nothing: the device tries again.
    pub async fn append(&self, author: &Author, submission: &Submission) -> Result<Outcome, Failure> {
        let envelope = &submission.envelope;
        envelope.check()?;
        self.authorise(author, envelope).await?;
        let targets = self.find_targets(envelope).await?;
        let refusal = if !self.settings.accepts(submission.age_ms) {
            Some(expired())
        } else if !targets.are_open_to(&author.user) {
            Some(no_target())
        } else {
            None
        };
        let (key, claim) = (LaneKey::of(author), Claim::of(envelope));
        let attempt = Attempt { author, envelope, key, claim, targets, refusal };
        // What is not taken is refused, unless it has its place already: a repeat is a success however old it is. The
        // lane remembers the refusal, so that no attempt which is still alive stores the envelope.
        let claim = if attempt.refusal.is_none() { claim } else { claim.of_refusal() };
        let placed = match &submission.resolved {
            Some(resolved) => self.place_over(&attempt, claim, resolved).await?,
            None => self.place(&attempt, claim, Terms::Next).await?,
        };
        let (cell, repeat) = match placed {
            Placed::Fresh(lane) => match &attempt.refusal {
                Some(refusal) => return Err(refusal.clone().into()),
                None => self.write(&attempt, lane).await?,
            },
            Placed::Earlier(lane) => self.take_up(&attempt, lane).await?,
            Placed::Written(cell) => (cell, true),
        };
        let cell = *cell;
        self.redact(&attempt, &cell).await?;
        let outcome = Outcome::Accepted { seq: cell.seq, at: cell.at, repeat };
        let parcel =
            Parcel { conversation: envelope.conversation.clone(), from: author.clone(), news: News::Cell(cell) };
        self.courier.publish(&parcel).await?;
        Ok(outcome)
    }

    /// The sender is a member, or may begin the conversation by writing.
    async fn authorise(&self, author: &Author, envelope: &Envelope) -> Result<(), Failure> {
        match self.roll.find(&envelope.conversation, &author.user).await? {
            Some(membership) if membership.is_open() => Ok(()),
            Some(_) => Err(not_member().into()),
            None => peer(author, envelope).map(|_| ()),
        }
    }

    /// A claim of the attempt gets a place, or the lane says where its envelope stands.
    async fn place(&self, attempt: &Attempt<'_>, claim: Claim, terms: Terms) -> Result<Placed, Failure> {
        let Attempt { author, envelope, key, .. } = attempt;
        let conversation = &envelope.conversation;
        let retention = self.settings.retention;
        for _ in 0..ROUNDS {
            let now_ms = self.clock.now_ms();
            let placement = Placement { conversation, lane: key, claim, terms, now_ms, retention };
            match self.heads.place(&placement).await? {
                Placing::Placed(first) => return Ok(Placed::Fresh(Lane::taken(&claim, first))),
                Placing::Standing(lane) => return self.stand(attempt, lane).await,
                Placing::EpochOver(head) => {
                    self.heads.turn(conversation, &head, &head.next_epochs(retention, now_ms)).await?;
                }
                Placing::NoConversation => {
                    // The head is made last: where there is one, everybody who belongs in is in. A founding that was
                    // cut short, by whichever side, is done again as a whole.
                    self.members.found_direct(conversation, &author.user, peer(author, envelope)?).await?;
                    self.heads.create(conversation, retention, now_ms).await?;
                }
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
    async fn take_up(&self, attempt: &Attempt<'_>, lane: Lane) -> Result<(Box<Cell>, bool), Failure> {
        let claim = match self.decide(&attempt.envelope.conversation, lane.first).await? {
            Decided::Written(slot) => return Ok((attempt.own(slot).ok_or_else(foreign)?, true)),
            // Perhaps it was there and was removed: nobody can tell any more. The refusal takes the place, too: another
            // attempt may have found it shut before the store removed that, and would place the envelope anew.
            Decided::Gone => attempt.claim.of_refusal(),
            Decided::Shut => attempt.claim,
        };
        match self.place_anew(attempt, claim, lane).await? {
            Placed::Written(cell) => Ok((cell, true)),
            Placed::Fresh(lane) if lane.is_refused() => Err(expired().into()),
            Placed::Fresh(lane) | Placed::Earlier(lane) => self.write(attempt, lane).await,
        }
    }

    /// After this nothing can be written at a place any more.
    async fn decide(&self, conversation: &ConversationId, place: Seq) -> Result<Decided, Failure> {
        let mut there = self.log.before(conversation, place, 1).await?.slots.pop().filter(|slot| slot.seq() == place);
        if there.is_none() {
            let head = self.heads.head(conversation).await?;
            let head = head.ok_or_else(|| Trouble::broken("heads.get", "the head is gone"))?;
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
    async fn write(&self, attempt: &Attempt<'_>, mut lane: Lane) -> Result<(Box<Cell>, bool), Failure> {
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
                None => return Ok((attempt.own(slot).ok_or_else(foreign)?, false)),
                Some(Slot::Void(_)) => match self.place_anew(attempt, attempt.claim, lane).await? {
                    // Who moved the lane did so while this attempt was at it: the place is as good as an own one.
                    Placed::Fresh(other) | Placed::Earlier(other) => lane = other,
                    Placed::Written(cell) => return Ok((cell, true)),
                },
                Some(there) => return Ok((attempt.own(there).ok_or_else(foreign)?, true)),
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

/// Where an envelope stands after placing.
enum Placed {
    /// It has this place, as of now.
    Fresh(Lane),
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

fn foreign() -> Trouble {
    Trouble::broken("log.put", "another envelope is at a place of ours")
}
