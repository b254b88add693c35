-- cdc-sync: whatever is in this database of {what}. Reads the catalog only; any role may run it. No row: nothing is there.
SELECT NULL AS watch, found.kind, found.object, NULL AS on_table, found.function, 'present' AS state
  FROM pg_namespace ours CROSS JOIN LATERAL (
    SELECT 'schema', 'cdc_sync', NULL WHERE {schema}
    UNION ALL SELECT CASE relkind WHEN 'S' THEN 'sequence' WHEN 'r' THEN 'table' ELSE 'relation' END,
           'cdc_sync.' || quote_ident(relname), NULL
      FROM pg_class c WHERE relnamespace = ours.oid AND relkind NOT IN ('i', 'I', 't', 'c') AND {relations}
    UNION ALL SELECT 'function', p.oid::regprocedure::text, proname -- with which its triggers go
      FROM pg_proc p WHERE pronamespace = ours.oid AND {functions}
    ) AS found (kind, object, function) WHERE nspname = 'cdc_sync'
UNION ALL -- HelloWork's ids, which `sql uninstall` leaves
SELECT NULL, 'side table', oid::regclass::text, NULL, NULL, 'present' FROM pg_class
 WHERE {schema} AND relkind = 'r' AND obj_description(oid, 'pg_class') LIKE 'cdc-sync: %'
 ORDER BY 2, 3;
