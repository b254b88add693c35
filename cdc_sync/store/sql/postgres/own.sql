-- PostgreSQL's own statements.

-- name: lease
-- A lease is free once its daemon has ended in order.
SELECT d.id, d.host, d.process, w.session
  FROM @watch w
  LEFT JOIN @daemon d ON d.id = w.leased_by AND d.alive_until <> '-infinity'
 WHERE w.name = :watch
   FOR UPDATE OF w;

-- name: leases
-- All leases. Those of daemons that ended in order are free: see `sharers`.
SELECT name, leased_by, session FROM @watch;

-- name: sharers
SELECT id, host, process, alive_until BETWEEN clock_timestamp() AND clock_timestamp() + lease, waits_for
  FROM @daemon
 WHERE alive_until <> '-infinity';

-- name: wait_for
UPDATE @daemon SET waits_for = :watches::text[] WHERE id = :daemon;

-- name: captors
SELECT w.name, d.host, d.process
  FROM @watch w
  JOIN @daemon d ON d.id = w.leased_by
 WHERE d.alive_until BETWEEN clock_timestamp() AND clock_timestamp() + d.lease;

-- name: note_reread
INSERT INTO @about AS a (name, value)
SELECT :note, session FROM @watch WHERE name = :watch AND leased_by = :daemon AND session IS NOT NULL
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: reread
SELECT w.name, d.id, d.alive_until::text
  FROM @watch w
  JOIN @about a ON a.name = :prefix || w.name AND a.value = w.session
  JOIN @daemon d ON d.id = w.leased_by
 WHERE d.id <> :daemon;

-- name: lock_watch_if_free
SELECT leased_by, fuse FROM @watch WHERE name = :watch FOR UPDATE SKIP LOCKED;

-- name: lock_entries
-- In the order of the ids, one by one: as in `before`.
SELECT FROM unnest(:ids::text[]) AS x (id)
 CROSS JOIN LATERAL (SELECT FROM @outbox WHERE watch = :watch AND application_id = x.id FOR UPDATE) AS o;

-- name: lock_outbox
-- In the index's order, as everywhere.
SELECT FROM @outbox WHERE watch = :watch ORDER BY application_id FOR UPDATE;

-- name: before
-- By application, and by rows that belonged to another application; each by the index. For a join the planner reads
-- whole tables, however large, for a page of rows: always if they were never analysed.
SELECT s.number, s.application_id, s.row_key, s.in_scope, s.status, s.job_id, s.deleted, s.metadata, s.acknowledged_at,
       s.adopted, o.status, o.job_id, o.deleted, o.metadata, o.attempted, o.claimed_by, o.state, o.reason, o.queued_at
  FROM (SELECT i.number
          FROM unnest(:ids::text[]) AS x (id)
         CROSS JOIN LATERAL (SELECT number FROM @snapshot
                              WHERE watch = :watch AND application_id = x.id OFFSET 0) AS i
        UNION ALL
        SELECT i.number
          FROM unnest(:rows_first::text[], :rows_second::text[]) AS x (row_key, id)
         CROSS JOIN LATERAL (SELECT number FROM @snapshot
                              WHERE watch = :watch AND row_key = x.row_key AND application_id <> x.id OFFSET 0) AS i
       ) AS found
 CROSS JOIN LATERAL (SELECT * FROM @snapshot WHERE number = found.number OFFSET 0) AS s
  LEFT JOIN LATERAL (SELECT * FROM @outbox
                      WHERE watch = s.watch AND application_id = s.application_id OFFSET 0) AS o ON TRUE;

-- name: need_no_flush
SET LOCAL synchronous_commit TO off;

-- name: remove(watch text, application_id text)
DELETE FROM @outbox AS o USING @rows WHERE o.watch = x.watch AND o.application_id = x.application_id;

-- name: forget_application(watch text, application_id text)
DELETE FROM @snapshot AS s USING @rows WHERE s.watch = x.watch AND s.application_id = x.application_id;

-- name: known_elsewhere
SELECT s.application_id, s.status, s.job_id, s.deleted, s.metadata, s.adopted,
       EXISTS (SELECT FROM @outbox o WHERE o.watch = s.watch AND o.application_id = s.application_id)
  FROM unnest(:ids::text[]) AS x (id)
 CROSS JOIN LATERAL (SELECT * FROM @snapshot i WHERE i.application_id = x.id OFFSET 0) AS s
 WHERE s.watch = ANY (:watches::text[])
 ORDER BY s.acknowledged_at NULLS FIRST;

