                IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
                    INSERT INTO cdc_sync.changes VALUES ({watch}, 'U', ARRAY[{new_key}], pg_catalog.clock_timestamp());
                    IF {key_changed} THEN
                        INSERT INTO cdc_sync.changes VALUES ({watch}, 'U', ARRAY[{old_key}], pg_catalog.clock_timestamp());
                    END IF;
                ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
                    INSERT INTO cdc_sync.changes VALUES ({watch}, 'U', ARRAY[{new_key}], pg_catalog.clock_timestamp());
                ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
                    INSERT INTO cdc_sync.changes VALUES ({watch}, 'U', ARRAY[{old_key}], pg_catalog.clock_timestamp());
                ELSE
                    INSERT INTO cdc_sync.changes VALUES ({watch}, 'T', NULL, pg_catalog.clock_timestamp());
                END IF;
