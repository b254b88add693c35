-- The watches that a daemon would capture and that others have. The shares are decided from it; it ends with its daemon.
ALTER TABLE cdc_sync.daemon ADD COLUMN waits_for text[] NOT NULL DEFAULT '{}';
