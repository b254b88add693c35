-- cdc-sync: remove {what}. One transaction. Takes the locks of the
-- watched tables for milliseconds. The first is waited for up to {patience} while no other is held, all further ones
-- together for half of deadlock_timeout: so the ATS never fails by a deadlock with us. If one is not to be had, all are
-- let go, and it comes first in the next of up to 5 attempts. If the first is not to be had, or the attempts are used
-- up, nothing is removed: run it again in a quieter moment. What the daemon's role was granted on the ATS's tables stays:
-- what `cdc-sync sql grants --revoke` prints takes it back.

{begin}
SET LOCAL lock_timeout = '{patience}';
SET LOCAL client_min_messages = warning;
{locks}
DO $cdc_sync$
DECLARE
    found regprocedure;
    counter regclass;
BEGIN
    -- The functions take their triggers with them, on partitions too.
    FOR found IN
        SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname = 'cdc_sync' AND pg_catalog.regexp_replace(p.proname, '[$][0-9]+$', '') {functions}
    LOOP
        EXECUTE pg_catalog.format('DROP FUNCTION %s CASCADE', found);
    END LOOP;
    FOR counter IN
        SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'cdc_sync' AND c.relkind = 'S' AND c.relname {sequences}
    LOOP
        EXECUTE pg_catalog.format('DROP SEQUENCE %s', counter);
    END LOOP;{rest}
END
$cdc_sync$;

COMMIT;
