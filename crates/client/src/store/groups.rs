//! Groups: what replaying the log's events has made of them, up to the cursor.

use poste_protocol::{Author, ConversationId, Event, Role, Seq, UserId};
use rusqlite::{OptionalExtension, params};

use super::Tx;
use super::columns::{int, optional_seq, seq, text};
use crate::{Member, StoreError};

/// What is known of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Its title, where known.
    pub title: Option<String>,
    /// The person's role; the inner nothing is for who is not in, the outer while it is not known.
    pub role: Option<Option<Role>>,
    /// The event that both are as of.
    pub as_of: Seq,
    /// The event that the members are as of, while they are known.
    pub roster: Option<Seq>,
}

/// An event of the log that this device has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// Its place.
    pub seq: Seq,
    /// Whose it is.
    pub by: UserId,
    /// What.
    pub event: Event,
}

fn code(role: Option<Role>) -> i64 {
    match role {
        None => 0,
        Some(Role::Member) => 1,
        Some(Role::Admin) => 2,
    }
}

pub(super) fn role(code: i64) -> Option<Role> {
    match code {
        1 => Some(Role::Member),
        2 => Some(Role::Admin),
        _ => None,
    }
}

impl Tx<'_> {
    /// What is known of a group.
    pub fn group(&self, id: &ConversationId) -> Result<Group, StoreError> {
        let mut found =
            self.sql.prepare_cached("SELECT title, role, group_at, roster FROM conversations WHERE id = ?")?;
        let group = found.query_row([id.as_str()], |row| {
            Ok(Group {
                title: row.get("title")?,
                role: row.get::<_, Option<i64>>("role")?.map(role),
                as_of: seq(row, "group_at")?,
                roster: optional_seq(row, "roster")?,
            })
        });
        Ok(group.optional()?.unwrap_or_default())
    }

    /// Notes what is known of a group.
    pub fn set_group(&self, id: &ConversationId, group: &Group) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE conversations SET title = ?2, role = ?3, group_at = ?4, roster = ?5 WHERE id = ?1")?
            .execute(params![
                id.as_str(),
                group.title,
                group.role.map(code),
                int(group.as_of.get()),
                group.roster.map(|roster| int(roster.get()))
            ])?;
        Ok(())
    }

    /// Groups that the person is in and of which the members are not known, though the log is.
    pub fn groups_to_ask_for(&self, limit: usize) -> Result<Vec<ConversationId>, StoreError> {
        let mut found = self.sql.prepare_cached(
            "SELECT id FROM conversations WHERE roster IS NULL AND id >= 'g_' AND id < 'g`' AND cursor > 0
                AND (role IS NULL OR role > 0) ORDER BY active_at DESC, id LIMIT ?",
        )?;
        Ok(found.query_map([int(limit as u64)], |row| text(row, "id"))?.collect::<rusqlite::Result<_>>()?)
    }

    /// Events that are here, after one number and up to another, in the log's order.
    pub fn events(&self, id: &ConversationId, after: Seq, through: Seq) -> Result<Vec<Happened>, StoreError> {
        let mut found = self.sql.prepare_cached(
            "SELECT seq, user, event FROM messages INDEXED BY messages_events
             WHERE conversation = ?1 AND event IS NOT NULL AND seq > ?2 AND seq <= ?3 ORDER BY seq",
        )?;
        let rows = found.query_map(params![id.as_str(), int(after.get()), int(through.get())], |row| {
            let event: String = row.get("event")?;
            let event = serde_json::from_str(&event).unwrap_or(Event::Unknown);
            Ok(Happened { seq: seq(row, "seq")?, by: text(row, "user")?, event })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A user's role in a group whose members are known.
    pub fn role_of(&self, id: &ConversationId, user: &UserId) -> Result<Option<Role>, StoreError> {
        let mut found = self.sql.prepare_cached("SELECT role FROM members WHERE conversation = ? AND user = ?")?;
        let code: Option<i64> = found.query_row([id.as_str(), user.as_str()], |row| row.get(0)).optional()?;
        Ok(code.and_then(role))
    }

    /// Notes a user's role; without one they are not in.
    pub fn set_role_of(&self, id: &ConversationId, user: &UserId, to: Option<Role>) -> Result<(), StoreError> {
        match to {
            Some(_) => self
                .sql
                .prepare_cached(
                    "INSERT INTO members (conversation, user, role) VALUES (?1, ?2, ?3)
                     ON CONFLICT (conversation, user) DO UPDATE SET role = excluded.role",
                )?
                .execute(params![id.as_str(), user.as_str(), code(to)])?,
            None => self
                .sql
                .prepare_cached("DELETE FROM members WHERE conversation = ? AND user = ?")?
                .execute([id.as_str(), user.as_str()])?,
        };
        Ok(())
    }

    /// Events may be missing: who is in is not known any more.
    pub fn forget_members(&self, id: &ConversationId) -> Result<(), StoreError> {
        self.sql.prepare_cached("UPDATE conversations SET roster = NULL WHERE id = ?")?.execute([id.as_str()])?;
        Ok(())
    }

    /// Nobody is in, as far as is known.
    pub fn clear_members(&self, id: &ConversationId) -> Result<(), StoreError> {
        self.sql.prepare_cached("DELETE FROM members WHERE conversation = ?")?.execute([id.as_str()])?;
        Ok(())
    }

    /// The members of a group as they are known, in the order of their ids.
    pub fn members(&self, id: &ConversationId) -> Result<Vec<Member>, StoreError> {
        let mut found =
            self.sql.prepare_cached("SELECT user, role FROM members WHERE conversation = ? ORDER BY user")?;
        let rows = found.query_map([id.as_str()], |row| {
            Ok(Member { user: text(row, "user")?, role: role(row.get("role")?).unwrap_or_default() })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Replays the events up to the cursor that are not in yet. Says whether anything changed.
    pub fn replay(&self, id: &ConversationId, me: &Author, cursor: Seq) -> Result<bool, StoreError> {
        let before = self.group(id)?;
        let from = before.roster.map_or(before.as_of, |roster| roster.min(before.as_of));
        let mut group = before.clone();
        for Happened { seq, by, event } in self.events(id, from, cursor)? {
            if seq > group.as_of {
                group.title = event.title().map(str::to_owned).or(group.title);
                let known = group.role.flatten();
                let after = event.role_after(&by, &me.user, known);
                if group.role.is_some() || after != known {
                    group.role = Some(after);
                }
                group.as_of = seq;
            }
            if group.roster.is_some_and(|roster| seq > roster) {
                group.roster = Some(seq);
                for user in event.concerns(&by) {
                    let before = self.role_of(id, &user)?;
                    let after = event.role_after(&by, &user, before);
                    self.set_role_of(id, &user, after)?;
                    if user == me.user && before.is_none() && after.is_some() {
                        // What happened while the person was not in was not to be seen.
                        group.roster = None;
                    }
                }
            }
        }
        if group != before {
            self.set_group(id, &group)?;
        }
        Ok(group != before)
    }
}