-- name: rivals
-- An entry has a record, and records have an index by application. Each is locked, as in `lock_entries`.
SELECT o.watch, o.application_id, o.attempted OR o.claimed_by IS NOT NULL, o.claimed_by IS NOT NULL, o.attempts,
       o.due_at
  FROM unnest(:ids::text[]) AS x (id)
 CROSS JOIN LATERAL (SELECT watch FROM @snapshot i WHERE i.application_id = x.id OFFSET 0) AS s
 CROSS JOIN LATERAL (SELECT * FROM @outbox e
                      WHERE e.watch = s.watch AND e.application_id = x.id AND e.state = 'pending'
                        AND e.watch = ANY (:watches::text[])
                        FOR UPDATE) AS o;

-- name: unseen
SELECT s.application_id
  FROM unnest(:numbers::bigint[]) AS x (number)
 CROSS JOIN LATERAL (SELECT * FROM @snapshot i WHERE i.number = x.number OFFSET 0) AS s
  LEFT JOIN LATERAL (SELECT deleted FROM @outbox
                      WHERE watch = s.watch AND application_id = s.application_id OFFSET 0) AS o ON TRUE
 WHERE s.watch = :watch AND s.in_scope AND NOT coalesce(o.deleted, s.deleted)
 ORDER BY s.number;

-- name: compare
SELECT json_agg(
       coalesce(s.number,
                CASE left(e.value, 1)
                WHEN 'n' THEN 0
                WHEN 'o' THEN coalesce((SELECT -1 FROM @snapshot o
                                         WHERE o.watch = :watch AND o.in_scope
                                           AND o.application_id = substr(e.value, 2)::json ->> 1), 0)
                ELSE -1
                END) ORDER BY e.place)::text
  FROM json_array_elements_text(:digests::json) WITH ORDINALITY AS e (value, place)
  LEFT JOIN LATERAL (SELECT number FROM @snapshot i
                      WHERE i.watch = :watch AND i.row_key = substr(e.value, 17) AND i.verified = left(e.value, 16)
                        AND NOT EXISTS (SELECT FROM @outbox o
                                         WHERE o.watch = i.watch AND o.application_id = i.application_id)
                     OFFSET 0) AS s ON TRUE;

-- name: conditions
-- Of the living daemons; if none lives, of the last to live.
SELECT c.name, c.message, c.since, d.host, d.process
  FROM @condition c
  JOIN @daemon d ON d.id = c.daemon
 WHERE d.alive_until > clock_timestamp()
    OR NOT EXISTS (SELECT FROM @daemon l WHERE l.alive_until > clock_timestamp())
 ORDER BY c.since, c.name, d.id;

-- name: recent_ends
-- One part for each kind, in the index's order. Acknowledgements are searched among the newest events only: nearly
-- every second event is one, so no index holds them.
(SELECT at, watch, application_id, event, detail, number
   FROM @history
  WHERE event = 'answered' AND event IN ('answered', 'dead-lettered')
    -- As text: JSON may hold an escaped U+0000, which PostgreSQL does not parse.
    AND NOT (:failed AND strpos(detail, '"acknowledged"') > 0)
  ORDER BY number DESC
  LIMIT :limit)
UNION ALL
(SELECT at, watch, application_id, event, detail, number
   FROM @history
  WHERE event = 'dead-lettered' AND event IN ('answered', 'dead-lettered')
    -- As text: JSON may hold an escaped U+0000, which PostgreSQL does not parse.
    AND NOT (:failed AND strpos(detail, '"acknowledged"') > 0)
  ORDER BY number DESC
  LIMIT :limit)
UNION ALL
(SELECT at, watch, application_id, event, detail, number
   FROM @history
  WHERE event = 'acknowledged' AND NOT :failed AND number > (SELECT max(number) FROM @history) - :among
  ORDER BY number DESC
  LIMIT :limit);

-- name: replace_about
-- Of several daemons that read the same value, one writes; the others look again.
WITH replaced AS (
    INSERT INTO @about AS a (name, value) VALUES (:name, :value)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE a.value = :instead_of
    RETURNING 1
)
SELECT count(*) FROM replaced;

-- name: prune
WITH oldest AS (
    -- A part of its own: inside the other it could run again for each row, and find others each time.
    SELECT number, at FROM @history ORDER BY number LIMIT :limit FOR UPDATE SKIP LOCKED
), pruned AS (
    DELETE FROM @history
     WHERE number IN (SELECT number FROM oldest
                       WHERE at < :before OR number <= (SELECT max(number) FROM @history) - :keep)
    RETURNING 1
)
SELECT count(*) FROM pruned;

