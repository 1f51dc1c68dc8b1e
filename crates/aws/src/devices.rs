//! The tables `devices` (by user and device: where it can be woken, and what was pushed to it) and `push_tokens` (by
//! the token's hash: whose it is).

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    Client,
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use poste_domain::{
    Pushes, TokenHash, Trouble,
    ports::{Address, Devices, Noted, Result, Wakeable},
};
use poste_protocol::{Author, PushStatus, UserId};

use crate::{
    item::{Fields, Item, batch_get, number, text},
    trouble::{lost_condition, trouble},
};

/// What a registration consists of, in an item of `devices`.
const REGISTRATION: &str = "REMOVE #token, #endpoint, #platform, #style";

/// Devices in DynamoDB.
pub struct DevicesTable {
    client: Client,
    devices: String,
    tokens: String,
}

impl DevicesTable {
    /// On these tables.
    pub fn new(client: Client, devices: String, tokens: String) -> Self {
        Self { client, devices, tokens }
    }

    /// Lets go of a token, if it is still the device's. Says whether it was.
    async fn release(&self, author: &Author, token: &TokenHash) -> Result<bool> {
        let released = self
            .client
            .delete_item()
            .table_name(&self.tokens)
            .key("token", text(token.as_str()))
            .condition_expression("#user = :user AND #device = :device")
            .expression_attribute_names("#user", "user")
            .expression_attribute_names("#device", "device")
            .expression_attribute_values(":user", text(author.user.as_str()))
            .expression_attribute_values(":device", text(author.device.as_str()))
            .send()
            .await;
        match released {
            Ok(_) => Ok(true),
            Err(error) if lost_condition(&error) => Ok(false),
            Err(error) => Err(trouble("devices.release", &error)),
        }
    }

    /// Takes a registration away, if it has this token still; at this endpoint, if one is named.
    async fn take(&self, author: &Author, token: &TokenHash, buried_at: Option<&str>) -> Result<bool> {
        let (update, condition) = match buried_at {
            Some(_) => (format!("SET #renew = :renew {REGISTRATION}"), "#token = :token AND #endpoint = :endpoint"),
            None => (REGISTRATION.to_owned(), "#token = :token"),
        };
        let mut taking = self.update(author).update_expression(update).condition_expression(condition);
        if let Some(endpoint) = buried_at {
            taking = taking
                .expression_attribute_names("#renew", "renew")
                .expression_attribute_values(":renew", AttributeValue::Bool(true))
                .expression_attribute_values(":endpoint", text(endpoint));
        }
        match taking.expression_attribute_values(":token", text(token.as_str())).send().await {
            Ok(_) => Ok(true),
            Err(error) if lost_condition(&error) => Ok(false),
            Err(error) => Err(trouble("devices.take", &error)),
        }
    }

    /// An update of a device's item that names a registration's fields.
    fn update(&self, author: &Author) -> aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.devices)
            .key("user", text(author.user.as_str()))
            .key("device", text(author.device.as_str()))
            .expression_attribute_names("#token", "token")
            .expression_attribute_names("#endpoint", "endpoint")
            .expression_attribute_names("#platform", "platform")
            .expression_attribute_names("#style", "style")
    }

    /// Whose each of these tokens is.
    async fn owners(&self, tokens: &[TokenHash]) -> Result<Vec<(TokenHash, Author)>> {
        let keys = tokens.iter().map(|token| Item::from([("token".to_owned(), text(token.as_str()))])).collect();
        let items = batch_get("devices.owners", &self.client, &self.tokens, keys).await?;
        let owner = |item: &Item| {
            let fields = Fields::of("devices.owners", item);
            let author = Author { user: fields.parsed("user")?, device: fields.parsed("device")? };
            Ok((TokenHash::from_stored(fields.text("token")?), author))
        };
        items.iter().map(owner).collect()
    }
}

#[async_trait]
impl Devices for DevicesTable {
    async fn register(&self, author: &Author, registration: &Address) -> Result<Option<Address>> {
        // The token first: from here on nobody else is woken by it.
        let taken = self
            .client
            .put_item()
            .table_name(&self.tokens)
            .item("token", text(registration.token.as_str()))
            .item("user", text(author.user.as_str()))
            .item("device", text(author.device.as_str()))
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(|error| trouble("devices.claim", &error))?;
        let registered = self
            .update(author)
            .update_expression(
                "SET #token = :token, #endpoint = :endpoint, #platform = :platform, #style = :style REMOVE #renew",
            )
            .expression_attribute_names("#renew", "renew")
            .expression_attribute_values(":token", text(registration.token.as_str()))
            .expression_attribute_values(":endpoint", text(&registration.endpoint))
            .expression_attribute_values(":platform", text(registration.platform.as_str()))
            .expression_attribute_values(":style", text(registration.style.as_str()))
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(|error| trouble("devices.register", &error))?;
        if let Some(item) = &taken.attributes {
            let fields = Fields::of("devices.claim", item);
            let before = Author { user: fields.parsed("user")?, device: fields.parsed("device")? };
            if before != *author {
                self.take(&before, &registration.token, None).await?;
            }
        }
        let old = registered.attributes.as_ref().map(to_address).transpose()?.flatten();
        match old.filter(|old| old.token != registration.token) {
            Some(old) => Ok(self.release(author, &old.token).await?.then_some(old)),
            None => Ok(None),
        }
    }

    async fn unregister(&self, author: &Author) -> Result<Option<Address>> {
        let gone = self
            .client
            .delete_item()
            .table_name(&self.devices)
            .key("user", text(author.user.as_str()))
            .key("device", text(author.device.as_str()))
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(|error| trouble("devices.unregister", &error))?;
        match gone.attributes.as_ref().map(to_address).transpose()?.flatten() {
            Some(old) => Ok(self.release(author, &old.token).await?.then_some(old)),
            None => Ok(None),
        }
    }

