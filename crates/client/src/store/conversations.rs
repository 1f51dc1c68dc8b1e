//! Conversations: cursors, the number of the next envelope, and marks.

use poste_protocol::{ConversationId, Mark, MemberMark, Number, Preview as Told, Resolved, Seq, Summary, UserId};
use rusqlite::{OptionalExtension, named_params, params};

use super::Tx;
use super::columns::{int, json, number, optional_json, optional_seq, optional_text, optional_uint, seq, text, uint};
use crate::{Conversation, GroupView, Preview, StoreError};

/// What the rules need to know of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which.
    pub id: ConversationId,
    /// The other user of a direct conversation, where known.
    pub peer: Option<UserId>,
    /// Everything up to here has been taken in,
    pub cursor: Seq,
    /// as far back as here. Nothing while nothing has.
    pub oldest: Option<Seq>,
    /// The number of this device's next envelope.
    pub next_number: Number,
    /// After a lane conflict: what the next envelope goes on from.
    pub resolved: Option<Resolved>,
    /// How far this device says it is.
    pub delivered: Seq,
    /// How far the person has read.
    pub read: Seq,
}

/// A mark that the server has not confirmed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkToSend {
    /// Which conversation.
    pub conversation: ConversationId,
    /// How far the device is.
    pub delivered: Seq,
    /// How far the person has read.
    pub read: Seq,
}

impl MarkToSend {
    /// As it goes over the wire.
    pub fn on_the_wire(&self) -> Mark {
        let some = |seq: Seq| (seq > Seq::ZERO).then_some(seq);
        Mark { conversation: self.conversation.clone(), delivered: some(self.delivered), read: some(self.read) }
    }
}

/// What applications see of a group; nothing of a conversation that is none.
fn group(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<GroupView>> {
    let id: ConversationId = text(row, "id")?;
    if !id.is_group() {
        return Ok(None);
    }
    let code: Option<i64> = row.get("role")?;
    let known = row.get::<_, Option<i64>>("roster")?.is_some();
    Ok(Some(GroupView {
        title: row.get("title")?,
        role: code.and_then(super::groups::role),
        left: code == Some(0),
        members: if known { Some(uint(row, "members")?) } else { None },
    }))
}

/// Counts the messages of others that are here and come after a number.
fn unread_after(seq: &str) -> String {
    format!(
        "(SELECT count(*) FROM messages m WHERE m.conversation = c.id AND m.seq > {seq} AND m.seq <= c.cursor
            AND m.state = 9 AND m.change IS NULL)"
    )
}

