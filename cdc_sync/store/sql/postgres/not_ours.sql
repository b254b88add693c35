 UNION ALL
SELECT 'TABLE', pg_catalog.format('cdc_sync.%I', c.relname), 'with the ' || alien.kind || ' ' || alien.name
  FROM pg_catalog.pg_class c
 CROSS JOIN LATERAL (
    SELECT 'trigger', t.tgname::text FROM pg_catalog.pg_trigger t
     WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgname <> 'snapshot_verified'
     UNION ALL
    SELECT 'rule', r.rulename::text FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid
     UNION ALL
    SELECT 'policy', p.polname::text FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid
       ) AS alien (kind, name)
 WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync') AND c.relname IN (TABLES)
