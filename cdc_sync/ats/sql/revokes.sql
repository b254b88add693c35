-- cdc-sync: take back what `cdc-sync sql grants` gave the daemon's role, before or after the uninstallation script. Then
-- DROP ROLE goes through, if the role has nothing else. Run it as the owner of the tables and of the database.

{begin}
