//! The tables `heads` and `lanes`: counters, and who was given which numbers.
//!
//! The lanes of a conversation's first ten devices live in the head item, beside the counter: one conditional write
//! reserves numbers and records who has them. A lane is two entries of the item: `lanes.KEY = {n, id, k}` and
//! `places.KEY = first`, apart because only a whole attribute can be set from the counter's value.
//!
//! Devices beyond have an item each in `lanes`. Their placing is two writes: numbers reserved on the head, then bound
//! to the lane under the same condition. A crash between, or a lost race, leaves numbers that nobody has; readers put
//! voids on them. A lane never moves from one home to the other: a head that is full stays full.

use std::{num::NonZeroUsize, sync::Mutex};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use lru::LruCache;
use poste_domain::{
    Claim, Lane, LaneKey, Trouble,
    ports::{Head, Heads, Placing, Result},
};
use poste_protocol::{ConversationId, Seq};

use crate::{
    item::{Fields, Item, batch_get, bytes, number, text},
    trouble::{lost_condition, trouble},
};

/// Lanes that a function remembers to be outside the head, to save the look at the head that finds it out.
const OUTSIDE_ENTRIES: usize = 10_000;

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

    /// An update of a head that moves the counter by the claim's count.
    fn advance(&self, conversation: &ConversationId, claim: &Claim, now_ms: u64) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.heads)
            .key("conversation", text(conversation.as_str()))
            .expression_attribute_names("#head", "head")
            .expression_attribute_values(":count", number(claim.count))
            .expression_attribute_values(":now", number(now_ms))
            .return_values(ReturnValue::UpdatedNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    async fn place_where_it_lives(
        &self,
        conversation: &ConversationId,
        lane: &LaneKey,
        claim: &Claim,
        over: Option<&Lane>,
        now_ms: u64,
    ) -> Result<Placing> {
        if !self.is_outside(conversation, lane) {
            match self.place_in_head(conversation, lane, claim, over, now_ms).await? {
                Updated::Done(item) => return Ok(Placing::Placed(first_of(&item, claim)?)),
                Updated::Refused(None) => return Ok(Placing::NoConversation),
                Updated::Refused(Some(item)) => match lane_in_head(&item, lane)? {
                    Some(standing) => return Ok(Placing::Standing(standing)),
                    None => self.set_outside(conversation, lane),
                },
            }
        }
        self.place_outside(conversation, lane, claim, over, now_ms).await
    }

    async fn place_in_head(
        &self,
        conversation: &ConversationId,
        lane: &LaneKey,
        claim: &Claim,
        over: Option<&Lane>,
        now_ms: u64,
    ) -> Result<Updated> {
        let record = Item::from([
            ("n".to_owned(), number(claim.number)),
            ("id".to_owned(), bytes(claim.id)),
            ("k".to_owned(), number(claim.count)),
        ]);
        let update = self
            .advance(conversation, claim, now_ms)
            .update_expression(
                "SET #head = #head + :count, active_at = :now, lanes.#lane = :lane, places.#lane = #head + :one",
            )
            .expression_attribute_names("#lane", lane.as_str())
            .expression_attribute_values(":lane", AttributeValue::M(record))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":n", number(claim.number))
            .expression_attribute_values(":id", bytes(claim.id));
        let update = match over {
            None => update
                .condition_expression(
                    "attribute_exists(#head) AND ((lanes.#lane.n < :n AND lanes.#lane.id <> :id) OR \
                     (attribute_not_exists(lanes.#lane) AND size(lanes) < :room))",
                )
                .expression_attribute_values(":room", number(Self::LANES_IN_HEAD as u64)),
            Some(over) => update
                .condition_expression(
                    "lanes.#lane.n < :n AND lanes.#lane.id <> :id AND \
                     lanes.#lane.n = :over_n AND lanes.#lane.id = :over_id AND places.#lane = :over_first",
                )
                .expression_attribute_values(":over_n", number(over.number))
                .expression_attribute_values(":over_id", bytes(over.id))
                .expression_attribute_values(":over_first", number(over.first)),
        };
        updated("heads.place", update).await
    }

    async fn place_outside(
        &self,
        conversation: &ConversationId,
        lane: &LaneKey,
        claim: &Claim,
        over: Option<&Lane>,
        now_ms: u64,
    ) -> Result<Placing> {
        let Some(first) = self.reserve(conversation, claim, now_ms).await? else {
            return Ok(Placing::NoConversation);
        };
        let bind = self.bind(conversation, lane, claim, first);
        let bind = match over {
            None => bind.condition_expression("attribute_not_exists(n) OR (n < :n AND id <> :id)"),
            Some(over) => bind
                .condition_expression("n < :n AND id <> :id AND n = :over_n AND id = :over_id AND #first = :over_first")
                .expression_attribute_values(":over_n", number(over.number))
                .expression_attribute_values(":over_id", bytes(over.id))
                .expression_attribute_values(":over_first", number(over.first)),
        };
        bound(first, updated("lanes.bind", bind).await?)
    }

    /// Reserves numbers. The same again reserves others: what nobody binds becomes voids.
    async fn reserve(&self, conversation: &ConversationId, claim: &Claim, now_ms: u64) -> Result<Option<Seq>> {
        let update = self
            .advance(conversation, claim, now_ms)
            .update_expression("SET #head = #head + :count, active_at = :now")
            .condition_expression("attribute_exists(#head)");
        match updated("heads.reserve", update).await? {
            Updated::Done(item) => Ok(Some(first_of(&item, claim)?)),
            Updated::Refused(_) => Ok(None),
        }
    }

    /// An update of a lane outside the head that records the claim at its place.
    fn bind(
        &self,
        conversation: &ConversationId,
        lane: &LaneKey,
        claim: &Claim,
        first: Seq,
    ) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.lanes)
            .key("conversation", text(conversation.as_str()))
            .key("lane", text(lane.as_str()))
            .update_expression("SET n = :n, id = :id, k = :k, #first = :first")
            .expression_attribute_names("#first", "first")
            .expression_attribute_values(":n", number(claim.number))
            .expression_attribute_values(":id", bytes(claim.id))
            .expression_attribute_values(":k", number(claim.count))
            .expression_attribute_values(":first", number(first))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
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
        items
            .iter()
            .map(|item| {
                let fields = Fields::of("heads.get", item);
                let head = Head { head: fields.seq("head")?, active_at: fields.number("active_at")? };
                Ok((fields.parsed("conversation")?, head))
            })
            .collect()
    }

    async fn create(&self, conversation: &ConversationId, now_ms: u64) -> Result<()> {
        let created = self
            .client
            .put_item()
            .table_name(&self.heads)
            .item("conversation", text(conversation.as_str()))
            .item("head", number(0))
            .item("active_at", number(now_ms))
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

    async fn place(
        &self,
        conversation: &ConversationId,
        lane: &LaneKey,
        claim: &Claim,
        now_ms: u64,
    ) -> Result<Placing> {
        self.place_where_it_lives(conversation, lane, claim, None, now_ms).await
    }

    async fn place_over(
        &self,
        conversation: &ConversationId,
        lane: &LaneKey,
        claim: &Claim,
        over: &Lane,
        now_ms: u64,
    ) -> Result<Placing> {
        self.place_where_it_lives(conversation, lane, claim, Some(over), now_ms).await
    }

    async fn place_anew(
        &self,
        conversation: &ConversationId,
        lane: &LaneKey,
        claim: &Claim,
        old: Seq,
        now_ms: u64,
    ) -> Result<Placing> {
        if !self.is_outside(conversation, lane) {
            let update = self
                .advance(conversation, claim, now_ms)
                .update_expression("SET #head = #head + :count, active_at = :now, places.#lane = #head + :one")
                .condition_expression(
                    "lanes.#lane.n = :n AND lanes.#lane.id = :id AND lanes.#lane.k = :count AND places.#lane = :old",
                )
                .expression_attribute_names("#lane", lane.as_str())
                .expression_attribute_values(":one", number(1))
                .expression_attribute_values(":n", number(claim.number))
                .expression_attribute_values(":id", bytes(claim.id))
                .expression_attribute_values(":old", number(old));
            match updated("heads.place_anew", update).await? {
                Updated::Done(item) => return Ok(Placing::Placed(first_of(&item, claim)?)),
                Updated::Refused(None) => return Ok(Placing::NoConversation),
                Updated::Refused(Some(item)) => match lane_in_head(&item, lane)? {
                    Some(standing) => return Ok(Placing::Standing(standing)),
                    None => self.set_outside(conversation, lane),
                },
            }
        }
        let Some(first) = self.reserve(conversation, claim, now_ms).await? else {
            return Ok(Placing::NoConversation);
        };
        let bind = self
            .bind(conversation, lane, claim, first)
            .condition_expression("n = :n AND id = :id AND k = :k AND #first = :old")
            .expression_attribute_values(":old", number(old));
        bound(first, updated("lanes.bind_anew", bind).await?)
    }
}

