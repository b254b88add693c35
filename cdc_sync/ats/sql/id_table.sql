-- cdc-sync: a side table for HelloWork's ids, for an ATS that has no place for them. One transaction; run it as the owner
-- of {watched}, again at any time: a table that is there stays as it is.
--
-- Creates   {side}: the key and the id of each row that is HelloWork's.
--           An id belongs to one row, and a row that is deleted takes its id along, in the same statement.
-- Locks     {watched} against writes while the foreign key is made, which takes milliseconds; the lock is
--           waited for up to 3 s.
-- Costs     each DELETE of {watched}, and each UPDATE of its key, a look into an index. The ATS's
--           roles need no rights for it: PostgreSQL acts as this table's owner. But a TRUNCATE has to name this table too,
--           or say CASCADE.
-- Fill it   by the program that receives the applications, or from a file by psql's \copy; as the owner, or as a role of
--           its own, not the daemon's, which only reads:
{writer}
-- Undo      DROP TABLE {side};

{begin}
SET LOCAL lock_timeout = '3s';

DO $cdc_sync$
DECLARE
    watched CONSTANT oid := coalesce({watched_oid}, {watched_name}::pg_catalog.regclass);
    side CONSTANT text := {new_side};
    keys CONSTANT pg_catalog.name[] := ARRAY[{watched_keys}];
    columns pg_catalog.text;
BEGIN
    IF {side_oid} IS NOT NULL THEN
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_index i
         WHERE i.indrelid = watched AND i.indisunique AND i.indisvalid AND i.indimmediate
           AND i.indpred IS NULL AND i.indexprs IS NULL
           AND coalesce((pg_catalog.to_jsonb(i) ->> 'indnkeyatts')::int, i.indnatts) = pg_catalog.cardinality(keys)
           AND NOT EXISTS (
               SELECT FROM pg_catalog.unnest(keys) AS key (name)
                WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                                   WHERE a.attrelid = watched AND a.attname = key.name AND a.attnum = ANY (i.indkey)))
    ) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = pg_catalog.format('%s has no primary key and no unique index on (%s), so no row can be referred to',
                watched::pg_catalog.regclass, pg_catalog.array_to_string(keys, ', ')),
            HINT = 'Correct the watch''s key; or give the table one: ALTER TABLE ... ADD PRIMARY KEY. A view has none: watch '
                'the table beneath it.';
    END IF;
    -- The key's types as they are there, whatever they are.
    SELECT pg_catalog.string_agg(
               pg_catalog.format('%I %s%s NOT NULL', own.name, pg_catalog.format_type(a.atttypid, a.atttypmod),
                   CASE WHEN a.attcollation <> t.typcollation
                        THEN pg_catalog.format(' COLLATE %I.%I', n.nspname, c.collname) ELSE '' END),
               ', ' ORDER BY own.place)
      INTO columns
      FROM ROWS FROM (pg_catalog.unnest(keys), pg_catalog.unnest(ARRAY[{side_keys}]::pg_catalog.name[]))
           WITH ORDINALITY AS own (key, name, place)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = watched AND a.attname = own.key
      JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
      LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
      LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace;
    EXECUTE pg_catalog.concat('CREATE TABLE ', side, ' (', columns, {rest}, ' ', watched::regclass, {end});{index}
END
$cdc_sync$;

{grants}

COMMIT;
