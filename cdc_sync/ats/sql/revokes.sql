-- cdc-sync: take back what `cdc-sync sql grants` gave the daemon's role, before or after the uninstallation script. Then
-- DROP ROLE goes through, if the role has nothing else. Run it as the owner of the tables and of the database.

{begin}
DO $cdc_sync$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('cdc-sync scripts')); END $cdc_sync$; -- scripts take turns
