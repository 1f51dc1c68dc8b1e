//! Appending: authorise, place, write, publish. `docs/ARCHITECTURE.md` walks through it; the reasons are in
//! `docs/adr/0001-write-once-cells.md`.
//!
//! Every step may be repeated, by anyone, at any time: the lane says whether an envelope has its place, the cell says
//! whether it is written, and a repeat goes on from there. A crash between two steps leaves nothing that a retry or a
//! reader does not mend.

use std::sync::Arc;

use poste_protocol::{Author, Cell, Code, ConversationId, Envelope, Outcome, Refusal, Resolved, Submission, UserId};

use crate::{
    Claim, Failure, Lane, LaneKey, Trouble,
    lane::{Standing, judge},
    membership::{Roll, not_member},
    ports::{Clock, Courier, Heads, Log, Members, News, Parcel, Placing, Slot},
};

/// How often one attempt looks for another place when readers put voids on the one it has. Each loss means that the
/// attempt was stalled for longer than the readers' grace, so more than one in a row says that we are very slow.
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
}

impl Default for Settings {
    /// 30 days.
    fn default() -> Self {
        Self { acceptance_ms: 30 * 24 * 3600 * 1000 }
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
        let key = LaneKey::of(author);
        let claim = Claim::of(envelope);
        if submission.age_ms > self.settings.acceptance_ms {
            // A repeat is a success however old it is; only what was never placed has expired.
            let lane = self.heads.lane(&envelope.conversation, &key).await?;
            if judge(&claim, lane) == Standing::New {
                return Err(Refusal::new(Code::Expired, "waited longer than the acceptance window").into());
            }
        }
        let (cell, repeat) = match self.place(author, &key, &claim, submission).await? {
            Placed::At(lane) => self.write(author, &key, envelope, lane).await?,
            Placed::Written(cell) => (cell, true),
        };
        let cell = *cell;
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

    async fn place(
        &self,
        author: &Author,
        key: &LaneKey,
        claim: &Claim,
        submission: &Submission,
    ) -> Result<Placed, Failure> {
        let envelope = &submission.envelope;
        let conversation = &envelope.conversation;
        if let Some(resolved) = &submission.resolved
            && let Some(lane) = self.heads.lane(conversation, key).await?
        {
            return self.place_over(author, key, claim, envelope, resolved, lane).await;
        }
        let mut placing = self.heads.place(conversation, key, claim, self.clock.now_ms()).await?;
        if placing == Placing::NoConversation {
            // The head is made last: where there is one, everybody who belongs in is in. A founding that was cut
            // short, by whichever side, is done again as a whole.
            self.members.found_direct(conversation, &author.user, peer(author, envelope)?).await?;
            self.heads.create(conversation, self.clock.now_ms()).await?;
            placing = self.heads.place(conversation, key, claim, self.clock.now_ms()).await?;
        }
        match placing {
            Placing::Placed(first) => Ok(Placed::At(Lane::taken(claim, first))),
            Placing::Standing(lane) => self.stand(author, claim, envelope, lane).await,
            Placing::NoConversation => Err(Trouble::broken("heads.place", "no head after it was made").into()),
        }
    }

    /// A device goes on from the lane that it was told of, with what it has not found in the log. That must not turn up
    /// there later: the lane's last place is decided first, and the lane must not have moved meanwhile, by an attempt
    /// of the device's earlier life that is still alive.
    async fn place_over(
        &self,
        author: &Author,
        key: &LaneKey,
        claim: &Claim,
        envelope: &Envelope,
        resolved: &Resolved,
        lane: Lane,
    ) -> Result<Placed, Failure> {
        let conversation = &envelope.conversation;
        if judge(claim, Some(lane)) != Standing::New {
            return self.stand(author, claim, envelope, lane).await;
        }
        if lane.place() != resolved.lane {
            return Err(lane_conflict(lane).into());
        }
        if resolved.through < lane.first
            && let Some(Slot::Cell(_)) = self.log.put(conversation, &Slot::Void(lane.first)).await?
        {
            return Err(lane_conflict(lane).into());
        }
        match self.heads.place_over(conversation, key, claim, &lane, self.clock.now_ms()).await? {
            Placing::Placed(first) => Ok(Placed::At(Lane::taken(claim, first))),
            Placing::Standing(moved) if judge(claim, Some(moved)) == Standing::New => Err(lane_conflict(moved).into()),
            Placing::Standing(moved) => self.stand(author, claim, envelope, moved).await,
            Placing::NoConversation => Err(Trouble::broken("heads.place_over", "the head is gone").into()),
        }
    }

    /// The lane did not take the claim: what is it then?
    async fn stand(&self, author: &Author, claim: &Claim, envelope: &Envelope, lane: Lane) -> Result<Placed, Failure> {
        match judge(claim, Some(lane)) {
            Standing::Repeat(lane) => Ok(Placed::At(lane)),
            Standing::Late(lane) => {
                let back = self.log.before(&envelope.conversation, lane.first, LOOK_BACK).await?;
                let written = back.slots.into_iter().find_map(|slot| match slot {
                    Slot::Cell(cell) if cell.envelope == envelope.id && cell.by == *author => Some(cell),
                    _ => None,
                });
                written.map(|cell| Placed::Written(Box::new(cell))).ok_or_else(|| lane_conflict(lane).into())
            }
            Standing::Conflict(lane) => Err(lane_conflict(lane).into()),
            Standing::New => Err(Trouble::broken("heads.place", "a lane refused a greater number").into()),
        }
    }

    /// Puts the cell at its place, or finds it there, or places it anew where a reader was first.
    async fn write(
        &self,
        author: &Author,
        key: &LaneKey,
        envelope: &Envelope,
        mut lane: Lane,
    ) -> Result<(Box<Cell>, bool), Failure> {
        let conversation = &envelope.conversation;
        for _ in 0..ROUNDS {
            let now = self.clock.now_ms();
            let cell = Cell {
                seq: lane.first,
                envelope: envelope.id,
                number: lane.number,
                by: author.clone(),
                at: now,
                messages: envelope.messages.clone(),
            };
            let slot = Slot::Cell(cell);
            let existing = self.log.put(conversation, &slot).await?;
            match (existing, slot) {
                (None, Slot::Cell(cell)) => return Ok((Box::new(cell), false)),
                (Some(Slot::Cell(cell)), _) if cell.envelope == envelope.id && cell.by == *author => {
                    return Ok((Box::new(cell), true));
                }
                (Some(Slot::Void(_)), _) => {
                    let claim = Claim { number: lane.number, ..Claim::of(envelope) };
                    match self.heads.place_anew(conversation, key, &claim, lane.first, now).await? {
                        Placing::Placed(first) => lane.first = first,
                        Placing::Standing(standing) => match self.stand(author, &claim, envelope, standing).await? {
                            Placed::At(other) => lane = other,
                            Placed::Written(cell) => return Ok((cell, true)),
                        },
                        Placing::NoConversation => {
                            return Err(Trouble::broken("heads.place_anew", "the head is gone").into());
                        }
                    }
                }
                (Some(Slot::Cell(_)), _) | (None, Slot::Void(_)) => {
                    return Err(Trouble::broken("log.put", "another envelope is at a place of ours").into());
                }
            }
        }
        Err(Refusal::new(Code::Busy, "readers were faster than the write").after_ms(SLOW_RETRY_MS).into())
    }
}

/// Where an envelope stands after placing.
enum Placed {
    /// It has this place, under this number; whether it is written there is not known.
    At(Lane),
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
