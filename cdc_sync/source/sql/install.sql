-- cdc-sync: the triggers of capture.mode notify. One transaction: all of it or nothing. Run it as the owner of the
-- watched tables (or a superuser), again at any time: it replaces what an earlier version installed.
--
-- Creates   the schema cdc_sync with the table changes (a log of keys, no other data), a sequence bell_<watch> and a
--           function record_<watch> per watch; and on each watched table triggers named cdc_sync_*.
-- Locks     each watched table, for the moment in which its triggers are (re)placed: writes wait, and so do reads if
--           earlier triggers are replaced. If a table's lock is not to be had within 3 seconds, nothing is installed
--           and nobody queued behind us for longer: run it again in a quieter moment.
-- Costs     an UPDATE that changes no watched column: the comparison of these columns. A change that matters: one
--           INSERT into the log, in the ATS's own transaction, and while the daemon sleeps one NOTIFY.
-- Harms     nothing: whatever goes wrong inside a trigger becomes a WARNING, and the ATS's statement succeeds. The
--           next sweep repairs what was not recorded.
-- Hinders   ALTER TABLE that drops a watched column or changes its type, and PREPARE TRANSACTION (two-phase commit) while
--           the daemon sleeps. For the first remove the triggers and install them again afterwards; for the second set
--           capture.wakeup to none.
-- Grows     cdc_sync.changes, while no daemon consumes it, up to max_backlog ({backlog}); then recording stops.
-- Verify    SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'cdc\_sync\_%' AND NOT tgisinternal;
-- Remove    with what `cdc-sync sql uninstall` prints.

BEGIN;
SET LOCAL lock_timeout = '3s';

CREATE SCHEMA IF NOT EXISTS cdc_sync;

CREATE TABLE IF NOT EXISTS cdc_sync.changes (
    watch      text NOT NULL,
    operation  "char" NOT NULL, -- I, U, D; K: the former key of a row whose key changed; T: anything may have changed
    row_key    text[],
    changed_at timestamptz NOT NULL
) WITH (
    -- Rows live for milliseconds. Vacuum by number, not by share of a table that is empty most of the time.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000
);
COMMENT ON TABLE cdc_sync.changes IS 'Keys of changed rows, until the cdc-sync daemon has taken them.';
