        -- A row of this table may concern any row of the watched one: once in a transaction is enough to say so.
        IF pg_catalog.current_setting('cdc_sync.{function}', true) OPERATOR(pg_catalog.<>) '' THEN
            RETURN NULL;
        END IF;
        operation := 'T';
