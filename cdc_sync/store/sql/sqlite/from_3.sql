-- The endpoint's turn (see its health) when our credentials were first refused for this application; NULL: they were not.
ALTER TABLE outbox ADD COLUMN refused_in INTEGER;
