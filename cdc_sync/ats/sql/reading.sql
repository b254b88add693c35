-- Parts of what reads a watch's table, and where its server stands: see `mapping.py`, `statements.py`, `reading.py` and
-- `replica_guard.py`. What stands beside the configuration's expressions runs with the login's own search_path, so each
-- function and operator says its schema.

-- name: position
-- A standby's snapshots have an xmin and an xmax of the same meaning. inet_server_addr() is NULL on a unix socket.
pg_catalog.json_build_array((extract(epoch FROM pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000)::bigint,
    pg_catalog.inet_server_addr()::text, pg_catalog.inet_server_port(), pg_catalog.pg_is_in_recovery(),
    pg_catalog.txid_current_snapshot()::text, CASE WHEN NOT pg_catalog.pg_is_in_recovery()
    THEN (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) END)::text

-- name: instant
-- Microseconds since 1970, from a timestamptz in binary: microseconds since 2000. Before PostgreSQL 14 `extract` gives a
-- double precision: the last microsecond of the year 9999, a common "never", would be in the year 10000.
CASE WHEN pg_catalog.isfinite({0})
    THEN (('x' OPERATOR(pg_catalog.||) pg_catalog.encode(pg_catalog.timestamptz_send({1}), 'hex'))::bit(64)::bigint
          OPERATOR(pg_catalog.+) 946684800000000)::text ELSE {0}::text END

-- name: hash
pg_catalog.encode(pg_catalog.int8send(
    pg_catalog.hashtextextended((%s::text OPERATOR(pg_catalog.||) ROW({})::text) COLLATE "C", 0)), 'hex')

-- name: md5
pg_catalog.left(pg_catalog.md5(%s::text OPERATOR(pg_catalog.||) ROW({})::text), 16)

-- name: id_in_url
-- The part of a status URL's path that holds the id, as `core.status_url.id_in` reads it. In lower case, since a
-- percent-encoded byte may have digits of either; the caller distinguishes ids.
-- `COLLATE "C"`: a nondeterministic collation takes no regular expressions before PostgreSQL 18.
pg_catalog.lower(substring({}::text COLLATE "C" from '/v1/applications/([^/]+)/status/?(?:[?].*)?$'))

-- name: clock
-- statement_timestamp(): when the statement arrived, so before its snapshot. So a row has not changed later.
(extract(epoch FROM pg_catalog.statement_timestamp()) OPERATOR(pg_catalog.*) 1000)::bigint

-- name: bounded
SELECT {columns}, so_far
  FROM (SELECT sized.*, pg_catalog.sum(size) OVER (ROWS UNBOUNDED PRECEDING) AS so_far
          FROM (SELECT page.*, pg_catalog.pg_column_size(page.*) AS size
                  FROM ({query} OFFSET 0) AS page ({columns}) OFFSET 0) AS sized) AS summed
 WHERE so_far OPERATOR(pg_catalog.-) size OPERATOR(pg_catalog.<) {largest}

-- name: is_known
-- The statement reads the table by its name. It has locked it before its snapshot, so both are of one moment.
EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE c.oid OPERATOR(pg_catalog.=) {oid}::oid AND n.nspname OPERATOR(pg_catalog.=) {schema}::name
           AND c.relname OPERATOR(pg_catalog.=) {name}::name AND {types}::pg_catalog.jsonb OPERATOR(pg_catalog.<@)
               (SELECT pg_catalog.jsonb_object_agg(a.attname,
                    pg_catalog.concat(a.atttypid, ' ', a.atttypmod))
                  FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid
                   AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped))

-- name: begin_confirming
-- In one message, and so in one round trip. The timeout: a daemon that is suspended, or lost behind a silent network,
-- would keep the first statement's locks, and the ATS's next ALTER TABLE would wait, with everybody behind it.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL idle_in_transaction_session_timeout = '10s';

-- name: look
-- A snapshot's own xmax does not serve: a running transaction may have a higher id (decision 3). So we take an id
-- ourselves. The instant is that of the statement's arrival, so it precedes the id. A standby assigns no ids: its last
-- replayed checkpoint has the primary's next id, and a time from just before (src/backend/access/transam/xlog.c,
-- CreateCheckPoint). The role is asked each time: connections may lead to different servers, and a standby be promoted.
SELECT CASE WHEN is_standby THEN extract(epoch FROM checkpoint_time)::bigint * 1000000
            ELSE (extract(epoch FROM statement_timestamp()) * 1000000)::bigint END,
       txid_snapshot_xmin(txid_current_snapshot()),
       CASE WHEN is_standby THEN (split_part(next_xid, ':', 1)::bigint << 32) + split_part(next_xid, ':', 2)::bigint
            ELSE txid_current() + 1 END
  FROM (SELECT pg_is_in_recovery() AS is_standby OFFSET 0) AS server
  LEFT JOIN LATERAL (SELECT * FROM pg_control_checkpoint() WHERE is_standby OFFSET 0) AS control ON true

-- name: identity
-- Names the database, so that any but a physical copy has another one. Any role may ask (PostgreSQL 10 to 18).
(SELECT current_database() || ' of cluster ' || system_identifier FROM pg_catalog.pg_control_system())

-- name: values
-- Some different values of a column among the first rows, for `cdc-sync init`.
SELECT DISTINCT seen.value FROM (SELECT {column}::text AS value FROM {table} LIMIT 10000) AS seen
 WHERE seen.value IS NOT NULL ORDER BY 1 LIMIT {most}
