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

-- What an earlier version had claimed counts as attempted.
UPDATE cdc_sync.outbox
   SET claimed_by = NULL, attempted = true, attempts = attempts + 1,
       first_attempt_at = coalesce(first_attempt_at, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)
 WHERE claimed_by IS NOT NULL;

-- session is the one on the ATS's database by which the watch was captured last; the leader may end it.
ALTER TABLE cdc_sync.watch DROP COLUMN leased_by;

-- What is wrong now, as the leader sees it.
DELETE FROM cdc_sync.condition AS c USING cdc_sync.condition AS newer WHERE newer.name = c.name AND newer.daemon > c.daemon;
ALTER TABLE cdc_sync.condition DROP COLUMN daemon, ADD PRIMARY KEY (name);

DROP TABLE cdc_sync.daemon;
