-- What the daemon does with the change log and with the bell: see `notify.py`, `lookout.py` and `triggers.py`.

-- name: batch
-- What is read of the log, as one JSON text. `batch` is planned and read once.
WITH batch AS (
    SELECT row_key, changed_at, ctid AS place, xmin::text AS writer
      FROM cdc_sync.changes WHERE watch = {watch} LIMIT %s
)
SELECT json_build_array(
    (SELECT json_agg(json_build_array(row_key, (extract(epoch FROM changed_at) * 1000)::bigint)) FROM batch),
    pg_relation_size('cdc_sync.changes'),
    (SELECT array_agg(place)::text FROM batch), (SELECT array_agg(DISTINCT writer)::text FROM batch),
    pg_relation_filenode('cdc_sync.changes')::text)::text

-- name: delete
-- The commit does not wait for the server's disk: if the server crashes, what was deleted a moment before comes again,
-- and is no news then. The outcome is durable in our store, before the commit.
WITH quickly AS (SELECT set_config('synchronous_commit', 'off', true) AS set), gone AS (
    DELETE FROM cdc_sync.changes USING quickly
     WHERE ctid = ANY ({places}::tid[]) AND xmin = ANY ({writers}::xid[]) AND watch = {watch}
       AND pg_relation_filenode('cdc_sync.changes') = {file}::oid AND quickly.set = 'off' RETURNING 1)
SELECT count(*) FROM gone

-- name: may_give_back
-- Seldom, since TRUNCATE cancels sessions on a standby that hold a lock on the log, as pg_dump does; and not where
-- subscribers get it: they may have a log of their own. A file that VACUUM has not cleaned may be needed by a standby
-- (hot_standby_feedback): it is shortened only if it is nearly full.
SELECT CASE WHEN {nearly_full} OR relallvisible > relpages / 2
            THEN NOT EXISTS (SELECT FROM pg_publication_tables
                              WHERE schemaname = 'cdc_sync' AND tablename = 'changes') END
  FROM pg_class WHERE oid = to_regclass('cdc_sync.changes') AND NOT EXISTS (SELECT FROM cdc_sync.changes)

-- name: give_back_within
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL synchronous_commit = off;
SET LOCAL statement_timeout = '200ms'

-- name: give_back
-- One message, so that a stopped daemon holds no lock. We do not wait for the lock, so nobody waits behind us. Writers
-- wait for a walk through an empty file, at most for `statement_timeout`, which must be set by an earlier message on
-- PostgreSQL 10. Each statement has a snapshot of its own: once we have the lock, we see all that was committed. A
-- failure is no error in the server's log: there will be another time, or `cdc-sync check` reports what is missing.
DO $cdc_sync$ BEGIN
    LOCK TABLE cdc_sync.changes IN ACCESS EXCLUSIVE MODE NOWAIT;
    IF NOT EXISTS (SELECT FROM cdc_sync.changes) THEN TRUNCATE cdc_sync.changes; END IF;
EXCEPTION WHEN lock_not_available OR insufficient_privilege THEN NULL;
END $cdc_sync$;
COMMIT

-- name: set_bell
-- Whether it is armed then; no row without a bell, or without the right to set it. setval() takes effect at once; its
-- commit would wait for a synchronous standby that stalls. OFFSET keeps the two queries apart.
SELECT setval(found.bell, now + CASE WHEN pg_notification_queue_usage() > %(most)s THEN -1 ELSE %(until)s END) > now
  FROM (SELECT c.oid::regclass AS bell, floor(extract(epoch FROM clock_timestamp()))::bigint AS now,
               set_config('synchronous_commit', 'off', true)
          FROM pg_class c
         WHERE c.relnamespace = to_regnamespace('cdc_sync') AND c.relname = 'bell' AND c.relkind = 'S'
           AND has_sequence_privilege(c.oid, 'UPDATE') OFFSET 0) AS found

-- name: silence
SELECT setval(found.bell, 0)
  FROM (SELECT c.oid::regclass AS bell, set_config('synchronous_commit', 'off', true)
          FROM pg_class c JOIN pg_sequence s ON s.seqrelid = c.oid AND s.seqmin <= 0
         WHERE c.relnamespace = to_regnamespace('cdc_sync') AND c.relname ~ '^bell_'
           AND has_sequence_privilege(c.oid, 'SELECT') AND has_sequence_privilege(c.oid, 'UPDATE')
        OFFSET 0) AS found
 WHERE CASE WHEN found.bell IS NOT NULL THEN pg_sequence_last_value(found.bell) > 0 END

-- name: worked_before
-- Whether any daemon has taken changes from the log, or armed the bell.
SELECT pg_stat_get_tuples_deleted(to_regclass('cdc_sync.changes')) > 0
    OR CASE WHEN has_sequence_privilege(to_regclass('cdc_sync.bell')::oid, 'SELECT')
            THEN pg_sequence_last_value(to_regclass('cdc_sync.bell')) IS NOT NULL END
