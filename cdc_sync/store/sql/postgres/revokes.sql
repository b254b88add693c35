-- cdc-sync: take back what `cdc-sync sql grants --store` gave the daemon's role. USAGE on the schema, and CONNECT, stay as
-- long as the role has something else there.

{begin}
DO $cdc_sync$
DECLARE
    ours CONSTANT oid := to_regnamespace('cdc_sync');
BEGIN
    IF to_regclass('cdc_sync.about') IS NOT NULL THEN
        REVOKE ALL ON {tables} FROM {role};
    END IF;
    IF EXISTS (SELECT FROM pg_class CROSS JOIN aclexplode(relacl)
                WHERE relnamespace = ours AND pg_get_userbyid(grantee) = {name}) THEN RETURN; END IF;
    IF ours IS NOT NULL THEN REVOKE USAGE ON SCHEMA cdc_sync FROM {role}; END IF;
    EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM %I', current_database(), {name});
END $cdc_sync$;
COMMIT;
