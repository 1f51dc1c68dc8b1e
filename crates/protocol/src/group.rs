//! Groups: what happens to them, as entries of their log, and what that does to who is in.

use std::collections::HashSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Code, ConversationId, Hidden, Reference, Refusal, Seq, UserId, discreet, limits};

/// Tells the ids of groups from those of direct conversations.
const PREFIX: &str = "g_";

impl ConversationId {
    /// A fresh id for a group: `g_` and 32 hexadecimal digits of a random UUID. The device makes it, offline.
    ///
    /// # Panics
    /// Never: what it makes is a valid id.
    #[must_use]
    pub fn group() -> Self {
        Self::of_group(Uuid::new_v4())
    }

    /// The id of a group that has this UUID.
    ///
    /// # Panics
    /// Never: what it makes is a valid id.
    #[must_use]
    pub fn of_group(id: Uuid) -> Self {
        Self::new(format!("{PREFIX}{}", id.simple())).expect("digits fit the alphabet and the length")
    }

    /// Whether this is the id of a group.
    pub fn is_group(&self) -> bool {
        self.as_str().starts_with(PREFIX)
    }
}

/// What a member of a group may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Write, and leave.
    #[default]
    Member,
    /// Also give the group a title, add and remove users, and give roles.
    Admin,
}

/// Something that happens to a group. It is an entry of the log: the only message of its envelope.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The group begins. Its author is an admin.
    Created {
        /// Its title.
        title: String,
        /// Who is in from here on, beside the author; at most 100.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        members: Vec<UserId>,
    },
    /// It has another title.
    Titled {
        /// The title.
        title: String,
    },
    /// Users are in from here on. Nothing happens to those who were in.
    Added {
        /// 1 to 100.
        users: Vec<UserId>,
    },
    /// Users are out after this. Nothing happens to those who were not in.
    Removed {
        /// 1 to 100.
        users: Vec<UserId>,
    },
    /// The author is out after this.
    Left,
    /// A member has a role. Nothing happens to who is not in.
    Role {
        /// Who.
        user: UserId,
        /// Which.
        role: Role,
    },
    /// Something of a later version. Never sent.
    #[serde(other)]
    Unknown,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { title, members } => {
                f.debug_struct("Created").field("title", &Hidden::from(title)).field("members", members).finish()
            }
            Self::Titled { title } => f.debug_struct("Titled").field("title", &Hidden::from(title)).finish(),
            Self::Added { users } => f.debug_struct("Added").field("users", users).finish(),
            Self::Removed { users } => f.debug_struct("Removed").field("users", users).finish(),
            Self::Left => f.write_str("Left"),
            Self::Role { user, role } => f.debug_struct("Role").field("user", user).field("role", role).finish(),
            Self::Unknown => f.write_str("Unknown"),
        }
    }
}

impl Event {
    /// Whom it concerns, each once.
    pub fn concerns(&self, by: &UserId) -> Vec<UserId> {
        let mut seen = HashSet::new();
        let named: Vec<&UserId> = match self {
            Self::Created { members, .. } => std::iter::once(by).chain(members).collect(),
            Self::Added { users } | Self::Removed { users } => users.iter().collect(),
            Self::Left => vec![by],
            Self::Role { user, .. } => vec![user],
            Self::Titled { .. } | Self::Unknown => Vec::new(),
        };
        named.into_iter().filter(|user| seen.insert(*user)).cloned().collect()
    }

    /// What a user's role is after it, who had this one before; without one a user is not in. The rule by which
    /// everybody replays the log.
    pub fn role_after(&self, by: &UserId, user: &UserId, before: Option<Role>) -> Option<Role> {
        match self {
            Self::Created { .. } if user == by => Some(Role::Admin),
            Self::Created { members: users, .. } | Self::Added { users } if users.contains(user) => {
                Some(before.unwrap_or_default())
            }
            Self::Removed { users } if users.contains(user) => None,
            Self::Left if user == by => None,
            Self::Role { user: named, role } if user == named => before.map(|_| *role),
            _ => before,
        }
    }

    /// The title after it, if it gives one.
    pub fn title(&self) -> Option<&str> {
        match self {
            Self::Created { title, .. } | Self::Titled { title } => Some(title),
            _ => None,
        }
    }

    /// Holds it against the limits.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let bad = |what: &str| Err(Refusal::new(Code::BadFrame, what));
        if *self == Self::Unknown {
            return bad("an event of this type is not known");
        }
        if self.title().is_some_and(|title| title.is_empty() || title.chars().count() > limits::TITLE) {
            return bad("a title has 1 to 128 characters");
        }
        let (Self::Created { members: users, .. } | Self::Added { users } | Self::Removed { users }) = self else {
            return Ok(());
        };
        if users.len() > limits::EVENT_USERS {
            return Err(Refusal::new(Code::TooMany, "an event names at most 100 users"));
        }
        if users.is_empty() && !matches!(self, Self::Created { .. }) {
            return bad("an event names somebody");
        }
        if users.iter().collect::<HashSet<_>>().len() != users.len() {
            return bad("an event names nobody twice");
        }
        Ok(())
    }
}

