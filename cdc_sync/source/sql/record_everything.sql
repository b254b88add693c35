                -- A row of this table may concern any row of the watched one: once in a transaction is enough to say
                -- so. The setting ends with the transaction, or with the savepoint up to which it is rolled back, as
                -- the record itself does.
                IF coalesce(pg_catalog.current_setting('cdc_sync.asked_{setting}', true), '')
                   OPERATOR(pg_catalog.<>) pg_catalog.txid_current()::pg_catalog.text
                THEN
                    INSERT INTO cdc_sync.changes VALUES ({watch}, 'T', NULL, pg_catalog.clock_timestamp());
                    said := pg_catalog.set_config(
                        'cdc_sync.asked_{setting}', pg_catalog.txid_current()::pg_catalog.text, true);
                END IF;
