"""What the triggers cost the ATS: pgbench on three equal tables, in turns.

`--pgbin` chooses the server.

The tables hold the same rows. `bare` has no trigger, `rung` what `cdc-sync sql install` prints for `wakeup: notify`,
`unrung` the same for `wakeup: none`. A daemon works both watches against an emulator of HelloWork. The load comes from
a role that has no privilege on anything of ours.

What would make such a measurement lie, and what is done about it:

- **The machine drifts**, and others work on it. A round is a short run on each table, in changing order; the ratio is
  taken within a round, and its median and extremes over the rounds are shown. A spread as wide as the ratio's distance
  from 1 says that the median means little.
- **The disk hides the trigger.** With one client a transaction is mostly the wait for its commit's fsync, and any ratio
  is near 1. The default is what an ATS has (fsync and synchronous_commit on); `--no-fsync` shows the ratio on a disk
  that costs nothing; and `CPU µs` is the CPU time that the server's backends used more per transaction or row, which
  neither the disk nor other processes change much.
- **The daemon still works on the last run during the next one.** So each run begins when the log is empty, nothing is
  pending and the bell is armed again. During a run on a watched table the daemon takes what is recorded, and competes
  for the same cores: that is part of the ratio, though a daemon on a host of its own would not. It has the low priority
  that the systemd unit gives it. Its fuse is as configured by default, so calls end after the first thousand changes,
  as they would if this happened in production, and HelloWork's emulator is idle from then on.
- **A burst begins with an armed bell**: its first changes each NOTIFY, until the daemon has noticed and disarms it.
  What is measured is work that goes on, so the same work goes on, unmeasured, for as long as a run before each run. The
  bulk update is measured with the bell armed: the daemon sees nothing of it before it is committed.
- **Bloat, checkpoints.** VACUUM and CHECKPOINT come before each run, so that none pays for what another left.
  Autovacuum is on, as in production.
- **pgbench uses CPU too**, and makes the bare transaction look dearer than it is. No client is cheaper, so no ATS sees
  a worse ratio for that. Statements are sent by the simple protocol, pgbench's default: each is parsed and planned. An
  ATS that prepares its statements pays the same for the trigger, and less for everything else.
- **HOT updates** would make a cheap base. `updated_at` is indexed and every update sets it, so none here is HOT.
- **A trigger that does nothing is fast.** In the end the rows that came into the log are counted: as many as the
  transactions and rows that should have been recorded, or the benchmark fails. So it does if any was `missed`.
"""
