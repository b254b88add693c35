-- The first schema. Times are milliseconds since 1970-01-01T00:00:00Z.

CREATE TABLE about (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- One record per application ever seen. The columns from status to url are what HelloWork was told last;
-- they are NULL as long as it was told nothing. number is a place in a sweep's bitmap.
CREATE TABLE snapshot (
    number         INTEGER PRIMARY KEY,
    watch          TEXT NOT NULL,
    application_id TEXT NOT NULL,
    row_key        TEXT NOT NULL,
    in_scope       INTEGER NOT NULL DEFAULT 1,
    status         TEXT,
    job_id         TEXT,
    deleted        INTEGER,
    created        INTEGER,
    event_date     INTEGER,
    source         TEXT,
    extra          TEXT,
    url            TEXT,
    told_at        INTEGER,
    UNIQUE (watch, application_id)
);
CREATE INDEX snapshot_row_key ON snapshot (watch, row_key);

-- At most one entry per application: its newest state wins.
CREATE TABLE outbox (
    watch            TEXT NOT NULL,
    application_id   TEXT NOT NULL,
    status           TEXT NOT NULL,
    job_id           TEXT NOT NULL,
    deleted          INTEGER NOT NULL,
    created          INTEGER NOT NULL,
    event_date       INTEGER NOT NULL,
    source           TEXT,
    extra            TEXT,
    url              TEXT NOT NULL,
    kinds            TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('pending', 'held', 'dead')),
    revision         INTEGER NOT NULL,
    queued_at        INTEGER NOT NULL,
    due_at           INTEGER NOT NULL,
    attempted        INTEGER NOT NULL,
    attempts         INTEGER NOT NULL,
    first_attempt_at INTEGER,
    not_found_since  INTEGER,
    reason           TEXT,
    endpoint         TEXT NOT NULL,
    claimed          INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (watch, application_id)
) WITHOUT ROWID;
CREATE INDEX outbox_due ON outbox (endpoint, due_at) WHERE state = 'pending' AND claimed = 0;
CREATE INDEX outbox_state ON outbox (state, watch, queued_at);

-- Applications whose row seems gone; a fresh read after due_at decides.
CREATE TABLE suspicion (
    watch          TEXT NOT NULL,
    application_id TEXT NOT NULL,
    at             INTEGER NOT NULL,
    due_at         INTEGER NOT NULL,
    PRIMARY KEY (watch, application_id)
) WITHOUT ROWID;
CREATE INDEX suspicion_due ON suspicion (watch, due_at);

-- Rows that cannot be reported, and why.
CREATE TABLE skipped (
    watch          TEXT NOT NULL,
    row_key        TEXT NOT NULL,
    application_id TEXT,
    reason         TEXT NOT NULL,
    at             INTEGER NOT NULL,
    PRIMARY KEY (watch, row_key)
) WITHOUT ROWID;
CREATE INDEX skipped_application ON skipped (application_id);

CREATE TABLE position (
    watch TEXT NOT NULL,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (watch, name)
) WITHOUT ROWID;

-- Every endpoint that an entry was ever queued for; health is JSON.
CREATE TABLE endpoint (
    endpoint TEXT PRIMARY KEY,
    health   TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;

CREATE TABLE fuse (
    watch TEXT PRIMARY KEY,
    state TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE repair (
    watch TEXT NOT NULL,
    cause TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (watch, cause)
) WITHOUT ROWID;

CREATE TABLE condition (
    name    TEXT PRIMARY KEY,
    message TEXT NOT NULL,
    since   INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE history (
    number         INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL,
    watch          TEXT NOT NULL,
    application_id TEXT NOT NULL,
    event          TEXT NOT NULL,
    detail         TEXT NOT NULL
);
CREATE INDEX history_application ON history (application_id);
