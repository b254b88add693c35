
DECLARE
    -- What this transaction has come to: 'recorded', 'all' (recorded, and every row will be compared), 'failed', or nothing.
    mark text := current_setting('cdc_sync.mark_{label}', true);
    patience text := current_setting('lock_timeout');
    brief text := '500ms'; -- at most, for a lock on the log
    key text[]; -- NULL: any row may have changed
    former text[]; -- the key before, if it has changed
    done text; -- assignments cost less than PERFORM
BEGIN
    BEGIN -- Whatever fails in this block is counted, once in a transaction, and the ATS's statement goes on.
        IF mark = 'failed' THEN RETURN NULL; END IF;
{keys}        IF mark IS NULL OR mark = '' OR key IS NULL THEN
            IF patience::interval BETWEEN '1 ms' AND '500 ms' THEN brief := patience; END IF;
            done := set_config('lock_timeout', brief, true); -- to look at the log's size takes a lock, too
            -- A full log is counted, but without a warning in each transaction.
            IF pg_relation_size('cdc_sync.changes') >= {max_backlog} THEN RAISE EXCEPTION USING ERRCODE = 'CDC01'; END IF;
            INSERT INTO cdc_sync.changes VALUES ({watch}, TG_OP::"char", key, clock_timestamp());
            IF former IS NOT NULL THEN INSERT INTO cdc_sync.changes VALUES ({watch}, TG_OP::"char", former, clock_timestamp()); END IF;
{ring}            done := set_config('lock_timeout', patience, true);
            done := set_config('cdc_sync.mark_{label}', CASE WHEN key IS NULL THEN 'all' ELSE 'recorded' END, true);
            RETURN NULL;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF SQLSTATE <> 'CDC01' THEN
            RAISE WARNING 'cdc_sync: changes of %.% were not recorded: %', TG_TABLE_SCHEMA, TG_TABLE_NAME, SQLERRM
                USING HINT = 'The daemon will compare every row. If a column has another type now: connect again.';
        END IF;
        done := set_config('cdc_sync.mark_{label}', 'failed', true);
        BEGIN
            done := set_config('lock_timeout', brief, true);
            done := nextval('cdc_sync.{missed}');
            done := set_config('lock_timeout', patience, true);
        EXCEPTION WHEN OTHERS THEN NULL; END; -- The next sweep finds all of it.
        RETURN NULL;
    END;
    -- The first row of the transaction was written above: its lock on the log lasts as long as the mark. So these rows need
    -- no guard, which would take a transaction id for each. But to wait for the log's file to grow must not fail either.
    IF patience <> '0' THEN done := set_config('lock_timeout', '0', true); END IF;
    INSERT INTO cdc_sync.changes VALUES ({watch}, TG_OP::"char", key, clock_timestamp());
    IF former IS NOT NULL THEN INSERT INTO cdc_sync.changes VALUES ({watch}, TG_OP::"char", former, clock_timestamp()); END IF;
    IF patience <> '0' THEN done := set_config('lock_timeout', patience, true); END IF;
    RETURN NULL;
END