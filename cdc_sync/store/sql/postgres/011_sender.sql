-- What is being called is in the sender's memory only. A claim of an earlier version is an attempt.
UPDATE cdc_sync.outbox
   SET attempted = true, attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, due_at)
 WHERE claimed_by IS NOT NULL;
DROP INDEX cdc_sync.outbox_claimed;
DROP INDEX cdc_sync.outbox_due;
ALTER TABLE cdc_sync.outbox DROP COLUMN claimed_by;
CREATE INDEX outbox_due ON cdc_sync.outbox (endpoint, watch, due_at) WHERE state = 'pending';
