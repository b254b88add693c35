-- cdc-sync: what the daemon's role needs, and nothing more. Run it after the installation script, as a role that may grant
-- it; where it may not, GRANT only warns. The ATS's own roles need nothing.

{begin}
DO $cdc_sync$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('cdc-sync scripts')); END $cdc_sync$; -- scripts take turns
DO $cdc_sync$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {role});
END $cdc_sync$;
