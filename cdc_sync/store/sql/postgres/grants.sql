-- cdc-sync: what the daemon's role needs of the store's tables. Run it after
-- `cdc-sync sql install --store`.

{begin}

DO {quotes} BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), {name});
END {quotes};
GRANT USAGE ON SCHEMA cdc_sync TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role};
-- GRANT only warns of what it leaves out.
DO {quotes}
{check}
{quotes};

COMMIT;
