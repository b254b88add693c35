-- cdc-sync: the tables of state.backend postgres, in a schema of their own. One transaction, to be run again at any
-- time: it does what an earlier version has not done yet.
--
-- Creates   the schema cdc_sync, if it is missing, and in it the tables {tables};
--           a function forget_verified() and a trigger on snapshot. Nothing else, and nothing that the triggers of
--           capture.mode notify share.
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
    IF pg_catalog.to_regnamespace('cdc_sync') IS NULL THEN
        CREATE SCHEMA cdc_sync;
    END IF;
    IF pg_catalog.to_regclass('cdc_sync.about') IS NOT NULL THEN
        SELECT value INTO version FROM cdc_sync.about WHERE name = 'schema';
    END IF;
    IF version = 0 AND {gives_by_default} THEN
        RAISE EXCEPTION 'default privileges of % give others more than reading', quote_ident(current_user)
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Let a role without them make the store.';
    END IF;
    IF version BETWEEN 1 AND {newest} - 1 THEN
        -- A daemon that is frozen inside a transaction keeps its tables locked for good.
        PERFORM pg_catalog.set_config('lock_timeout', '10s', true);
    END IF;
    IF version BETWEEN {leader} AND {newest} - 1 AND NOT pg_catalog.pg_try_advisory_xact_lock({kind}, 0) THEN
        SELECT pg_catalog.format('process %s on %s', process, host) INTO older FROM cdc_sync.leader;
    END IF;
    IF version BETWEEN 1 AND {leader} - 1 THEN
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
