
-- ---------------------------------------------------------------------------------------------------------------------
-- Watch {watch_name}: {table}

-- Until when (seconds since the epoch) somebody sleeps and wants to be woken. A sequence is read outside MVCC, so a
-- transaction with an old snapshot sees it as it is.
CREATE SEQUENCE IF NOT EXISTS cdc_sync.{bell} MINVALUE 0 START 0;

CREATE OR REPLACE FUNCTION cdc_sync.{function}() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$cdc_sync$
BEGIN
    IF pg_relation_size('cdc_sync.changes') >= {max_backlog} THEN
        RETURN NULL; -- Nobody has taken the log for long. The next sweep finds everything.
    END IF;
    IF TG_OP = 'DELETE' THEN
        INSERT INTO cdc_sync.changes VALUES ({watch}, 'D', ARRAY[{old_key}], clock_timestamp());
    ELSIF TG_OP = 'TRUNCATE' THEN
        INSERT INTO cdc_sync.changes VALUES ({watch}, 'T', NULL, clock_timestamp());
    ELSE
        INSERT INTO cdc_sync.changes
        VALUES ({watch}, CASE TG_OP WHEN 'INSERT' THEN 'I' ELSE 'U' END, ARRAY[{new_key}], clock_timestamp());
        IF TG_OP = 'UPDATE' AND ARRAY[{old_key}] <> ARRAY[{new_key}] THEN
            INSERT INTO cdc_sync.changes VALUES ({watch}, 'K', ARRAY[{old_key}], clock_timestamp());
        END IF;
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
