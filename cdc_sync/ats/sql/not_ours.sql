SELECT alien.kind, alien.name, alien.remedy
          FROM pg_catalog.pg_class c
         CROSS JOIN LATERAL (
            SELECT 'trigger', t.tgname::text, pg_catalog.format('DROP TRIGGER %I ON cdc_sync.changes', t.tgname)
              FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid
             UNION ALL
            SELECT 'rule', r.rulename::text, pg_catalog.format('DROP RULE %I ON cdc_sync.changes', r.rulename)
              FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid
             UNION ALL
            SELECT 'policy', p.polname::text, pg_catalog.format('DROP POLICY %I ON cdc_sync.changes', p.polname)
              FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid
             UNION ALL
            SELECT 'policy', 'row-level security', 'ALTER TABLE cdc_sync.changes DISABLE ROW LEVEL SECURITY'
             WHERE c.relrowsecurity
               ) AS alien (kind, name, remedy)
         -- Not by to_regclass, which asks for a right on the schema.
         WHERE c.relnamespace = pg_catalog.to_regnamespace('cdc_sync') AND c.relname = 'changes'
