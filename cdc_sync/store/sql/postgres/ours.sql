        -- A schema that is another role's, the script of the triggers looks after.
        SELECT 'SCHEMA' AS kind, 'cdc_sync' AS name, n.nspowner AS owner, n.nspacl AS acl, ARRAY['USAGE'] AS needed,
               is_new_schema AS is_new
          FROM pg_catalog.pg_namespace n
         WHERE n.nspname = 'cdc_sync' AND pg_catalog.pg_has_role(current_user, n.nspowner, 'USAGE')
         UNION ALL
        SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
               pg_catalog.format('cdc_sync.%I', c.relname), c.relowner, acls.acl,
               CASE c.relkind WHEN 'S' THEN ARRAY['SELECT'] ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END,
               version = 0
          FROM pg_catalog.pg_class c
         CROSS JOIN LATERAL (
            SELECT c.relacl
             UNION ALL
            SELECT a.attacl FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
               ) AS acls (acl)
         WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync')
           AND (RELATIONS)
         UNION ALL
        SELECT 'FUNCTION', 'cdc_sync.forget_verified()', p.proowner,
               coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)), '{}'::text[], version = 0
          FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = pg_catalog.to_regnamespace('cdc_sync') AND p.proname = 'forget_verified'
           AND p.pronargs = 0
