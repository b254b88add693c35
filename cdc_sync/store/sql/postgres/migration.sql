    IF version < {number} THEN
{statements}
        INSERT INTO cdc_sync.about (name, value) VALUES ('schema', '{number}')
        ON CONFLICT (name) DO UPDATE SET value = excluded.value;
    END IF;
