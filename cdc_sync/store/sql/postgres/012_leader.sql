-- One daemon of a store works, the leader; the others wait. Its row has the session that writes, which holds the lock, and
-- a beat that changes while it lives. stopped: it has ended in order, and no call of it is under way.
DROP TABLE IF EXISTS cdc_sync.leader;
CREATE TABLE cdc_sync.leader (
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

-- What is being called is in the sender's memory only. A claim of an earlier version is an attempt.
UPDATE cdc_sync.outbox
   SET attempted = true, attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, due_at)
 WHERE claimed_by IS NOT NULL;
DROP INDEX cdc_sync.outbox_claimed;
DROP INDEX cdc_sync.outbox_due;
ALTER TABLE cdc_sync.outbox DROP COLUMN claimed_by;
CREATE INDEX outbox_due ON cdc_sync.outbox (endpoint, watch, due_at) WHERE state = 'pending';

-- session is the one on the ATS's database by which the watch was captured last; the leader may end it.
ALTER TABLE cdc_sync.watch DROP COLUMN leased_by;

-- What is wrong now, as the leader sees it.
DELETE FROM cdc_sync.condition AS c USING cdc_sync.condition AS newer WHERE newer.name = c.name AND newer.daemon > c.daemon;
ALTER TABLE cdc_sync.condition DROP COLUMN daemon, ADD PRIMARY KEY (name);

DROP TABLE cdc_sync.daemon;

-- What operators' commands ask of the leader. A command adds its request and removes it; the leader answers it. The
-- times are the database's clock in milliseconds.
DROP TABLE IF EXISTS cdc_sync.request; -- which an older version's `sql uninstall --store` left
CREATE TABLE cdc_sync.request (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text COLLATE "C" NOT NULL UNIQUE,
    what        text COLLATE "C" NOT NULL,
    arguments   text NOT NULL,
    asked_at    bigint NOT NULL,
    expires_at  bigint NOT NULL,
    answer      text,
    answered_at bigint
);

-- An entry's endpoint has its account, and so has a state's metadata; without one it is the default account's. What a watch
-- with headers of its own was sent, or waits, is of the account with the watch's name. The note `credentials` has the
-- watches of the last daemon, each with the owner of its own headers, NULL without any.
WITH with_own (watch) AS (
    SELECT o.key FROM cdc_sync.about a CROSS JOIN LATERAL json_each_text(a.value::json) AS o
     WHERE a.name = 'credentials' AND o.value IS NOT NULL
)
UPDATE cdc_sync.snapshot AS s
   SET metadata = left(s.metadata, -1) || ',"account":' || to_json(s.watch)::text || '}'
  FROM with_own WHERE s.watch = with_own.watch AND s.metadata IS NOT NULL;
WITH with_own (watch) AS (
    SELECT o.key FROM cdc_sync.about a CROSS JOIN LATERAL json_each_text(a.value::json) AS o
     WHERE a.name = 'credentials' AND o.value IS NOT NULL
)
UPDATE cdc_sync.outbox AS s
   SET metadata = left(s.metadata, -1) || ',"account":' || to_json(s.watch)::text || '}',
       endpoint = CASE s.endpoint WHEN 'nowhere' THEN s.endpoint ELSE s.endpoint || ' [' || s.watch || ']' END
  FROM with_own WHERE s.watch = with_own.watch;
INSERT INTO cdc_sync.endpoint (endpoint) SELECT DISTINCT endpoint FROM cdc_sync.outbox WHERE state = 'pending'
    ON CONFLICT DO NOTHING;
-- Who shared paused headers is paused: each watch has an endpoint of its own now.
UPDATE cdc_sync.about AS a
   SET value = (SELECT coalesce(json_agg(endpoint), '[]')::text FROM (
       SELECT p.endpoint FROM json_array_elements_text(a.value::json) AS p (endpoint)
       UNION
       SELECT replace(p.endpoint, ' [' || o.value || ']', ' [' || o.key || ']')
         FROM json_array_elements_text(a.value::json) AS p (endpoint), cdc_sync.about AS c,
              json_each_text(c.value::json) AS o
        WHERE c.name = 'credentials' AND o.value IS NOT NULL) AS paused)
 WHERE a.name = 'paused';
DELETE FROM cdc_sync.about WHERE name = 'credentials';

-- How full the fuse of each account is, in a watch whose rows name their accounts.
DROP TABLE IF EXISTS cdc_sync.account_fuse; -- as above
CREATE TABLE cdc_sync.account_fuse (
    watch   text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    fuse    text NOT NULL,
    PRIMARY KEY (watch, account)
);
