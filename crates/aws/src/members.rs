//! The tables `members` (by conversation) and `conversations` (its mirror, by user).
//!
//! A user who has switched read receipts off, or on again, has an item that says so, under the name of no conversation.
//!
//! A group has, under a name that no user can have, an item that says how far its events are applied, and what they have
//! made of it. In the order of the table it is the first: who reads all members reads it before them.

use async_trait::async_trait;
use aws_sdk_dynamodb::{Client, operation::query::builders::QueryFluentBuilder, types::AttributeValue};
use poste_domain::{
    Farewell, Interval, Member, Membership, Trouble,
    ports::{Belonging, Belongings, Candidate, Group, Members, MembersSlice, Mutes, Result, Roster},
};
use poste_protocol::{ConversationId, Role, Seq, UserId};

use crate::{
    item::{Fields, Item, batch_get, number, text},
    trouble::{lost_condition, trouble},
};

/// In the place of a user: the group itself. No user id holds it, and it comes before all of them.
const GROUP: &str = "#";

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

    fn query(&self, conversation: &ConversationId) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.members)
            .expression_attribute_values(":conversation", text(conversation.as_str()))
            .consistent_read(true)
    }

    async fn found_side(&self, conversation: &ConversationId, user: &UserId, peer: &UserId) -> Result<()> {
        let key = key(conversation, user.as_str());
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
    async fn member(&self, conversation: &ConversationId, user: &UserId) -> Result<Option<Member>> {
        let found = self
            .client
            .get_item()
            .table_name(&self.members)
            .set_key(Some(key(conversation, user.as_str())))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| trouble("members.get", &error))?;
        found.item.map(|item| to_member(&item)).transpose()
    }

    async fn members(&self, conversation: &ConversationId) -> Result<Roster> {
        let mut roster = Roster { applied: Seq::ZERO, members: Vec::new() };
        let query = self.query(conversation).key_condition_expression("conversation = :conversation");
        let mut pages = query.into_paginator().send();
        while let Some(page) = pages.next().await {
            for item in page.map_err(|error| trouble("members.query", &error))?.items() {
                let fields = Fields::of("members.query", item);
                if fields.text("user")? == GROUP {
                    roster.applied = fields.seq("applied")?;
                } else {
                    roster.members.push((fields.parsed("user")?, to_member(item)?));
                }
            }
        }
        Ok(roster)
    }

    async fn slice(&self, conversation: &ConversationId, after: Option<&UserId>, limit: u32) -> Result<MembersSlice> {
        let found = self
            .query(conversation)
            .key_condition_expression("conversation = :conversation AND #user > :after")
            .expression_attribute_names("#user", "user")
            .expression_attribute_values(":after", text(after.map_or(GROUP, UserId::as_str)))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| trouble("members.slice", &error))?;
        let more = found.last_evaluated_key.is_some();
        let of = |item| Ok((Fields::of("members.slice", item).parsed("user")?, to_member(item)?));
        Ok(MembersSlice { members: found.items.unwrap_or_default().iter().map(of).collect::<Result<_>>()?, more })
    }

    async fn several(&self, keys: &[(ConversationId, UserId)]) -> Result<Vec<(ConversationId, UserId, Member)>> {
        let keys = keys.iter().map(|(conversation, user)| key(conversation, user.as_str())).collect();
        let items = batch_get("members.several", &self.client, &self.members, keys).await?;
        let of = |item| {
            let fields = Fields::of("members.several", item);
            Ok((fields.parsed("conversation")?, fields.parsed("user")?, to_member(item)?))
        };
        items.iter().map(of).collect()
    }

    async fn groups(&self, conversations: &[ConversationId]) -> Result<Vec<(ConversationId, Group)>> {
        let keys = conversations.iter().map(|conversation| key(conversation, GROUP)).collect();
        let items = batch_get("groups.get", &self.client, &self.members, keys).await?;
        let of = |item| Ok((Fields::of("groups.get", item).parsed("conversation")?, to_group(item)?));
        items.iter().map(of).collect()
    }

    async fn enter(&self, conversation: &ConversationId, user: &UserId, member: &Member) -> Result<()> {
        let key = key(conversation, user.as_str());
        self.put_new("conversations.enter", &self.conversations, key.clone()).await?;
        let left = match &member.left {
            Some(_) => ", left_at = :left_at, left_title = :left_title",
            None => " REMOVE left_at, left_title",
        };
        let update = self
            .client
            .update_item()
            .table_name(&self.members)
            .set_key(Some(key))
            .update_expression(format!("SET intervals = :intervals, #role = :role, #version = :version{left}"))
            .condition_expression("attribute_not_exists(#version) OR #version < :version")
            .expression_attribute_names("#role", "role")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":intervals", from_membership(&member.membership))
            .expression_attribute_values(":role", text(from_role(member.role)))
            .expression_attribute_values(":version", number(member.version));
        let update = match &member.left {
            Some(Farewell { at, title }) => update
                .expression_attribute_values(":left_at", number(*at))
                .expression_attribute_values(":left_title", text(title)),
            None => update,
        };
        match update.send().await {
            Err(error) if !lost_condition(&error) => Err(trouble("members.enter", &error)),
            _ => Ok(()),
        }
    }

    async fn settle(&self, conversation: &ConversationId, group: &Group) -> Result<()> {
        let put = self
            .client
            .put_item()
            .table_name(&self.members)
            .set_item(Some(key(conversation, GROUP)))
            .item("applied", number(group.applied))
            .item("founded", AttributeValue::Bool(group.founded))
            .item("title", text(&group.title))
            .item("members", number(group.members))
            .item("admins", number(group.admins))
            .condition_expression("attribute_not_exists(applied) OR applied < :applied")
            .expression_attribute_values(":applied", number(group.applied))
            .send()
            .await;
        match put {
            Err(error) if !lost_condition(&error) => Err(trouble("groups.settle", &error)),
            _ => Ok(()),
        }
    }

    async fn found_direct(&self, conversation: &ConversationId, a: &UserId, b: &UserId) -> Result<()> {
        futures::try_join!(self.found_side(conversation, a, b), async {
            if a == b { Ok(()) } else { self.found_side(conversation, b, a).await }
        })?;
        Ok(())
    }

    async fn set_receipts(&self, user: &UserId, on: bool, at_ms: u64) -> Result<bool> {
        let put = self
            .client
            .put_item()
            .table_name(&self.members)
            .set_item(Some(setting(user)))
            .item("receipts", AttributeValue::Bool(on))
            .item("at", number(at_ms))
            .condition_expression("attribute_not_exists(#at) OR #at <= :at")
            .expression_attribute_names("#at", "at")
            .expression_attribute_values(":at", number(at_ms))
            .send()
            .await;
        match put {
            Ok(_) => Ok(on),
            Err(error) if lost_condition(&error) => {
                Ok(self.without_receipts(std::slice::from_ref(user)).await?.is_empty())
            }
            Err(error) => Err(trouble("receipts.set", &error)),
        }
    }

    async fn without_receipts(&self, users: &[UserId]) -> Result<Vec<UserId>> {
        let keys = users.iter().map(setting).collect();
        let items = batch_get("receipts.get", &self.client, &self.members, keys).await?;
        let off = |item: &&Item| item.get("receipts").is_some_and(|on| on.as_bool() == Ok(&false));
        items.iter().filter(off).map(|item| Fields::of("receipts.get", item).parsed("user")).collect()
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
        let conversations = found.items.unwrap_or_default().iter().map(to_belonging).collect::<Result<_>>()?;
        Ok(Belongings { conversations, more })
    }
}

