-- The first schema. Times are milliseconds since 1970-01-01T00:00:00Z by the daemons' clocks; a lease is measured by the
-- database's clock alone. What orders or identifies is compared byte by byte, whatever the database's collation.

CREATE TABLE cdc_sync.about (
    name  text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

-- The daemons that work on this store. One that has not renewed its lease is dead, and its claims go with its row.
-- -infinity: it ended in order.
CREATE TABLE cdc_sync.daemon (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host        text NOT NULL,
    process     integer NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease       interval NOT NULL,
    alive_until timestamptz NOT NULL
);

-- One row per watch, which whoever writes for the watch locks first. captured_by tells who may record; fuse is JSON;
-- known and changed_at are what people look at all day: how many applications are known, and when something was news.
CREATE TABLE cdc_sync.watch (
    name        text COLLATE "C" PRIMARY KEY,
    captured_by text,
    fuse        text,
    known       bigint NOT NULL DEFAULT 0,
    changed_at  bigint
);

-- One record per application ever seen. The columns from status to url are what HelloWork was told last;
-- they are NULL as long as it was told nothing. number is a place in a sweep's bitmap.
CREATE TABLE cdc_sync.snapshot (
    number         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    watch          text COLLATE "C" NOT NULL,
    application_id text COLLATE "C" NOT NULL,
    row_key        text COLLATE "C" NOT NULL,
    in_scope       boolean NOT NULL DEFAULT true,
    status         text,
    job_id         text,
    deleted        boolean,
    created        bigint,
    event_date     bigint,
    source         text,
    extra          text,
    url            text,
    told_at        bigint,
    UNIQUE (watch, application_id)
) WITH (fillfactor = 90);
CREATE INDEX snapshot_row_key ON cdc_sync.snapshot (watch, row_key);
CREATE INDEX snapshot_application ON cdc_sync.snapshot (application_id);

-- At most one entry per application: its newest state wins. claimed_by is the daemon that has a call under way.
CREATE TABLE cdc_sync.outbox (
    watch            text COLLATE "C" NOT NULL,
    application_id   text COLLATE "C" NOT NULL,
    status           text NOT NULL,
    job_id           text NOT NULL,
    deleted          boolean NOT NULL,
    created          bigint NOT NULL,
    event_date       bigint NOT NULL,
    source           text,
    extra            text,
    url              text NOT NULL,
    kinds            text NOT NULL,
    state            text NOT NULL CHECK (state IN ('pending', 'held', 'dead')),
    revision         bigint NOT NULL,
    queued_at        bigint NOT NULL,
    due_at           bigint NOT NULL,
    attempted        boolean NOT NULL,
    attempts         integer NOT NULL,
    first_attempt_at bigint,
    not_found_since  bigint,
    reason           text,
    endpoint         text COLLATE "C" NOT NULL,
    claimed_by       bigint REFERENCES cdc_sync.daemon ON DELETE SET NULL,
    PRIMARY KEY (watch, application_id)
) WITH (
    -- A queue, empty most of the time: vacuum by number, not by share.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 10000
);
CREATE INDEX outbox_due ON cdc_sync.outbox (endpoint, due_at) WHERE state = 'pending' AND claimed_by IS NULL;
CREATE INDEX outbox_state ON cdc_sync.outbox (state, watch, queued_at);
CREATE INDEX outbox_claimed ON cdc_sync.outbox (claimed_by) WHERE claimed_by IS NOT NULL;

-- Applications whose row seems gone; a fresh read after due_at decides.
CREATE TABLE cdc_sync.suspicion (
    watch          text COLLATE "C" NOT NULL,
    application_id text COLLATE "C" NOT NULL,
    at             bigint NOT NULL,
    due_at         bigint NOT NULL,
    PRIMARY KEY (watch, application_id)
);
CREATE INDEX suspicion_due ON cdc_sync.suspicion (watch, due_at);

-- Rows that cannot be reported, and why.
CREATE TABLE cdc_sync.skipped (
    watch          text COLLATE "C" NOT NULL,
    row_key        text COLLATE "C" NOT NULL,
    application_id text COLLATE "C",
    reason         text NOT NULL,
    at             bigint NOT NULL,
    PRIMARY KEY (watch, row_key)
);
CREATE INDEX skipped_application ON cdc_sync.skipped (application_id);

CREATE TABLE cdc_sync.position (
    watch text COLLATE "C" NOT NULL,
    name  text COLLATE "C" NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (watch, name)
);

-- Every endpoint that an entry was ever queued for; health is JSON.
CREATE TABLE cdc_sync.endpoint (
    endpoint text COLLATE "C" PRIMARY KEY,
    health   text NOT NULL DEFAULT '{}'
);

CREATE TABLE cdc_sync.repair (
    watch text COLLATE "C" NOT NULL,
    cause text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (watch, cause)
);

-- What is wrong now, as each daemon sees it.
CREATE TABLE cdc_sync.condition (
    daemon  bigint NOT NULL REFERENCES cdc_sync.daemon ON DELETE CASCADE,
    name    text COLLATE "C" NOT NULL,
    message text NOT NULL,
    since   bigint NOT NULL,
    PRIMARY KEY (daemon, name)
);

CREATE TABLE cdc_sync.history (
    number         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             bigint NOT NULL,
    watch          text COLLATE "C" NOT NULL,
    application_id text COLLATE "C" NOT NULL,
    event          text NOT NULL,
    detail         text NOT NULL
);
CREATE INDEX history_application ON cdc_sync.history (application_id);
-- The newest ends of calls stand among many events that are none.
CREATE INDEX history_ends ON cdc_sync.history (event, number)
    WHERE event IN ('acknowledged', 'answered', 'dead-lettered');

-- Calls that ended, by outcome, in steps of time; step is the beginning of one.
CREATE TABLE cdc_sync.call_count (
    step    bigint NOT NULL,
    outcome text COLLATE "C" NOT NULL CHECK (outcome IN ('acknowledged', 'retry', 'dead')),
    count   bigint NOT NULL,
    PRIMARY KEY (step, outcome)
);
