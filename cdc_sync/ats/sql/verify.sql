-- cdc-sync: whether what is installed is what this version and configuration would install. Reads the catalog only; any
-- role may run it. One row per object; `state` is one of
--   ok         as it should be
--   missing    not there: run what `cdc-sync sql install` prints
--   different  of another version, configuration or owner, or edited since; or triggers, rules or policies are on the log:
--              run what `cdc-sync sql install` prints
--   disabled   the trigger does not fire: ALTER TABLE ... ENABLE TRIGGER ..., or install again
--   left over  of a watch that this configuration does not have, or has in poll mode: another installation's; or if it is
--              nobody's, run what `cdc-sync sql uninstall --watch NAME` prints
WITH wanted (watch, kind, name, function, on_table, made, fires, may_be_missing) AS (VALUES
    {wanted}
), ours AS (
    SELECT n.oid, c.relowner FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'changes'
     WHERE n.nspname = 'cdc_sync'
), function AS (
    SELECT p.oid, p.proname::text AS name, CASE WHEN p.proowner = coalesce(ours.relowner, p.proowner) THEN concat_ws(' ',
               md5(convert_to(replace(p.prosrc, E'\r', ''), 'UTF8')), p.prosecdef, p.proconfig) END AS made
      FROM pg_proc p JOIN ours ON ours.oid = p.pronamespace
     WHERE p.proname {of_functions}
), found (kind, name, function, on_table, own_name, made, fires) AS (
    SELECT CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, c.relname::text, NULL, NULL::text[], NULL::text[],
           CASE WHEN c.relkind = 'S' OR NOT (c.relrowsecurity OR EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid)
                                             OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid)) THEN '' END, NULL
      FROM pg_class c JOIN ours ON ours.oid = c.relnamespace WHERE c.relkind IN ('r', 'S')
    UNION ALL
    SELECT 'function', name, name, NULL, NULL, made, NULL FROM function
    UNION ALL -- a trigger has copies on partitions, each of which can be disabled by itself
    SELECT 'trigger', t.tgname, f.name, ARRAY[n.nspname::text, c.relname], CASE WHEN ON_OWN_PATH(c) THEN ARRAY[c.relname::text] END,
           concat_ws(' ', t.tgtype, nullif(encode(t.tgargs, 'escape'), ''), t.tgqual, nullif(t.tgattr::text, '')),
           (SELECT string_agg(DISTINCT c.tgenabled::text, '') FROM pg_trigger c WHERE c.tgfoid = f.oid AND c.tgname = t.tgname)
      FROM function f JOIN pg_trigger t ON t.tgfoid = f.oid
      JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
), answer (watch, kind, object, on_table, function, state) AS (
    SELECT w.watch, w.kind, CASE WHEN w.kind <> 'trigger' THEN 'cdc_sync.' ELSE '' END || w.name, w.on_table, w.function,
           CASE WHEN f.name IS NULL THEN 'missing'
                WHEN f.fires !~ w.fires THEN 'disabled'
                WHEN f.made IS DISTINCT FROM w.made THEN 'different'
                ELSE 'ok' END
      FROM wanted w
      LEFT JOIN found f ON f.kind = w.kind AND f.name = w.name AND f.function IS NOT DISTINCT FROM w.function
       AND (w.kind <> 'trigger' OR parse_ident(w.on_table) IN (f.on_table, f.own_name))
     WHERE f.name IS NOT NULL OR NOT w.may_be_missing
    UNION ALL
    SELECT coalesce(substring(obj_description(f.oid, 'pg_proc') FROM '^cdc-sync(?: [0-9a-f]{{16}}|:) (.+)$'),
                    replace(regexp_replace(regexp_replace(f.name, '^record_|[$][0-9]+$', '', 'g'), '[$]', '@'), '$', '.')),
           'function', 'cdc_sync.' || f.name, NULL, f.name, 'left over'
      FROM function f WHERE f.name NOT IN (SELECT function FROM wanted WHERE function IS NOT NULL)
)
SELECT * FROM answer ORDER BY state = 'ok', watch, function, kind, object;
