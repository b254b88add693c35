
-- Tenants of {kind}
DO $cdc_sync$ DECLARE tenant text; BEGIN
    FOREACH tenant IN ARRAY ARRAY[{schemas}] LOOP
        EXECUTE replace(
{statements},
            {placeholder}, tenant);
    END LOOP;
END $cdc_sync$;
