-- name: register
-- Not with tables of another version: a newer one may have changed them since this daemon began.
INSERT INTO cdc_sync.daemon (host, process, lease, alive_until)
SELECT %(host)s, %(process)s, %(lease)s * interval '1 second', clock_timestamp() + %(lease)s * interval '1 second'
  FROM cdc_sync.about
 WHERE name = 'schema' AND value = %(schema)s
RETURNING id, (extract(epoch FROM started_at) * 1000000)::bigint;

-- name: renew
-- A server that was behind, and is the primary now, may hand a number out again: whose it is tells when it began.
UPDATE cdc_sync.daemon
   SET lease = %(lease)s * interval '1 second', alive_until = clock_timestamp() + %(lease)s * interval '1 second'
 WHERE id = %(daemon)s AND (extract(epoch FROM started_at) * 1000000)::bigint = %(since)s
   AND EXISTS (SELECT FROM cdc_sync.about WHERE name = 'schema' AND value = %(schema)s)
RETURNING id;

-- name: end
UPDATE cdc_sync.daemon SET alive_until = '-infinity'
 WHERE id = %(daemon)s AND (extract(epoch FROM started_at) * 1000000)::bigint = %(since)s;

-- name: overdue
-- A lease that reaches further ahead than it is long was taken before the database's clock was set back.
SELECT id, alive_until::text, alive_until = '-infinity'
  FROM cdc_sync.daemon
 WHERE id <> %(daemon)s AND (alive_until < clock_timestamp() OR alive_until > clock_timestamp() + lease);

-- name: lock_watches
SELECT FROM cdc_sync.watch WHERE leased_by = %(daemon)s ORDER BY name FOR UPDATE;

-- name: lock_claims
SELECT FROM cdc_sync.outbox WHERE claimed_by = %(daemon)s ORDER BY watch, application_id FOR UPDATE;

-- name: forget
DELETE FROM cdc_sync.daemon WHERE id = %(daemon)s AND alive_until::text = %(alive_until)s;

-- name: living
SELECT host, process FROM cdc_sync.daemon
 WHERE alive_until BETWEEN clock_timestamp() AND clock_timestamp() + lease
 ORDER BY id;
