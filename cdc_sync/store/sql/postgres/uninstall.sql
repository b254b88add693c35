-- cdc-sync: remove the store: the acknowledged states, the outbox, and the history. A daemon that starts
-- on an empty store takes the table's present states for known: see `baseline`.

{begin}
SET LOCAL lock_timeout = '3s';
SET LOCAL client_min_messages = warning;
DROP TABLE IF EXISTS {tables};
DO $cdc_sync$ BEGIN
    DROP SCHEMA IF EXISTS cdc_sync;
EXCEPTION WHEN dependent_objects_still_exist THEN
    RAISE WARNING 'The schema cdc_sync stays: the change log of capture.mode notify is in it, which `cdc-sync sql uninstall` removes.';
END $cdc_sync$;
COMMIT;
