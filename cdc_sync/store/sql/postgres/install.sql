-- cdc-sync: the tables of state.backend postgres, in a schema of their own. One transaction, to be run again at any
-- time: it does what is not done yet, and brings the tables of 0.1.0 and 0.2.0 up to date.
--
-- Creates   the schema cdc_sync, if it is missing, and in it the tables {tables}.
--           Nothing else, and nothing that the triggers of capture.mode notify share.
-- Locks     nothing of anybody else's.
-- Refuses   to change the tables while a daemon of an older version works on them.
-- Grows     snapshot by about 300 bytes for each application ever seen; history for the time of state.history; the
--           other tables are empty while all is well.
-- Holds     ids, statuses, dates and HelloWork's replies: no names, but personal data all the same, since an
--           application's id leads to a person.
-- Rights    The owners of the watched tables may read it, where they are in this database: their pg_dump would fail. A
--           role whose default privileges would give others more is refused: a role with a trigger on a table acts as each
--           role that writes to it.
-- Then      what `cdc-sync sql grants --store` prints gives the daemon's role the rows of these tables, and no more. A
--           role that may create schemas here needs neither script: the daemon does it at its start.
-- Remove    with what `cdc-sync sql uninstall --store` prints.

{begin}

DO $cdc_sync$
DECLARE
    version integer := 0;
    older text;
    reader name;
BEGIN
    -- Two daemons may start at once.
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('cdc-sync store'));
    IF pg_catalog.to_regnamespace('cdc_sync') IS NULL THEN CREATE SCHEMA cdc_sync; END IF;
    IF pg_catalog.to_regclass('cdc_sync.about') IS NOT NULL THEN
        SELECT value INTO version FROM cdc_sync.about WHERE name = 'schema';
    END IF;
    IF version = 0 AND {gives_by_default} THEN
        RAISE EXCEPTION 'default privileges of % give others more than reading', quote_ident(current_user)
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Let a role without them make the store.';
    END IF;
    IF version NOT IN ({known}) THEN
        RAISE EXCEPTION 'the store has schema %, of a newer version or of one that was never released', version
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Run that version, or restore the store''s backup from before the upgrade.';
    END IF;
    IF version BETWEEN 1 AND {newest} - 1 THEN
        -- A daemon that is frozen inside a transaction keeps its tables locked for good.
        PERFORM pg_catalog.set_config('lock_timeout', '10s', true);
        -- No older daemon may register between this check and the commit.
        LOCK TABLE cdc_sync.daemon IN SHARE ROW EXCLUSIVE MODE;
        SELECT pg_catalog.string_agg(pg_catalog.format('process %s on %s', process, host), ', ' ORDER BY id)
          INTO older
          FROM cdc_sync.daemon
         WHERE alive_until BETWEEN pg_catalog.clock_timestamp() AND pg_catalog.clock_timestamp() + lease;
    END IF;
    IF older IS NOT NULL THEN
        RAISE EXCEPTION 'an older cdc-sync works on the store: %', older
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Stop all daemons that share the store, then try again. One that was killed is gone when '
                         'its lease has lapsed, in less than a minute.';
    END IF;
    -- What is there already, and what is not this role's to give, is no matter.
    PERFORM set_config('client_min_messages', 'error', true);
    IF version BETWEEN 1 AND 4 THEN
{from_0_1}
    ELSIF version = 8 THEN
{from_0_2}
    END IF;
    IF version < {newest} THEN
{schema}
        ALTER TABLE cdc_sync.snapshot SET (fillfactor = 90);
        -- A queue, empty most of the time: vacuum by number, not by share.
        ALTER TABLE cdc_sync.outbox SET (
            autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
            autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000
        );
        INSERT INTO cdc_sync.about (name, value) VALUES ('schema', '{newest}')
        ON CONFLICT (name) DO UPDATE SET value = excluded.value;
    END IF;
    FOR reader IN SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid IN ({watched}) LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA cdc_sync TO %I', reader);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA cdc_sync TO %I', reader);
        EXECUTE format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA cdc_sync TO %I', reader);
    END LOOP;
END
$cdc_sync$;

COMMIT;
