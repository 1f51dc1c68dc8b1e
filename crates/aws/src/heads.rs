//! The tables `heads` and `lanes`: counters, and who was given which numbers.
//!
//! The lanes of a conversation's first ten devices live in the head item, beside the counter: one conditional write
//! reserves numbers and records who has them. A lane is two entries of the item: `lanes.KEY = {n, id, k}` and
//! `places.KEY = first`, apart because only a whole attribute can be set from the counter's value.
//!
//! Devices beyond have an item each in `lanes`. Their placing is two writes: numbers reserved on the head, then bound
//! to the lane under the same condition. A crash between, or a lost race, leaves numbers that nobody has; readers put
//! voids on them. A lane never moves from one home to the other: a head that is full stays full.
//!
//! The head also keeps the ages of its numbers: `kept` (milliseconds, 0 for ever) and `since` of the present epoch,
//! `floor`, and `ended`, a list of last number and time by turns. Numbers are given only in an epoch that admits it;
//! that is part of the same condition.
//!
//! Of a group it keeps `roster`, the number of the last event that was given a place: an event's update asks that it is
//! still what the event was judged by, and sets it to the event's own place.

use std::{num::NonZeroUsize, sync::Mutex};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use lru::LruCache;
use poste_domain::{
    Claim, Epochs, Lane, LaneKey, Retention, Trouble,
    ports::{Head, Heads, Placement, Placing, Result, Terms},
    retention::Epoch,
};
use poste_protocol::{ConversationId, Seq};

use crate::{
    item::{Fields, Item, batch_get, bytes, number, text},
    trouble::{lost_condition, trouble},
};

/// Lanes that a function remembers to be outside the head, to save the look at the head that finds it out.
const OUTSIDE_ENTRIES: usize = 10_000;

/// Records a claim in its lane inside the head, beside the move of the counter.
const RECORD: &str = ", lanes.#lane = :lane, places.#lane = #head + :to_first";

/// Makes the place of an event the roster.
const MOVE_ROSTER: &str = ", roster = #head + :to_first";

/// Heads and lanes in DynamoDB.
pub struct HeadsTable {
    client: Client,
    heads: String,
    lanes: String,
    outside: Mutex<LruCache<(ConversationId, LaneKey), ()>>,
}

/// What a conditional update came to.
enum Updated {
    Done(Item),
    Refused(Option<Item>),
}

impl HeadsTable {
    /// Lanes that the head item holds: with them it stays under 1 KB, one write unit.
    pub const LANES_IN_HEAD: usize = 10;

    /// On these tables.
    pub fn new(client: Client, heads: String, lanes: String) -> Self {
        let entries = NonZeroUsize::new(OUTSIDE_ENTRIES).unwrap_or(NonZeroUsize::MIN);
        Self { client, heads, lanes, outside: Mutex::new(LruCache::new(entries)) }
    }

    /// An update of a head that moves the counter by the claim's count, in an epoch that admits it.
    fn advance(&self, placement: &Placement<'_>, also: &str, condition: &str) -> UpdateItemFluentBuilder {
        let epoch = placement.retention.epoch_after(placement.now_ms);
        let (also, condition) = match placement.roster {
            Some(_) => (format!("{also}{MOVE_ROSTER}"), format!("roster = :roster AND {condition}")),
            None => (also.to_owned(), condition.to_owned()),
        };
        let update = self
            .client
            .update_item()
            .table_name(&self.heads)
            .key("conversation", text(placement.conversation.as_str()))
            .update_expression(format!("SET #head = #head + :count, active_at = :now{also}"))
            .condition_expression(match epoch {
                Some(_) => format!("kept = :kept AND since > :epoch AND {condition}"),
                None => format!("kept = :kept AND {condition}"),
            })
            .expression_attribute_names("#head", "head")
            .expression_attribute_values(":count", number(placement.claim.count))
            .expression_attribute_values(":now", number(placement.now_ms))
            .expression_attribute_values(":kept", number(placement.retention.keep_ms()))
            .return_values(if placement.conversation.is_direct() {
                ReturnValue::UpdatedNew
            } else {
                // With the roster, which only an event's update touches.
                ReturnValue::AllNew
            })
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let update = match placement.roster {
            Some(roster) => update
                .expression_attribute_values(":roster", number(roster))
                .expression_attribute_values(":to_first", number(placement.claim.count.min(1))),
            None => update,
        };
        match epoch {
            Some(after) => update.expression_attribute_values(":epoch", number(after)),
            None => update,
        }
    }

