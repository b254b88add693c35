
-- Refuse what cannot have the triggers, in plain words and with the remedy.
DO $cdc_sync$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.oid::regclass AS relation, untriggered.*
          FROM pg_catalog.unnest(ARRAY[{tables}]) AS watched (name)
          JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(watched.name)
          JOIN (VALUES
            {untriggered}
          ) AS untriggered (kind, before, reason, remedy)
            ON untriggered.kind = c.relkind::text
           AND pg_catalog.current_setting('server_version_num')::int < untriggered.before
    LOOP
        RAISE EXCEPTION USING
            ERRCODE = 'wrong_object_type',
            MESSAGE = found.relation || ' ' || found.reason,
            HINT = found.remedy;
    END LOOP;
END
$cdc_sync$;
