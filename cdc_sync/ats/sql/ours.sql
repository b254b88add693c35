                SELECT 'SCHEMA' AS kind, 'cdc_sync' AS name, n.nspowner AS owner, n.nspacl AS acl,
                       ARRAY['USAGE'] AS needed, {new_schema} AS is_new
                  FROM pg_catalog.pg_namespace n
                 WHERE n.nspname = 'cdc_sync'
                 UNION ALL
                SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                       pg_catalog.format('cdc_sync.%I', c.relname), c.relowner, acls.acl,
                       CASE WHEN c.relkind <> 'S' THEN ARRAY['SELECT', 'DELETE', 'TRUNCATE']
                            WHEN c.relname LIKE 'bell%' THEN ARRAY['SELECT', 'UPDATE']
                            ELSE ARRAY['SELECT'] END,
                       {new_relation}
                  FROM pg_catalog.pg_class c
                 CROSS JOIN LATERAL (
                    SELECT c.relacl
                     UNION ALL
                    SELECT a.attacl FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
                       ) AS acls (acl)
                 WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync')
                   AND {relations}
                 UNION ALL
                SELECT 'FUNCTION', pg_catalog.format('cdc_sync.%I()', p.proname), p.proowner,
                       nullif(acls.acl, '{{}}'), '{{}}'::text[], false
                  FROM pg_catalog.pg_proc p
                 CROSS JOIN LATERAL (
                    -- The owner of a partitioned table has to execute it: see the end of the installation.
                    SELECT ARRAY(
                        SELECT item
                          FROM pg_catalog.unnest(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS item
                         CROSS JOIN LATERAL pg_catalog.aclexplode(ARRAY[item]) AS g
                         -- The function's owner first: of the others there are few, and pg_trigger may be large.
                         WHERE g.grantee = p.proowner OR g.is_grantable OR NOT EXISTS (
                               SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
                                WHERE t.tgfoid = p.oid AND c.relkind = 'p' AND c.relowner = g.grantee))
                       ) AS acls (acl)
                 WHERE p.pronamespace = pg_catalog.to_regnamespace('cdc_sync') AND {functions}
                   AND p.pronargs = 0 AND p.prosecdef