    /// Places in the head item, if the lane's home is there.
    async fn place_in_head(&self, placement: &Placement<'_>) -> Result<Option<Placing>> {
        let Placement { lane, claim, .. } = placement;
        let as_lane = Item::from([
            ("n".to_owned(), number(claim.number)),
            ("id".to_owned(), bytes(claim.id)),
            ("k".to_owned(), number(claim.count)),
        ]);
        let condition = condition(placement.terms, "lanes.#lane.", "places.#lane");
        let update = match placement.terms {
            Terms::Next => self
                .advance(
                    placement,
                    RECORD,
                    &format!("(({condition}) OR (attribute_not_exists(lanes.#lane) AND size(lanes) < :room))"),
                )
                .expression_attribute_values(":room", number(Self::LANES_IN_HEAD as u64)),
            Terms::Over(_) | Terms::Anew(_) => self.advance(placement, RECORD, &condition),
        };
        let update = with_terms(update, placement)
            .expression_attribute_names("#lane", lane.as_str())
            .expression_attribute_values(":lane", AttributeValue::M(as_lane))
            .expression_attribute_values(":to_first", number(claim.count.min(1)));
        match updated("heads.place", update).await? {
            Updated::Done(item) => Ok(Some(placed(&item, claim)?)),
            Updated::Refused(None) => Ok(Some(Placing::NoConversation)),
            Updated::Refused(Some(item)) => {
                let standing = lane_in_head(&item, lane)?;
                let lives_here = standing.is_some() || has_room(&item)?;
                match (standing, why_not(placement, &item)?) {
                    (Some(lane), _) if !placement.terms.allow(claim, &lane) => Ok(Some(Placing::Standing(lane))),
                    (_, Some(over @ Placing::EpochOver(_))) => Ok(Some(over)),
                    (_, Some(moved)) if lives_here => Ok(Some(moved)),
                    (None, _) => Ok(None),
                    (Some(_), _) => Err(Trouble::broken("heads.place", "refused without a reason")),
                }
            }
        }
    }

    /// Reserves numbers on the head, then binds them to the lane. The same again reserves others: what nobody binds
    /// becomes voids.
    async fn place_outside(&self, placement: &Placement<'_>) -> Result<Placing> {
        let Placement { conversation, lane, claim, .. } = placement;
        let reserve = self.advance(placement, "", "attribute_exists(#head)");
        let (first, roster) = match updated("heads.reserve", reserve).await? {
            Updated::Done(item) => first_of(&item, claim)?,
            Updated::Refused(None) => return Ok(Placing::NoConversation),
            Updated::Refused(Some(item)) => {
                let why = why_not(placement, &item)?;
                return why.ok_or_else(|| Trouble::broken("heads.reserve", "refused without a reason"));
            }
        };
        let condition = condition(placement.terms, "", "#first");
        let bind = self
            .client
            .update_item()
            .table_name(&self.lanes)
            .key("conversation", text(conversation.as_str()))
            .key("lane", text(lane.as_str()))
            .update_expression("SET n = :n, id = :id, k = :count, #first = :first")
            .condition_expression(match placement.terms {
                Terms::Next => format!("attribute_not_exists(n) OR ({condition})"),
                Terms::Over(_) | Terms::Anew(_) => condition,
            })
            .expression_attribute_names("#first", "first")
            .expression_attribute_values(":count", number(claim.count))
            .expression_attribute_values(":first", number(first))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let bind = with_terms(bind, placement);
        match updated("lanes.bind", bind).await? {
            Updated::Done(_) => Ok(Placing::Placed { first, roster }),
            Updated::Refused(Some(item)) => {
                let standing = lane_outside(&item)?;
                // Nobody else was given these numbers: the write took effect, and its answer was lost.
                let own = standing == Lane::taken(claim, first);
                Ok(if own { Placing::Placed { first, roster } } else { Placing::Standing(standing) })
            }
            Updated::Refused(None) => Err(Trouble::broken("lanes.bind", "a lane is gone")),
        }
    }

    fn is_outside(&self, conversation: &ConversationId, lane: &LaneKey) -> bool {
        let mut outside = self.outside.lock().expect("nothing panics while it holds the lock");
        outside.get(&(conversation.clone(), lane.clone())).is_some()
    }

