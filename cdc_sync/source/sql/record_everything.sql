    -- A row of this table may concern any row of the watched one.
    INSERT INTO cdc_sync.changes VALUES ({watch}, 'T', NULL, clock_timestamp());