-- name: clock
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint,
       (SELECT value::bigint FROM @about WHERE name = 'clock_ahead'), pg_postmaster_start_time()::text;

-- name: raise_clock
-- Of several daemons that find it behind, the first raises it.
INSERT INTO @about AS a (name, value) VALUES ('clock_ahead', :ahead::text)
ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE a.value = :was::text;

-- name: claimed
SELECT watch, application_id FROM @outbox WHERE claimed_by = :daemon;

-- name: unclaim(watch text, application_id text, daemon bigint)
-- Locked in order first, as everywhere: a join has whatever order its plan has.
WITH locked AS (
    SELECT l.watch, l.application_id
      FROM @outbox l, @rows
     WHERE l.watch = x.watch AND l.application_id = x.application_id AND l.claimed_by = x.daemon
     ORDER BY l.watch, l.application_id
       FOR UPDATE OF l
)
UPDATE @outbox AS o SET claimed_by = NULL
  FROM locked WHERE o.watch = locked.watch AND o.application_id = locked.application_id;

-- name: free_claims(watch text, application_id text, daemon bigint)
-- A claim unknown to its daemon: a call may have been made before a failover to a server that was behind.
WITH locked AS (
    SELECT l.watch, l.application_id
      FROM @outbox l, @rows
     WHERE l.watch = x.watch AND l.application_id = x.application_id AND l.claimed_by = x.daemon
     ORDER BY l.watch, l.application_id
       FOR UPDATE OF l
)
UPDATE @outbox AS o SET claimed_by = NULL, attempted = TRUE
  FROM locked WHERE o.watch = locked.watch AND o.application_id = locked.application_id;

-- name: claim_again(watch text, application_id text, revision bigint, attempts bigint, daemon bigint)
WITH locked AS (
    SELECT l.watch, l.application_id, x.daemon
      FROM @outbox l, @rows
     WHERE l.watch = x.watch AND l.application_id = x.application_id AND l.claimed_by IS NULL
       -- Unless another daemon has tried it since: a replacement begins with no attempts.
       AND (l.revision < x.revision OR (l.revision > x.revision AND l.attempts = 0)
            OR (l.revision = x.revision AND l.attempts < x.attempts))
     ORDER BY l.watch, l.application_id
       FOR UPDATE OF l
)
UPDATE @outbox AS o SET claimed_by = locked.daemon
  FROM locked WHERE o.watch = locked.watch AND o.application_id = locked.application_id;

-- name: verify(watch text, application_id text, row_key text, digest text, status text, job_id text, deleted boolean)
-- In the order of the rows, one by one: as in `before`. A row that is being changed needs no digest. A batch that holds
-- it may wait for one of these rows.
WITH locked AS (
    SELECT l.number, x.digest
      FROM @rows
     CROSS JOIN LATERAL (SELECT s.number FROM @snapshot s
                          WHERE s.watch = x.watch AND s.application_id = x.application_id AND s.row_key = x.row_key
                            AND s.in_scope AND (x.status IS NULL OR (s.status = x.status AND s.job_id = x.job_id
                                                                     AND s.deleted = x.deleted))
                            FOR UPDATE SKIP LOCKED) AS l
)
UPDATE @snapshot AS s SET verified = locked.digest
  FROM locked WHERE s.number = locked.number AND s.number = ANY (ARRAY(SELECT number FROM locked));

-- name: register
-- Not with another version's tables: a newer one may have migrated them since this daemon began.
INSERT INTO @daemon (host, process, lease, alive_until)
SELECT :host, :process, :lease * interval '1 second', clock_timestamp() + :lease * interval '1 second'
  FROM @about
 WHERE name = 'schema' AND value = :schema
RETURNING id, (extract(epoch FROM started_at) * 1000000)::bigint, EXISTS (
          SELECT FROM @daemon d WHERE d.alive_until BETWEEN clock_timestamp() AND clock_timestamp() + d.lease);

-- name: renew
-- A new primary that was behind may give a number twice: the start time identifies the daemon.
UPDATE @daemon AS o
   SET lease = :lease * interval '1 second', alive_until = clock_timestamp() + :lease * interval '1 second'
 WHERE id = :daemon AND (extract(epoch FROM started_at) * 1000000)::bigint = :since
   AND EXISTS (SELECT FROM @about WHERE name = 'schema' AND value = :schema)
RETURNING EXISTS (
          SELECT FROM @daemon d
           WHERE d.id <> o.id AND d.alive_until BETWEEN clock_timestamp() AND clock_timestamp() + d.lease);

-- name: end
UPDATE @daemon SET alive_until = '-infinity'
 WHERE id = :daemon AND (extract(epoch FROM started_at) * 1000000)::bigint = :since;

