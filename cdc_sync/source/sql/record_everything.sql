        -- A row of this table may concern any row of the watched one: once in a transaction is enough to say so. The setting
        -- ends with the transaction, or with the savepoint up to which it is rolled back, as the record itself does.
        IF coalesce(current_setting('cdc_sync.asked_{setting}', true), '') <> txid_current()::text THEN
            INSERT INTO cdc_sync.changes VALUES ({watch}, 'T', NULL, clock_timestamp());
            PERFORM set_config('cdc_sync.asked_{setting}', txid_current()::text, true);
        END IF;
