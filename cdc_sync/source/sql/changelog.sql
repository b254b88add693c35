-- What the daemon does with the change log, with the doorbell, and with the count of what was not recorded: see
-- `changelog.py` and `triggers.py`.

-- name: batch
-- What is read of the log, as one JSON text in a row of its own. `batch` is planned and read once. The join gives
-- nothing, but lets a prepared statement lock the log before the table: see decision 20.
WITH batch AS (
    SELECT row_key, changed_at, ctid AS place, xmin::text AS writer
      FROM cdc_sync.changes WHERE watch = {watch} LIMIT %s
)
SELECT {nulls} json_build_array(
    (SELECT json_agg(json_build_array(row_key, (extract(epoch FROM changed_at) * 1000)::bigint)) FROM batch),
    pg_relation_size('cdc_sync.changes'), {now},
    (SELECT array_agg(place)::text FROM batch), (SELECT array_agg(DISTINCT writer)::text FROM batch),
    pg_relation_filenode('cdc_sync.changes')::text, {table_size}
)::text FROM (SELECT) AS one LEFT JOIN cdc_sync.changes ON false

-- name: batch_and_rows
-- The rows of the batch's keys, each once.
{batch} UNION ALL SELECT r.*, NULL FROM ({rows}) AS r

-- name: part_of_keys
-- Arrays rather than a join: their length is guessed alike whatever the log's statistics say (mostly that it is empty),
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
-- The file is shortened by us, and seldom, since that cancels whoever holds a lock on the log on a standby, as pg_dump
-- does. Not where subscribers get the TRUNCATE: they may have a log of their own. A file that VACUUM has not cleaned may
-- be so for a standby's sake (hot_standby_feedback): only a nearly full one is shortened all the same.
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
-- One message, so that a daemon that is stopped holds no lock. We do not wait for the lock, and nobody waits behind us.
-- Who writes while we have it waits for a walk through an empty file, and no longer than `statement_timeout`, which must
-- be set by an earlier message on PostgreSQL 10. Each statement has a snapshot of its own: once we have the lock, we see
-- all that was committed, and nothing else is under way. NULL, without an error in the server's log: there will be
-- another time, or `cdc-sync check` says what is missing.
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

-- name: look
-- One statement has one snapshot: what ended below the first column is in the log that the second shows.
SELECT txid_snapshot_xmin(txid_current_snapshot()), ARRAY(SELECT DISTINCT watch::text FROM cdc_sync.changes)

-- name: older
SELECT EXISTS (SELECT FROM cdc_sync.changes WHERE watch = {watch} AND changed_at <= {than})

-- name: arm
-- The value before is read before it is set: the scan gives the row to the projection.
SELECT last_value, setval({name}, CASE WHEN pg_notification_queue_usage() > %s THEN 0
                                  ELSE floor(extract(epoch FROM clock_timestamp()))::bigint + %s END)
  FROM {sequence}

-- name: disarm
-- setval() takes effect at once; its commit would wait for a synchronous standby that stalls.
SELECT setval({name}, floor(extract(epoch FROM clock_timestamp()))::bigint - 1),
       set_config('synchronous_commit', 'off', true)

-- name: worked
-- An armed bell is left as it is. One that was never set tells that nobody has worked the watch (`worked_before`).
SELECT setval({name}, floor(extract(epoch FROM clock_timestamp()))::bigint - 1),
       set_config('synchronous_commit', 'off', true)
  FROM {sequence} WHERE last_value < extract(epoch FROM clock_timestamp()) - 3600 AND (is_called OR %s)

-- name: worked_before
SELECT is_called, coalesce(pg_stat_get_tuples_deleted(to_regclass('cdc_sync.changes')) > 0, false) FROM {}

-- name: missed
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {}

-- name: is_full
SELECT coalesce(pg_relation_size(to_regclass('cdc_sync.changes')), 0) >= %s

-- name: by_watch
SELECT watch, count(*) FROM cdc_sync.changes GROUP BY watch ORDER BY count(*) DESC, watch
