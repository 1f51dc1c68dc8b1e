//! The table `marks`: per conversation and user, `read`, `kept` for what was read while the user gave no
//! read receipts, and one `d:DEVICE` for each device's `delivered`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    operation::update_item::UpdateItemError,
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use poste_domain::ports::{Advance, Marks, MarksSlice, Result, UserMarks};
use poste_protocol::{Author, ConversationId, DeviceId, Mark, MemberMark, Seq, UserId};

use crate::{
    item::{Fields, Item, batch_get, number, text},
    trouble::trouble,
};

/// What the names of the per-device attributes begin with.
const DELIVERED: &str = "d:";

/// How far the user has read, as others are told.
const READ: &str = "read";

/// How far the user has read without others being told.
const KEPT: &str = "kept";

/// Before every user id.
const FIRST: &str = "#";

/// Marks in DynamoDB.
pub struct MarksTable {
    client: Client,
    table: String,
}

impl MarksTable {
    /// On this table.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Sets these attributes, if that lowers none of them. Returns the item from before, and whether they were set.
    async fn raise(&self, author: &Author, mark: &Mark, to: &[(&str, Seq)]) -> Result<(Item, bool)> {
        let each = |form: fn(usize) -> String, between| (0..to.len()).map(form).collect::<Vec<_>>().join(between);
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("conversation", text(mark.conversation.as_str()))
            .key("user", text(author.user.as_str()))
            .update_expression(format!("SET {}", each(|n| format!("#m{n} = :m{n}"), ", ")))
            .condition_expression(each(|n| format!("(attribute_not_exists(#m{n}) OR #m{n} <= :m{n})"), " AND "))
            .return_values(ReturnValue::AllOld)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (n, (attribute, seq)) in to.iter().enumerate() {
            update = update
                .expression_attribute_names(format!("#m{n}"), *attribute)
                .expression_attribute_values(format!(":m{n}"), number(*seq));
        }
        match update.send().await {
            Ok(done) => Ok((done.attributes.unwrap_or_default(), true)),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    Ok((refused.item.clone().unwrap_or_default(), false))
                }
                _ => Err(trouble("marks.advance", &error)),
            },
        }
    }
}

#[async_trait]
impl Marks for MarksTable {
    async fn advance(&self, author: &Author, mark: &Mark, receipts: bool) -> Result<Advance> {
        let delivered = format!("{DELIVERED}{}", author.device);
        let read = if receipts { READ } else { KEPT };
        let told = [(delivered.as_str(), mark.delivered), (read, mark.read)];
        let told: Vec<(&str, Seq)> = told.into_iter().filter_map(|(attribute, to)| Some((attribute, to?))).collect();
        // One write, unless one of the two is further already: then the other by itself.
        let mut raised = told.clone();
        let (mut before, mut after): (Option<Item>, _) = (None, Item::new());
        while !raised.is_empty() {
            let (old, done) = self.raise(author, mark, &raised).await?;
            after.clone_from(&old);
            if done {
                after.extend(raised.drain(..).map(|(attribute, to)| (attribute.to_owned(), number(to))));
            } else {
                let fields = Fields::of("marks.advance", &old);
                raised.retain(|(attribute, to)| fields.seq(attribute).unwrap_or_default() < *to);
            }
            before.get_or_insert(old);
        }
        let before = before.unwrap_or_default();
        let fields = Fields::of("marks.advance", &before);
        let repeat = told.iter().all(|(attribute, to)| fields.seq(attribute).is_ok_and(|old| old == *to));
        let marks = |item: &Item| to_marks(author.user.clone(), Some(&author.device), item);
        Ok(Advance { before: marks(&before)?, after: marks(&after)?, repeat })
    }

    async fn of(&self, keys: &[(ConversationId, UserId)]) -> Result<Vec<(ConversationId, UserMarks)>> {
        let keys = keys
            .iter()
            .map(|(conversation, user)| {
                Item::from([
                    ("conversation".to_owned(), text(conversation.as_str())),
                    ("user".to_owned(), text(user.as_str())),
                ])
            })
            .collect();
        let items = batch_get("marks.get", &self.client, &self.table, keys).await?;
        items
            .iter()
            .map(|item| {
                let fields = Fields::of("marks.get", item);
                Ok((fields.parsed("conversation")?, to_marks(fields.parsed("user")?, None, item)?))
            })
            .collect()
    }

    async fn slice(&self, conversation: &ConversationId, after: Option<&UserId>, limit: u32) -> Result<MarksSlice> {
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("conversation = :conversation AND #user > :after")
            .expression_attribute_names("#user", "user")
            .expression_attribute_values(":conversation", text(conversation.as_str()))
            .expression_attribute_values(":after", text(after.map_or(FIRST, UserId::as_str)))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| trouble("marks.slice", &error))?;
        let more = found.last_evaluated_key.is_some();
        let of = |item| to_marks(Fields::of("marks.slice", item).parsed("user")?, None, item);
        Ok(MarksSlice { marks: found.items.unwrap_or_default().iter().map(of).collect::<Result<_>>()?, more })
    }
}

/// The user's marks over all devices. `device` names the one that moved them; otherwise it is the furthest.
pub(crate) fn to_marks(user: UserId, device: Option<&DeviceId>, item: &Item) -> Result<UserMarks> {
    let fields = Fields::of("marks.get", item);
    let maybe = |name| fields.maybe(name).map(|_| fields.seq(name)).transpose().map(Option::unwrap_or_default);
    let (read, kept) = (maybe(READ)?, maybe(KEPT)?);
    let mut delivered = read;
    let mut furthest = None;
    let mut devices = BTreeMap::new();
    for name in item.keys() {
        if let Some(device) = name.strip_prefix(DELIVERED) {
            let seq = fields.seq(name)?;
            let device = DeviceId::new(device).ok();
            devices.extend(device.clone().map(|device| (device, seq)));
            if furthest.is_none() || seq > delivered {
                furthest = device;
            }
            delivered = delivered.max(seq);
        }
    }
    let device = device.cloned().or(furthest);
    let device = device.ok_or_else(|| poste_domain::Trouble::broken("marks.get", "marks of no device"))?;
    Ok(UserMarks { told: MemberMark { user, device, delivered, read }, read: read.max(kept), devices })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_mark_is_that_of_the_furthest_device() {
        let item = Item::from([
            ("conversation".to_owned(), text("c")),
            ("user".to_owned(), text("bob")),
            ("d:phone".to_owned(), number(7)),
            ("d:tablet".to_owned(), number(9)),
            ("read".to_owned(), number(4)),
            ("kept".to_owned(), number(6)),
        ]);
        let marks = to_marks(UserId::new("bob").expect("valid"), None, &item).expect("marks");
        let told = &marks.told;
        assert_eq!((told.device.as_str(), told.delivered.get(), told.read.get()), ("tablet", 9, 4));
        assert_eq!(marks.own().read.get(), 6, "what others are not told");
        assert_eq!(marks.devices.values().map(|seq| seq.get()).collect::<Vec<_>>(), [7, 9]);
    }
}
