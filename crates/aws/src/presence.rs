//! The table `presence`: one item a user, with `d:DEVICE` for each device's lease, `w:USER/DEVICE` for each device that
//! watches, and what those were told last. So a renewal is one write, and gives whom to tell.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    operation::update_item::builders::UpdateItemFluentBuilder,
    types::{AttributeValue, ReturnValue},
};
use poste_domain::{
    Trouble,
    ports::{Presence, Result, Standing, Told},
};
use poste_protocol::{Author, DeviceId, UserId};

use crate::{
    item::{Fields, Item, batch_get, number, text},
    trouble::{lost_condition, trouble},
};

/// What the names of leases begin with, and those of watchers. No user's id has a slash.
const LEASE: &str = "d:";
const WATCHER: &str = "w:";
const SLASH: char = '/';

/// How long after a user was last here the item is of no use.
const EXPIRY_S: u64 = 8 * 24 * 3600;

/// Attributes that one write removes at most: an expression has its limits, and the next write removes the rest.
const REMOVALS: usize = 100;

/// Presence in DynamoDB.
pub struct PresenceTable {
    client: Client,
    table: String,
}

impl PresenceTable {
    /// On this table.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    fn update(&self, user: &UserId) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.table).key("user", text(user.as_str()))
    }
}

fn expires_at(now_ms: u64) -> AttributeValue {
    number(now_ms / 1000 + EXPIRY_S)
}

fn lease(device: &DeviceId) -> String {
    format!("{LEASE}{device}")
}

fn watcher(author: &Author) -> String {
    format!("{WATCHER}{}{SLASH}{}", author.user, author.device)
}

/// The part of an update that removes attributes, and their names.
fn removal(attributes: impl Iterator<Item = String>) -> (String, HashMap<String, String>) {
    let names: HashMap<String, String> =
        attributes.take(REMOVALS).enumerate().map(|(n, name)| (format!("#gone{n}"), name)).collect();
    let mut keys: Vec<&str> = names.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expression = if keys.is_empty() { String::new() } else { format!(" REMOVE {}", keys.join(", ")) };
    (expression, names)
}

#[async_trait]
impl Presence for PresenceTable {
    async fn renew(&self, author: &Author, until_ms: u64, now_ms: u64) -> Result<Standing> {
        let renewed = self
            .update(&author.user)
            .update_expression("SET #lease = :until, seen = :now, expires_at = :expires_at")
            .expression_attribute_names("#lease", lease(&author.device))
            .expression_attribute_values(":until", number(until_ms))
            .expression_attribute_values(":now", number(now_ms))
            .expression_attribute_values(":expires_at", expires_at(now_ms))
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(|error| trouble("presence.renew", &error))?;
        to_standing("presence.renew", &renewed.attributes.unwrap_or_default())
    }

    async fn leave(&self, author: &Author, now_ms: u64) -> Result<Standing> {
        let left = self
            .update(&author.user)
            .update_expression("SET seen = :now, expires_at = :expires_at REMOVE #lease")
            .condition_expression("attribute_exists(#lease)")
            .expression_attribute_names("#lease", lease(&author.device))
            .expression_attribute_values(":now", number(now_ms))
            .expression_attribute_values(":expires_at", expires_at(now_ms))
            .return_values(ReturnValue::AllOld)
            .send()
            .await;
        match left {
            Ok(left) => to_standing("presence.leave", &left.attributes.unwrap_or_default()),
            // There was no lease to end: nothing is known that would matter.
            Err(error) if lost_condition(&error) => Ok(Standing::default()),
            Err(error) => Err(trouble("presence.leave", &error)),
        }
    }

    async fn tell(&self, user: &UserId, told: Told, pause_ms: u64, forget: &[DeviceId]) -> Result<bool> {
        let (remove, names) = removal(forget.iter().map(lease));
        let noted = self
            .update(user)
            .update_expression(format!("SET told_at = :at, told_here = :here{remove}"))
            // The same again is a call whose answer was lost.
            .condition_expression(
                "attribute_not_exists(told_at) OR told_at <= :since OR (told_at = :at AND told_here = :here)",
            )
            .set_expression_attribute_names((!names.is_empty()).then_some(names))
            .expression_attribute_values(":at", number(told.at_ms))
            .expression_attribute_values(":here", AttributeValue::Bool(told.here))
            .expression_attribute_values(":since", number(told.at_ms.saturating_sub(pause_ms)))
            .send()
            .await;
        match noted {
            Ok(_) => Ok(true),
            Err(error) if lost_condition(&error) => Ok(false),
            Err(error) => Err(trouble("presence.tell", &error)),
        }
    }

    async fn watch(&self, user: &UserId, by: &Author, until_ms: u64, others: &[Author]) -> Result<Standing> {
        let (remove, names) = removal(others.iter().map(watcher));
        let watched = self
            .update(user)
            .update_expression(format!(
                "SET #watcher = :until, expires_at = if_not_exists(expires_at, :expires_at){remove}"
            ))
            .set_expression_attribute_names(Some(names))
            .expression_attribute_names("#watcher", watcher(by))
            .expression_attribute_values(":until", number(until_ms))
            .expression_attribute_values(":expires_at", expires_at(until_ms))
            .return_values(ReturnValue::AllNew)
            .send()
            .await
            .map_err(|error| trouble("presence.watch", &error))?;
        to_standing("presence.watch", &watched.attributes.unwrap_or_default())
    }

    async fn of(&self, users: &[UserId]) -> Result<Vec<(UserId, Standing)>> {
        let keys = users.iter().map(|user| Item::from([("user".to_owned(), text(user.as_str()))])).collect();
        let items = batch_get("presence.get", &self.client, &self.table, keys).await?;
        let standing = |item| {
            let user = Fields::of("presence.get", item).parsed("user")?;
            Ok((user, to_standing("presence.get", item)?))
        };
        items.iter().map(standing).collect()
    }
}

pub(crate) fn to_standing(part: &'static str, item: &Item) -> Result<Standing> {
    let fields = Fields::of(part, item);
    let broken = |error| Trouble::broken(part, error);
    let (mut leases, mut watchers) = (BTreeMap::new(), BTreeMap::new());
    for name in item.keys() {
        if let Some(device) = name.strip_prefix(LEASE) {
            leases.insert(DeviceId::new(device).map_err(broken)?, fields.number(name)?);
        } else if let Some((user, device)) = name.strip_prefix(WATCHER).and_then(|name| name.split_once(SLASH)) {
            let user = UserId::new(user).map_err(broken)?;
            let device = DeviceId::new(device).map_err(broken)?;
            watchers.insert(Author { user, device }, fields.number(name)?);
        }
    }
    let told = match (fields.maybe("told_at"), fields.maybe("told_here")) {
        (Some(_), Some(here)) => {
            Some(Told { at_ms: fields.number("told_at")?, here: here.as_bool().is_ok_and(|here| *here) })
        }
        _ => None,
    };
    let seen_ms = fields.maybe("seen").map(|_| fields.number("seen")).transpose()?.unwrap_or_default();
    Ok(Standing { leases, seen_ms, told, watchers })
}