-- name: overdue
-- Lapsed leases, and those that lapse within a beat unless they are renewed: in how many seconds. A lease that reaches
-- further ahead than its length began before the database's clock was set back.
SELECT id, alive_until::text, alive_until = '-infinity',
       CASE WHEN alive_until BETWEEN clock_timestamp() AND clock_timestamp() + lease
            THEN extract(epoch FROM alive_until - clock_timestamp())::float8 ELSE 0 END
  FROM @daemon
 WHERE id <> :daemon
   AND (alive_until < clock_timestamp() + :beat * interval '1 second' OR alive_until > clock_timestamp() + lease);

-- name: ownerless
-- Nothing else frees them: a daemon of an earlier version was taken for dead during a claim, or its row was deleted by
-- hand.
SELECT DISTINCT o.claimed_by FROM @outbox o
 WHERE o.claimed_by IS NOT NULL AND NOT EXISTS (SELECT FROM @daemon d WHERE d.id = o.claimed_by);

-- name: mark
-- Not behind a pooler: its session goes on to others, with the lock.
SELECT pg_catalog.pg_try_advisory_lock_shared(:kind::integer, :number::integer)
 WHERE pg_catalog.pg_backend_pid() = :process::integer;

-- name: end_sessions
-- Ends the sessions of a daemon that still has not renewed its lease; one that has ended in order closes them itself.
-- Another program's session is never ended: only sessions of that daemon take this lock in this database, and the role
-- must be ours. The lock ends with its session: another one with the same process number, begun since, does not have it.
WITH marked AS (
    SELECT a.pid, a.usename,
           a.usename = session_user AND pg_catalog.pg_has_role(a.usesysid, 'USAGE') AS may_end
      FROM pg_catalog.pg_locks l
      JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid AND a.datid = l.database
     WHERE l.locktype = 'advisory' AND l.mode = 'ShareLock' AND l.granted AND l.objsubid = 2
       AND l.classid = :kind::bigint::oid AND l.objid = :number::bigint::oid
       AND a.datname = current_database() AND a.pid <> pg_catalog.pg_backend_pid()
       AND EXISTS (SELECT FROM @daemon
                    WHERE id = :daemon AND alive_until::text = :alive_until AND alive_until <> '-infinity')
)
SELECT pid, coalesce(usename, '?')::text, session_user::text,
       CASE WHEN may_end THEN pg_catalog.pg_terminate_backend(pid) ELSE false END
  FROM marked
 ORDER BY pid;

-- name: daemon_name
SELECT 'process ' || process || ' on ' || host FROM @daemon WHERE id = :daemon;

-- name: wait_briefly
-- For the locks of this transaction.
SELECT pg_catalog.set_config('lock_timeout', '2s', true);

-- name: lock_daemon
-- Unless it has renewed its lease meanwhile. A claim for it holds its key: this waits, and sees the claim; a later
-- claim fails.
SELECT id FROM @daemon WHERE id = :daemon AND alive_until::text = :alive_until FOR UPDATE;

-- name: lock_leased
SELECT FROM @watch WHERE leased_by = :daemon ORDER BY name FOR UPDATE;

-- name: forget
DELETE FROM @daemon WHERE id = :daemon AND alive_until::text = :alive_until;

-- name: living
SELECT host, process FROM @daemon
 WHERE alive_until BETWEEN clock_timestamp() AND clock_timestamp() + lease
 ORDER BY id;

-- name: due
-- One statement, by the rows' places: a join would read the whole outbox until it is analysed.
-- A daemon without a row was taken for dead, and must not claim: an error, even if nothing is due.
-- Ordered as the index, and by nothing else: a tie-break would sort all due entries. A probe reads them all, for the
-- least attempted, but only once after each wait of the endpoint. Due times of a wrong clock come last.
-- x.since skips the index's entries of claimed and deleted rows: no vacuum removes them during a drain, and while any
-- old snapshot might see them each claim would read each row.
WITH ours AS (SELECT id FROM @daemon WHERE id = :daemon FOR KEY SHARE)
UPDATE @outbox AS o SET claimed_by = :daemon
 WHERE 1 / (SELECT count(*) FROM ours) = 1
   AND o.ctid = ANY (ARRAY(
       SELECT lane.ctid
         FROM unnest(:endpoints::text[], :watches::text[], :limits::bigint[], :sinces::bigint[], :probing::boolean[])
              AS x (endpoint, watch, most, since, probing)
        CROSS JOIN LATERAL (
              SELECT ctid
                FROM (SELECT ctid FROM @outbox
                       WHERE state = 'pending' AND claimed_by IS NULL AND endpoint = x.endpoint AND watch = x.watch
                         AND due_at BETWEEN x.since AND :now
                         AND (NOT x.probing
                              OR attempts = (SELECT min(attempts) FROM @outbox
                                              WHERE state = 'pending' AND claimed_by IS NULL
                                                AND endpoint = x.endpoint AND watch = x.watch AND due_at <= :now))
                       ORDER BY due_at
                       LIMIT x.most
                         FOR UPDATE SKIP LOCKED) AS due
               UNION ALL
              SELECT ctid
                FROM (SELECT ctid FROM @outbox
                       WHERE state = 'pending' AND claimed_by IS NULL AND endpoint = x.endpoint AND watch = x.watch
                         AND due_at > :latest
                       ORDER BY due_at
                       LIMIT x.most
                         FOR UPDATE SKIP LOCKED) AS due_by_a_wrong_clock
               LIMIT x.most) AS lane))
