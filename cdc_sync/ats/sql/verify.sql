-- cdc-sync: whether what is installed is what this version and configuration would install. Reads the catalog only; any
-- role may run it. One row per object; `state` is one of
--   ok         as it should be
--   missing    not there: run what `cdc-sync sql install` prints
--   different  installed by another version or configuration, or edited since: run what `cdc-sync sql install` prints
--   disabled   the trigger does not fire: ALTER TABLE ... ENABLE TRIGGER ..., or install again
--   not ours   a trigger, a rule or row-level security on the log, which only keeps rows; or a function for new tenants:
--              somebody else's, who could act with the rights of the functions, or of who calls it. Drop it
--   exposed    another role has rights on it by which it could act as the functions' owner, or disturb: run what
--              `cdc-sync sql install` prints, which revokes them
--   unreadable the owner of a watched table may not read it, so that role's pg_dump fails: run what `cdc-sync sql install`
--              prints, which grants it
--   left over  of a watch that this configuration does not have, or has in poll mode: another installation's; or if it is
--              nobody's, run what `cdc-sync sql uninstall --watch NAME` prints
WITH wanted_function (watch, name, relation, body, fingerprint) AS (VALUES
    {functions}
), wanted_trigger (watch, name, function, relation, fires, fingerprint) AS (VALUES
    {triggers}
), wanted_relation (watch, name, kind) AS (VALUES
    {relations}
), wanted_installing (name, body) AS (VALUES
    {installing}
), in_schema AS (
    SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'cdc_sync'
), found_function AS (
    SELECT p.oid, p.proname::text AS name, pg_catalog.obj_description(p.oid, 'pg_proc') AS fingerprint,
           -- Line ends as they are here, in case the script went through a file of Windows.
           pg_catalog.md5(pg_catalog.convert_to(pg_catalog.replace(p.prosrc, E'\r', ''), 'UTF8')) AS body,
           p.prosecdef AND p.proconfig = ARRAY['search_path=pg_catalog, pg_temp'] AS is_set
      FROM pg_catalog.pg_proc p
     WHERE p.pronamespace IN (SELECT oid FROM in_schema) AND p.proname {of_functions}
), fires AS (
    -- A partition has copies, each of which can be disabled by itself.
    SELECT t.tgfoid, t.tgname, pg_catalog.string_agg(DISTINCT t.tgenabled::text, '') AS as_found
      FROM found_function f
      JOIN pg_catalog.pg_trigger t ON t.tgfoid = f.oid
     GROUP BY t.tgfoid, t.tgname
), found_trigger AS (
    SELECT t.tgname::text AS name, f.name AS function,
           -- Not by to_regclass, which asks for a right on the schema.
           ARRAY[n.nspname::text, c.relname::text] AS relation,
           CASE WHEN ON_OWN_PATH(c) THEN ARRAY[c.relname::text] END AS visible_as,
           pg_catalog.obj_description(t.oid, 'pg_trigger') AS fingerprint, fires.as_found AS fires
      FROM found_function f
      JOIN pg_catalog.pg_trigger t ON t.tgfoid = f.oid
      JOIN fires ON fires.tgfoid = t.tgfoid AND fires.tgname = t.tgname
      JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
), found_relation AS (
    SELECT c.relname::text AS name, c.relkind::text AS kind
      FROM pg_catalog.pg_class c
     WHERE c.relnamespace IN (SELECT oid FROM in_schema) AND c.relkind IN ('r', 'S')
), answer (watch, kind, object, on_table, function, state) AS (
    SELECT w.watch, CASE w.kind WHEN 'S' THEN 'sequence' ELSE 'table' END, 'cdc_sync.' || w.name, NULL, NULL,
           CASE WHEN f.name IS NULL THEN 'missing' ELSE 'ok' END
      FROM wanted_relation w LEFT JOIN found_relation f ON f.name = w.name AND f.kind = w.kind
     WHERE w.name IS NOT NULL
    UNION ALL
    SELECT w.watch, 'function', 'cdc_sync.' || w.name, w.relation, w.name,
           CASE WHEN f.name IS NULL THEN 'missing'
                WHEN f.body = w.body AND f.fingerprint = w.fingerprint AND f.is_set THEN 'ok'
                ELSE 'different' END
      FROM wanted_function w LEFT JOIN found_function f ON f.name = w.name
     WHERE w.name IS NOT NULL
    UNION ALL
    SELECT w.watch, 'trigger', w.name, w.relation, w.function,
           CASE WHEN t.name IS NULL THEN 'missing'
                WHEN t.fires !~ w.fires THEN 'disabled'
                WHEN t.fingerprint IS DISTINCT FROM w.fingerprint THEN 'different'
                ELSE 'ok' END
      FROM wanted_trigger w
      LEFT JOIN found_trigger t
        ON t.name = w.name AND t.function = w.function
       AND pg_catalog.parse_ident(w.relation) IN (t.relation, t.visible_as)
     WHERE w.name IS NOT NULL
    UNION ALL
    SELECT coalesce(pg_catalog.substring(f.fingerprint, '^cdc-sync [0-9a-f]{{16}} (.+)$'),
                    pg_catalog.replace(pg_catalog.regexp_replace(
                        pg_catalog.regexp_replace(f.name, '^record_|[$][0-9]+$', '', 'g'), '[$]', '@'), '$', '.')),
           'function', 'cdc_sync.' || f.name, NULL, f.name, 'left over'
      FROM found_function f WHERE NOT EXISTS (SELECT FROM wanted_function w WHERE w.name = f.name)
    UNION ALL
    -- Those that install a new tenant's triggers, with the rights of the role that calls them.
    SELECT NULL, 'function', 'cdc_sync.' || p.proname, NULL, p.proname::text,
           CASE WHEN NOT pg_catalog.pg_has_role(p.proowner, log.relowner, 'USAGE') THEN 'not ours'
                WHEN w.name IS NULL THEN 'left over'
                WHEN pg_catalog.md5(pg_catalog.convert_to(pg_catalog.replace(p.prosrc, E'\r', ''), 'UTF8')) <> w.body
                THEN 'different'
                ELSE 'ok' END
      FROM pg_catalog.pg_proc p
      JOIN pg_catalog.pg_class log ON log.relnamespace = p.pronamespace AND log.relname = 'changes'
      LEFT JOIN wanted_installing w ON w.name = p.proname
     WHERE p.pronamespace IN (SELECT oid FROM in_schema) AND p.proname {of_installing}
    UNION ALL
    SELECT NULL, alien.kind, alien.name, 'cdc_sync.changes', NULL, 'not ours'
      FROM (
        {not_ours}
      ) AS alien
    UNION ALL
    SELECT NULL, 'privilege', exposed.what, exposed.name, NULL, 'exposed'
      FROM (
        {exposed}
      ) AS exposed
    UNION ALL
    SELECT NULL, 'privilege', unreadable.what, unreadable.name, NULL, 'unreadable'
      FROM (
        {unreadable}
      ) AS unreadable
)
SELECT watch, kind, object, on_table, function, state FROM answer ORDER BY state = 'ok', watch, function, kind, object;
