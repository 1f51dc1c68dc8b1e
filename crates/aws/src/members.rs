//! The tables `members` (by conversation) and `conversations` (its mirror, by user).

use async_trait::async_trait;
use aws_sdk_dynamodb::{Client, types::AttributeValue};
use poste_domain::{
    Interval, Membership, Trouble,
    ports::{Belonging, Belongings, Members, Result},
};
use poste_protocol::{ConversationId, UserId};

use crate::{
    item::{Fields, Item, number, text},
    trouble::{lost_condition, trouble},
};

/// Members in DynamoDB.
pub struct MembersTable {
    client: Client,
    members: String,
    conversations: String,
}

impl MembersTable {
    /// On these tables.
    pub fn new(client: Client, members: String, conversations: String) -> Self {
        Self { client, members, conversations }
    }

    /// Puts an item where there is none; leaves what is there.
    async fn put_new(&self, part: &'static str, table: &str, item: Item) -> Result<()> {
        let put = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(conversation)")
            .send()
            .await;
        match put {
            Err(error) if !lost_condition(&error) => Err(trouble(part, &error)),
            _ => Ok(()),
        }
    }

    async fn found_side(&self, conversation: &ConversationId, user: &UserId, peer: &UserId) -> Result<()> {
        let key = Item::from([
            ("conversation".to_owned(), text(conversation.as_str())),
            ("user".to_owned(), text(user.as_str())),
        ]);
        let mut member = key.clone();
        member.insert("intervals".to_owned(), from_membership(&Membership::from_the_start()));
        let mut mirror = key;
        mirror.insert("peer".to_owned(), text(peer.as_str()));
        futures::try_join!(
            self.put_new("members.found", &self.members, member),
            self.put_new("conversations.found", &self.conversations, mirror),
        )?;
        Ok(())
    }
}

#[async_trait]
impl Members for MembersTable {
    async fn membership(&self, conversation: &ConversationId, user: &UserId) -> Result<Option<Membership>> {
        let found = self
            .client
            .get_item()
            .table_name(&self.members)
            .key("conversation", text(conversation.as_str()))
            .key("user", text(user.as_str()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| trouble("members.get", &error))?;
        found.item.map(|item| to_membership(&item)).transpose()
    }

    async fn members(&self, conversation: &ConversationId) -> Result<Vec<(UserId, Membership)>> {
        let mut members = Vec::new();
        let mut pages = self
            .client
            .query()
            .table_name(&self.members)
            .key_condition_expression("conversation = :conversation")
            .expression_attribute_values(":conversation", text(conversation.as_str()))
            .consistent_read(true)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            for item in page.map_err(|error| trouble("members.query", &error))?.items() {
                members.push((Fields::of("members.query", item).parsed("user")?, to_membership(item)?));
            }
        }
        Ok(members)
    }

    async fn found_direct(&self, conversation: &ConversationId, a: &UserId, b: &UserId) -> Result<()> {
        futures::try_join!(self.found_side(conversation, a, b), async {
            if a == b { Ok(()) } else { self.found_side(conversation, b, a).await }
        })?;
        Ok(())
    }

    async fn conversations(&self, user: &UserId, after: Option<&ConversationId>, limit: u32) -> Result<Belongings> {
        let start = after.map(|after| {
            Item::from([("user".to_owned(), text(user.as_str())), ("conversation".to_owned(), text(after.as_str()))])
        });
        let found = self
            .client
            .query()
            .table_name(&self.conversations)
            .key_condition_expression("#user = :user")
            .expression_attribute_names("#user", "user")
            .expression_attribute_values(":user", text(user.as_str()))
            .set_exclusive_start_key(start)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| trouble("conversations.query", &error))?;
        let more = found.last_evaluated_key.is_some();
        let conversations = found
            .items
            .unwrap_or_default()
            .iter()
            .map(|item| {
                let fields = Fields::of("conversations.query", item);
                let peer = fields.maybe("peer").map(|_| fields.parsed("peer")).transpose()?;
                Ok(Belonging { conversation: fields.parsed("conversation")?, peer })
            })
            .collect::<Result<_>>()?;
        Ok(Belongings { conversations, more })
    }
}

fn from_membership(membership: &Membership) -> AttributeValue {
    let interval = |interval: &Interval| {
        let mut map = Item::from([("from".to_owned(), number(interval.from))]);
        map.extend(interval.to.map(|to| ("to".to_owned(), number(to))));
        AttributeValue::M(map)
    };
    AttributeValue::L(membership.intervals().iter().map(interval).collect())
}

fn to_membership(item: &Item) -> Result<Membership> {
    let intervals = Fields::of("members.get", item).list("intervals")?;
    let interval = |value: &AttributeValue| {
        let map = value.as_m().map_err(|_| Trouble::broken("members.get", "an interval that is no map"))?;
        let fields = Fields::of("members.get", map);
        let to = fields.maybe("to").map(|_| fields.seq("to")).transpose()?;
        Ok(Interval { from: fields.seq("from")?, to })
    };
    Ok(Membership::new(intervals.iter().map(interval).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use poste_protocol::Seq;

    use super::*;

    #[test]
    fn memberships_survive_the_table() {
        let seq = |n| Seq::ZERO.plus(n);
        let membership =
            Membership::new(vec![Interval { from: seq(3), to: Some(seq(5)) }, Interval { from: seq(9), to: None }]);
        let item = Item::from([("intervals".to_owned(), from_membership(&membership))]);
        assert_eq!(to_membership(&item).expect("a membership"), membership);
    }
}
