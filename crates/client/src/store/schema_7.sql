-- What changes a message: 1 an edit, whose body is the new text, 2 a delete. It has a place in the log and travels like a
-- message, and is in no list.
ALTER TABLE messages ADD COLUMN change INTEGER CHECK (change IN (1, 2));
-- What it changes, and the place of that; NULL as long as that has none.
ALTER TABLE messages ADD COLUMN target BLOB;
ALTER TABLE messages ADD COLUMN target_seq INTEGER;
-- Of a message that is changed: what was written, where `body` is something else now; when that was written; and whether
-- it is deleted: 1 for ever, 2 by a delete that waits here. An edit of what is deleted for ever has a 1, too.
ALTER TABLE messages ADD COLUMN original TEXT;
ALTER TABLE messages ADD COLUMN edited_at INTEGER;
ALTER TABLE messages ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1, 2));

CREATE INDEX messages_by_target ON messages (target) WHERE target IS NOT NULL;
-- What is counted and raised are messages, and no changes.
DROP INDEX messages_by_state;
CREATE INDEX messages_by_state ON messages (conversation, state, seq) WHERE change IS NULL;

-- Only what is shown is found.
DROP TRIGGER search_added;
DROP TRIGGER search_removed;
DROP TRIGGER search_changed;
CREATE TRIGGER search_added AFTER INSERT ON messages WHEN new.change IS NULL BEGIN
    INSERT INTO search (rowid, body) VALUES (new.local, new.body);
END;
CREATE TRIGGER search_removed AFTER DELETE ON messages WHEN old.change IS NULL BEGIN
    INSERT INTO search (search, rowid, body) VALUES ('delete', old.local, old.body);
END;
CREATE TRIGGER search_changed AFTER UPDATE OF body ON messages WHEN old.change IS NULL AND old.body IS NOT new.body
BEGIN
    INSERT INTO search (search, rowid, body) VALUES ('delete', old.local, old.body);
    INSERT INTO search (rowid, body) VALUES (new.local, new.body);
END;