/// What binding a lane outside the head came to.
fn bound(first: Seq, bind: Updated) -> Result<Placing> {
    match bind {
        Updated::Done(_) => Ok(Placing::Placed(first)),
        Updated::Refused(Some(item)) => Ok(Placing::Standing(lane_outside(&item)?)),
        Updated::Refused(None) => Err(Trouble::broken("lanes.bind", "a lane is gone")),
    }
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

/// The first of the numbers that an update has just reserved.
fn first_of(updated: &Item, claim: &Claim) -> Result<Seq> {
    let head = Fields::of("heads.place", updated).number("head")?;
    (head + 1)
        .checked_sub(claim.count)
        .and_then(|first| Seq::new(first).ok())
        .ok_or_else(|| Trouble::broken("heads.place", "a counter smaller than what was added to it"))
}

fn lane_in_head(head: &Item, lane: &LaneKey) -> Result<Option<Lane>> {
    let fields = Fields::of("heads.lane", head);
    let Some(record) = fields.map("lanes")?.get(lane.as_str()) else { return Ok(None) };
    let record = record.as_m().map_err(|_| Trouble::broken("heads.lane", "a lane that is no map"))?;
    let record = Fields::of("heads.lane", record);
    let first = Fields::of("heads.lane", fields.map("places")?).seq(lane.as_str())?;
    Ok(Some(to_lane(&record, first)?))
}

fn lane_outside(item: &Item) -> Result<Lane> {
    let fields = Fields::of("lanes.get", item);
    to_lane(&fields, fields.seq("first")?)
}

fn to_lane(fields: &Fields<'_>, first: Seq) -> Result<Lane> {
    Ok(Lane { number: fields.envelope_number("n")?, id: fields.envelope_id("id")?, count: fields.number("k")?, first })
}
