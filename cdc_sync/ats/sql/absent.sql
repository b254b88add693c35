-- cdc-sync: whatever is in this database of {what}. Reads the catalog only; any role may run it. No row: nothing is there.
WITH ours AS (
    SELECT oid FROM pg_namespace WHERE nspname = 'cdc_sync'
), found_function AS (
    SELECT p.oid, p.proname::text AS name, p.oid::regprocedure::text AS signature
      FROM pg_proc p JOIN ours ON ours.oid = p.pronamespace WHERE {functions}
)
SELECT NULL AS watch, found.kind, found.object, found.on_table, found.function, 'present' AS state
  FROM (
    SELECT 'schema' AS kind, 'cdc_sync' AS object, NULL AS on_table, NULL AS function FROM ours WHERE {schema}
     UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'r' THEN 'table' ELSE 'relation' END,
           'cdc_sync.' || quote_ident(c.relname), NULL, NULL
      FROM pg_class c JOIN ours ON ours.oid = c.relnamespace WHERE c.relkind NOT IN ('i', 'I', 't', 'c') AND {relations}
     UNION ALL
    SELECT 'function', f.signature, NULL, f.name FROM found_function f
     UNION ALL
    SELECT 'trigger', t.tgname::text, t.tgrelid::regclass::text, f.name
      FROM found_function f
      JOIN pg_trigger t ON t.tgfoid = f.oid AND NOT t.tgisinternal
     UNION ALL -- HelloWork's ids, which `sql uninstall` leaves
    SELECT 'side table', c.oid::regclass::text, NULL, NULL FROM pg_class c
     WHERE {schema} AND c.relkind = 'r' AND obj_description(c.oid, 'pg_class') LIKE 'cdc-sync: %'
       ) AS found
 ORDER BY found.kind, found.object, found.on_table;
