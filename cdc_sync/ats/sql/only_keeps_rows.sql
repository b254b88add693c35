
-- The log keeps rows, and does nothing else.
DO $cdc_sync$
DECLARE
    extra record;
BEGIN
    SELECT pg_catalog.bool_and(found.kind = 'policy') AS only_policies,
           pg_catalog.string_agg(found.remedy, '; ' ORDER BY found.remedy) AS remedies
      INTO extra
      FROM (
        {not_ours}
      ) AS found;
    IF extra.remedies IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'The relation cdc_sync.changes has '
                || CASE WHEN extra.only_policies THEN 'row-level security' ELSE 'triggers or rules' END,
            DETAIL = 'They would act with the rights of the functions that this script installs, or hide rows.',
            HINT = 'Drop them: ' || extra.remedies || '. Or, if it is not of cdc-sync, drop the relation, and this script '
                'creates it again.';
    END IF;
END
$cdc_sync$;
