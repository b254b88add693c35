        IF TG_OP = 'UPDATE' THEN
            INSERT INTO cdc_sync.changes VALUES ({watch}, 'U', ARRAY[{new_key}], clock_timestamp());
            IF {key_changed} THEN
                INSERT INTO cdc_sync.changes VALUES ({watch}, 'K', ARRAY[{old_key}], clock_timestamp());
            END IF;
        ELSIF TG_OP = 'INSERT' THEN
            INSERT INTO cdc_sync.changes VALUES ({watch}, 'I', ARRAY[{new_key}], clock_timestamp());
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO cdc_sync.changes VALUES ({watch}, 'D', ARRAY[{old_key}], clock_timestamp());
        ELSE
            INSERT INTO cdc_sync.changes VALUES ({watch}, 'T', NULL, clock_timestamp());
        END IF;
