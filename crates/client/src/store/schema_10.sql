-- Whether the user gives and gets read receipts, as this device knows it, and whether the server is still to be told so.
-- One row; without it they do.
CREATE TABLE receipts (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    wanted INTEGER NOT NULL CHECK (wanted IN (0, 1)),
    waits  INTEGER NOT NULL CHECK (waits IN (0, 1))
) STRICT;
