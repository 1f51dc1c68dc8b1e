-- What the last list of conversations said: how much the person had not read, up to which head; and the last message
-- (JSON) with its place, until the pages up to there are here.
ALTER TABLE conversations ADD COLUMN told_unread INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN told_head INTEGER NOT NULL DEFAULT 0;
ALTER TABLE conversations ADD COLUMN preview TEXT;
ALTER TABLE conversations ADD COLUMN preview_seq INTEGER;
