-- Envelopes: of each conversation at most one that is under way, those that were refused and wait for a person, and
-- those that a person has retried and that wait for their turn.
CREATE TABLE outbox_4 (
    envelope     BLOB PRIMARY KEY,
    conversation TEXT NOT NULL REFERENCES conversations (id),
    number       INTEGER NOT NULL,
    -- What is sent, byte for byte, at every attempt.
    json         TEXT NOT NULL,
    attempt      INTEGER NOT NULL DEFAULT 0,
    -- When it was first sent, by the clock on the wall. For display.
    first_try    INTEGER,
    -- The refusal as JSON. NULL while it is under way.
    failure      TEXT,
    -- 1 from the retry until it is under way again.
    again        INTEGER NOT NULL DEFAULT 0,
    CHECK (again = 0 OR (again = 1 AND failure IS NULL))
) STRICT, WITHOUT ROWID;

INSERT INTO outbox_4 (envelope, conversation, number, json, attempt, failure)
    SELECT envelope, conversation, number, json, attempt, failure FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_4 RENAME TO outbox;

CREATE UNIQUE INDEX outbox_under_way ON outbox (conversation) WHERE failure IS NULL AND again = 0;
CREATE INDEX outbox_by_number ON outbox (conversation, number);
