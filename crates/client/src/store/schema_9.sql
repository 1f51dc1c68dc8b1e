-- Waking: the token that the application wants to be woken by (JSON; NULL for none), whether the server has to be told,
-- and what it said last (JSON). What woke the device, until the server was told (JSON).
ALTER TABLE account ADD COLUMN push_token TEXT;
ALTER TABLE account ADD COLUMN push_due INTEGER NOT NULL DEFAULT 0 CHECK (push_due IN (0, 1));
ALTER TABLE account ADD COLUMN push_status TEXT;
ALTER TABLE account ADD COLUMN woken_by TEXT;

-- Until when nobody is woken for a conversation, in Unix milliseconds; and whether the server has to be told.
ALTER TABLE conversations ADD COLUMN muted_until INTEGER;
ALTER TABLE conversations ADD COLUMN mute_due INTEGER NOT NULL DEFAULT 0 CHECK (mute_due IN (0, 1));
CREATE INDEX conversations_mute_due ON conversations (id) WHERE mute_due = 1;
