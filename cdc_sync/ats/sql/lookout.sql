-- What is looked at for all watches of a database at once: see `lookout.py`.

-- name: look
-- Which watches have changes in the log, and how often changes of some watches were not recorded. A count that is missing
-- is not there, or may not be read.
SELECT ARRAY(SELECT DISTINCT watch::text FROM cdc_sync.changes),
       (SELECT json_object_agg(c.relname, CASE WHEN has_sequence_privilege(c.oid, 'SELECT')
                               THEN coalesce(pg_sequence_last_value(c.oid::regclass), 0) END)::text
          FROM pg_class c
         WHERE c.relnamespace = to_regnamespace('cdc_sync') AND c.relkind = 'S' AND c.relname = ANY (%s::name[]))

-- name: count
SELECT last_value FROM {}

-- name: states
-- A digest for each watch of what decides which changes are recorded, and which rows are there and seen (`Watched.state`).
-- A row of the catalog that is written again has another xmin; rows of pg_class are written too often, for a GRANT or an
-- index. Not by to_regclass, which asks for a right on the schema: one watch's would fail all.
WITH RECURSIVE named (watch, schema, name) AS (
    SELECT * FROM unnest(%(watches)s::text[], %(schemas)s::text[], %(names)s::text[])
), tree (watch, relation) AS (
    SELECT named.watch, c.oid
      FROM named JOIN pg_namespace n ON n.nspname = named.schema::name
      JOIN pg_class c ON c.relname = named.name::name AND c.relnamespace = n.oid
    UNION
    SELECT named.watch, c.oid
      FROM named JOIN pg_class c ON c.relname = named.name::name AND ON_OWN_PATH(c)
     WHERE named.schema IS NULL
    UNION
    -- Partitions and heirs of a table, and what a view reads.
    SELECT tree.watch, below.relation
      FROM tree CROSS JOIN LATERAL (
        SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = tree.relation
        UNION ALL
        SELECT d.refobjid FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid
         WHERE r.ev_class = tree.relation AND d.classid = 'pg_rewrite'::regclass
           AND d.refclassid = 'pg_class'::regclass) AS below (relation)
)
SELECT tree.watch, pg_catalog.md5(string_agg(ROW(
        c.oid, c.relowner, c.relrowsecurity, c.relforcerowsecurity, pg_catalog.row_security_active(c.oid),
        -- The daemon itself truncates the log.
        CASE WHEN n.nspname <> 'cdc_sync' OR c.relname <> 'changes' THEN c.relfilenode END,
        ARRAY(SELECT ROW(t.oid, t.xmin, f.xmin) FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
               WHERE t.tgrelid = c.oid ORDER BY t.oid)::text,
        -- CREATE OR REPLACE VIEW leaves the view's oid, and writes its rule again.
        ARRAY(SELECT ROW(r.oid, r.xmin) FROM pg_rewrite r WHERE r.ev_class = c.oid ORDER BY r.oid)::text,
        ARRAY(SELECT ROW(p.oid, p.xmin) FROM pg_policy p WHERE p.polrelid = c.oid ORDER BY p.oid)::text,
        ARRAY(SELECT s.srsubid FROM pg_subscription_rel s WHERE s.srrelid = c.oid ORDER BY s.srsubid)::text
        )::text, ',' ORDER BY c.oid))
  FROM tree JOIN pg_class c ON c.oid = tree.relation JOIN pg_namespace n ON n.oid = c.relnamespace
 GROUP BY tree.watch
