
-- {watch_name}: {shown}{role}
CREATE FUNCTION cdc_sync.{function}() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER AS
$cdc_sync${body}$cdc_sync$;
REVOKE ALL ON FUNCTION cdc_sync.{function}() FROM PUBLIC;

CREATE TRIGGER {trigger_row} AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE PROCEDURE cdc_sync.{function}();
CREATE TRIGGER {trigger_truncate} AFTER TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE PROCEDURE cdc_sync.{function}();