    fn set_outside(&self, conversation: &ConversationId, lane: &LaneKey) {
        let mut outside = self.outside.lock().expect("nothing panics while it holds the lock");
        outside.put((conversation.clone(), lane.clone()), ());
    }
}

#[async_trait]
impl Heads for HeadsTable {
    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<(ConversationId, Head)>> {
        let keys = conversations.iter().map(|c| Item::from([("conversation".to_owned(), text(c.as_str()))])).collect();
        let items = batch_get("heads.get", &self.client, &self.heads, keys).await?;
        items.iter().map(|item| Ok((Fields::of("heads.get", item).parsed("conversation")?, to_head(item)?))).collect()
    }

    async fn create(&self, conversation: &ConversationId, retention: Retention, now_ms: u64) -> Result<()> {
        let created = self
            .client
            .put_item()
            .table_name(&self.heads)
            .item("conversation", text(conversation.as_str()))
            .item("head", number(0))
            .item("active_at", number(now_ms))
            .item("kept", number(retention.keep_ms()))
            .item("since", number(now_ms))
            .item("roster", number(0))
            .item("lanes", AttributeValue::M(Item::new()))
            .item("places", AttributeValue::M(Item::new()))
            .condition_expression("attribute_not_exists(conversation)")
            .send()
            .await;
        match created {
            Ok(_) => Ok(()),
            Err(error) if lost_condition(&error) => Ok(()),
            Err(error) => Err(trouble("heads.create", &error)),
        }
    }

    async fn lane(&self, conversation: &ConversationId, lane: &LaneKey) -> Result<Option<Lane>> {
        let in_head = self
            .client
            .get_item()
            .table_name(&self.heads)
            .key("conversation", text(conversation.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| trouble("heads.lane", &error))?
            .item;
        if let Some(found) = in_head.map(|item| lane_in_head(&item, lane)).transpose()?.flatten() {
            return Ok(Some(found));
        }
        let outside = self
            .client
            .get_item()
            .table_name(&self.lanes)
            .key("conversation", text(conversation.as_str()))
            .key("lane", text(lane.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| trouble("lanes.get", &error))?
            .item;
        outside.map(|item| lane_outside(&item)).transpose()
    }

    async fn place(&self, placement: &Placement<'_>) -> Result<Placing> {
        if !self.is_outside(placement.conversation, placement.lane) {
            if let Some(placing) = self.place_in_head(placement).await? {
                return Ok(placing);
            }
            self.set_outside(placement.conversation, placement.lane);
        }
        self.place_outside(placement).await
    }

    async fn turn(&self, conversation: &ConversationId, head: &Head, epochs: &Epochs) -> Result<()> {
        let ended = epochs.ended.iter().flat_map(|epoch| [number(epoch.last), number(epoch.gone_at)]).collect();
        let turned = self
            .client
            .update_item()
            .table_name(&self.heads)
            .key("conversation", text(conversation.as_str()))
            .update_expression("SET kept = :kept, since = :since, #floor = :floor, ended = :ended")
            .condition_expression("kept = :kept_before AND since = :since_before")
            .expression_attribute_names("#floor", "floor")
            .expression_attribute_values(":kept", number(epochs.retention.keep_ms()))
            .expression_attribute_values(":since", number(epochs.since))
            .expression_attribute_values(":floor", number(epochs.floor))
            .expression_attribute_values(":ended", AttributeValue::L(ended))
            .expression_attribute_values(":kept_before", number(head.epochs.retention.keep_ms()))
            .expression_attribute_values(":since_before", number(head.epochs.since))
            .send()
            .await;
        match turned {
            Ok(_) => Ok(()),
            Err(error) if lost_condition(&error) => Ok(()),
            Err(error) => Err(trouble("heads.turn", &error)),
        }
    }
}

/// What a lane must hold, where its fields have this prefix and its place this name: [`Terms::allow`], as the table asks
/// it.
fn condition(terms: Terms, lane: &str, first: &str) -> String {
    match terms {
        Terms::Next => format!("{lane}n < :n AND {lane}id <> :id"),
        Terms::Over(_) => format!(
            "{lane}n < :n AND {lane}id <> :id AND {lane}n = :over_n AND {lane}id = :over_id AND {first} = :over_first"
        ),
        Terms::Anew(_) => format!("{lane}n = :n AND {lane}id = :id AND {lane}k = :old_k AND {first} = :old_first"),
    }
}

/// The values that [`condition`] speaks of.
fn with_terms(update: UpdateItemFluentBuilder, placement: &Placement<'_>) -> UpdateItemFluentBuilder {
    let update = update
        .expression_attribute_values(":n", number(placement.claim.number))
        .expression_attribute_values(":id", bytes(placement.claim.id));
    match placement.terms {
        Terms::Next => update,
        Terms::Over(over) => update
            .expression_attribute_values(":over_n", number(over.number))
            .expression_attribute_values(":over_id", bytes(over.id))
            .expression_attribute_values(":over_first", number(over.first)),
        Terms::Anew(old) => update
            .expression_attribute_values(":old_k", number(old.count))
            .expression_attribute_values(":old_first", number(old.first)),
    }
}

/// Whether numbers were refused because the head's epoch does not admit them, or its roster has moved.
fn why_not(placement: &Placement<'_>, item: &Item) -> Result<Option<Placing>> {
    let head = to_head(item)?;
    if !head.epochs.admit(placement.retention, placement.now_ms) {
        return Ok(Some(Placing::EpochOver(Box::new(head))));
    }
    Ok(placement.roster.is_some_and(|roster| roster != head.roster).then_some(Placing::RosterMoved))
}

/// Whether another lane may live in the head.
pub(crate) fn has_room(head: &Item) -> Result<bool> {
    Ok(Fields::of("heads.place", head).map("lanes")?.len() < HeadsTable::LANES_IN_HEAD)
}

async fn updated(part: &'static str, update: UpdateItemFluentBuilder) -> Result<Updated> {
    match update.send().await {
        Ok(done) => Ok(Updated::Done(done.attributes.unwrap_or_default())),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                Ok(Updated::Refused(refused.item.clone()))
            }
            _ => Err(trouble(part, &error)),
        },
    }
}

