-- cdc-sync: take back what `cdc-sync sql grants --store` gave the daemon's role. USAGE on the schema, and
-- CONNECT, stay as long as the role has something else there.
{begin}

DO {quotes}
{block}
{quotes};

COMMIT;
