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
-- Four digests of each watch: see `State`. Not by to_regclass, which asks for a right on the schema: one watch's would
-- fail all. A row of the catalog that is written again has another xmin; the text of a comment counts as such.
WITH RECURSIVE tree (watch, relation) AS (
    SELECT named.watch, c.oid
      FROM unnest(%(with_table)s::text[], %(schemas)s::text[], %(tables)s::text[]) AS named (watch, schema, name)
      JOIN pg_catalog.pg_namespace n ON n.nspname = named.schema::name
      JOIN pg_catalog.pg_class c ON c.relname = named.name::name AND c.relnamespace = n.oid
    UNION
    SELECT named.watch, c.oid
      FROM unnest(%(with_table)s::text[], %(schemas)s::text[], %(tables)s::text[]) AS named (watch, schema, name)
      JOIN pg_catalog.pg_class c ON c.relname = named.name::name AND ON_OWN_PATH(c)
     WHERE named.schema IS NULL
    UNION
    -- Partitions and children of a table, and what a view reads.
    SELECT tree.watch, below.relation
      FROM tree
     CROSS JOIN LATERAL (
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = tree.relation
        UNION ALL
        SELECT d.refobjid
          FROM pg_catalog.pg_rewrite r
          JOIN pg_catalog.pg_depend d
            ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
           AND d.refclassid = 'pg_catalog.pg_class'::regclass
         WHERE r.ev_class = tree.relation) AS below (relation)
), ours (oid) AS (
    SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'cdc_sync'
), function (watch, oid, written) AS (
    SELECT named.watch, p.oid, concat_ws(' ', 'function', p.oid, p.xmin, d.description)
      FROM unnest(%(with_function)s::text[], %(functions)s::text[]) AS named (watch, name)
      JOIN pg_catalog.pg_proc p ON p.proname = named.name::name AND p.pronamespace = (SELECT oid FROM ours)
      LEFT JOIN pg_catalog.pg_description d
        ON d.objoid = p.oid AND d.classoid = 'pg_catalog.pg_proc'::regclass AND d.objsubid = 0
), storage (watch, digest) AS (
    -- CREATE OR REPLACE VIEW leaves the view's oid, and writes its rule again.
    SELECT tree.watch, pg_catalog.md5(string_agg(concat_ws(' ', c.oid, c.relfilenode, r.xmin), ',' ORDER BY c.oid))
      FROM tree
      JOIN pg_catalog.pg_class c ON c.oid = tree.relation
      LEFT JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid AND r.ev_type = '1'
     GROUP BY tree.watch
), sequence (watch, oid, relkind) AS (
    SELECT named.watch, c.oid, c.relkind
      FROM unnest(%(with_sequence)s::text[], %(sequences)s::text[]) AS named (watch, name)
      JOIN pg_catalog.pg_class c ON c.relname = named.name::name AND c.relnamespace = (SELECT oid FROM ours)
), line (watch, written) AS (
    SELECT watch, written FROM function
    UNION ALL
    SELECT tree.watch, concat_ws(' ', 'trigger', tree.relation, t.oid, t.xmin, t.tgenabled, d.description)
      FROM tree
      JOIN pg_catalog.pg_trigger t ON t.tgrelid = tree.relation
      JOIN function f ON f.oid = t.tgfoid AND f.watch = tree.watch
      LEFT JOIN pg_catalog.pg_description d
        ON d.objoid = t.oid AND d.classoid = 'pg_catalog.pg_trigger'::regclass AND d.objsubid = 0
    UNION ALL
    SELECT tree.watch, concat_ws(' ', 'table', c.oid, c.relkind, c.relnamespace, c.relname,
                                 ON_OWN_PATH(c), s.srsubid)
      FROM tree
      JOIN pg_catalog.pg_class c ON c.oid = tree.relation
      LEFT JOIN pg_catalog.pg_subscription_rel s ON s.srrelid = tree.relation
    UNION ALL
    SELECT watch, concat_ws(' ', 'sequence', oid, relkind) FROM sequence
), setup (watch, digest) AS (
    SELECT watch, pg_catalog.md5(string_agg(written, E'\n' ORDER BY written COLLATE "C")) FROM line GROUP BY watch
), counted (watch, oids) AS (
    SELECT watch, string_agg(oid::text, ' ' ORDER BY oid) FROM sequence GROUP BY watch
), log (oid, aliens) AS (
    SELECT
        (SELECT c.oid FROM pg_catalog.pg_class c
          WHERE c.relname = 'changes' AND c.relnamespace = (SELECT oid FROM ours)),
        (SELECT pg_catalog.md5(string_agg(concat_ws(' ', alien.kind, alien.name), ',' ORDER BY alien.kind, alien.name))
           FROM ({not_ours}) AS alien)
), policies (digest) AS (
    -- Of views and their owners too: tables under them are read with that role's rights.
    SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_class WHERE relrowsecurity) THEN pg_catalog.md5(concat_ws(';',
        (SELECT string_agg(concat_ws(' ', c.oid, c.xmin), ',' ORDER BY c.oid)
           FROM pg_catalog.pg_class c WHERE c.relrowsecurity OR (c.relkind = 'v' AND c.oid >= 16384)),
        (SELECT string_agg(concat_ws(' ', w.oid, w.xmin), ',' ORDER BY w.oid)
           FROM pg_catalog.pg_rewrite w WHERE w.oid >= 16384),
        (SELECT string_agg(concat_ws(' ', p.oid, p.xmin), ',' ORDER BY p.oid) FROM pg_catalog.pg_policy p),
        (SELECT string_agg(concat_ws(' ', r.oid, r.rolsuper, r.rolinherit, r.rolbypassrls), ',' ORDER BY r.oid)
           FROM pg_catalog.pg_roles r),
        (SELECT string_agg(m::text, ',' ORDER BY m::text) FROM pg_catalog.pg_auth_members m))) END
)
SELECT watch, storage.digest, concat_ws(' ', setup.digest, log.oid, log.aliens), policies.digest,
       concat_ws(' ', log.oid, counted.oids)
  FROM unnest(%(watches)s::text[]) AS watched (watch)
  LEFT JOIN storage USING (watch)
  LEFT JOIN setup USING (watch)
  LEFT JOIN counted USING (watch)
 CROSS JOIN log
 CROSS JOIN policies
