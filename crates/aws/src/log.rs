//! The table `log`: write-once cells and voids, by conversation and number. The store removes what is past
//! `expires_at` (Unix seconds), late and in no order; readers know before, see `poste_domain::retention`.

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    operation::put_item::PutItemError,
    operation::query::builders::QueryFluentBuilder,
    operation::update_item::builders::UpdateItemFluentBuilder,
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use poste_domain::{
    Class, Trouble,
    ports::{Log, Registered, Result, Slot, Slots},
};
use poste_protocol::{Author, Cell, ConversationId, Message, Seq};

use crate::{
    item::{Fields, Item, bytes, number, text},
    trouble::{lost_condition, trouble},
};

/// How often a redaction is tried while others redact messages of the same cell, of which there are 25 at most.
const REDACTIONS: usize = 30;

/// The log in DynamoDB. A cell's messages are one attribute of JSON: they are written and read as one. A redaction puts
/// another text in its place, if it is still the one that was read.
pub struct LogTable {
    client: Client,
    table: String,
}

impl LogTable {
    /// On this table.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    fn query(&self, conversation: &ConversationId, bound: Seq, limit: u32) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .expression_attribute_values(":conversation", text(conversation.as_str()))
            .expression_attribute_values(":bound", number(bound))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .consistent_read(true)
    }

    fn update(&self, conversation: &ConversationId, cell: Seq) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("conversation", text(conversation.as_str()))
            .key("seq", number(cell))
            .return_values(ReturnValue::AllNew)
    }

    /// The item of a cell, if it is there.
    async fn item(&self, conversation: &ConversationId, cell: Seq) -> Result<Option<Item>> {
        let query =
            self.query(conversation, cell, 1).key_condition_expression("conversation = :conversation AND seq = :bound");
        let found = query.send().await.map_err(|error| trouble("log.redact", &error))?;
        let item = found.items.and_then(|mut items| items.pop());
        Ok(item.filter(|item| item.contains_key("messages")))
    }
}

/// The attribute with the places of edits of a cell's message.
fn edits_of(index: usize) -> String {
    format!("edits_{index}")
}

#[async_trait]
impl Log for LogTable {
    async fn put(&self, conversation: &ConversationId, slot: &Slot, removal: Option<u64>) -> Result<Option<Slot>> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(to_item(conversation, slot, removal)?))
            .condition_expression("attribute_not_exists(conversation)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match put {
            Ok(_) => Ok(None),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(refused)) => {
                    let item = refused.item.as_ref();
                    let item = item.ok_or_else(|| Trouble::broken("log.put", "what was there did not come back"))?;
                    Ok(Some(to_slot(item)?))
                }
                _ => Err(trouble("log.put", &error)),
            },
        }
    }

    async fn after(&self, conversation: &ConversationId, after: Seq, limit: u32) -> Result<Slots> {
        let query = self
            .query(conversation, after, limit)
            .key_condition_expression("conversation = :conversation AND seq > :bound")
            .scan_index_forward(true);
        slots("log.after", query).await
    }

    async fn before(&self, conversation: &ConversationId, from: Seq, limit: u32) -> Result<Slots> {
        let query = self
            .query(conversation, from, limit)
            .key_condition_expression("conversation = :conversation AND seq <= :bound")
            .scan_index_forward(false);
        slots("log.before", query).await
    }

    async fn register(&self, conversation: &ConversationId, cell: Seq, index: usize, edit: Seq) -> Result<Registered> {
        let update = self
            .update(conversation, cell)
            .update_expression("ADD #edits :edit")
            .condition_expression("attribute_exists(messages)")
            .expression_attribute_names("#edits", edits_of(index))
            .expression_attribute_values(":edit", AttributeValue::Ns(vec![edit.get().to_string()]));
        match update.send().await {
            Ok(updated) => {
                let item = updated.attributes.unwrap_or_default();
                let messages: Vec<Message> = Fields::of("log.register", &item).json("messages")?;
                let deleted = messages.get(index).is_none_or(|message| message.deleted);
                Ok(if deleted { Registered::Redacted } else { Registered::Intact })
            }
            Err(error) if lost_condition(&error) => Ok(Registered::Gone),
            Err(error) => Err(trouble("log.register", &error)),
        }
    }

    async fn redact(&self, conversation: &ConversationId, cell: Seq, index: usize) -> Result<Vec<Seq>> {
        for _ in 0..REDACTIONS {
            let Some(item) = self.item(conversation, cell).await? else { return Ok(Vec::new()) };
            let fields = Fields::of("log.redact", &item);
            let before = fields.text("messages")?;
            let mut messages: Vec<Message> = fields.json("messages")?;
            let Some(message) = messages.get_mut(index).filter(|message| !message.deleted) else {
                return fields.seqs(&edits_of(index));
            };
            *message = message.clone().redacted();
            let after = serde_json::to_string(&messages).map_err(|error| Trouble::broken("log.redact", error))?;
            let update = self
                .update(conversation, cell)
                .update_expression("SET messages = :after")
                .condition_expression("messages = :before")
                .expression_attribute_values(":before", text(before))
                .expression_attribute_values(":after", text(after));
            match update.send().await {
                // Who registers from now on finds it redacted; who did before is told of.
                Ok(updated) => {
                    return Fields::of("log.redact", &updated.attributes.unwrap_or_default()).seqs(&edits_of(index));
                }
                Err(error) if lost_condition(&error) => {}
                Err(error) => return Err(trouble("log.redact", &error)),
            }
        }
        Err(Trouble::new("log.redact", Class::Throttled, "others were faster, again and again"))
    }
}