impl Tx<'_> {
    /// A conversation, if this device knows it.
    pub fn conversation(&self, id: &ConversationId) -> Result<Option<Row>, StoreError> {
        let mut found = self.sql.prepare_cached(
            "SELECT id, peer, cursor, oldest, next_number, resolved, delivered, read FROM conversations WHERE id = ?",
        )?;
        let row = found.query_row([id.as_str()], |row| {
            Ok(Row {
                id: text(row, "id")?,
                peer: optional_text(row, "peer")?,
                cursor: seq(row, "cursor")?,
                oldest: optional_seq(row, "oldest")?,
                next_number: number(row, "next_number")?,
                resolved: optional_json(row, "resolved")?,
                delivered: seq(row, "delivered")?,
                read: seq(row, "read")?,
            })
        });
        Ok(row.optional()?)
    }

    /// Makes a conversation known, with its peer if that is known. Says whether anything is new.
    pub fn know_conversation(&self, id: &ConversationId, peer: Option<&UserId>) -> Result<bool, StoreError> {
        let changed = self
            .sql
            .prepare_cached(
                "INSERT INTO conversations (id, peer) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET peer = excluded.peer
                 WHERE peer IS NULL AND excluded.peer IS NOT NULL",
            )?
            .execute(params![id.as_str(), peer.map(UserId::as_str)])?;
        Ok(changed > 0)
    }

    /// Every conversation, the one with the latest activity first.
    pub fn conversations(&self) -> Result<Vec<Conversation>, StoreError> {
        self.views("ORDER BY active_at DESC, id", "")
    }

    /// One conversation as applications see it.
    pub fn conversation_view(&self, id: &ConversationId) -> Result<Option<Conversation>, StoreError> {
        Ok(self.views("AND id = :id", id.as_str())?.pop())
    }

    fn views(&self, which: &str, id: &str) -> Result<Vec<Conversation>, StoreError> {
        // Exact, if everything that is unread is here. Otherwise what the server said counts, without what was read since
        // and with what came since.
        let unread = format!(
            "CASE WHEN cursor >= told_head AND coalesce(oldest, 0) <= read THEN {here}
                ELSE max({here}, min(told_unread, max(told_head - read, 0)) + {later}) END",
            here = unread_after("c.read"),
            later = unread_after("max(c.read, c.told_head)"),
        );
        // `:id` is bound in both cases, so that one mapping serves them.
        let text_of = format!(
            "SELECT id, peer, title, role, roster, cursor, coalesce(oldest, 0) AS oldest, head, floor, read, active_at,
                    muted_until, (SELECT count(*) FROM members g WHERE g.conversation = c.id) AS members,
                    iif(preview_seq > cursor, preview, NULL) AS preview, {unread} AS unread,
                    (SELECT count(*) FROM messages m INDEXED BY messages_waiting
                        WHERE m.conversation = c.id AND m.seq IS NULL) AS unsettled
             FROM conversations c WHERE :id IS NOT NULL {which}"
        );
        let mut found = self.sql.prepare_cached(&text_of)?;
        let rows = found.query_map(named_params! { ":id": id }, |row| {
            Ok(Conversation {
                id: text(row, "id")?,
                peer: optional_text(row, "peer")?,
                group: group(row)?,
                cursor: seq(row, "cursor")?,
                oldest: seq(row, "oldest")?,
                head: seq(row, "head")?,
                floor: seq(row, "floor")?,
                unread: uint(row, "unread")?,
                read: seq(row, "read")?,
                unsettled: uint(row, "unsettled")?,
                active_at: uint(row, "active_at")?,
                preview: optional_json::<Told>(row, "preview")?.map(Preview::from),
                muted_until: optional_uint(row, "muted_until")?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Takes in what the server says of the head and of the last activity; neither goes back.
    pub fn raise_head(&self, id: &ConversationId, head: Seq, active_at: u64) -> Result<bool, StoreError> {
        let changed = self
            .sql
            .prepare_cached(
                "UPDATE conversations SET head = max(head, ?2), active_at = max(active_at, ?3)
                 WHERE id = ?1 AND (head < ?2 OR active_at < ?3)",
            )?
            .execute(params![id.as_str(), int(head.get()), int(active_at)])?;
        Ok(changed > 0)
    }

    /// Takes in what the list says of what is not here yet: how much is unread, and the last message, which never counts
    /// as a message of the log. Says whether it is news.
    pub fn set_told(&self, told: &Summary) -> Result<bool, StoreError> {
        let changed = self
            .sql
            .prepare_cached(
                "UPDATE conversations SET told_unread = ?2, told_head = ?3, preview = iif(?5 > cursor, ?4, NULL),
                    preview_seq = iif(?5 > cursor, ?5, NULL)
                 WHERE id = ?1 AND cursor < ?3
                    AND (told_unread, told_head, preview) IS NOT (?2, ?3, iif(?5 > cursor, ?4, NULL))",
            )?
            .execute(params![
                told.conversation.as_str(),
                int(told.unread),
                int(told.head.get()),
                json(told.last.as_ref())?,
                told.last.as_ref().map(|last| int(last.seq.get()))
            ])?;
        Ok(changed > 0)
    }

    /// Whether nothing of any log is here.
    pub fn is_fresh(&self) -> Result<bool, StoreError> {
        Ok(!self.sql.prepare_cached("SELECT 1 FROM conversations WHERE cursor > 0 LIMIT 1")?.exists([])?)
    }

    /// Takes in what the server says is gone; that never comes back. Says whether it is news.
    pub fn raise_floor(&self, id: &ConversationId, floor: Seq) -> Result<bool, StoreError> {
        let changed = self
            .sql
            .prepare_cached("UPDATE conversations SET floor = ?2 WHERE id = ?1 AND floor < ?2")?
            .execute(params![id.as_str(), int(floor.get())])?;
        Ok(changed > 0)
    }

    /// Whether nothing of a conversation is here: neither of the log, nor anything that was written on this device.
    pub fn is_untouched(&self, id: &ConversationId) -> Result<bool, StoreError> {
        Ok(!self
            .sql
            .prepare_cached(
                "SELECT 1 FROM conversations c WHERE id = ?1 AND (cursor > 0 OR oldest IS NOT NULL
                    OR EXISTS (SELECT 1 FROM messages m WHERE m.conversation = c.id))",
            )?
            .exists([id.as_str()])?)
    }

    /// An untouched conversation is entered somewhere: everything after `oldest` and up to `cursor` is taken in.
    pub fn enter(&self, id: &ConversationId, oldest: Seq, cursor: Seq) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "UPDATE conversations SET oldest = ?2, cursor = ?3, head = max(head, ?3),
                    preview = iif(preview_seq > ?3, preview, NULL)
                 WHERE id = ?1 AND oldest IS NULL AND cursor = 0",
            )?
            .execute(params![id.as_str(), int(oldest.get()), int(cursor.get())])?;
        Ok(())
    }

    /// What has been taken in reaches further back now.
    pub fn lower_oldest(&self, id: &ConversationId, oldest: Seq) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE conversations SET oldest = ?2 WHERE id = ?1 AND oldest > ?2")?
            .execute(params![id.as_str(), int(oldest.get())])?;
        Ok(())
    }

    /// Moves the cursor forward. Where nothing was taken in before, it begins at the beginning.
    pub fn raise_cursor(&self, id: &ConversationId, cursor: Seq) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "UPDATE conversations SET cursor = ?2, oldest = coalesce(oldest, 0), head = max(head, ?2),
                    preview = iif(preview_seq > ?2, preview, NULL)
                 WHERE id = ?1 AND cursor < ?2",
            )?
            .execute(params![id.as_str(), int(cursor.get())])?;
        Ok(())
    }

    /// The number of the next envelope becomes at least `next`.
    pub fn raise_next_number(&self, id: &ConversationId, next: Number) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE conversations SET next_number = ?2 WHERE id = ?1 AND next_number < ?2")?
            .execute(params![id.as_str(), int(next.get())])?;
        Ok(())
    }

    /// What the next envelope goes on from; nothing once one was accepted.
    pub fn set_resolved(&self, id: &ConversationId, resolved: Option<Resolved>) -> Result<(), StoreError> {
        let json = resolved.map(|resolved| serde_json::to_string(&resolved)).transpose();
        let json = json.map_err(|wrong| StoreError::Damaged(wrong.to_string()))?;
        self.sql
            .prepare_cached("UPDATE conversations SET resolved = ?2 WHERE id = ?1 AND resolved IS NOT ?2")?
            .execute(params![id.as_str(), json])?;
        Ok(())
    }

    /// This device has stored what others wrote, up to here.
    pub fn raise_delivered(&self, id: &ConversationId, to: Seq) -> Result<bool, StoreError> {
        let changed = self
            .sql
            .prepare_cached("UPDATE conversations SET delivered = ?2 WHERE id = ?1 AND delivered < ?2")?
            .execute(params![id.as_str(), int(to.get())])?;
        Ok(changed > 0)
    }

    /// The person has read up to here; `told` when another device of theirs has said so.
    pub fn raise_read(&self, id: &ConversationId, to: Seq, told: bool) -> Result<bool, StoreError> {
        let changed = self
            .sql
            .prepare_cached(
                "UPDATE conversations SET read = max(read, ?2), read_told = max(read_told, iif(?3, ?2, 0))
                 WHERE id = ?1 AND (read < ?2 OR (?3 AND read_told < ?2))",
            )?
            .execute(params![id.as_str(), int(to.get()), told])?;
        Ok(changed > 0)
    }

    /// Marks that the server has not confirmed, at most `limit`. While it is still to be told whether the user gives read
    /// receipts, nothing new that was read is among them.
    pub fn marks_to_send(&self, limit: usize) -> Result<Vec<MarkToSend>, StoreError> {
        let mut found = self.sql.prepare_cached(
            "SELECT id, max(delivered, min(read, cursor)) AS delivered,
                min(iif(?2, read_told, read), cursor) AS read FROM conversations
             WHERE delivered > delivered_told OR (NOT ?2 AND read > read_told AND cursor > read_told)
             ORDER BY active_at DESC, id LIMIT ?1",
        )?;
        let rows = found.query_map(params![int(limit as u64), self.receipts()?.waits], |row| {
            Ok(MarkToSend {
                conversation: text(row, "id")?,
                delivered: seq(row, "delivered")?,
                read: seq(row, "read")?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The server knows a mark.
    pub fn mark_told(&self, mark: &MarkToSend) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "UPDATE conversations SET delivered_told = max(delivered_told, ?2), read_told = max(read_told, ?3)
                 WHERE id = ?1",
            )?
            .execute(params![mark.conversation.as_str(), int(mark.delivered.get()), int(mark.read.get())])?;
        Ok(())
    }

    /// Takes in how far a member is. Only moves forward. Says whether it moved.
    pub fn raise_member_mark(&self, id: &ConversationId, mark: &MemberMark) -> Result<bool, StoreError> {
        self.raise_mark_of(id, &mark.user, mark.delivered, mark.read)
    }

    /// The same.
    pub fn raise_mark_of(
        &self,
        id: &ConversationId,
        user: &UserId,
        delivered: Seq,
        read: Seq,
    ) -> Result<bool, StoreError> {
        let changed = self
            .sql
            .prepare_cached(
                "INSERT INTO marks (conversation, user, delivered, read) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (conversation, user) DO UPDATE
                 SET delivered = max(delivered, excluded.delivered), read = max(read, excluded.read)
                 WHERE delivered < excluded.delivered OR read < excluded.read",
            )?
            .execute(params![id.as_str(), user.as_str(), int(delivered.max(read).get()), int(read.get())])?;
        Ok(changed > 0)
    }

    /// The furthest that anybody else is: delivered, read.
    pub fn furthest_of_others(&self, id: &ConversationId, me: &UserId) -> Result<(Seq, Seq), StoreError> {
        let mut found = self.sql.prepare_cached(
            "SELECT coalesce(max(delivered), 0) AS delivered, coalesce(max(read), 0) AS read
             FROM marks WHERE conversation = ?1 AND user != ?2",
        )?;
        Ok(found.query_row([id.as_str(), me.as_str()], |row| Ok((seq(row, "delivered")?, seq(row, "read")?)))?)
    }
}
