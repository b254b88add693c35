-- cdc-sync: what the daemon's role needs of the store's tables. Run it after `cdc-sync sql install --store`, as their owner;
-- where a role may not grant, GRANT only warns.

{begin}
DO $cdc_sync$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {name});
END $cdc_sync$;
GRANT USAGE ON SCHEMA cdc_sync TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role};
COMMIT;
