-- The present schema, for a new store and for one that is brought up to date. Times are milliseconds since
-- 1970-01-01T00:00:00Z.

CREATE TABLE IF NOT EXISTS about (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- What is known of each watch; fuse is JSON. session is the one on the ATS's database by which the watch was captured last.
CREATE TABLE IF NOT EXISTS watch (
    name       TEXT PRIMARY KEY,
    fuse       TEXT,
    known      INTEGER NOT NULL DEFAULT 0,
    changed_at INTEGER,
    session    TEXT
) WITHOUT ROWID;

-- One record per application ever seen. status, job_id, deleted and metadata are its last acknowledged state, NULL as long
-- as there is none. number is a place in a sweep's bitmap; verified is the digest of the row that was found to be no news.
CREATE TABLE IF NOT EXISTS snapshot (
    number          INTEGER PRIMARY KEY,
    watch           TEXT NOT NULL,
    application_id  TEXT NOT NULL,
    row_key         TEXT NOT NULL,
    in_scope        INTEGER NOT NULL DEFAULT 1,
    status          TEXT,
    job_id          TEXT,
    deleted         INTEGER,
    metadata        TEXT,
    acknowledged_at INTEGER,
    adopted         INTEGER NOT NULL DEFAULT 0,
    verified        TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS snapshot_application ON snapshot (watch, application_id);
CREATE INDEX IF NOT EXISTS snapshot_row_key ON snapshot (watch, row_key);
-- By a trigger, so that no statement can forget it.
CREATE TRIGGER IF NOT EXISTS snapshot_verified
    AFTER UPDATE OF row_key, in_scope, status, job_id, deleted ON snapshot
    WHEN OLD.verified IS NOT NULL
BEGIN
    UPDATE snapshot SET verified = NULL WHERE number = NEW.number;
END;

-- At most one entry per application: its newest state wins.
CREATE TABLE IF NOT EXISTS outbox (
    watch            TEXT NOT NULL,
    application_id   TEXT NOT NULL,
    status           TEXT NOT NULL,
    job_id           TEXT NOT NULL,
    deleted          INTEGER NOT NULL,
    metadata         TEXT NOT NULL,
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
    PRIMARY KEY (watch, application_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (endpoint, watch, due_at) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS outbox_state ON outbox (state, watch, queued_at);

-- Applications whose row seems gone; a fresh read after due_at decides.
CREATE TABLE IF NOT EXISTS suspicion (
    watch          TEXT NOT NULL,
    application_id TEXT NOT NULL,
    at             INTEGER NOT NULL,
    due_at         INTEGER NOT NULL,
    PRIMARY KEY (watch, application_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS suspicion_due ON suspicion (watch, due_at);

-- Rows that cannot be reported, and why.
CREATE TABLE IF NOT EXISTS skipped (
    watch          TEXT NOT NULL,
    row_key        TEXT NOT NULL,
    application_id TEXT,
    reason         TEXT NOT NULL,
    at             INTEGER NOT NULL,
    PRIMARY KEY (watch, row_key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS skipped_application ON skipped (application_id);

CREATE TABLE IF NOT EXISTS position (
    watch TEXT NOT NULL,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (watch, name)
) WITHOUT ROWID;

-- Every endpoint that an entry was ever queued for; health is JSON.
CREATE TABLE IF NOT EXISTS endpoint (
    endpoint TEXT PRIMARY KEY,
    health   TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS repair (
    watch TEXT NOT NULL,
    cause TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (watch, cause)
) WITHOUT ROWID;

-- What is wrong now, as the leader sees it.
CREATE TABLE IF NOT EXISTS condition (
    name    TEXT PRIMARY KEY,
    message TEXT NOT NULL,
    since   INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS history (
    number         INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL,
    watch          TEXT NOT NULL,
    application_id TEXT NOT NULL,
    event          TEXT NOT NULL,
    detail         TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS history_application ON history (application_id);
-- Of the ends of calls only failures have an index: acknowledgements are found among the newest events.
CREATE INDEX IF NOT EXISTS history_failures ON history (event) WHERE event IN ('answered', 'dead-lettered');

-- Calls that ended, by outcome, in steps of time; step is the beginning of one.
CREATE TABLE IF NOT EXISTS call_count (
    step    INTEGER NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('acknowledged', 'retry', 'dead')),
    count   INTEGER NOT NULL,
    PRIMARY KEY (step, outcome)
) WITHOUT ROWID;

-- One daemon of a store works, the leader; the others wait. Its lock is on the file beside this one. The columns without a
-- meaning here are those of the shared store.
CREATE TABLE IF NOT EXISTS leader (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    holder        TEXT NOT NULL,
    host          TEXT NOT NULL,
    process       INTEGER NOT NULL,
    place         TEXT NOT NULL,
    since         INTEGER NOT NULL,
    lease         REAL NOT NULL,
    beat          INTEGER NOT NULL,
    backend       INTEGER,
    configuration TEXT NOT NULL,
    stopped       INTEGER NOT NULL
);

-- What operators' commands ask of the leader. A command adds its request and removes it; the leader answers it. The
-- times are this machine's clock in milliseconds.
CREATE TABLE IF NOT EXISTS request (
    number      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    what        TEXT NOT NULL,
    arguments   TEXT NOT NULL,
    asked_at    INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    answer      TEXT,
    answered_at INTEGER
);

-- How full the fuse of each account is, in a watch whose rows name their accounts.
CREATE TABLE IF NOT EXISTS account_fuse (
    watch   TEXT NOT NULL,
    account TEXT NOT NULL,
    fuse    TEXT NOT NULL,
    PRIMARY KEY (watch, account)
) WITHOUT ROWID;
