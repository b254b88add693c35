-- The endpoint's turn (see its health) when our credentials were first refused for this application; NULL: they were not.
ALTER TABLE cdc_sync.outbox ADD COLUMN refused_in bigint;
