-- What operators' commands ask of the leader. A command adds its request and removes it; the leader answers it. The
-- times are this machine's clock in milliseconds.
CREATE TABLE request (
    number      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    what        TEXT NOT NULL,
    arguments   TEXT NOT NULL,
    asked_at    INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    answer      TEXT,
    answered_at INTEGER
);
