-- The statements of our sessions about themselves and others: see `connection.py` and `session.py`.

-- name: own_path
-- The login's own search_path, until the transaction ends: see `config.dsn`. PostgreSQL's own schema comes first, as
-- it does by default, so that no type or function with a name and arguments of its own is hidden.
SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', 'pg_catalog',
           nullif(pg_catalog.current_setting('cdc_sync.own_path', true), ''), 'pg_temp'), true)

-- name: own_schemas
-- Which schemas that path leads to, as of now: one may be new, or the role may use it only since then.
SELECT pg_catalog.set_config('cdc_sync.own_schemas', pg_catalog.current_schemas(true)::pg_catalog.text, false)

-- name: pinned_path
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)

-- name: configure
-- Below deadlock_timeout: a session that waits for our locks never becomes a deadlock's victim, and nothing queues behind
-- us for long.
SELECT pg_backend_pid(), set_config('lock_timeout', CASE WHEN asked > '0' AND asked < ours THEN current_setting('lock_timeout')
                                    ELSE (extract(epoch FROM ours) * 1000)::int || 'ms' END, false)
  FROM (SELECT current_setting('lock_timeout')::interval AS asked,
               least(current_setting('deadlock_timeout')::interval / 2, interval '500ms') AS ours) AS timeouts

-- name: bounds
-- LOCAL: it must not outlive the transaction, as behind a pooler the session goes on to somebody else.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED {access};
SET LOCAL statement_timeout = '15s';
SET LOCAL lock_timeout = '3s';
SET LOCAL idle_in_transaction_session_timeout = '30s';

-- name: ours
-- As JSON has it: psycopg reads no time in another DateStyle than ISO, and the role or the database may have one.
SELECT pid, to_json(backend_start) #>> '{}' FROM pg_stat_activity WHERE pid = pg_backend_pid()

-- name: mark
-- One statement each: behind a pooler two of them may meet two sessions.
SELECT set_config('cdc_sync.session', %s, false) WHERE coalesce(current_setting('cdc_sync.session', true), '') = ''

-- name: marked
SELECT current_setting('cdc_sync.session', true), pg_notification_queue_usage()

-- name: lock
SELECT pg_try_advisory_lock(%s) WHERE current_setting('cdc_sync.session', true) = %s

-- name: holders
-- A lock by one number of 64 bits is shown as its halves. Of another role's session one sees the process, the role and
-- the name alone, unless one may read all statistics.
SELECT l.pid, a.usename = current_user,
       concat_ws(', ', format('process %%s of the role %%s', l.pid, coalesce(quote_ident(a.usename), '"?"')),
           'application_name ' || quote_literal(nullif(a.application_name, '')),
           'since ' || (to_json(a.backend_start) #>> '{}'), 'from ' || pg_catalog.host(a.client_addr))
  FROM pg_locks l JOIN pg_database d ON d.oid = l.database LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND d.datname = current_database() AND l.granted AND l.objsubid = 1
   AND l.classid = (%(number)s::bigint >> 32 & 4294967295)::oid
   AND l.objid = (%(number)s::bigint & 4294967295)::oid

-- name: end
-- A process that holds a lock; the lock's condition is that of `holders`.
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
 WHERE a.pid = %(pid)s AND a.backend_start = %(started)s::timestamptz AND a.pid <> pg_backend_pid()
   AND EXISTS (SELECT FROM pg_locks l
                WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.database = a.datid AND l.granted
                  AND l.objsubid = 1 AND l.classid = (%(number)s::bigint >> 32 & 4294967295)::oid
                  AND l.objid = (%(number)s::bigint & 4294967295)::oid)

-- name: end_own
-- The pooler may have given us another session meanwhile, and our own one to somebody else.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE pid = %(pid)s AND backend_start = %(started)s::timestamptz AND (state = 'idle' OR pid = pg_backend_pid())
