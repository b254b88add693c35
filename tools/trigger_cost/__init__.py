"""What the triggers cost the ATS: pgbench on three equal tables, in turns.

`--pgbin` chooses the server.

The tables hold the same rows. `bare` has no trigger, `rung` those of `cdc-sync sql install` for `wakeup: notify`,
`unrung` the same for `wakeup: none`. A daemon works both watches against an emulator of HelloWork. The load comes from
a role without privileges on cdc-sync's objects.

Causes of wrong figures, and what prevents them:

- **The machine drifts**, and others work on it. A round is a short run on each table, in changing order. A ratio is
  taken within a round; shown are its median and extremes. If they spread as far as the ratio is from 1, the median
  means little.
- **The disk hides the trigger.** With one client a transaction is mostly the wait for its fsync, so any ratio is near
  1. The default is an ATS's (fsync and synchronous_commit on). `--no-fsync` shows the ratio without a disk. `CPU µs` is
  the additional CPU time of the server's backends per transaction or row, which depends little on disk and neighbours.
- **The daemon still works on the last run.** So each run begins when the log is empty, nothing is pending and the bell
  is armed. During a run the daemon takes the recorded changes on the same cores, with the low priority of the systemd
  unit: that is part of the ratio. Its fuse is the default one, so calls end after the first thousand changes.
- **A burst begins with an armed bell**: its first changes each NOTIFY, until the daemon disarms it. Lasting work is
  measured, so before each run the same work goes on, unmeasured, for as long. The bulk update is measured with the bell
  armed: the daemon sees nothing of it before its commit.
- **Bloat, checkpoints.** VACUUM and CHECKPOINT come before each run. Autovacuum is on, as in production.
- **pgbench uses CPU too**, which makes the bare transaction look dearer. No client is cheaper, so no ATS sees a worse
  ratio for that. Statements use the simple protocol, pgbench's default: each is parsed and planned. An ATS with
  prepared statements pays the same for the trigger, and less for everything else.
- **HOT updates** would be a cheap base. `updated_at` is indexed and every update sets it, so none here is HOT.
- **A trigger that does nothing is fast.** The benchmark fails unless the log received exactly the transactions and rows
  that should be recorded, and none was `missed`.
"""
