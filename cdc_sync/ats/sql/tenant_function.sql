
DECLARE
    -- What the script changes for the transaction, and the caller has again afterwards.
    caller CONSTANT text := current_setting('role');
    patience CONSTANT text := current_setting('lock_timeout');
BEGIN
    IF (tenant ~ '^[a-z_][a-z0-9_]*$' AND length(tenant) <= {longest} AND tenant !~ '^cdc_sync') IS NOT TRUE THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('the schema %L has to be installed by a script of its own', tenant),
            HINT = format('Run what `cdc-sync sql install --watch %L` prints.', {watch} || tenant);
    END IF;
    PERFORM set_config('cdc_sync.caller', caller, true);
    EXECUTE replace(
{script},
        {placeholder}, tenant);
    PERFORM set_config('role', caller, true), set_config('lock_timeout', patience, true);
END
