"""What the triggers cost the ATS: pgbench on three equal tables, in turns.

The tables hold the same rows. `bare` has no trigger, `rung` those of `cdc-sync sql install` for `wakeup: notify`,
`unrung` those for `wakeup: none`. A daemon works both watches against an emulator of HelloWork. The load comes from a
role without privileges on cdc-sync's objects.

Causes of wrong figures, and what prevents them:

- **The machine drifts.** A round is a short run on each table, in changing order. Ratios are of one round; shown are
  their median and extremes. If these spread as far as the ratio is from 1, the median means little.
- **The disk hides the trigger.** With one client a transaction mostly waits for its fsync, so any ratio is near 1. The
  default is an ATS's (fsync and synchronous_commit on). `--no-fsync` shows the ratio without a disk. `CPU µs`, the
  backends' additional CPU time per transaction or row, depends little on disk and neighbours.
- **The daemon still works on the last run.** A run begins with an empty log, nothing pending and an armed bell. During
  it the daemon takes the changes on the same cores, with the low priority of the systemd unit: that is part of the
  ratio. Its fuse is the default one, so calls end after a thousand changes.
- **A burst begins with an armed bell**: its first changes each NOTIFY, until the daemon disarms it. Lasting work is
  measured: the same work, unmeasured, goes before it. A bulk update is measured with the bell armed: the daemon sees
  nothing of it before its commit.
- **Bloat, checkpoints.** VACUUM and CHECKPOINT come before each run. Autovacuum is on, as in production.
- **pgbench uses CPU too**, and makes the bare transaction dearer. No client is cheaper: no ATS has a worse ratio for
  that. Each statement is parsed and planned (simple protocol). With prepared statements an ATS pays the same for the
  trigger, and less for the rest.
- **HOT updates** would be a cheap base. `updated_at` is indexed and every update sets it, so none is HOT.
- **A trigger that does nothing is fast.** The benchmark fails unless the log received exactly the expected changes, and
  none was `missed`.
"""
