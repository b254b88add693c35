-- Which daemon captures each watch: a lease, as long as the daemon's own, so that one statement renews both. It is free
-- when that daemon gives it back, ends, or is taken for dead. session is the one on the ATS's database by which the last
-- daemon captured; whoever comes next may end it.
ALTER TABLE cdc_sync.watch
    DROP COLUMN captured_by,
    ADD COLUMN leased_by bigint REFERENCES cdc_sync.daemon ON DELETE SET NULL,
    ADD COLUMN session text;
