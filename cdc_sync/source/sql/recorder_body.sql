
-- Every function, operator and type says its schema, so no search_path matters, and none is set: to set one would cost
-- each of the ATS's transactions more than all that is done here if nothing is to be recorded.
DECLARE
    said pg_catalog.text; -- an assignment costs a third of what PERFORM does
    row_key pg_catalog.text[];
    former_key pg_catalog.text[]; -- of a row whose key has changed
    patience pg_catalog.text;
    log_size pg_catalog.int8;
    dropped boolean;
{declared}BEGIN
    <<recording>>
    BEGIN
        <<guarded>>
        BEGIN
            -- Not in the trigger's WHEN: that would keep the ATS's migrations from dropping or retyping these columns, and
            -- PostgreSQL compiles it anew in each statement.
            -- Two statements, since a plan outlives a change of a column's type: who has only inserted has none of it yet.
            IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
                IF NOT ({changed}) THEN
                    RETURN NULL;
                END IF;
{keys}            END IF;
            -- This block is a subtransaction, and one that writes takes a transaction id. So the first recorded row of a
            -- transaction is written in it; it leaves a lock on the log that keeps everybody from dropping, altering or
            -- locking it until the end. The rows after it are written below, where nothing takes an id.
            -- A setting says so, set for the transaction: the time (seconds since the epoch) until which the log need not
            -- be looked at again, a hundredth of a second, since its size is a system call. It ends with the transaction,
            -- or with the savepoint up to which it is rolled back, exactly as the lock does.
            -- Then the setting is again what it is for the session: the number of a transaction in negative hundreds, if
            -- nothing of this watch had failed there, and the log was less than half full. The session looks again when the
            -- server is about a hundred transactions further.
            IF (pg_catalog.current_setting('cdc_sync.{mark}', true) OPERATOR(pg_catalog.=)
                (pg_catalog.txid_current_if_assigned() OPERATOR(pg_catalog./) '-100')::pg_catalog.text) IS NOT TRUE
            THEN
                -- By bytes, in whose order '-' comes before '0'.
                IF pg_catalog.current_setting('cdc_sync.{mark}', true) OPERATOR(pg_catalog.~>=~) '0' THEN
{once}                    IF pg_catalog.abs(pg_catalog.current_setting('cdc_sync.{mark}', true)::pg_catalog.float8
                        OPERATOR(pg_catalog.-) pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
                        OPERATOR(pg_catalog.-) 0.005) OPERATOR(pg_catalog.<=) 0.005
                    THEN
                        EXIT guarded;
                    END IF;
                    log_size := pg_catalog.pg_relation_size('cdc_sync.changes');
                    IF log_size OPERATOR(pg_catalog.<) {half_of_it} THEN
                        said := pg_catalog.set_config(
                            'cdc_sync.{mark}',
                            (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.+) 0.01
                            )::pg_catalog.text,
                            true);
                    END IF;
                    IF log_size OPERATOR(pg_catalog.<) {max_backlog} THEN
                        EXIT guarded;
                    END IF;
                END IF;
                patience := pg_catalog.current_setting('lock_timeout');
                SET LOCAL lock_timeout TO '500ms';
                dropped := true;
                <<looking>>
                BEGIN
                    IF pg_catalog.current_setting('cdc_sync.failed_{setting}', true) OPERATOR(pg_catalog.<>) '' THEN
                        IF pg_catalog.current_setting('cdc_sync.failed_{setting}', true) OPERATOR(pg_catalog.>=)
                            extract(epoch FROM pg_catalog.clock_timestamp())::bigint::pg_catalog.text
                        THEN
                            -- It failed in this session a moment ago. To wait for a lock at each row would block the ATS.
                            EXIT looking;
                        END IF;
                    END IF;
                    -- Nobody has taken this watch's changes for a day: it is no longer configured, or nobody's daemon
                    -- runs. If another watch's were taken, these must not fill the log that all share.
                    IF pg_catalog.pg_sequence_last_value('cdc_sync.{bell}') OPERATOR(pg_catalog.>) 0
                        AND pg_catalog.pg_sequence_last_value('cdc_sync.{bell}') OPERATOR(pg_catalog.<)
                            (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.-) 86400)
                        AND coalesce(pg_catalog.current_setting('cdc_sync.alone_{setting}', true), '')
                            OPERATOR(pg_catalog.<) extract(epoch FROM pg_catalog.clock_timestamp())::bigint::pg_catalog.text
                    THEN
                        IF EXISTS (
                            SELECT FROM pg_catalog.pg_class AS other
                             WHERE other.relnamespace OPERATOR(pg_catalog.=) 'cdc_sync'::pg_catalog.regnamespace
                               AND other.relname OPERATOR(pg_catalog.>=) 'bell_'::pg_catalog.name
                               AND other.relname OPERATOR(pg_catalog.<) 'bell`'::pg_catalog.name
                               AND CASE WHEN other.relkind OPERATOR(pg_catalog.=) 'S'
                                   THEN CASE WHEN pg_catalog.has_sequence_privilege(other.oid, 'SELECT')
                                        THEN pg_catalog.pg_sequence_last_value(other.oid::pg_catalog.regclass)
                                             OPERATOR(pg_catalog.>)
                                             (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
                                              OPERATOR(pg_catalog.-) 86400) END END)
                        THEN
                            said := pg_catalog.set_config(
                                'cdc_sync.failed_{setting}',
                                (extract(epoch FROM pg_catalog.clock_timestamp())::bigint OPERATOR(pg_catalog.+) 10
                                )::pg_catalog.text,
                                false);
                            EXIT looking;
                        END IF;
                        said := pg_catalog.set_config(
                            'cdc_sync.alone_{setting}',
                            (extract(epoch FROM pg_catalog.clock_timestamp())::bigint OPERATOR(pg_catalog.+) 10
                            )::pg_catalog.text,
                            false);
                    END IF;
                    log_size := pg_catalog.pg_relation_size('cdc_sync.changes');
                    said := pg_catalog.set_config(
                        'cdc_sync.{mark}',
                        CASE WHEN log_size OPERATOR(pg_catalog.<) {half_of_it}
                            THEN (pg_catalog.txid_current_if_assigned() OPERATOR(pg_catalog./) '-100')::pg_catalog.text
                            ELSE '' END,
                        false);
                    dropped := log_size OPERATOR(pg_catalog.>=) {max_backlog}; -- Nobody has taken the log for long.
                END;
                IF dropped THEN
                    said := pg_catalog.nextval('cdc_sync.{missed}');
                END IF;
                said := pg_catalog.set_config('lock_timeout', patience, true);
                IF dropped THEN
                    EXIT recording;
                END IF;
            END IF;
            patience := pg_catalog.current_setting('lock_timeout');
            SET LOCAL lock_timeout TO '500ms';
            INSERT INTO cdc_sync.changes VALUES ({watch}, {operation}, row_key, pg_catalog.clock_timestamp());
            IF former_key IS NOT NULL THEN
                INSERT INTO cdc_sync.changes
                VALUES ({watch}, {former_operation}, former_key, pg_catalog.clock_timestamp());
            END IF;
            SET LOCAL cdc_sync.{mark} TO '0';
{wake}            said := pg_catalog.set_config('lock_timeout', patience, true);
            RETURN NULL;
        EXCEPTION WHEN OTHERS THEN
            -- lock_timeout is as it was before: what was set in the block that failed is rolled back with it.
            DECLARE
                patience pg_catalog.text := pg_catalog.current_setting('lock_timeout');
            BEGIN
                said := pg_catalog.set_config('lock_timeout', '500ms', true);
                IF coalesce(pg_catalog.current_setting('cdc_sync.failed_{setting}', true), '')
                   OPERATOR(pg_catalog.<) extract(epoch FROM pg_catalog.clock_timestamp())::bigint::pg_catalog.text
                THEN
                    RAISE WARNING 'cdc_sync: a change in %.% was not recorded: %', TG_TABLE_SCHEMA, TG_TABLE_NAME, SQLERRM
                        USING HINT = 'Nothing of this watch is recorded in this session for 10 seconds. The daemon will compare every row.';
                    -- The watch's other functions look, too, before they record.
                    said := (
                        SELECT pg_catalog.max(pg_catalog.set_config(
                            'cdc_sync.mark_' OPERATOR(pg_catalog.||) f.proname::pg_catalog.text, '', false))
                          FROM pg_catalog.pg_proc AS f
                          JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) f.pronamespace
                         WHERE n.nspname OPERATOR(pg_catalog.=) 'cdc_sync'::pg_catalog.name
                           AND f.proname OPERATOR(pg_catalog.~) '^{functions}([$]|$)');
                    said := pg_catalog.set_config(
                        'cdc_sync.failed_{setting}',
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
            EXIT recording;
        END;
        -- To wait for the log's file to grow must not fail. Only who has set a timeout pays for setting it twice.
        patience := pg_catalog.current_setting('lock_timeout');
        IF patience OPERATOR(pg_catalog.<>) '0' THEN
            said := pg_catalog.set_config('lock_timeout', '0', true);
        END IF;
        INSERT INTO cdc_sync.changes VALUES ({watch}, {operation}, row_key, pg_catalog.clock_timestamp());
        IF former_key IS NOT NULL THEN
            INSERT INTO cdc_sync.changes
            VALUES ({watch}, {former_operation}, former_key, pg_catalog.clock_timestamp());
        END IF;
        IF patience OPERATOR(pg_catalog.<>) '0' THEN
            said := pg_catalog.set_config('lock_timeout', patience, true);
        END IF;
    END;{ring}
    RETURN NULL;
END
