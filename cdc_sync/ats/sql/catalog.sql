-- What the daemon, `cdc-sync check` and `cdc-sync init` ask the catalog. Any role may; no row of a table is read.
-- Each statement stands below its name; parameters are as psycopg has them.

-- name: server
SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), {identity}, {position},
       current_setting('max_prepared_transactions')::int > 0,
       btrim(current_setting('synchronous_standby_names')) <> '', current_user::text,
       current_database()::text, current_setting('TimeZone'),
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)

-- name: creators
-- The schemas of the login's own path but PostgreSQL's, each with the roles that may CREATE in it, but for who could do so
-- anyway: its owner, members of that, superusers (who are members of every role).
SELECT quote_ident(n.nspname),
       array_agg(DISTINCT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END)
           FILTER (WHERE g.privilege_type = 'CREATE' AND CASE g.grantee WHEN 0 THEN true
                   ELSE r.rolname <> current_user AND NOT pg_catalog.pg_has_role(g.grantee, n.nspowner, 'USAGE') END)
  FROM pg_namespace n LEFT JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS g ON true
  LEFT JOIN pg_roles r ON r.oid = g.grantee
 WHERE n.nspname = ANY (current_setting('cdc_sync.own_schemas')::name[]) AND n.nspname !~ '^pg_'
 GROUP BY n.nspname ORDER BY n.nspname

