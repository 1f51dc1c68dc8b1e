//! A look into tables and queues, and the hand of fate: what cannot be seen or brought about through a socket.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use aws_sdk_dynamodb::{
    config::{BehaviorVersion, Credentials, Region},
    primitives::Blob,
    types::{AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType},
};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry};
use base64::{Engine, engine::general_purpose::STANDARD};
use poste_domain::{LaneKey, ports::Period};
use poste_local::Stack;
use poste_protocol::{
    Author, Cell, ConversationId, DeviceId, Envelope, EnvelopeId, Message as Written, Number, Seq, UserId,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::now_ms;

type Item = HashMap<String, AttributeValue>;

/// Messages that one look into a queue takes.
const BATCH: i32 = 10;

/// Full access to the stack's parts.
pub struct Admin {
    pub(crate) stack: Arc<Stack>,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) credentials: Credentials,
}

/// An item of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its number.
    pub seq: u64,
    /// The envelope, unless it is a void.
    pub envelope: Option<EnvelopeId>,
}

/// A connection in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// As the gateway names it.
    pub id: String,
    /// When it was registered.
    pub since_ms: u64,
    /// Not live after this.
    pub until_ms: u64,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// What nobody could deliver.
    pub body: String,
    /// How often it was received, this look included.
    pub receives: u32,
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn number_of(item: &Item, name: &str) -> u64 {
    let value = item.get(name).and_then(|value| value.as_n().ok()).and_then(|n| n.parse().ok());
    value.unwrap_or_else(|| panic!("an item without {name:?}: {item:?}"))
}

fn envelope_of(item: &Item) -> Option<EnvelopeId> {
    let id = item.get("id")?.as_b().expect("an envelope's id is bytes");
    Some(EnvelopeId(Uuid::from_slice(id.as_ref()).expect("an envelope's id has 16 bytes")))
}

fn cell_of(item: &Item) -> Option<Cell> {
    let text = |name: &str| item[name].as_s().expect("text").clone();
    Some(Cell {
        envelope: envelope_of(item)?,
        seq: Seq::new(number_of(item, "seq")).expect("a number"),
        number: Number::new(number_of(item, "n")).expect("positive"),
        by: Author {
            user: UserId::new(text("user")).expect("well formed"),
            device: DeviceId::new(text("device")).expect("well formed"),
        },
        at: number_of(item, "at"),
        messages: serde_json::from_str(&text("messages")).expect("messages are JSON"),
    })
}

fn bytes(id: EnvelopeId) -> AttributeValue {
    AttributeValue::B(Blob::new(id.0.as_bytes()))
}

/// An attribute, as DynamoDB has it in JSON.
fn to_json(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::Bool(truth) => json!({ "BOOL": truth }),
        AttributeValue::B(bytes) => json!({ "B": STANDARD.encode(bytes) }),
        AttributeValue::Ns(numbers) => json!({ "NS": numbers }),
        AttributeValue::L(list) => json!({ "L": list.iter().map(to_json).collect::<Vec<_>>() }),
        AttributeValue::M(map) => {
            let map: serde_json::Map<_, _> = map.iter().map(|(name, value)| (name.clone(), to_json(value))).collect();
            json!({ "M": map })
        }
        other => panic!("no table has {other:?}"),
    }
}

fn from_json(value: &Value) -> AttributeValue {
    let (kind, value) = value.as_object().and_then(|value| value.iter().next()).expect("a kind and a value");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let list = || value.as_array().expect("a list").iter();
    match kind.as_str() {
        "S" => AttributeValue::S(text(value)),
        "N" => AttributeValue::N(text(value)),
        "BOOL" => AttributeValue::Bool(value.as_bool().expect("a truth")),
        "B" => AttributeValue::B(Blob::new(STANDARD.decode(text(value)).expect("base64"))),
        "NS" => AttributeValue::Ns(list().map(text).collect()),
        "L" => AttributeValue::L(list().map(from_json).collect()),
        "M" => {
            let fields = value.as_object().expect("a map").iter();
            AttributeValue::M(fields.map(|(name, value)| (name.clone(), from_json(value))).collect())
        }
        other => panic!("no table has {other}"),
    }
}

impl Admin {
    /// The object store, by its own address.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.stack.region.clone()))
            .endpoint_url(&self.stack.endpoint)
            .force_path_style(true)
            .credentials_provider(self.credentials.clone())
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    pub(crate) fn new(stack: Arc<Stack>) -> Self {
        let keys = stack.admin.clone();
        let credentials =
            Credentials::new(keys.access_key_id, keys.secret_access_key, keys.session_token, None, "stack.json");
        Self::with(stack, &credentials)
    }

