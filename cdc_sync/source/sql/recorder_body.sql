
{declared}BEGIN
    BEGIN
        -- Not in the trigger's WHEN: that would keep the ATS's migrations from dropping or retyping these columns, and
        -- PostgreSQL compiles it anew in each statement.
        IF TG_OP = 'UPDATE' THEN
            IF NOT ({changed}) THEN
                RETURN NULL;
            END IF;
        END IF;
        IF current_setting('cdc_sync.failed_until', true) <> '' THEN
            IF current_setting('cdc_sync.failed_until', true) >= extract(epoch FROM clock_timestamp())::bigint::text THEN
                -- It failed in this session a moment ago. To wait for a lock at each row would block the ATS.
                PERFORM nextval('cdc_sync.{missed}');
                RETURN NULL;
            END IF;
        END IF;
        -- To look at the log's size is a system call, so a log that was less than half full is looked at again after a
        -- hundredth of a second only.
        IF nullif(current_setting('cdc_sync.room_{setting}', true), '')::float8 - date_part('epoch', clock_timestamp())
           BETWEEN 0 AND 0.01
        THEN
            NULL;
        ELSIF pg_relation_size('cdc_sync.changes') >= {max_backlog} THEN
            PERFORM nextval('cdc_sync.{missed}'); -- Nobody has taken the log for long.
            RETURN NULL;
        ELSIF pg_relation_size('cdc_sync.changes') < {max_backlog} / 2 THEN
            PERFORM set_config(
                'cdc_sync.room_{setting}', (date_part('epoch', clock_timestamp()) + 0.01)::text, false);
        END IF;
{record}{wake}
    EXCEPTION WHEN OTHERS THEN
        BEGIN
            IF coalesce(current_setting('cdc_sync.failed_until', true), '')
               < extract(epoch FROM clock_timestamp())::bigint::text
            THEN
                RAISE WARNING 'cdc_sync: a change in %.% was not recorded: %', TG_TABLE_SCHEMA, TG_TABLE_NAME, SQLERRM
                    USING HINT = 'Nothing is recorded in this session for 10 seconds. The daemon will compare every row.';
                PERFORM set_config(
                    'cdc_sync.failed_until', (extract(epoch FROM clock_timestamp())::bigint + 10)::text, false);
            END IF;
            BEGIN
                PERFORM nextval('cdc_sync.{missed}');
            EXCEPTION WHEN OTHERS THEN
                NULL; -- The next sweep finds it all the same; and the setting above must not be rolled back.
            END;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END;{ring}
    RETURN NULL;
END
