-- How scripts and sessions of ours look up names: see `own_path.py`. Each part stands below its name.

-- What each script begins with.
-- name: pin
SET LOCAL search_path = pg_catalog, pg_temp;

-- The first statement of a session, and of a script that names a table without a schema, where it is local: a session of
-- ours has it already. Each name in it says its schema.
-- name: kept
pg_catalog.set_config('cdc_sync.own_path', pg_catalog.current_setting('search_path'), {local}),
       pg_catalog.set_config('cdc_sync.own_schemas', pg_catalog.current_schemas(true)::pg_catalog.text, {local})
 WHERE coalesce(pg_catalog.current_setting('cdc_sync.own_path', true), '') OPERATOR(pg_catalog.=) ''

-- A script shows no rows of its own: psql prints those of SELECT.
-- name: keep
/* Tables that the configuration names without a schema are looked up in this session's search_path, as it is here. */
DO $cdc_sync$ BEGIN
    PERFORM {kept};
END $cdc_sync$;

-- name: on_own_path
/* Up to the next SET: a table that the configuration names without a schema is named, and nothing is called. */
DO $cdc_sync$ BEGIN
    PERFORM pg_catalog.set_config('search_path', pg_catalog.current_setting('cdc_sync.own_path'), true);
END $cdc_sync$;

-- The relation to which the login's own search_path leads; pg_table_is_visible() would ask the pinned one. Each schema is
-- asked by itself: thousands of others may have a table of this name.
-- name: in_own_schemas
(SELECT found.oid FROM (
        SELECT own.place, (SELECT o.oid FROM pg_catalog.pg_class o WHERE o.relname = {name} AND o.relnamespace = (
                           SELECT s.oid FROM pg_catalog.pg_namespace s WHERE s.nspname = own.schema)) AS oid
          FROM pg_catalog.unnest(nullif(pg_catalog.current_setting('cdc_sync.own_schemas', true), '')::name[])
               WITH ORDINALITY AS own (schema, place)) AS found
  WHERE found.oid IS NOT NULL ORDER BY found.place LIMIT 1)

-- Whether ALTER DEFAULT PRIVILEGES of a role gives others more than reading: it would be rights on all that it makes here.
-- name: gives_by_default
EXISTS (SELECT FROM pg_default_acl CROSS JOIN aclexplode(defaclacl) WHERE pg_get_userbyid(defaclrole) = {role}
           AND defaclnamespace IN (0, to_regnamespace('cdc_sync')) AND grantee <> defaclrole
           AND privilege_type NOT IN ('SELECT', 'USAGE') AND (grantee <> 0 OR defaclobjtype <> 'f'))

-- OFFSET keeps the planner from looking the name up by itself.
-- name: existing
(SELECT coalesce(named.oid, named.name::regclass) FROM (SELECT {found} AS oid, {name}::text AS name OFFSET 0) AS named)

-- name: in_schema
(SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = {schema} AND c.relname = {name})

-- name: in_first_schema
(SELECT pg_catalog.format('%I.%I', path.schema, {name})
       FROM pg_catalog.unnest(pg_catalog.current_setting('cdc_sync.own_schemas')::name[]) WITH ORDINALITY AS path (schema, place)
      WHERE path.schema NOT LIKE 'pg\_%' ORDER BY path.place LIMIT 1)