    async fn bury(&self, author: &Author, registration: &Address) -> Result<()> {
        if self.take(author, &registration.token, Some(&registration.endpoint)).await? {
            self.release(author, &registration.token).await?;
        }
        Ok(())
    }

    async fn awake(&self, author: &Author, now_ms: u64) -> Result<PushStatus> {
        let noted = self
            .client
            .update_item()
            .table_name(&self.devices)
            .key("user", text(author.user.as_str()))
            .key("device", text(author.device.as_str()))
            .update_expression("SET #awake = :now")
            .condition_expression("attribute_exists(#device)")
            .expression_attribute_names("#awake", "awake")
            .expression_attribute_names("#device", "device")
            .expression_attribute_values(":now", number(now_ms))
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        let item = match noted {
            Ok(noted) => noted.attributes.unwrap_or_default(),
            Err(error) if lost_condition(&error) => return Ok(PushStatus::None),
            Err(error) => return Err(trouble("devices.awake", &error)),
        };
        match to_address(&item)? {
            Some(registration) => {
                let owners = self.owners(&[registration.token]).await?;
                let own = owners.iter().any(|(_, owner)| owner == author);
                Ok(if own { PushStatus::Registered } else { PushStatus::None })
            }
            None if item.contains_key("renew") => Ok(PushStatus::Renew),
            None => Ok(PushStatus::None),
        }
    }

    async fn wakeable(&self, user: &UserId) -> Result<Vec<Wakeable>> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.devices)
            .key_condition_expression("#user = :user")
            .expression_attribute_names("#user", "user")
            .expression_attribute_values(":user", text(user.as_str()))
            .consistent_read(true)
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            for item in page.map_err(|error| trouble("devices.query", &error))?.items() {
                match to_wakeable(item) {
                    Ok(wakeable) => found.extend(wakeable),
                    // One that cannot be read must not keep the user's others asleep.
                    Err(trouble) => tracing::error!(%trouble, "passed over a device"),
                }
            }
        }
        let tokens: Vec<_> = found.iter().map(|wakeable| wakeable.registration.token.clone()).collect();
        let owners = self.owners(&tokens).await?;
        found.retain(|wakeable| {
            let own = |(token, owner): &(TokenHash, Author)| {
                *token == wakeable.registration.token && owner.user == *user && owner.device == wakeable.device
            };
            owners.iter().any(own)
        });
        Ok(found)
    }

    async fn note(&self, author: &Author, token: &TokenHash, pushes: &Pushes) -> Result<Noted> {
        let json = serde_json::to_string(pushes).map_err(|error| Trouble::broken("devices.note", error))?;
        let before = pushes.revision.saturating_sub(1);
        let known = if before == 0 { "attribute_not_exists(#revision)" } else { "#revision = :before" };
        let mut noting = self
            .client
            .update_item()
            .table_name(&self.devices)
            .key("user", text(author.user.as_str()))
            .key("device", text(author.device.as_str()))
            .update_expression("SET #pushes = :pushes, #revision = :revision")
            .condition_expression(format!("#token = :token AND {known}"))
            .expression_attribute_names("#pushes", "pushes")
            .expression_attribute_names("#revision", "revision")
            .expression_attribute_names("#token", "token")
            .expression_attribute_values(":pushes", text(&json))
            .expression_attribute_values(":revision", number(pushes.revision))
            .expression_attribute_values(":token", text(token.as_str()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if before > 0 {
            noting = noting.expression_attribute_values(":before", number(before));
        }
        match noting.send().await {
            Ok(_) => Ok(Noted::Done),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    let item = refused.item.clone().unwrap_or_default();
                    // Done by an attempt whose answer was lost?
                    let same = Fields::of("devices.note", &item).text("pushes").is_ok_and(|stored| stored == json);
                    Ok(match to_wakeable(&item)? {
                        Some(there) if there.registration.token != *token => Noted::Gone,
                        Some(there) if same && there.pushes.revision == pushes.revision => Noted::Done,
                        Some(there) => Noted::Behind(Box::new(there.pushes)),
                        None => Noted::Gone,
                    })
                }
                _ => Err(trouble("devices.note", &error)),
            },
        }
    }
}

fn to_address(item: &Item) -> Result<Option<Address>> {
    let fields = Fields::of("devices.get", item);
    if fields.maybe("token").is_none() {
        return Ok(None);
    }
    let bad = |error: &'static str| Trouble::broken("devices.get", error);
    Ok(Some(Address {
        platform: fields.text("platform")?.parse().map_err(bad)?,
        style: fields.text("style")?.parse().map_err(bad)?,
        token: TokenHash::from_stored(fields.text("token")?),
        endpoint: fields.text("endpoint")?.to_owned(),
    }))
}

pub(crate) fn to_wakeable(item: &Item) -> Result<Option<Wakeable>> {
    let fields = Fields::of("devices.query", item);
    let Some(registration) = to_address(item)? else { return Ok(None) };
    let mut pushes: Pushes = fields.maybe("pushes").map(|_| fields.json("pushes")).transpose()?.unwrap_or_default();
    pushes.revision = fields.maybe("revision").map(|_| fields.number("revision")).transpose()?.unwrap_or(0);
    pushes.awake_ms = fields.maybe("awake").map(|_| fields.number("awake")).transpose()?.unwrap_or(0);
    Ok(Some(Wakeable { device: fields.parsed("device")?, registration, pushes }))
}
