-- An event of a group, as JSON, where the message is one.
ALTER TABLE messages ADD COLUMN event TEXT;
CREATE INDEX messages_events ON messages (conversation, seq) WHERE event IS NOT NULL AND seq IS NOT NULL;

-- Of a group: its title, the person's role (0 not in, 1 member, 2 admin; NULL while it is not known), and the event that
-- both are as of.
ALTER TABLE conversations ADD COLUMN title TEXT;
ALTER TABLE conversations ADD COLUMN role INTEGER CHECK (role IN (0, 1, 2));
ALTER TABLE conversations ADD COLUMN group_at INTEGER NOT NULL DEFAULT 0;
-- The event that the members are as of; NULL while they are not known.
ALTER TABLE conversations ADD COLUMN roster INTEGER;

CREATE INDEX conversations_to_ask_for ON conversations (active_at)
    WHERE roster IS NULL AND id >= 'g_' AND id < 'g`';

-- Who is in a group.
CREATE TABLE members (
    conversation TEXT NOT NULL REFERENCES conversations (id),
    user         TEXT NOT NULL,
    -- 1 member, 2 admin
    role         INTEGER NOT NULL CHECK (role IN (1, 2)),
    PRIMARY KEY (conversation, user)
) STRICT, WITHOUT ROWID;
