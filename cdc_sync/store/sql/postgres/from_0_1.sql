-- From the schemas of 0.1.0. What is sent but not compared is one JSON object. A state that was adopted, and never sent, is
-- marked as such: it was a negative time. A claim is marked as attempted already. snapshot is rewritten once: columns that
-- are no longer needed take the new values, and then the name.
DROP FUNCTION IF EXISTS cdc_sync.forget_verified() CASCADE;
ALTER TABLE cdc_sync.snapshot
    ADD COLUMN IF NOT EXISTS verified text,
    ALTER COLUMN url TYPE text USING CASE WHEN status IS NOT NULL THEN
        json_strip_nulls(json_build_object(
            'created', created, 'event_date', event_date, 'source', source, 'extra', extra, 'url', url))::text
        END,
    ALTER COLUMN source TYPE boolean USING coalesce(told_at < 0, false),
    ALTER COLUMN told_at TYPE bigint USING abs(told_at);
ALTER TABLE cdc_sync.snapshot
    ALTER COLUMN source SET DEFAULT false, ALTER COLUMN source SET NOT NULL,
    DROP COLUMN created, DROP COLUMN event_date, DROP COLUMN extra;
ALTER TABLE cdc_sync.snapshot RENAME COLUMN url TO metadata;
ALTER TABLE cdc_sync.snapshot RENAME COLUMN source TO adopted;
ALTER TABLE cdc_sync.snapshot RENAME COLUMN told_at TO acknowledged_at;

ALTER TABLE cdc_sync.outbox
    ALTER COLUMN url TYPE text USING json_strip_nulls(json_build_object(
        'created', created, 'event_date', event_date, 'source', source, 'extra', extra, 'url', url))::text;
ALTER TABLE cdc_sync.outbox
    DROP COLUMN created, DROP COLUMN event_date, DROP COLUMN source, DROP COLUMN extra,
    DROP COLUMN IF EXISTS refused_in, DROP COLUMN claimed_by;
ALTER TABLE cdc_sync.outbox RENAME COLUMN url TO metadata;

-- The fuse drains instead of counting in windows. One that was blown may have been blown for an edited map: it goes on
-- holding everything until a person decides.
UPDATE cdc_sync.watch
   SET fuse = json_build_object(
           'at', fuse::json -> 'window_start',
           'changes', fuse::json -> 'changes', 'deletions', fuse::json -> 'deletions',
           'blown_at', fuse::json -> 'blown_at', 'reason', fuse::json -> 'reason',
           'holds_all', fuse::json ->> 'blown_at' IS NOT NULL)::text
 WHERE fuse IS NOT NULL;
ALTER TABLE cdc_sync.watch
    DROP COLUMN IF EXISTS captured_by, DROP COLUMN IF EXISTS leased_by,
    ADD COLUMN IF NOT EXISTS session text;
DROP INDEX cdc_sync.history_ends;
DROP TABLE cdc_sync.condition, cdc_sync.daemon;
