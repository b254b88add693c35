
-- Refuse what cannot have the triggers, or what they cannot see, in plain words and with the remedy.
DO $cdc_sync$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT c.oid::regclass AS relation, untriggered.*
          FROM pg_catalog.unnest(ARRAY[{tables}]::oid[]) AS watched (oid)
          JOIN pg_catalog.pg_class c ON c.oid = watched.oid
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
    FOR found IN
        SELECT a.attname
          FROM pg_catalog.pg_attribute a
         WHERE ({compared})
           AND pg_catalog.to_jsonb(a) ->> 'attgenerated' = 'v' -- a catalog's column since 12, with this value since 18
    LOOP
        RAISE EXCEPTION USING
            ERRCODE = 'feature_not_supported',
            MESSAGE = 'the column ' || found.attname || ' is generated when it is read (VIRTUAL): triggers do not see it',
            HINT = 'Map what it is generated from: {{sql: EXPRESSION, depends_on: [the columns in EXPRESSION]}}.';
    END LOOP;
END
$cdc_sync$;
