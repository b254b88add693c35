
-- What this script does for a tenant of {kind}, for any whose schema's name is written without quotes.
CREATE OR REPLACE FUNCTION {schema}.{name}(tenant pg_catalog.text) RETURNS pg_catalog.void
    LANGUAGE plpgsql SET lock_timeout = '{patience}' SET client_min_messages = warning SET search_path = pg_catalog AS
$cdc_sync$
BEGIN
    IF tenant !~ '^[a-z_][a-z0-9_]*$' OR length(tenant) > {longest} OR tenant ~ '^cdc_sync' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('the schema %I has to be installed by a script of its own', tenant),
            HINT = format('Run what `cdc-sync sql install --watch %L` prints.', {watch} || tenant);
    END IF;
    EXECUTE replace(
{script},
        {placeholder}, tenant);
END
$cdc_sync$;
REVOKE ALL ON FUNCTION {schema}.{name}(pg_catalog.text) FROM PUBLIC;
