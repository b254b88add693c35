
-- Every function, operator and type says its schema, so no search_path matters, and none is set: to set one would cost
-- each of the ATS's transactions more than all that is done here if nothing is to be recorded.
DECLARE
    said pg_catalog.text; -- an assignment costs a third of what PERFORM does
{declared}BEGIN
    BEGIN
        -- Not in the trigger's WHEN: that would keep the ATS's migrations from dropping or retyping these columns, and
        -- PostgreSQL compiles it anew in each statement.
        -- Two statements, since a plan outlives a change of a column's type: who has only inserted has none of it yet.
        IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
            IF NOT ({changed}) THEN
                RETURN NULL;
            END IF;
        END IF;
        DECLARE
            patience pg_catalog.text := pg_catalog.current_setting('lock_timeout');
            -- Seconds until this session has to look again whether it may record. The zero makes a number of '', to which
            -- a setting falls back when the transaction that made it is rolled back.
            rest pg_catalog.float8 :=
                ('0' OPERATOR(pg_catalog.||) pg_catalog.current_setting('cdc_sync.room_{setting}', true))::pg_catalog.float8
                OPERATOR(pg_catalog.-) pg_catalog.date_part('epoch', pg_catalog.clock_timestamp());
        BEGIN
            said := pg_catalog.set_config('lock_timeout', '500ms', true);
            <<recording>>
            BEGIN
                -- To look at the log's size is a system call, and each expression costs, most of all while many sessions
                -- write. So a session in which nothing had failed, and whose log was less than half full, looks again a
                -- hundredth of a second later only. (To wait for a lock in vain takes longer, so it is done once.)
                IF (rest OPERATOR(pg_catalog.>=) 0 AND rest OPERATOR(pg_catalog.<=) 0.01) IS NOT TRUE THEN
                    IF pg_catalog.current_setting('cdc_sync.failed_until', true) OPERATOR(pg_catalog.<>) '' THEN
                        IF pg_catalog.current_setting('cdc_sync.failed_until', true) OPERATOR(pg_catalog.>=)
                            extract(epoch FROM pg_catalog.clock_timestamp())::bigint::pg_catalog.text
                        THEN
                            -- It failed in this session a moment ago. To wait for a lock at each row would block the ATS.
                            said := pg_catalog.nextval('cdc_sync.{missed}');
                            EXIT recording;
                        END IF;
                    END IF;
                    IF pg_catalog.pg_relation_size('cdc_sync.changes') OPERATOR(pg_catalog.>=) {max_backlog} THEN
                        said := pg_catalog.nextval('cdc_sync.{missed}'); -- Nobody has taken the log for long.
                        EXIT recording;
                    END IF;
                    IF pg_catalog.pg_relation_size('cdc_sync.changes') OPERATOR(pg_catalog.<) {half_of_it} THEN
                        said := pg_catalog.set_config(
                            'cdc_sync.room_{setting}',
                            (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.+) 0.01
                            )::pg_catalog.text,
                            false);
                    END IF;
                END IF;
{record}{wake}
            END;
            said := pg_catalog.set_config('lock_timeout', patience, true);
        END;
    EXCEPTION WHEN OTHERS THEN
        -- lock_timeout is as it was before: what was set in the block that failed is rolled back with it.
        DECLARE
            patience pg_catalog.text := pg_catalog.current_setting('lock_timeout');
        BEGIN
            said := pg_catalog.set_config('lock_timeout', '500ms', true);
            IF coalesce(pg_catalog.current_setting('cdc_sync.failed_until', true), '')
               OPERATOR(pg_catalog.<) extract(epoch FROM pg_catalog.clock_timestamp())::bigint::pg_catalog.text
            THEN
                RAISE WARNING 'cdc_sync: a change in %.% was not recorded: %', TG_TABLE_SCHEMA, TG_TABLE_NAME, SQLERRM
                    USING HINT = 'Nothing is recorded in this session for 10 seconds. The daemon will compare every row.';
                said := pg_catalog.set_config(
                    'cdc_sync.failed_until',
                    (extract(epoch FROM pg_catalog.clock_timestamp())::bigint OPERATOR(pg_catalog.+) 10
                    )::pg_catalog.text,
                    false);
            END IF;
            BEGIN
                said := pg_catalog.nextval('cdc_sync.{missed}');
            EXCEPTION WHEN OTHERS THEN
                NULL; -- The next sweep finds it all the same; and the setting above must not be rolled back.
            END;
            said := pg_catalog.set_config('lock_timeout', patience, true);
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END;{ring}
    RETURN NULL;
END