async fn slots(part: &'static str, query: QueryFluentBuilder) -> Result<Slots> {
    let found = query.send().await.map_err(|error| trouble(part, &error))?;
    let end = found.last_evaluated_key.is_none();
    let slots = found.items.unwrap_or_default().iter().map(to_slot).collect::<Result<_>>()?;
    Ok(Slots { slots, end })
}

pub(crate) fn to_item(conversation: &ConversationId, slot: &Slot, removal: Option<u64>) -> Result<Item> {
    let mut item =
        Item::from([("conversation".to_owned(), text(conversation.as_str())), ("seq".to_owned(), number(slot.seq()))]);
    if let Some(removal) = removal {
        // The store's time to live counts in seconds.
        item.insert("expires_at".to_owned(), number(removal.div_ceil(1_000)));
    }
    if let Slot::Cell(cell) = slot {
        let messages = serde_json::to_string(&cell.messages).map_err(|error| Trouble::broken("log.put", error))?;
        item.extend([
            ("id".to_owned(), bytes(cell.envelope)),
            ("n".to_owned(), number(cell.number)),
            ("user".to_owned(), text(cell.by.user.as_str())),
            ("device".to_owned(), text(cell.by.device.as_str())),
            ("at".to_owned(), number(cell.at)),
            ("messages".to_owned(), text(messages)),
        ]);
    }
    Ok(item)
}

pub(crate) fn to_slot(item: &Item) -> Result<Slot> {
    let fields = Fields::of("log.read", item);
    let seq = fields.seq("seq")?;
    if fields.maybe("messages").is_none() {
        return Ok(Slot::Void(seq));
    }
    Ok(Slot::Cell(Cell {
        seq,
        envelope: fields.envelope_id("id")?,
        number: fields.envelope_number("n")?,
        by: Author { user: fields.parsed("user")?, device: fields.parsed("device")? },
        at: fields.number("at")?,
        messages: fields.json("messages")?,
    }))
}

#[cfg(test)]
mod tests {
    use poste_protocol::{DeviceId, EnvelopeId, Message, MessageId, Number, UserId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn slots_survive_the_table() {
        let conversation = ConversationId::new("c").expect("valid");
        let cell = Cell {
            seq: Seq::ZERO.plus(7),
            envelope: EnvelopeId(Uuid::from_u128(1)),
            number: Number::FIRST,
            by: Author { user: UserId::new("alice").expect("valid"), device: DeviceId::new("phone").expect("valid") },
            at: 5,
            messages: vec![Message { written_at: Some(3), ..Message::new(MessageId(Uuid::from_u128(2)), "é\n\"") }],
        };
        for slot in [Slot::Cell(cell), Slot::Void(Seq::ZERO.plus(9))] {
            let item = to_item(&conversation, &slot, Some(7_001)).expect("an item");
            assert_eq!(item.get("expires_at"), Some(&number(8)), "never before its time");
            assert_eq!(to_slot(&item).expect("a slot"), slot);
        }
    }

    #[test]
    fn a_damaged_item_is_trouble_and_no_void() {
        let conversation = ConversationId::new("c").expect("valid");
        let mut item = to_item(&conversation, &Slot::Void(Seq::ZERO.plus(9)), None).expect("an item");
        item.insert("messages".to_owned(), text("not json"));
        assert!(to_slot(&item).is_err());
    }
}
