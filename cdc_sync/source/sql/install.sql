-- cdc-sync: the triggers of capture.mode notify. One transaction: all of it or nothing. Run it as the owner of the
-- watched tables (or a superuser), again at any time: it replaces what an earlier version or configuration installed.
--
-- Creates   the schema cdc_sync with the table changes (a log of keys, no other data); per watch the sequences
--           bell_<watch> (until when somebody wants to be woken) and missed_<watch> (how many changes were not recorded)
--           and a function record_<watch>; and on each watched table triggers named cdc_sync_*. Nothing else.
-- Locks     each watched table, until the end of this script, which takes milliseconds: writes wait, and where earlier
--           triggers are replaced reads wait too. If a table's lock is not to be had within 3 seconds, nothing is
--           installed and nobody has queued behind us for longer: run it again in a quieter moment.
-- Costs     an UPDATE that changes no watched column: a comparison, for each row. A change that matters: one INSERT into
--           the log, in the ATS's own transaction and a subtransaction of its own; and while the daemon sleeps, which it
--           does not when changes come fast, one NOTIFY. Figures: docs/for-dbas.md.
-- Harms     nothing: whatever goes wrong inside a trigger becomes a WARNING, at most one every 10 seconds in a session,
--           and the ATS's statement succeeds. A lock on the log is waited for once, for half a second. What was not
--           recorded is counted, and the daemon then compares every row.
-- Rights    the functions run as whoever installs them, and every name in them says its schema. The ATS's roles need no
--           rights and get none.
-- Hinders   no ALTER TABLE. (If a watched column is renamed or dropped, changes are counted and not recorded, until this
--           script is run again.) It would hinder PREPARE TRANSACTION (two-phase commit) while the bell is armed; where
--           the server allows prepared transactions (max_prepared_transactions above 0), the daemon never arms it.
-- Grows     cdc_sync.changes, while no daemon consumes it, up to max_backlog ({backlog}); then recording stops.
-- Verify    with what `cdc-sync sql verify` prints: one row per object, and whether it is what this script installs.
-- Remove    with what `cdc-sync sql uninstall` prints.

BEGIN;
SET LOCAL lock_timeout = '3s';
SET LOCAL client_min_messages = warning;

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