-- name: relation
-- `to_regclass` would refuse to look into a schema that the role may not use. Of each column its type and its length.
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, greatest(c.reltuples, 0)::bigint,
       (SELECT coalesce(json_object_agg(a.attname, a.atttypid || ' ' || a.atttypmod), '{}')::text
          FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = %(name)s
   AND CASE WHEN %(schema)s::text IS NULL THEN ON_OWN_PATH(c) ELSE n.nspname = %(schema)s END

-- name: relations
-- A table that was never analysed has -1 rows, and before PostgreSQL 14 as many as an empty one.
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
       CASE WHEN c.reltuples > 0 THEN c.reltuples::bigint
            WHEN c.reltuples = 0 AND current_setting('server_version_num')::int >= 140000 THEN 0 END
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind::text = ANY (%(kinds)s) AND NOT c.relispartition
   AND n.nspname NOT IN ('information_schema', 'cdc_sync') AND n.nspname NOT LIKE 'pg\_%%'
 ORDER BY strpos(%(named)s, lower(c.relname::text)) = 0, n.nspname, c.relname LIMIT %(most)s

-- name: used_by_view
-- The table's columns that the temporary view of an expression uses. A reference to a whole row (column 0) is no
-- dependency of its own; it stands in the rule.
SELECT ARRAY(
    SELECT a.attname::text FROM pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       AND (strpos(rule.ev_action::text, ':varattno 0 :vartype ' || c.reltype || ' ') > 0
            OR a.attnum IN (SELECT d.refobjsubid FROM pg_depend d
                             WHERE d.classid = 'pg_rewrite'::regclass AND d.objid = rule.oid
                               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid))
     ORDER BY a.attnum)
  FROM pg_class c, pg_rewrite rule
 WHERE c.oid = %(table)s AND rule.ev_class = to_regclass('pg_temp.cdc_sync_expression')

-- name: tenants
-- The schemas that a template's pattern matches and that have its table, of many templates at once.
SELECT wanted.template, n.nspname::text
  FROM unnest(%(templates)s::text[], %(patterns)s::text[], %(tables)s::text[])
       AS wanted (template, pattern, relation)
  JOIN pg_class c ON c.relname = wanted.relation::name JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname::text LIKE wanted.pattern AND c.relkind::text = ANY (%(kinds)s) AND NOT c.relispartition
   AND n.nspname NOT IN ('information_schema', 'cdc_sync') AND n.nspname NOT LIKE 'pg\_%%'

-- name: tables
-- The list is in a SELECT, so that the planner makes one plan for any number, and keeps it.
-- Of each table its unique indexes, the primary one first, and its columns; `virtual` ones are generated when they are read.
-- `base`: a domain is followed down to its base type, since arrays of domains exist since PostgreSQL 11 only.
-- `operators`: the `=` of the type's default B-tree. Types without one of their own (varchar, enums, arrays) use PostgreSQL's.
-- `indexes`: an index's columns in its order, without those that it only carries along (INCLUDE, since PostgreSQL 11). Before
-- PostgreSQL 12 a table WITH OIDS may have one of a system column.
WITH RECURSIVE base (relation, number, name, mandatory, virtual, type, typmod) AS (
    SELECT a.attrelid, a.attnum, a.attname, a.attnotnull,
           coalesce(to_jsonb(a) ->> 'attgenerated' = 'v', false), a.atttypid, a.atttypmod
      FROM pg_attribute a WHERE a.attrelid = ANY (ARRAY(SELECT unnest(%(tables)s::oid[]))) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.relation, b.number, b.name, b.mandatory, b.virtual, t.typbasetype, t.typtypmod
      FROM base b JOIN pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
), columns (relation, number, name, type, is_enum, not_null, operators, virtual) AS (
    SELECT d.relation, d.number, d.name::text, pg_catalog.format_type(d.type, d.typmod), t.typtype = 'e', d.mandatory,
           coalesce((
               SELECT n.nspname::text
                 FROM pg_opclass c JOIN pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
                 JOIN pg_amop e ON e.amopfamily = c.opcfamily AND e.amopstrategy = 3
                  AND e.amoplefttype = c.opcintype AND e.amoprighttype = c.opcintype
                 JOIN pg_operator o ON o.oid = e.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
                WHERE c.opcintype = d.type AND c.opcdefault), 'pg_catalog'), d.virtual
      FROM base d JOIN pg_type t ON t.oid = d.type AND t.typtype <> 'd'
), indexes (relation, index, is_primary, names) AS (
    SELECT i.indrelid, i.indexrelid, i.indisprimary, parts.names
      FROM pg_index i CROSS JOIN LATERAL (
        SELECT array_agg(a.attname::text ORDER BY part.position) AS names
          FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS part (number, position)
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = part.number
         WHERE part.position <= coalesce((to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts)) parts
     WHERE i.indrelid = ANY (ARRAY(SELECT unnest(%(tables)s::oid[]))) AND i.indisvalid AND i.indisunique
       AND i.indpred IS NULL AND 0 < ALL (i.indkey::int2[])
), referring (relation, name, reference) AS (
    SELECT DISTINCT ON (f.conrelid, own.attname)
           f.conrelid, own.attname::text, json_build_array(n.nspname, c.relname, other.attname)
      FROM pg_constraint f
      JOIN pg_class c ON c.oid = f.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute own ON own.attrelid = f.conrelid AND own.attnum = f.conkey[1]
      JOIN pg_attribute other ON other.attrelid = f.confrelid AND other.attnum = f.confkey[1]
     WHERE f.contype = 'f' AND f.conrelid = ANY (ARRAY(SELECT unnest(%(tables)s::oid[]))) AND cardinality(f.conkey) = 1
)
SELECT relation, json_build_array(
           (SELECT coalesce(json_agg(i.names ORDER BY NOT i.is_primary, i.index), '[]')
              FROM indexes i WHERE i.relation = columns.relation),
           json_object_agg(name, json_build_object(
               'type', type, 'is_enum', is_enum, 'not_null', not_null, 'operators', operators,
               'virtual', virtual, 'reference', reference) ORDER BY number))::text
  FROM columns LEFT JOIN referring USING (relation, name) GROUP BY relation

-- name: hiding
-- By the rules of PostgreSQL's check_enable_rls() and get_policies_for_relation() (src/backend/utils/misc/rls.c and
-- src/backend/rewrite/rowsecurity.c), for the reading role. The catalog is open to every role.
WITH touched AS (
    SELECT c.oid, c.relname, c.relnamespace, c.relkind, c.relowner, c.relrowsecurity,
           c.relforcerowsecurity, c.reloptions
      FROM pg_class c
     WHERE c.oid IN (SELECT l.relation FROM pg_locks l
                      WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation')
), reading AS (
    SELECT r.oid, r.rolname FROM pg_roles r
     WHERE NOT r.rolsuper AND NOT r.rolbypassrls AND (
        r.rolname = current_user OR r.oid IN (
            SELECT v.relowner FROM touched v WHERE v.relkind = 'v' AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_options_to_table(v.reloptions) o
                 WHERE o.option_name = 'security_invoker' AND o.option_value::boolean)))
)
SELECT pg_catalog.format('%I.%I', n.nspname, t.relname), pg_catalog.quote_ident(r.rolname), narrowing.names
  FROM touched t JOIN pg_namespace n ON n.oid = t.relnamespace
 CROSS JOIN reading r CROSS JOIN LATERAL (
    SELECT coalesce(bool_or(p.polpermissive AND p.qual = 'true'), false) AS shows_all,
           coalesce(array_agg(p.polname ORDER BY p.polname)
                    FILTER (WHERE NOT p.polpermissive AND p.qual <> 'true'), '{}')::text[] AS names
      FROM (SELECT y.polname, y.polpermissive, pg_catalog.pg_get_expr(y.polqual, y.polrelid) AS qual
              FROM pg_policy y WHERE y.polrelid = t.oid AND y.polcmd IN ('r', '*') AND EXISTS (
                SELECT FROM unnest(y.polroles) AS named (role) WHERE CASE named.role WHEN 0 THEN true
                       ELSE pg_catalog.pg_has_role(r.oid, named.role, 'USAGE') END)) p
 ) narrowing
 WHERE t.relrowsecurity
   AND (t.relforcerowsecurity OR NOT pg_catalog.pg_has_role(r.oid, t.relowner, 'USAGE'))
   AND pg_catalog.has_any_column_privilege(r.oid, t.oid, 'SELECT')
   AND NOT EXISTS (SELECT FROM pg_inherits i JOIN touched parent ON parent.oid = i.inhparent
                    WHERE i.inhrelid = t.oid)
   AND (NOT narrowing.shows_all OR narrowing.names <> '{}') ORDER BY 1, 2

-- name: limits
-- How many connections there may be, and how many others have. Every role sees of all sessions which role they belong to,
-- and their application_name. Our own are not counted: the daemon may be running.
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true), '0')::int,
       (SELECT count(*)::int FROM pg_stat_activity
         WHERE datname IS NOT NULL AND NOT (usename = current_user
               AND application_name IN (current_setting('application_name'), 'cdc-sync store')))