/// Where a user's settings are: in the place of a conversation something that none can be called, with the user in it, so
/// that settings are spread like everything else.
fn setting(user: &UserId) -> Item {
    Item::from([("conversation".to_owned(), text(format!("{GROUP}{user}"))), ("user".to_owned(), text(user.as_str()))])
}

fn key(conversation: &ConversationId, user: &str) -> Item {
    Item::from([("conversation".to_owned(), text(conversation.as_str())), ("user".to_owned(), text(user))])
}

fn from_role(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Admin => "admin",
    }
}

/// A member of a direct conversation has neither role nor version.
pub(crate) fn to_member(item: &Item) -> Result<Member> {
    let fields = Fields::of("members.get", item);
    let mut member = Member::plain(to_membership(item)?);
    if fields.maybe("version").is_some() {
        member.version = fields.seq("version")?;
        member.role = match fields.text("role")? {
            "admin" => Role::Admin,
            "member" => Role::Member,
            _ => return Err(Trouble::broken("members.get", "a role that is not known")),
        };
    }
    if fields.maybe("left_at").is_some() {
        let (at, title) = (fields.number("left_at")?, fields.text("left_title")?.to_owned());
        member.left = Some(Farewell { at, title });
    }
    Ok(member)
}

pub(crate) fn to_group(item: &Item) -> Result<Group> {
    let fields = Fields::of("groups.get", item);
    let founded = fields.maybe("founded").and_then(|value| value.as_bool().ok()).copied();
    Ok(Group {
        applied: fields.seq("applied")?,
        founded: founded.ok_or_else(|| Trouble::broken("groups.get", "a group that does not say whether it is one"))?,
        title: fields.text("title")?.to_owned(),
        members: fields.number("members")?,
        admins: fields.number("admins")?,
    })
}

#[async_trait]
impl Mutes for MembersTable {
    async fn mute(&self, conversation: &ConversationId, user: &UserId, until_ms: u64) -> Result<bool> {
        let muted = self
            .client
            .update_item()
            .table_name(&self.members)
            .set_key(Some(key(conversation, user.as_str())))
            .update_expression("SET muted_until = :until")
            .condition_expression("attribute_exists(conversation)")
            .expression_attribute_values(":until", number(until_ms))
            .send()
            .await;
        match muted {
            Ok(_) => Ok(true),
            Err(error) if lost_condition(&error) => Ok(false),
            Err(error) => Err(trouble("members.mute", &error)),
        }
    }

    async fn candidates(&self, conversation: &ConversationId, users: &[UserId]) -> Result<Vec<Candidate>> {
        let keys = users.iter().map(|user| key(conversation, user.as_str())).collect();
        let items = batch_get("members.candidates", &self.client, &self.members, keys).await?;
        items.iter().map(to_candidate).collect()
    }
}

pub(crate) fn to_candidate(item: &Item) -> Result<Candidate> {
    let fields = Fields::of("members.candidates", item);
    let muted = fields.maybe("muted_until").map(|_| fields.number("muted_until")).transpose()?;
    let (user, membership) = (fields.parsed("user")?, to_membership(item)?);
    Ok(Candidate { user, membership, muted_until_ms: muted.unwrap_or(0) })
}

pub(crate) fn to_belonging(item: &Item) -> Result<Belonging> {
    let fields = Fields::of("conversations.query", item);
    let peer = fields.maybe("peer").map(|_| fields.parsed("peer")).transpose()?;
    Ok(Belonging { conversation: fields.parsed("conversation")?, peer })
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
