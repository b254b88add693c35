
-- Watch {watch_name}
CREATE SEQUENCE IF NOT EXISTS cdc_sync.{missed}; -- in how many transactions changes were not recorded
DROP SEQUENCE IF EXISTS cdc_sync.{former_bell}; -- an earlier version's
CREATE FUNCTION cdc_sync.{function}() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $cdc_sync${body}$cdc_sync$;
COMMENT ON FUNCTION cdc_sync.{function}() IS {comment};
REVOKE ALL ON FUNCTION cdc_sync.{function}() FROM PUBLIC;