/// See [`Request::Members`](crate::Request::Members).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MembersFrame {
    /// Comes back in the answer.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// Whose members.
    pub conversation: ConversationId,
    /// `next` of the page before; nothing for the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<UserId>,
}

/// The members of a group, a page of them: everybody who was in after the event `roster`, as changed by later events
/// or not. Who takes in the events after `roster`, in the log's order, has the members as they are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MembersPage {
    /// The request's.
    #[serde(rename = "ref")]
    pub reference: Reference,
    /// Whose members.
    pub conversation: ConversationId,
    /// The number of an event: the members are at least as of then.
    pub roster: Seq,
    /// The group's title.
    pub title: String,
    /// In the order of their ids.
    pub members: Vec<GroupMember>,
    /// Ask again with `after` set to this for the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<UserId>,
}

discreet!(MembersPage { reference, conversation, roster, members, next } hides { title });

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupMember {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
}

/// A group at a glance, as the user who asks may know it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupSummary {
    /// Its title; when the user is not in any more, that of then.
    pub title: String,
    /// What the user may do, or could.
    pub role: Role,
    /// The user is not in any more. What is told of the group is as it was then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
    /// How many are in; 0 when the user is not.
    pub members: u64,
    /// The number of the last event that this is as of.
    pub roster: Seq,
}

discreet!(GroupSummary { role, left, members, roster } hides { title });

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).expect("a valid name")
    }

    #[test]
    fn ids_of_groups_and_of_direct_conversations_differ() {
        let group = ConversationId::group();
        assert!(group.is_group() && !group.is_direct());
        assert!(!ConversationId::direct(&user("a"), &user("b")).is_group());
        assert_ne!(group, ConversationId::group());
    }

    #[test]
    fn replaying_decides_who_is_in() {
        let (ann, ben) = (user("ann"), user("ben"));
        let created = Event::Created { title: "t".into(), members: vec![ben.clone()] };
        assert_eq!(created.role_after(&ann, &ann, None), Some(Role::Admin));
        assert_eq!(created.role_after(&ann, &ben, None), Some(Role::Member));
        assert_eq!(created.concerns(&ann), [ann.clone(), ben.clone()]);
        let added = Event::Added { users: vec![ben.clone()] };
        assert_eq!(added.role_after(&ann, &ben, None), Some(Role::Member));
        assert_eq!(added.role_after(&ann, &ben, Some(Role::Admin)), Some(Role::Admin), "who is in stays as they are");
        let role = Event::Role { user: ben.clone(), role: Role::Admin };
        assert_eq!(role.role_after(&ann, &ben, Some(Role::Member)), Some(Role::Admin));
        assert_eq!(role.role_after(&ann, &ben, None), None);
        assert_eq!(role.role_after(&ann, &ann, Some(Role::Admin)), Some(Role::Admin));
        assert_eq!(Event::Left.role_after(&ben, &ben, Some(Role::Admin)), None);
        assert_eq!(Event::Left.role_after(&ben, &ann, Some(Role::Admin)), Some(Role::Admin));
        assert_eq!(Event::Removed { users: vec![ben.clone()] }.role_after(&ann, &ben, Some(Role::Member)), None);
    }

    #[test]
    fn events_are_bounded() {
        let many = |n: usize| (0..n).map(|n| user(&format!("u{n}"))).collect::<Vec<_>>();
        let code = |event: Event| event.check().map_err(|refusal| refusal.code);
        assert_eq!(code(Event::Added { users: many(100) }), Ok(()));
        assert_eq!(code(Event::Added { users: many(101) }), Err(Code::TooMany));
        assert_eq!(code(Event::Removed { users: many(0) }), Err(Code::BadFrame));
        assert_eq!(code(Event::Added { users: vec![user("a"), user("a")] }), Err(Code::BadFrame));
        assert_eq!(code(Event::Created { title: "t".into(), members: many(0) }), Ok(()));
        assert_eq!(code(Event::Titled { title: String::new() }), Err(Code::BadFrame));
        assert_eq!(code(Event::Titled { title: "é".repeat(128) }), Ok(()));
        assert_eq!(code(Event::Titled { title: "é".repeat(129) }), Err(Code::BadFrame));
        assert_eq!(code(Event::Unknown), Err(Code::BadFrame));
    }
}
