
-- Watch {watch_name}: {table}, whose rows change what an application of the watch is
CREATE OR REPLACE FUNCTION cdc_sync.{function}() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$cdc_sync$
BEGIN
    IF pg_relation_size('cdc_sync.changes') >= {max_backlog} THEN
        RETURN NULL; -- Nobody has taken the log for long. The next sweep finds everything.
    END IF;
    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        INSERT INTO cdc_sync.changes VALUES ({watch}, {operation}, {old_key}, clock_timestamp());
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO cdc_sync.changes VALUES ({watch}, {operation}, {new_key}, clock_timestamp());
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO cdc_sync.changes VALUES ({watch}, 'T', NULL, clock_timestamp());
    END IF;{wake}
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'cdc_sync: a change in %.% was not recorded: %', TG_TABLE_SCHEMA, TG_TABLE_NAME, SQLERRM;
    RETURN NULL;
END
$cdc_sync$;
REVOKE ALL ON FUNCTION cdc_sync.{function}() FROM PUBLIC;

DROP TRIGGER IF EXISTS {trigger_row} ON {table};
CREATE TRIGGER {trigger_row} AFTER INSERT OR DELETE ON {table}
    FOR EACH ROW EXECUTE PROCEDURE cdc_sync.{function}();

DROP TRIGGER IF EXISTS {trigger_update} ON {table};
CREATE TRIGGER {trigger_update} AFTER UPDATE ON {table}
    FOR EACH ROW WHEN ({changed}) EXECUTE PROCEDURE cdc_sync.{function}();

DROP TRIGGER IF EXISTS {trigger_truncate} ON {table};
CREATE TRIGGER {trigger_truncate} AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE PROCEDURE cdc_sync.{function}();

COMMENT ON FUNCTION cdc_sync.{function}() IS {fingerprint};
