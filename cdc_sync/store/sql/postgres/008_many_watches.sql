-- Entries are claimed by endpoint and watch.
DROP INDEX cdc_sync.outbox_due;
CREATE INDEX outbox_due ON cdc_sync.outbox (endpoint, watch, due_at) WHERE state = 'pending' AND claimed_by IS NULL;
-- The watches that a daemon would capture and that others have. The shares are decided from it; it ends with its daemon.
ALTER TABLE cdc_sync.daemon ADD COLUMN waits_for text[] NOT NULL DEFAULT '{}';
