-- What is sent but not compared is one JSON object. A state that was adopted, and never sent, is marked as such: it was a
-- negative time. Each table is rewritten once: columns that are no longer needed take the new values, and then the name.
-- Those that go are emptied by the same rewrite: a dropped column keeps its place in each row until the row changes.
ALTER TABLE cdc_sync.snapshot
    ALTER COLUMN url TYPE text USING CASE WHEN status IS NOT NULL THEN
        json_strip_nulls(json_build_object(
            'created', created, 'event_date', event_date, 'source', source, 'extra', extra, 'url', url))::text
        END,
    ALTER COLUMN source TYPE boolean USING coalesce(told_at < 0, false),
    ALTER COLUMN told_at TYPE bigint USING abs(told_at),
    ALTER COLUMN created TYPE bigint USING NULL,
    ALTER COLUMN event_date TYPE bigint USING NULL,
    ALTER COLUMN extra TYPE text USING NULL;
ALTER TABLE cdc_sync.snapshot
    ALTER COLUMN source SET DEFAULT false,
    ALTER COLUMN source SET NOT NULL,
    DROP COLUMN created,
    DROP COLUMN event_date,
    DROP COLUMN extra;
ALTER TABLE cdc_sync.snapshot RENAME COLUMN url TO metadata;
ALTER TABLE cdc_sync.snapshot RENAME COLUMN source TO adopted;
ALTER TABLE cdc_sync.snapshot RENAME COLUMN told_at TO acknowledged_at;

-- A claim of an earlier version is marked as attempted already. From here on claimed_by means it: whoever takes a daemon
-- for dead marks its claims so, before its row may go.
ALTER TABLE cdc_sync.outbox DROP CONSTRAINT outbox_claimed_by_fkey;
UPDATE cdc_sync.outbox SET claimed_by = NULL WHERE claimed_by IS NOT NULL;
ALTER TABLE cdc_sync.outbox
    ALTER COLUMN url TYPE text USING json_strip_nulls(json_build_object(
        'created', created, 'event_date', event_date, 'source', source, 'extra', extra, 'url', url))::text;
ALTER TABLE cdc_sync.outbox
    DROP COLUMN created,
    DROP COLUMN event_date,
    DROP COLUMN source,
    DROP COLUMN extra,
    DROP COLUMN refused_in,
    ADD FOREIGN KEY (claimed_by) REFERENCES cdc_sync.daemon;
ALTER TABLE cdc_sync.outbox RENAME COLUMN url TO metadata;
