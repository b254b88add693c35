-- What other watches of this role still need, or a store, stays.
DO $cdc_sync$
DECLARE
    ours CONSTANT oid := to_regnamespace('cdc_sync');
    counter regclass;
BEGIN
    FOR counter IN SELECT oid FROM pg_class WHERE relnamespace = ours AND relname {counters}
    LOOP EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM %I', counter, {role}); END LOOP;
    IF to_regclass('cdc_sync.changes') IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_class CROSS JOIN aclexplode(relacl)
         WHERE relnamespace = ours AND relname LIKE 'missed\_%' AND pg_get_userbyid(grantee) = {role})
    THEN EXECUTE format('REVOKE ALL ON cdc_sync.changes, cdc_sync.bell FROM %I', {role}); END IF;
    IF EXISTS (SELECT FROM pg_class CROSS JOIN aclexplode(relacl)
                WHERE relnamespace = ours AND pg_get_userbyid(grantee) = {role})
    THEN RETURN; END IF;
    IF ours IS NOT NULL THEN EXECUTE format('REVOKE USAGE ON SCHEMA cdc_sync FROM %I', {role}); END IF;
    EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM %I', current_database(), {role});
END $cdc_sync$;
