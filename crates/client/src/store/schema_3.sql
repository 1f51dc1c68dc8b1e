-- The device's own time, by which messages wait: what it was when the device's clocks said so and so. One row.
CREATE TABLE clock (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    time       INTEGER NOT NULL,
    -- Which start of the device, and how long ago it was, sleep included.
    boot       BLOB NOT NULL,
    since_boot INTEGER NOT NULL,
    -- The clock on the wall.
    wall       INTEGER NOT NULL
) STRICT;
