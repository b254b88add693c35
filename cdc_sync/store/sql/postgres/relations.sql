(c.relname IN (TABLES)
               OR c.relkind = 'S' AND EXISTS (
                  SELECT FROM pg_catalog.pg_depend d
                    JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
                   WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
                     AND t.relnamespace = c.relnamespace AND t.relname IN (TABLES)))
