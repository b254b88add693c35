-- cdc-sync: remove {what}. One transaction.
-- Locks     the tables with these triggers: the first is waited for up to {patience} ms, each other one 10 ms; else nothing is
--           removed. The log is locked too, if it goes.
-- Keeps     what the daemon's role was granted on the ATS's tables: `cdc-sync sql grants --revoke` takes it back.

{begin}
SET LOCAL client_min_messages = warning;
