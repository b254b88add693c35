-- cdc-sync: the triggers of capture.mode notify. One transaction: all of it or nothing. Run it as the owner of the
-- watched tables, again at any time: it replaces what an earlier version or configuration installed.
--
-- Creates   the schema cdc_sync with the table changes (a log of keys, no other data); per watch the sequences
--           bell_<watch> (until when somebody wants to be woken) and missed_<watch> (how many changes were not recorded)
--           and a function record_<watch>; and on each watched table triggers named cdc_sync_*. Nothing else.
-- Locks     each watched table with its partitions, and the log where an earlier version made it, until the end of this
--           script, which takes milliseconds: writes wait, and where earlier triggers are replaced reads wait too. The
--           first lock is waited for up to {patience} while no other is held, all further ones together for half of
--           deadlock_timeout: so the ATS never fails by a deadlock with us, and waits for us no longer than both. If
--           one is not to be had, all are let go, and it comes first in the next of up to 5 attempts. If the first is
--           not to be had, or the attempts are used up, nothing is installed: run it again in a quieter moment.
-- Costs     an UPDATE that changes no watched column: a comparison, for each row. A change that matters: one INSERT into
--           the log, in the ATS's own transaction, the first of a transaction in a subtransaction; and while the daemon
--           sleeps, which it does not when changes come fast, one NOTIFY. Figures: docs/for-dbas.md.
-- Harms     nothing: whatever goes wrong inside a trigger becomes a WARNING, at most one every 10 seconds in a session,
--           and the ATS's statement succeeds. A lock on the log is waited for once, for half a second. What was not
--           recorded is counted, and the daemon then compares every row. Only a full disk under the log, or a right that
--           is revoked in mid-transaction, can fail a statement, from a transaction's second recorded row on.
-- Rights    the functions run as whoever installs them, and every name in them says its schema. The ATS's roles need no
--           rights and get none, but that the owner of a partitioned table may execute its functions, without which he
--           could make no partition: what ALTER DEFAULT PRIVILEGES or a GRANT gave others on all this is revoked; of
--           what was there before, the daemon's role keeps what `cdc-sync sql grants` gives. A superuser can install
--           them, but had better not: the owner of a watched table could borrow the rights of its functions, by a cast
--           of a key's type for instance. A schema, log or sequence that somebody else made and could use for the same
--           is refused.
-- Hinders   no ALTER TABLE. (If a watched column is renamed or dropped, changes are counted and not recorded, until this
--           script is run again.) No NOTIFY where the server allows prepared transactions (max_prepared_transactions
--           above 0), where commits wait for a synchronous standby (synchronous_standby_names), or in a session that has
--           a lock_timeout: PREPARE TRANSACTION or COMMIT could fail, or wait.
-- Publishes nothing by itself. But a publication FOR ALL TABLES takes in the log too, and a subscriber that does not
--           have the table stops. So where there is one, a new log is refused, unless you say before this script that
--           it may be published: SET cdc_sync.published = 'yes';
-- Grows     cdc_sync.changes, while no daemon consumes it, up to max_backlog ({backlog}); then recording stops.
-- Verify    with what `cdc-sync sql verify` prints: one row per object, and whether it is what this script installs.
-- Remove    with what `cdc-sync sql uninstall` prints.

BEGIN;
SET LOCAL lock_timeout = '{patience}';
SET LOCAL client_min_messages = warning;