    /// The same look with other credentials.
    #[must_use]
    pub fn as_another(&self, access_key_id: &str, secret_access_key: &str) -> Self {
        let credentials = Credentials::new(access_key_id, secret_access_key, None, None, "test");
        Self::with(self.stack.clone(), &credentials)
    }

    fn with(stack: Arc<Stack>, credentials: &Credentials) -> Self {
        let dynamodb = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(stack.region.clone()))
            .endpoint_url(&stack.endpoint)
            .credentials_provider(credentials.clone())
            .build();
        let sqs = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(stack.region.clone()))
            .endpoint_url(&stack.endpoint)
            .credentials_provider(credentials.clone())
            .build();
        Self {
            stack,
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb),
            sqs: aws_sdk_sqs::Client::from_conf(sqs),
            credentials: credentials.clone(),
        }
    }

    // ---- the log

    /// Everything that the log has of a conversation, voids included, in order.
    ///
    /// # Errors
    /// What the table says.
    pub async fn try_log(&self, conversation: &ConversationId) -> Result<Vec<Stored>, String> {
        let items = self.items(conversation).await?;
        Ok(items.iter().map(|item| Stored { seq: number_of(item, "seq"), envelope: envelope_of(item) }).collect())
    }

    async fn items(&self, conversation: &ConversationId) -> Result<Vec<Item>, String> {
        let mut pages = self
            .dynamodb
            .query()
            .table_name(&self.stack.tables.log)
            .key_condition_expression("conversation = :conversation")
            .expression_attribute_values(":conversation", text(conversation.as_str()))
            .consistent_read(true)
            .into_paginator()
            .send();
        let mut items = Vec::new();
        while let Some(page) = pages.next().await {
            items.extend(page.map_err(|error| format!("{error:?}"))?.items.unwrap_or_default());
        }
        Ok(items)
    }

    /// Everything that the log has of a conversation, voids included, in order.
    ///
    /// # Panics
    /// When the table does not answer.
    pub async fn log(&self, conversation: &ConversationId) -> Vec<Stored> {
        self.try_log(conversation).await.expect("the log is readable")
    }

    /// The bodies of all messages that the table has of a conversation, in order.
    ///
    /// # Panics
    /// When the table does not answer.
    pub async fn texts(&self, conversation: &ConversationId) -> Vec<String> {
        let items = self.items(conversation).await.expect("the log is readable");
        let messages = items.iter().filter_map(|item| item.get("messages")?.as_s().ok());
        let parsed = messages.map(|json| serde_json::from_str::<Vec<Written>>(json).expect("messages are JSON"));
        parsed.flatten().map(|message| message.body).collect()
    }

    /// The places at which the log has an envelope.
    ///
    /// # Panics
    /// When the table does not answer.
    pub async fn copies(&self, envelope: &Envelope) -> Vec<u64> {
        let stored = self.log(&envelope.conversation).await.into_iter();
        stored.filter(|stored| stored.envelope == Some(envelope.id)).map(|stored| stored.seq).collect()
    }

    /// The cells of a conversation, without voids, in order.
    ///
    /// # Errors
    /// What the table says.
    ///
    /// # Panics
    /// When there is something else in it.
    pub async fn cells(&self, conversation: &ConversationId) -> Result<Vec<Cell>, String> {
        Ok(self.items(conversation).await?.iter().filter_map(cell_of).collect())
    }

    /// Puts a cell into the log as it is, whatever the head says.
    ///
    /// # Panics
    /// When the table does not take it.
    pub async fn put_cell(&self, conversation: &ConversationId, cell: &Cell) {
        let messages = serde_json::to_string(&cell.messages).expect("messages have only plain fields");
        self.dynamodb
            .put_item()
            .table_name(&self.stack.tables.log)
            .item("conversation", text(conversation.as_str()))
            .item("seq", number(cell.seq.get()))
            .item("id", bytes(cell.envelope))
            .item("n", number(cell.number.get()))
            .item("user", text(cell.by.user.as_str()))
            .item("device", text(cell.by.device.as_str()))
            .item("at", number(cell.at))
            .item("messages", text(messages))
            .send()
            .await
            .expect("the log takes a cell");
    }

    // ---- time

    /// Makes everything of a conversation older by so many days, as if they had passed.
    ///
    /// # Panics
    /// When a table does not answer.
    pub async fn let_pass(&self, conversation: &ConversationId, days: u64) {
        let millis = days * 24 * 3_600 * 1_000;
        let earlier = |value: &AttributeValue, by: u64| {
            let time: u64 = value.as_n().ok().and_then(|n| n.parse().ok()).expect("a time is a number");
            number(time.saturating_sub(by))
        };
        let mut head = self.item(conversation).await.expect("a conversation has a head");
        for name in ["active_at", "since"] {
            head.insert(name.to_owned(), earlier(&head[name], millis));
        }
        if let Some(AttributeValue::L(ended)) = head.get_mut("ended") {
            ended.iter_mut().skip(1).step_by(2).for_each(|gone_at| *gone_at = earlier(gone_at, millis));
        }
        self.replace(&self.stack.tables.heads, head).await;
        for mut item in self.items(conversation).await.expect("the log is readable") {
            for (name, by) in [("at", millis), ("expires_at", millis / 1_000)] {
                if let Some(value) = item.get(name) {
                    item.insert(name.to_owned(), earlier(value, by));
                }
            }
            self.replace(&self.stack.tables.log, item).await;
        }
    }

    /// Removes what the store may remove by now, as its time to live does some day. Gives the numbers.
    ///
    /// # Panics
    /// When the table does not answer.
    pub async fn remove_expired(&self, conversation: &ConversationId, now_ms: u64) -> Vec<u64> {
        let mut removed = Vec::new();
        for item in self.items(conversation).await.expect("the log is readable") {
            if item.contains_key("expires_at") && number_of(&item, "expires_at") * 1_000 <= now_ms {
                let deleted = self
                    .dynamodb
                    .delete_item()
                    .table_name(&self.stack.tables.log)
                    .key("conversation", item["conversation"].clone())
                    .key("seq", item["seq"].clone())
                    .send()
                    .await;
                deleted.expect("the log removes an item");
                removed.push(number_of(&item, "seq"));
            }
        }
        removed
    }

    async fn replace(&self, table: &str, item: Item) {
        let replaced = self.dynamodb.put_item().table_name(table).set_item(Some(item)).send().await;
        replaced.expect("the table takes the item");
    }

    // ---- what a version has stored

    fn tables(&self) -> [(&'static str, &String); 9] {
        let tables = &self.stack.tables;
        [
            ("heads", &tables.heads),
            ("log", &tables.log),
            ("lanes", &tables.lanes),
            ("members", &tables.members),
            ("conversations", &tables.conversations),
            ("marks", &tables.marks),
            ("devices", &tables.devices),
            ("push_tokens", &tables.push_tokens),
            ("presence", &tables.presence),
        ]
    }

    /// Every item that one of these names is in, a line of JSON each, as [`Self::put_recorded`] takes them.
    ///
    /// # Panics
    /// When a table does not answer.
    pub async fn recorded(&self, names: &[&str]) -> Vec<String> {
        let mut lines = Vec::new();
        for (table, name) in self.tables() {
            let mut pages = self.dynamodb.scan().table_name(name).into_paginator().send();
            while let Some(page) = pages.next().await {
                for item in page.expect("a page of a table").items() {
                    let item: serde_json::Map<_, _> =
                        item.iter().map(|(name, value)| (name.clone(), to_json(value))).collect();
                    let line = json!({ "table": table, "item": item }).to_string();
                    if names.iter().any(|name| line.contains(name)) {
                        lines.push(line);
                    }
                }
            }
        }
        lines.sort();
        lines
    }

    /// Puts items back that were recorded.
    ///
    /// # Panics
    /// When a line is none, or a table does not take it.
    pub async fn put_recorded(&self, lines: impl Iterator<Item = &str>) {
        for line in lines {
            let recorded: Value = serde_json::from_str(line).expect("JSON");
            let (_, table) = self.tables().into_iter().find(|(table, _)| recorded["table"] == *table).expect("a table");
            let AttributeValue::M(item) = from_json(&json!({ "M": recorded["item"] })) else { panic!("{line}") };
            self.replace(table, item).await;
        }
    }

    // ---- heads and lanes

    /// The head of a conversation, and the number of lanes in it; nothing if there is none.
    ///
    /// # Panics
    /// When the table does not answer.
    pub async fn head(&self, conversation: &ConversationId) -> Option<(u64, usize)> {
        self.item(conversation).await.map(|item| {
            let lanes = item.get("lanes").and_then(|lanes| lanes.as_m().ok()).expect("a head has lanes");
            (number_of(&item, "head"), lanes.len())
        })
    }

    async fn item(&self, conversation: &ConversationId) -> Option<Item> {
        let found = self
            .dynamodb
            .get_item()
            .table_name(&self.stack.tables.heads)
            .key("conversation", text(conversation.as_str()))
            .consistent_read(true)
            .send()
            .await
            .expect("the heads are readable");
        found.item
    }

    /// How many lanes of a conversation found no room in its head.
    ///
    /// # Panics
    /// When the table does not answer.
    pub async fn lanes_outside(&self, conversation: &ConversationId) -> usize {
        let found = self
            .dynamodb
            .query()
            .table_name(&self.stack.tables.lanes)
            .key_condition_expression("conversation = :conversation")
            .expression_attribute_values(":conversation", text(conversation.as_str()))
            .consistent_read(true)
            .send()
            .await
            .expect("the lanes are readable");
        found.items().len()
    }

    /// Whether something is counted under a name, in this minute or the one before.
    ///
    /// # Panics
    /// When the table does not answer.
    pub async fn counts(&self, name: &str) -> bool {
        let minute = Period::at(60, now_ms()).number;
        for number in [minute, minute - 1] {
            let get = self.dynamodb.get_item().table_name(&self.stack.tables.quotas);
            let found = get.key("quota", text(format!("{number}/{name}"))).consistent_read(true).send().await;
            if found.expect("the counts are readable").item.is_some() {
                return true;
            }
        }
        false
    }

    /// Reserves numbers, as a writer does that is never heard of again. Gives the first.
    ///
    /// # Panics
    /// When there is no such conversation.
    pub async fn reserve(&self, conversation: &ConversationId, count: u64) -> u64 {
        let updated = self
            .dynamodb
            .update_item()
            .table_name(&self.stack.tables.heads)
            .key("conversation", text(conversation.as_str()))
            .update_expression("SET #head = #head + :count")
            .condition_expression("attribute_exists(#head)")
            .expression_attribute_names("#head", "head")
            .expression_attribute_values(":count", number(count))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::UpdatedNew)
            .send()
            .await
            .expect("the head moves");
        number_of(&updated.attributes.expect("the head comes back"), "head") + 1 - count
    }

    /// Reserves a number for an event of a group, as a writer does that is never heard of again. Gives it.
    ///
    /// # Panics
    /// When there is no such group.
    pub async fn place_event(&self, group: &ConversationId) -> u64 {
        let updated = self
            .dynamodb
            .update_item()
            .table_name(&self.stack.tables.heads)
            .key("conversation", text(group.as_str()))
            .update_expression("SET #head = #head + :one, roster = #head + :one")
            .condition_expression("attribute_exists(#head)")
            .expression_attribute_names("#head", "head")
            .expression_attribute_values(":one", number(1))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::UpdatedNew)
            .send()
            .await
            .expect("the head moves");
        number_of(&updated.attributes.expect("the head comes back"), "head")
    }

    /// Gives an envelope its place, in the head or beside it, and nothing more: what a writer leaves that stalls or
    /// crashes after placing. Gives the place.
    ///
    /// # Panics
    /// When there is no such conversation, or no lane of the author in it.
    pub async fn place_only(&self, author: &Author, envelope: &Envelope) -> u64 {
        let first = self.reserve(&envelope.conversation, envelope.count()).await;
        let lane = LaneKey::of(author);
        let in_head = self
            .dynamodb
            .update_item()
            .table_name(&self.stack.tables.heads)
            .key("conversation", text(envelope.conversation.as_str()))
            .update_expression(
                "SET lanes.#lane.n = :n, lanes.#lane.id = :id, lanes.#lane.k = :k, places.#lane = :first",
            )
            .condition_expression("attribute_exists(lanes.#lane)")
            .expression_attribute_names("#lane", lane.as_str())
            .expression_attribute_values(":n", number(envelope.number.get()))
            .expression_attribute_values(":id", bytes(envelope.id))
            .expression_attribute_values(":k", number(envelope.count()))
            .expression_attribute_values(":first", number(first))
            .send()
            .await;
        if in_head.is_err() {
            self.dynamodb
                .update_item()
                .table_name(&self.stack.tables.lanes)
                .key("conversation", text(envelope.conversation.as_str()))
                .key("lane", text(lane.as_str()))
                .update_expression("SET n = :n, id = :id, k = :k, #first = :first")
                .condition_expression("attribute_exists(n)")
                .expression_attribute_names("#first", "first")
                .expression_attribute_values(":n", number(envelope.number.get()))
                .expression_attribute_values(":id", bytes(envelope.id))
                .expression_attribute_values(":k", number(envelope.count()))
                .expression_attribute_values(":first", number(first))
                .send()
                .await
                .expect("the author has a lane in the head or beside it");
        }
        first
    }

    // ---- members and marks

    /// Puts a member's record that nobody can read.
    ///
    /// # Panics
    /// When the table does not take it.
    pub async fn damage_member(&self, conversation: &ConversationId, user: &UserId) {
        self.dynamodb
            .put_item()
            .table_name(&self.stack.tables.members)
            .item("conversation", text(conversation.as_str()))
            .item("user", text(user.as_str()))
            .item("damaged", AttributeValue::Bool(true))
            .send()
            .await
            .expect("the members take a record");
    }

    /// Makes a damaged record a good one: a member from the first message on.
    ///
    /// # Panics
    /// When the table does not take it.
    pub async fn repair_member(&self, conversation: &ConversationId, user: &UserId) {
        let interval = AttributeValue::M(Item::from([("from".to_owned(), number(1))]));
        self.dynamodb
            .put_item()
            .table_name(&self.stack.tables.members)
            .item("conversation", text(conversation.as_str()))
            .item("user", text(user.as_str()))
            .item("intervals", AttributeValue::L(vec![interval]))
            .send()
            .await
            .expect("the members take a record");
    }

    /// Whether a user has any record in a conversation: as a member, in the mirror, or by a mark.
    ///
    /// # Panics
    /// When a table does not answer.
    pub async fn knows(&self, conversation: &ConversationId, user: &UserId) -> bool {
        let tables = &self.stack.tables;
        for table in [&tables.members, &tables.conversations, &tables.marks] {
            let found = self
                .dynamodb
                .get_item()
                .table_name(table)
                .key("conversation", text(conversation.as_str()))
                .key("user", text(user.as_str()))
                .consistent_read(true)
                .send()
                .await
                .expect("the table is readable");
            if found.item.is_some() {
                return true;
            }
        }
        false
    }

    // ---- presence

    /// Lets the leases of a user be over, as if their time had passed.
    ///
    /// # Panics
    /// When the table does not answer.
    pub async fn let_leases_end(&self, user: &UserId) {
        let table = &self.stack.tables.presence;
        let found = self.dynamodb.get_item().table_name(table).key("user", text(user.as_str())).send().await;
        let mut item = found.expect("the table is readable").item.expect("something is known of the user");
        for (name, value) in &mut item {
            if name.starts_with("d:") || name == "told_at" {
                *value = number(1);
            }
        }
        self.replace(table, item).await;
    }

    /// Takes the table of presence away.
    ///
    /// # Panics
    /// When it does not go.
    pub async fn remove_presence(&self) {
        let gone = self.dynamodb.delete_table().table_name(&self.stack.tables.presence).send().await;
        gone.expect("the table goes");
    }

    /// Makes the table of presence anew.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn restore_presence(&self) {
        let attribute = AttributeDefinition::builder().attribute_name("user").attribute_type(ScalarAttributeType::S);
        let key = KeySchemaElement::builder().attribute_name("user").key_type(KeyType::Hash);
        self.dynamodb
            .create_table()
            .table_name(&self.stack.tables.presence)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute.build().expect("complete"))
            .key_schema(key.build().expect("complete"))
            .send()
            .await
            .expect("the table is made");
    }

    // ---- connections

    /// The connections of a user, by device.
    ///
    /// # Panics
    /// When the table does not answer.
    pub async fn connections(&self, user: &UserId) -> BTreeMap<String, Registered> {
        let found = self
            .dynamodb
            .get_item()
            .table_name(&self.stack.tables.connections)
            .key("user", text(user.as_str()))
            .consistent_read(true)
            .send()
            .await
            .expect("the connections are readable");
        let item = found.item.unwrap_or_default();
        let devices = item.iter().filter_map(|(name, value)| Some((name.strip_prefix("d:")?, value)));
        devices
            .map(|(device, value)| {
                let record = value.as_m().expect("a connection is a map");
                let id = record["id"].as_s().expect("a connection has an id").clone();
                let (since_ms, until_ms) = (number_of(record, "since"), number_of(record, "until"));
                (device.to_owned(), Registered { id, since_ms, until_ms })
            })
            .collect()
    }

    /// Registers a connection that nobody has.
    ///
    /// # Panics
    /// When the table does not take it.
    pub async fn put_connection(&self, user: &UserId, device: &str, connection: &Registered) {
        let record = Item::from([
            ("id".to_owned(), text(&connection.id)),
            ("since".to_owned(), number(connection.since_ms)),
            ("until".to_owned(), number(connection.until_ms)),
        ]);
        self.dynamodb
            .update_item()
            .table_name(&self.stack.tables.connections)
            .key("user", text(user.as_str()))
            .update_expression("SET #device = :connection")
            .expression_attribute_names("#device", format!("d:{device}"))
            .expression_attribute_values(":connection", AttributeValue::M(record))
            .send()
            .await
            .expect("the connections take a record");
    }

    // ---- queues

    /// Puts messages into the delivery queue, at most ten, in one call.
    ///
    /// # Panics
    /// When the queue does not take them all.
    pub async fn queue(&self, bodies: &[String]) {
        self.put(&self.stack.queues.delivery, bodies).await;
    }

    /// Puts messages into the push queue as they are.
    ///
    /// # Panics
    /// When it does not take them.
    pub async fn queue_wakes(&self, bodies: &[String]) {
        self.put(&self.stack.queues.push, bodies).await;
    }

    /// How many wake-ups are in the push queue, hidden and delayed ones included; about.
    ///
    /// # Panics
    /// When the queue does not answer.
    pub async fn wakes_waiting(&self) -> u64 {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let asked = self.sqs.get_queue_attributes().queue_url(&self.stack.queues.push);
        let told = asked.set_attribute_names(Some(names.to_vec())).send().await.expect("the queue answers");
        let told = told.attributes.unwrap_or_default();
        names.iter().filter_map(|name| told.get(name)?.parse::<u64>().ok()).sum()
    }

    async fn put(&self, queue: &str, bodies: &[String]) {
        let entries = bodies.iter().enumerate().map(|(i, body)| {
            let entry = SendMessageBatchRequestEntry::builder().id(format!("m{i}")).message_body(body);
            entry.build().expect("an entry with all it needs")
        });
        let sent = self
            .sqs
            .send_message_batch()
            .queue_url(queue)
            .set_entries(Some(entries.collect()))
            .send()
            .await
            .expect("the queue takes messages");
        assert!(sent.failed().is_empty(), "the queue takes every message: {:?}", sent.failed());
    }

    /// Looks among the dead letters for one that contains `part`, and takes it away.
    ///
    /// # Panics
    /// When the queue does not answer.
    pub async fn take_dead(&self, part: &str) -> Option<Dead> {
        self.take_from(&self.stack.queues.delivery_dead_letters, part).await
    }

    /// The same among the wake-ups.
    ///
    /// # Panics
    /// When the queue does not answer.
    pub async fn take_dead_wake(&self, part: &str) -> Option<Dead> {
        self.take_from(&self.stack.queues.push_dead_letters, part).await
    }

    /// Puts messages among the dead wake-ups.
    ///
    /// # Panics
    /// When the queue does not take them.
    pub async fn bury_wakes(&self, bodies: &[String]) {
        self.put(&self.stack.queues.push_dead_letters, bodies).await;
    }

    async fn take_from(&self, queue: &str, part: &str) -> Option<Dead> {
        let found = self
            .sqs
            .receive_message()
            .queue_url(queue)
            .max_number_of_messages(BATCH)
            // Others look, too: what is not ours must be theirs soon.
            .visibility_timeout(1)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await
            .expect("the dead letters are readable");
        let ours = found.messages().iter().find(|message| message.body().is_some_and(|body| body.contains(part)))?;
        self.sqs
            .delete_message()
            .queue_url(queue)
            .set_receipt_handle(ours.receipt_handle.clone())
            .send()
            .await
            .expect("a dead letter can be taken away");
        Some(Dead { body: ours.body.clone().unwrap_or_default(), receives: receives(ours) })
    }
}

fn receives(message: &Message) -> u32 {
    let count = message.attributes().and_then(|a| a.get(&MessageSystemAttributeName::ApproximateReceiveCount));
    count.and_then(|count| count.parse().ok()).unwrap_or_default()
}
