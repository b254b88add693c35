-- cdc-sync: whatever is in this database of {what}. Reads the catalog only; any role may run it. No row: nothing is there.
WITH found_function AS (
    SELECT p.oid, p.proname::text AS name, p.oid::regprocedure::text AS signature
      FROM pg_catalog.pg_proc p
     WHERE p.pronamespace IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'cdc_sync') AND {functions}
)
SELECT NULL AS watch, found.kind, found.object, found.on_table, found.function, 'present' AS state
  FROM (
    SELECT 'schema' AS kind, n.nspname::text AS object, NULL AS on_table, NULL AS function
      FROM pg_catalog.pg_namespace n
     WHERE n.nspname = 'cdc_sync' AND {schema}
     UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'r' THEN 'table' ELSE 'relation' END,
           'cdc_sync.' || pg_catalog.quote_ident(c.relname), NULL, NULL
      FROM pg_catalog.pg_class c
     WHERE c.relnamespace IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'cdc_sync')
       AND c.relkind NOT IN ('i', 'I', 't', 'c') AND {relations}
     UNION ALL
    SELECT 'function', f.signature, NULL, f.name FROM found_function f
     UNION ALL
    SELECT 'trigger', t.tgname::text, t.tgrelid::regclass::text, f.name
      FROM found_function f
      JOIN pg_catalog.pg_trigger t ON t.tgfoid = f.oid AND NOT t.tgisinternal
       ) AS found
 ORDER BY found.kind, found.object, found.on_table;
