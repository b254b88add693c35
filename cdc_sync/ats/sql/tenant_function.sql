
DECLARE
    -- What the script changes for the transaction, and the caller has again afterwards.
    caller CONSTANT text := current_setting('role');
    patience CONSTANT text := current_setting('lock_timeout');
    state text;
    message text;
    detail text;
    remedy text;
BEGIN
    IF coalesce(tenant, '') = '' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'expected the tenant''s schema: which schema is meant?', HINT = {usage};
    END IF;
    IF tenant !~ '^[a-z_][a-z0-9_]*$' OR length(tenant) > {longest} OR tenant ~ '^cdc_sync' THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('the schema %I has to be installed by a script of its own', tenant),
            HINT = format('Run what `cdc-sync sql install --watch %L` prints.', {watch} || tenant);
    END IF;
    BEGIN
        EXECUTE replace(
{script},
            {placeholder}, tenant);
        PERFORM set_config('role', caller, true), set_config('lock_timeout', patience, true);
    EXCEPTION WHEN OTHERS THEN
        -- Raised again without its context, which is the whole script.
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
            remedy = PG_EXCEPTION_HINT;
        IF remedy = '' AND state IN ('3F000', '42P01') THEN
            remedy = format('Make the tables of the tenant %I first, then run this again.', tenant);
        END IF;
        RAISE EXCEPTION USING ERRCODE = state, MESSAGE = format('%s%s: %s', {watch}, tenant, message), DETAIL = detail,
            HINT = remedy;
    END;
END
