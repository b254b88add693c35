-- Of the ends of calls only failures have an index: acknowledgements are found among the newest events.
DROP INDEX cdc_sync.history_ends;
CREATE INDEX history_failures ON cdc_sync.history (event, number) WHERE event IN ('answered', 'dead-lettered');

-- It was checked for each row that was claimed. A claim locks its daemon's row instead, once, and whoever takes a daemon for
-- dead waits for that before it frees the daemon's claims.
ALTER TABLE cdc_sync.outbox DROP CONSTRAINT outbox_claimed_by_fkey;
