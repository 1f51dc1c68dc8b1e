-- Whose file this is. One row.
CREATE TABLE account (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    user   TEXT NOT NULL,
    device TEXT NOT NULL
) STRICT;

CREATE TABLE conversations (
    id             TEXT PRIMARY KEY,
    peer           TEXT,
    -- Everything up to here has been taken in.
    cursor         INTEGER NOT NULL DEFAULT 0,
    -- The highest number known to be reserved.
    head           INTEGER NOT NULL DEFAULT 0,
    -- Everything up to here is gone from the log; what of it this device has not fetched it will not get.
    floor          INTEGER NOT NULL DEFAULT 0,
    -- The number of this device's next envelope.
    next_number    INTEGER NOT NULL DEFAULT 1,
    -- After a lane conflict: what the next envelope goes on from, as JSON.
    resolved       TEXT,
    active_at      INTEGER NOT NULL DEFAULT 0,
    -- This device's marks: how far it is, and what the server has confirmed of it.
    delivered      INTEGER NOT NULL DEFAULT 0,
    delivered_told INTEGER NOT NULL DEFAULT 0,
    read           INTEGER NOT NULL DEFAULT 0,
    read_told      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE INDEX conversations_to_mark ON conversations (id) WHERE delivered > delivered_told OR read > read_told;

-- One envelope per conversation: under way, or refused and waiting for a person.
CREATE TABLE outbox (
    conversation TEXT PRIMARY KEY REFERENCES conversations (id),
    envelope     BLOB NOT NULL UNIQUE,
    number       INTEGER NOT NULL,
    -- What is sent, byte for byte, at every attempt.
    json         TEXT NOT NULL,
    attempt      INTEGER NOT NULL DEFAULT 0,
    -- The refusal as JSON. NULL while it is under way.
    failure      TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE messages (
    -- The local order.
    local        INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation TEXT NOT NULL REFERENCES conversations (id),
    user         TEXT NOT NULL,
    device       TEXT NOT NULL,
    id           BLOB NOT NULL,
    body         TEXT NOT NULL,
    written_at   INTEGER,
    -- When it began to wait, by this device's clock. Only for its age; NULL unless it was written here.
    queued_at    INTEGER,
    -- 0 failed, 1 pending, 2 sent, 3 delivered, 4 read, 9 received
    state        INTEGER NOT NULL CHECK (state IN (0, 1, 2, 3, 4, 9)),
    seq          INTEGER,
    at           INTEGER,
    -- The envelope it is in, while that is in the outbox.
    envelope     BLOB REFERENCES outbox (envelope),
    UNIQUE (conversation, user, id),
    CHECK ((seq IS NULL) = (state IN (0, 1)))
) STRICT;

CREATE INDEX messages_by_seq ON messages (conversation, seq) WHERE seq IS NOT NULL;
CREATE INDEX messages_waiting ON messages (conversation, local) WHERE seq IS NULL;
CREATE INDEX messages_by_envelope ON messages (envelope) WHERE envelope IS NOT NULL;
CREATE INDEX messages_by_state ON messages (conversation, state, seq);
CREATE INDEX messages_by_id ON messages (id);

-- How far the others are.
CREATE TABLE marks (
    conversation TEXT NOT NULL REFERENCES conversations (id),
    user         TEXT NOT NULL,
    delivered    INTEGER NOT NULL,
    read         INTEGER NOT NULL,
    PRIMARY KEY (conversation, user)
) STRICT, WITHOUT ROWID;
