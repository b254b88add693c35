
-- Revoke other roles' rights on all this, by ALTER DEFAULT PRIVILEGES for instance: a role that may put a trigger on the
-- log, or execute our functions, acts with the rights of their owner.
DO $cdc_sync$
{revoke}
$cdc_sync$;

-- A partition that is made or attached gets the triggers of its table, if the role that makes it may execute their
-- function. The table's owner must be able to go on with that.
DO $cdc_sync$
DECLARE
    makes_partitions record;
BEGIN
    FOR makes_partitions IN
        SELECT DISTINCT p.proname, pg_catalog.pg_get_userbyid(c.relowner) AS owner
          FROM pg_catalog.pg_proc p
          JOIN pg_catalog.pg_trigger t ON t.tgfoid = p.oid
          JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
         WHERE p.pronamespace = pg_catalog.to_regnamespace('cdc_sync') AND {functions} AND p.pronargs = 0
           AND pg_catalog.pg_has_role(current_user, p.proowner, 'USAGE') AND c.relkind = 'p'
           AND NOT pg_catalog.has_function_privilege(c.relowner, p.oid, 'EXECUTE')
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION cdc_sync.%I() TO %I',
            makes_partitions.proname, makes_partitions.owner);
    END LOOP;
END
$cdc_sync$;