fn placed(updated: &Item, claim: &Claim) -> Result<Placing> {
    let (first, roster) = first_of(updated, claim)?;
    Ok(Placing::Placed { first, roster })
}

/// The first of the numbers that an update has just reserved, and the roster after it.
pub(crate) fn first_of(updated: &Item, claim: &Claim) -> Result<(Seq, Seq)> {
    let fields = Fields::of("heads.place", updated);
    let first = claim.first(fields.seq("head")?);
    let first = first.ok_or_else(|| Trouble::broken("heads.place", "a counter smaller than what was added to it"))?;
    Ok((first, roster_of(&fields)?))
}

/// The number of the last event that was given a place; 0 in a head from before there were events.
fn roster_of(fields: &Fields<'_>) -> Result<Seq> {
    if fields.maybe("roster").is_some() { fields.seq("roster") } else { Ok(Seq::ZERO) }
}

pub(crate) fn to_head(item: &Item) -> Result<Head> {
    let fields = Fields::of("heads.get", item);
    let malformed = |_| Trouble::broken("heads.get", "an epoch that ends nowhere");
    let ended = fields
        .numbers("ended")?
        .chunks_exact(2)
        .map(|pair| Ok(Epoch { last: Seq::new(pair[0]).map_err(malformed)?, gone_at: pair[1] }))
        .collect::<Result<_>>()?;
    Ok(Head {
        head: fields.seq("head")?,
        active_at: fields.number("active_at")?,
        roster: roster_of(&fields)?,
        epochs: Epochs {
            retention: Retention::of(fields.number("kept")?),
            since: fields.number("since")?,
            floor: if fields.maybe("floor").is_some() { fields.seq("floor")? } else { Seq::ZERO },
            ended,
        },
    })
}

pub(crate) fn lane_in_head(head: &Item, lane: &LaneKey) -> Result<Option<Lane>> {
    let fields = Fields::of("heads.lane", head);
    let Some(record) = fields.map("lanes")?.get(lane.as_str()) else { return Ok(None) };
    let record = record.as_m().map_err(|_| Trouble::broken("heads.lane", "a lane that is no map"))?;
    let record = Fields::of("heads.lane", record);
    let first = Fields::of("heads.lane", fields.map("places")?).seq(lane.as_str())?;
    Ok(Some(to_lane(&record, first)?))
}

pub(crate) fn lane_outside(item: &Item) -> Result<Lane> {
    let fields = Fields::of("lanes.get", item);
    to_lane(&fields, fields.seq("first")?)
}

fn to_lane(fields: &Fields<'_>, first: Seq) -> Result<Lane> {
    Ok(Lane { number: fields.envelope_number("n")?, id: fields.envelope_id("id")?, count: fields.number("k")?, first })
}
