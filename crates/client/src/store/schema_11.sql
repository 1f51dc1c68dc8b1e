-- The file that belongs to a message, as the wire has it (JSON).
ALTER TABLE messages ADD COLUMN media TEXT;

-- Own files on their way to the object store, each written with its message. The message is held back until the file is
-- stored as a whole.
CREATE TABLE uploads (
    media        BLOB PRIMARY KEY,
    -- The message's local number; NULL once that is dropped.
    message      INTEGER UNIQUE,
    conversation TEXT NOT NULL,
    -- Where the person has it, and when it was last changed there, in Unix milliseconds.
    path         TEXT NOT NULL,
    modified     INTEGER,
    -- The SHA-256 of each part, 32 bytes each.
    parts        BLOB NOT NULL,
    -- Bytes that the store is known to have.
    sent         INTEGER NOT NULL DEFAULT 0,
    -- 0 waits or is under way, 1 stored as a whole, 2 failed, 3 not wanted any more: the server has to be told.
    state        INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2, 3)),
    -- Why it failed, as JSON.
    failure      TEXT,
    -- How often the server refused the message because it has no such file.
    refused      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX uploads_to_do ON uploads (message) WHERE state IN (0, 3);

-- Files of the cache, whole or in part.
CREATE TABLE downloads (
    -- The message's local number.
    message INTEGER PRIMARY KEY,
    -- In the cache's folder.
    name    TEXT NOT NULL,
    size    INTEGER NOT NULL,
    -- 0 begun, 1 here, 2 not wanted any more: to be removed.
    state   INTEGER NOT NULL CHECK (state IN (0, 1, 2)),
    -- By the device's own time.
    used_at INTEGER NOT NULL
) STRICT;
CREATE INDEX downloads_to_remove ON downloads (message) WHERE state = 2;

-- A message that is dropped takes its upload with it; one that is deleted its file.
CREATE TRIGGER media_dropped AFTER DELETE ON messages WHEN old.media IS NOT NULL BEGIN
    UPDATE uploads SET message = NULL, state = 3 WHERE message = old.local;
    UPDATE downloads SET state = 2 WHERE message = old.local;
END;
CREATE TRIGGER media_deleted AFTER UPDATE OF media ON messages WHEN old.media IS NOT NULL AND new.media IS NULL BEGIN
    DELETE FROM uploads WHERE message = old.local;
    UPDATE downloads SET state = 2 WHERE message = old.local;
END;