-- name: only_by_index
-- For a plan that is about the indexes that there are, and not about the table's size.
SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off;
SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off

-- name: leading_columns
-- An index is in its table's schema; a thousand others may have one of that name.
SELECT c.relname::text, CASE WHEN i.indkey[0] > 0 THEN pg_catalog.pg_get_indexdef(c.oid, 1, false) END
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indexrelid = c.oid
 WHERE c.relname = ANY (%(indexes)s::name[]) AND n.nspname = ANY (%(schemas)s::name[])

-- name: unseen
-- Tables that are read with a watch's tables (the first is its own), but do not fire their triggers.
WITH RECURSIVE tree (root, relation) AS (
    SELECT own.relation, own.relation FROM unnest(%(tables)s::oid[]) AS own (relation)
    UNION
    SELECT tree.root, i.inhrelid FROM pg_inherits i JOIN tree ON i.inhparent = tree.relation
)
SELECT 'heir', pg_catalog.format('%%I.%%I', n.nspname, c.relname)
  FROM tree JOIN pg_class root ON root.oid = tree.root AND root.relkind = 'r'
  JOIN pg_class c ON c.oid = tree.relation JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE root.oid = (%(tables)s::oid[])[1] AND c.oid <> ALL (%(tables)s::oid[])
 UNION ALL
SELECT DISTINCT 'subscribed', pg_catalog.format('%%I.%%I', n.nspname, c.relname)
  FROM tree JOIN pg_subscription_rel s ON s.srrelid = tree.relation
  JOIN pg_class c ON c.oid = tree.root JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY 1, 2
