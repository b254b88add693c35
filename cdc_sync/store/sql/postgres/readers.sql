    -- What is not this role's to give is no matter: the triggers' script looks after that.
    PERFORM set_config('client_min_messages', 'error', true);
    FOR reader IN SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid IN ({watched}) LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA cdc_sync TO %I', reader);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA cdc_sync TO %I', reader);
        EXECUTE format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA cdc_sync TO %I', reader);
    END LOOP;
