-- cdc-sync: take back what `cdc-sync sql grants` gave the daemon's role, after the uninstallation script or
-- before it. USAGE on a schema, and CONNECT, stay as long as the role has something else there. DROP ROLE
-- goes through then, if the role has nothing else. Run it as the owner of the tables and of the database.
{revoked}
-- If a policy was made for it:
