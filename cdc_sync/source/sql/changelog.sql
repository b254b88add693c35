-- What the daemon does with the change log, with the doorbells, and with the counts of what was not recorded: see
-- `changelog.py` and `triggers.py`.

-- name: batch
-- What is read of the log, as one JSON text in a row of its own. `batch` is planned and read once. The join gives
-- nothing, but lets a prepared statement lock the log before the table: see decision 20. It runs beside expressions of
-- the configuration, so each function and operator says its schema.
WITH batch AS (
    SELECT row_key, changed_at, ctid AS place, xmin::text AS writer
      FROM cdc_sync.changes WHERE watch OPERATOR(pg_catalog.=) {watch} LIMIT %s
)
SELECT {nulls} pg_catalog.json_build_array(
    (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
                row_key, (extract(epoch FROM changed_at) OPERATOR(pg_catalog.*) 1000)::bigint)) FROM batch),
    pg_catalog.pg_relation_size('cdc_sync.changes'), {now},
    (SELECT pg_catalog.array_agg(place)::text FROM batch), (SELECT pg_catalog.array_agg(DISTINCT writer)::text FROM batch),
    pg_catalog.pg_relation_filenode('cdc_sync.changes')::text, {table_size}
)::text FROM (SELECT) AS one LEFT JOIN cdc_sync.changes ON false

-- name: batch_and_rows
-- The rows of the batch's keys, each once.
{batch} UNION ALL SELECT r.*, NULL FROM ({rows}) AS r

-- name: part_of_keys
-- Arrays rather than a join: the planner guesses their length alike whatever the log's statistics are (mostly: empty),
-- so a key's index is used where it has one, and one scan serves where not.
ARRAY(SELECT row_key[{part}] FROM batch)

-- name: delete
-- The commit does not wait for the server's disk: if the server crashes, what was deleted a moment before comes again,
-- and is no news then. The outcome is durable in our store, before the commit.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL synchronous_commit = off;
DELETE FROM cdc_sync.changes
 WHERE ctid = ANY ({places}::tid[]) AND xmin = ANY ({writers}::xid[]) AND watch = {watch}
   AND pg_relation_filenode('cdc_sync.changes') = {file}::oid;
COMMIT

-- name: may_give_back
-- Seldom, since TRUNCATE cancels sessions on a standby that hold a lock on the log, as pg_dump does; and not where
-- subscribers get it: they may have a log of their own. A file that VACUUM has not cleaned may be so for a standby's sake (hot_standby_feedback): only a
-- nearly full one is shortened all the same.
SELECT CASE WHEN {nearly_full} OR relallvisible > relpages / 2
            THEN NOT EXISTS (SELECT FROM pg_publication_tables WHERE schemaname = 'cdc_sync' AND tablename = 'changes')
       END
  FROM pg_class
 WHERE oid = to_regclass('cdc_sync.changes') AND NOT EXISTS (SELECT FROM cdc_sync.changes)

-- name: give_back_within
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL synchronous_commit = off;
SET LOCAL statement_timeout = '200ms'

-- name: give_back
-- One message, so that a stopped daemon holds no lock. We do not wait for the lock, so nobody waits behind us. Writers
-- wait for a walk through an empty file, at most for `statement_timeout`, which must be set by an earlier message on
-- PostgreSQL 10. Each statement has a snapshot of its own: once we have the lock, we see all that was committed. A failure
-- is no error in the server's log: there will be another time, or `cdc-sync check` reports what is missing.
DO $cdc_sync$
BEGIN
    LOCK TABLE cdc_sync.changes IN ACCESS EXCLUSIVE MODE NOWAIT;
    IF NOT EXISTS (SELECT FROM cdc_sync.changes) THEN
        TRUNCATE cdc_sync.changes;
    END IF;
EXCEPTION WHEN lock_not_available OR insufficient_privilege THEN
    NULL;
END
$cdc_sync$;
COMMIT

-- name: older
SELECT EXISTS (SELECT FROM cdc_sync.changes WHERE watch = {watch} AND changed_at <= {than})

-- name: bells
-- Of each watch: its bell's value before, its value now if it was set, and how many changes were not recorded. The
-- innermost query finds, the next reads, the outermost sets; OFFSET keeps them apart. A missing or foreign sequence is
-- NULL: an error would concern all. A bell that was never set means a watch that was never captured
-- (`worked_before`). A bell that is ahead by more than a lease, since the clock was set back, would ring until then.
-- setval() takes effect at once; its commit would wait for a synchronous standby that stalls.
SELECT seen.watch, seen.before,
       CASE WHEN seen.wanted
            THEN setval(seen.bell, CASE WHEN pg_notification_queue_usage() > %(most)s THEN 0
                                        ELSE seen.now + %(lease)s END)
            WHEN seen.before < seen.now - 3600 OR seen.before > seen.now + %(lease)s
                 OR (seen.before IS NULL AND seen.begins)
            THEN setval(seen.bell, seen.now - 1) END,
       seen.missed
  FROM (
    SELECT found.*, floor(extract(epoch FROM clock_timestamp()))::bigint AS now,
           pg_sequence_last_value(found.bell) AS before,
           CASE WHEN found.count IS NOT NULL THEN coalesce(pg_sequence_last_value(found.count), 0) END AS missed,
           set_config('synchronous_commit', 'off', true)
      FROM (
        SELECT named.watch, named.wanted, named.begins,
               (SELECT CASE WHEN c.relkind = 'S' THEN
                       CASE WHEN has_sequence_privilege(c.oid, 'SELECT') AND has_sequence_privilege(c.oid, 'UPDATE')
                            THEN c.oid::regclass END END
                  FROM pg_catalog.pg_class c
                 WHERE c.relname = named.bell::name
                   AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'cdc_sync')) AS bell,
               (SELECT CASE WHEN c.relkind = 'S' THEN
                       CASE WHEN has_sequence_privilege(c.oid, 'SELECT') THEN c.oid::regclass END END
                  FROM pg_catalog.pg_class c
                 WHERE c.relname = named.missed::name
                   AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'cdc_sync')) AS count
          FROM unnest(%(watches)s::text[], %(bells)s::text[], %(missed)s::text[], %(wanted)s::bool[],
                      %(begins)s::bool[]) AS named (watch, bell, missed, wanted, begins)
        OFFSET 0
      ) AS found
    OFFSET 0
  ) AS seen

-- name: disarm
SELECT setval({name}, floor(extract(epoch FROM clock_timestamp()))::bigint - 1),
       set_config('synchronous_commit', 'off', true)

-- name: count
SELECT last_value FROM {}

-- name: worked_before
SELECT is_called, coalesce(pg_stat_get_tuples_deleted(to_regclass('cdc_sync.changes')) > 0, false) FROM {}

-- name: is_full
SELECT coalesce(pg_relation_size(to_regclass('cdc_sync.changes')), 0) >= %s

-- name: by_watch
SELECT watch, count(*) FROM cdc_sync.changes GROUP BY watch ORDER BY count(*) DESC, watch
