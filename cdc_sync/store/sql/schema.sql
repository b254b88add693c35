-- The present schema, in both databases: what is missing of it is made. `statements.py` has the tokens; PostgreSQL's
-- install.sql adds settings. Times are milliseconds since 1970-01-01T00:00:00Z.

CREATE TABLE IF NOT EXISTS @about (
    name  @name PRIMARY KEY,
    value text NOT NULL
)@keyed;

-- What is known of each watch; fuse is JSON. session is the one on the ATS's database by which the watch was captured last;
-- the leader may end it.
CREATE TABLE IF NOT EXISTS @watch (
    name       @name PRIMARY KEY,
    fuse       text,
    known      bigint NOT NULL DEFAULT 0,
    changed_at bigint,
    session    text
)@keyed;

-- One record per application ever seen. status, job_id, deleted and metadata are its last acknowledged state, NULL as long
-- as there is none. number is a place in a sweep's bitmap. verified is the digest of the row that was found to be no news;
-- each statement that changes the record takes it away.
CREATE TABLE IF NOT EXISTS @snapshot (
    number          @number,
    watch           @name NOT NULL,
    application_id  @name NOT NULL,
    row_key         @name NOT NULL,
    in_scope        boolean NOT NULL DEFAULT true,
    status          text,
    job_id          text,
    deleted         boolean,
    metadata        text,
    acknowledged_at bigint,
    adopted         boolean NOT NULL DEFAULT false,
    verified        text
);
CREATE UNIQUE INDEX IF NOT EXISTS snapshot_watch_application_id_key ON @snapshot (watch, application_id);
CREATE INDEX IF NOT EXISTS snapshot_row_key ON @snapshot (watch, row_key);
CREATE INDEX IF NOT EXISTS snapshot_application ON @snapshot (application_id);

-- At most one entry per application: its newest state wins.
CREATE TABLE IF NOT EXISTS @outbox (
    watch            @name NOT NULL,
    application_id   @name NOT NULL,
    status           text NOT NULL,
    job_id           text NOT NULL,
    deleted          boolean NOT NULL,
    metadata         text NOT NULL,
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
    endpoint         @name NOT NULL,
    PRIMARY KEY (watch, application_id)
)@keyed;
CREATE INDEX IF NOT EXISTS outbox_due ON @outbox (endpoint, watch, due_at) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS outbox_state ON @outbox (state, watch, queued_at);

-- Applications whose row seems gone; a fresh read after due_at decides.
CREATE TABLE IF NOT EXISTS @suspicion (
    watch          @name NOT NULL,
    application_id @name NOT NULL,
    at             bigint NOT NULL,
    due_at         bigint NOT NULL,
    PRIMARY KEY (watch, application_id)
)@keyed;
CREATE INDEX IF NOT EXISTS suspicion_due ON @suspicion (watch, due_at);

-- Rows that cannot be reported, and why.
CREATE TABLE IF NOT EXISTS @skipped (
    watch          @name NOT NULL,
    row_key        @name NOT NULL,
    application_id @name,
    reason         text NOT NULL,
    at             bigint NOT NULL,
    PRIMARY KEY (watch, row_key)
)@keyed;
CREATE INDEX IF NOT EXISTS skipped_application ON @skipped (application_id);

CREATE TABLE IF NOT EXISTS @position (
    watch @name NOT NULL,
    name  @name NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (watch, name)
)@keyed;

-- Every endpoint that an entry was ever queued for; health is JSON.
CREATE TABLE IF NOT EXISTS @endpoint (
    endpoint @name PRIMARY KEY,
    health   text NOT NULL DEFAULT '{}'
)@keyed;

CREATE TABLE IF NOT EXISTS @repair (
    watch @name NOT NULL,
    cause @name NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (watch, cause)
)@keyed;

-- What is wrong now, as the leader sees it.
CREATE TABLE IF NOT EXISTS @condition (
    name    @name PRIMARY KEY,
    message text NOT NULL,
    since   bigint NOT NULL
)@keyed;

CREATE TABLE IF NOT EXISTS @history (
    number         @number,
    at             bigint NOT NULL,
    watch          @name NOT NULL,
    application_id @name NOT NULL,
    event          text NOT NULL,
    detail         text NOT NULL
);
CREATE INDEX IF NOT EXISTS history_application ON @history (application_id);
-- Of the ends of calls only failures have an index: acknowledgements are found among the newest events.
CREATE INDEX IF NOT EXISTS history_failures ON @history (number) WHERE event IN ('answered', 'dead-lettered');

-- Calls that ended, by outcome, in steps of time; step is the beginning of one.
CREATE TABLE IF NOT EXISTS @call_count (
    step    bigint NOT NULL,
    outcome @name NOT NULL CHECK (outcome IN ('acknowledged', 'retry', 'dead')),
    count   bigint NOT NULL,
    PRIMARY KEY (step, outcome)
)@keyed;

-- One daemon of a store works, the leader; the others wait. Its row has the session that writes, which holds the lock, and
-- a beat that changes while it lives. stopped: it has ended in order, and no call of it is under way.
CREATE TABLE IF NOT EXISTS @leader (
    one           integer PRIMARY KEY CHECK (one = 1),
    holder        text NOT NULL,
    host          text NOT NULL,
    process       integer NOT NULL,
    place         text NOT NULL,
    since         bigint NOT NULL,
    lease         float8 NOT NULL,
    beat          bigint NOT NULL,
    backend       integer,
    configuration text NOT NULL,
    stopped       boolean NOT NULL
);

-- What operators' commands ask of the leader. A command adds its request and removes it; the leader answers it. The times
-- are those of the clock of the database, or of the machine that has the file.
CREATE TABLE IF NOT EXISTS @request (
    number      @number,
    id          @name NOT NULL UNIQUE,
    what        text NOT NULL,
    arguments   text NOT NULL,
    asked_at    bigint NOT NULL,
    expires_at  bigint NOT NULL,
    answer      text,
    answered_at bigint
);

-- How full the fuse of each account is, in a watch whose rows name their accounts.
CREATE TABLE IF NOT EXISTS @account_fuse (
    watch   @name NOT NULL,
    account @name NOT NULL,
    fuse    text NOT NULL,
    PRIMARY KEY (watch, account)
)@keyed;
