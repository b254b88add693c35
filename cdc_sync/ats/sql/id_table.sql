-- cdc-sync: a side table for HelloWork's ids, for an ATS that has no place for them. One transaction; run it as the owner
-- of {watched}, again at any time: a table that is there stays as it is.
-- Creates   {side}: the key and the id of each row that is HelloWork's. An id belongs to one row, and a
--           row that is deleted takes its id along, in the same statement.
-- Locks     {watched} against writes for milliseconds; the lock is waited for up to 3 s.
-- Costs     each DELETE of {watched}, and each UPDATE of its key, a look into an index. The ATS's roles
--           need no rights for it. But a TRUNCATE has to name this table too, or say CASCADE.
-- Fill it   by the program that receives the applications, or from a file by psql's \copy; as the owner, or as a role of
--           its own, not the daemon's, which only reads: it needs USAGE on the schema, and
--             GRANT SELECT, INSERT, UPDATE ON {side} TO the_writer;
-- Undo      DROP TABLE {side};

{begin}
SET LOCAL lock_timeout = '3s';
DO $cdc_sync$
DECLARE
    watched CONSTANT regclass := {watched_name};
    side CONSTANT text := {side_name};
BEGIN
    IF {side_oid} IS NOT NULL THEN
        IF NOT EXISTS (SELECT FROM pg_class AS there JOIN pg_class AS its ON its.oid = watched
                        WHERE there.oid = {side_oid} AND there.relkind IN ('r', 'p') AND there.relowner = its.relowner) THEN
            RAISE object_not_in_prerequisite_state USING MESSAGE = format('%s is there, and no table of the owner of %s', {side_oid}::regclass, watched),
                HINT = 'Look at it. If you trust it: ALTER TABLE ... OWNER TO that owner; else DROP it, and run this again.';
        END IF;
        RETURN;
    END IF;
    EXECUTE format({create}, side, watched);
    EXECUTE format('ALTER TABLE %s OWNER TO %I', side, (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = watched));
    EXECUTE format('COMMENT ON TABLE %s IS %L', side, 'cdc-sync: HelloWork''s ids of ' || watched);
    EXECUTE format({alter}, side);
    EXECUTE format({refer}, side, watched);
END $cdc_sync$;
{grants}

COMMIT;
