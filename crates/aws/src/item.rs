//! Reading and writing DynamoDB items. An item that is not as it should be is [`Trouble`], never a panic.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    primitives::Blob,
    types::{AttributeValue, KeysAndAttributes},
};
use poste_domain::{Class, Trouble, ports::Result};
use poste_protocol::{EnvelopeId, Number, Seq};
use uuid::Uuid;

use crate::trouble::trouble;

/// An item, or a map inside one.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Keys that one `BatchGetItem` takes.
pub(crate) const BATCH_KEYS: usize = 100;

/// How often what a batch left unprocessed is asked for again, and the wait before, growing by it each time.
const BATCH_ATTEMPTS: u32 = 5;
const BATCH_WAIT: Duration = Duration::from_millis(25);

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number(value: impl Into<Whole>) -> AttributeValue {
    AttributeValue::N(value.into().0.to_string())
}

/// A whole number, whatever it counts.
pub(crate) struct Whole(u64);

impl From<u64> for Whole {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl From<Seq> for Whole {
    fn from(value: Seq) -> Self {
        Self(value.get())
    }
}

impl From<Number> for Whole {
    fn from(value: Number) -> Self {
        Self(value.get())
    }
}

pub(crate) fn bytes(id: EnvelopeId) -> AttributeValue {
    AttributeValue::B(Blob::new(id.0.as_bytes()))
}

/// Reads fields of an item of a table, so that a bad one names its table.
pub(crate) struct Fields<'a> {
    part: &'static str,
    item: &'a Item,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(part: &'static str, item: &'a Item) -> Self {
        Self { part, item }
    }

    fn bad(&self, name: &str) -> Trouble {
        Trouble::broken(self.part, format!("an item's field {name:?} is missing or malformed"))
    }

    pub(crate) fn maybe(&self, name: &str) -> Option<&'a AttributeValue> {
        self.item.get(name)
    }

    pub(crate) fn text(&self, name: &str) -> Result<&'a str> {
        self.maybe(name).and_then(|v| v.as_s().ok()).map(String::as_str).ok_or_else(|| self.bad(name))
    }

    pub(crate) fn parsed<T: TryFrom<String>>(&self, name: &str) -> Result<T> {
        T::try_from(self.text(name)?.to_owned()).map_err(|_| self.bad(name))
    }

    pub(crate) fn number(&self, name: &str) -> Result<u64> {
        self.maybe(name).and_then(|v| v.as_n().ok()).and_then(|n| n.parse().ok()).ok_or_else(|| self.bad(name))
    }

    /// A list of numbers; empty where there is none.
    pub(crate) fn numbers(&self, name: &str) -> Result<Vec<u64>> {
        let Some(list) = self.maybe(name) else { return Ok(Vec::new()) };
        let list = list.as_l().map_err(|_| self.bad(name))?;
        list.iter().map(|v| v.as_n().ok().and_then(|n| n.parse().ok()).ok_or_else(|| self.bad(name))).collect()
    }

    /// A set of sequence numbers; empty where there is none.
    pub(crate) fn seqs(&self, name: &str) -> Result<Vec<Seq>> {
        let Some(set) = self.maybe(name) else { return Ok(Vec::new()) };
        let set = set.as_ns().map_err(|_| self.bad(name))?;
        set.iter().map(|n| n.parse().ok().and_then(|n| Seq::new(n).ok()).ok_or_else(|| self.bad(name))).collect()
    }

    pub(crate) fn seq(&self, name: &str) -> Result<Seq> {
        Seq::new(self.number(name)?).map_err(|_| self.bad(name))
    }

    pub(crate) fn envelope_number(&self, name: &str) -> Result<Number> {
        Number::new(self.number(name)?).map_err(|_| self.bad(name))
    }

    pub(crate) fn envelope_id(&self, name: &str) -> Result<EnvelopeId> {
        let blob = self.maybe(name).and_then(|v| v.as_b().ok()).ok_or_else(|| self.bad(name))?;
        Uuid::from_slice(blob.as_ref()).map(EnvelopeId).map_err(|_| self.bad(name))
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_str(self.text(name)?).map_err(|_| self.bad(name))
    }

    pub(crate) fn map(&self, name: &str) -> Result<&'a Item> {
        self.maybe(name).and_then(|v| v.as_m().ok()).ok_or_else(|| self.bad(name))
    }

    pub(crate) fn list(&self, name: &str) -> Result<&'a [AttributeValue]> {
        self.maybe(name).and_then(|v| v.as_l().ok()).map(Vec::as_slice).ok_or_else(|| self.bad(name))
    }
}

/// Reads items by their keys, consistently, a hundred a call, in no order.
pub(crate) async fn batch_get(part: &'static str, client: &Client, table: &str, keys: Vec<Item>) -> Result<Vec<Item>> {
    let mut items = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(BATCH_KEYS) {
        let mut pending = chunk.to_vec();
        let mut attempt = 0;
        while !pending.is_empty() {
            if attempt == BATCH_ATTEMPTS {
                return Err(Trouble::new(part, Class::Throttled, "a batch was never read to its end"));
            }
            tokio::time::sleep(BATCH_WAIT * attempt).await;
            attempt += 1;
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(pending))
                .consistent_read(true)
                .build()
                .map_err(|error| Trouble::broken(part, error))?;
            let answer = client
                .batch_get_item()
                .request_items(table, wanted)
                .send()
                .await
                .map_err(|error| trouble(part, &error))?;
            items.extend(answer.responses.and_then(|mut tables| tables.remove(table)).unwrap_or_default());
            pending = answer
                .unprocessed_keys
                .and_then(|mut tables| tables.remove(table))
                .map(|keys| keys.keys)
                .unwrap_or_default();
        }
    }
    Ok(items)
}
