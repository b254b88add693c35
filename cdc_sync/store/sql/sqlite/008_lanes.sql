-- Entries are claimed by endpoint and watch.
DROP INDEX outbox_due;
CREATE INDEX outbox_due ON outbox (endpoint, watch, due_at) WHERE state = 'pending' AND claimed_by IS NULL;