RETURNING o.watch, o.application_id, o.status, o.job_id, o.deleted, o.metadata, o.kinds, o.state, o.revision,
          o.queued_at, o.due_at, o.attempted, o.attempts, o.first_attempt_at, o.not_found_since, o.reason, o.endpoint;

-- name: lock_own_daemon
SELECT id FROM @daemon WHERE id = :daemon FOR KEY SHARE;

-- name: current
-- In the order of the ends, one by one: as in `before`.
SELECT o.*
  FROM unnest(:ends_first::text[], :ends_second::text[]) AS x (watch, application_id)
 CROSS JOIN LATERAL (SELECT watch, application_id, claimed_by, revision, status, job_id, deleted, attempted, attempts,
                            state, due_at, first_attempt_at, not_found_since, reason
                       FROM @outbox
                      WHERE watch = x.watch AND application_id = x.application_id FOR UPDATE) AS o;

-- name: may_create
SELECT CASE WHEN to_regnamespace('cdc_sync') IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege('cdc_sync', 'CREATE') END;

-- name: refused
-- Missing tables of an older schema are left to the finding about its version.
SELECT t.name
  FROM unnest(:tables::text[]) AS t (name)
 WHERE to_regclass('cdc_sync.' || t.name) IS NOT NULL
   AND NOT (has_table_privilege('cdc_sync.' || t.name, 'SELECT')
            AND has_table_privilege('cdc_sync.' || t.name, 'INSERT')
            AND has_table_privilege('cdc_sync.' || t.name, 'UPDATE')
            AND has_table_privilege('cdc_sync.' || t.name, 'DELETE'));

-- name: notify
-- Adds nothing to a queue that fills up: some session listens inside a transaction, and a full queue fails commits. Nor
-- does it wait long for another notifying commit that waits for a synchronous standby.
SELECT pg_catalog.set_config('lock_timeout', '100ms', true), pg_catalog.pg_notify(:channel, :daemon)
 WHERE pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.25;

-- name: entries
-- Watch by watch, in the index's order: a mass change costs only the wanted rows. The same in the next two.
SELECT o.watch, o.application_id, o.status, o.job_id, o.deleted, o.metadata, o.kinds, o.state, o.revision, o.queued_at,
       o.due_at, o.attempted OR o.claimed_by IS NOT NULL, o.attempts + CASE WHEN o.claimed_by IS NULL THEN 0 ELSE 1 END,
       o.first_attempt_at, o.not_found_since, o.reason
  FROM unnest(:watches::text[]) AS w (name)
 CROSS JOIN LATERAL (SELECT * FROM @outbox i
                      WHERE i.state = :state AND i.watch = w.name
                      ORDER BY i.queued_at, i.application_id LIMIT :each) AS o;

-- name: skipped_of_each
SELECT k.watch, k.row_key, k.application_id, k.reason
  FROM unnest(:watches::text[]) AS w (name)
 CROSS JOIN LATERAL (SELECT * FROM @skipped i WHERE i.watch = w.name ORDER BY i.row_key LIMIT :each) AS k;

-- name: ids_from
SELECT s.watch, s.application_id, s.row_key, NULL AS reason
  FROM unnest(:watches::text[]) AS w (name)
 CROSS JOIN LATERAL (SELECT * FROM @snapshot i
                      WHERE i.watch = w.name AND i.application_id >= :text
                      ORDER BY i.application_id LIMIT :limit) AS s
UNION ALL
SELECT * FROM (SELECT watch, application_id, row_key, reason
                 FROM @skipped
                WHERE watch @in(watches) AND application_id >= :text
                ORDER BY application_id LIMIT :limit) AS unreported;
