"""How fast cdc-sync is, each figure beside a bare loop with the same physical work and no promises.

`make bench` prints a table; docs/benchmarks.md has a run's table and explains its lines. `--only` measures some rows
(`run.ROWS`, `run.OWN_ROWS`), each at the size of its budget; one round of a row takes less than a minute, except for
`tenants`.

One machine has everything: PostgreSQL (with fsync, as an ATS has it), the daemon with the SQLite store and its history,
and the process that takes the calls. A PostgreSQL store has a server of its own, as durable. The configuration is the
default, except for `concurrency` (32, like the bare client) and the fuse, which lets 10,000 changes pass.

Causes of wrong figures, and what prevents them:

- **The machine drifts**, and others work on it. Bare loop and daemon take turns in short rounds; a ratio is taken
  within a round, and the median over the rounds counts.
- **The receiver may be the bottleneck.** It is a process of its own that parses as little as possible (`sink`). The
  bare client and the daemon call the same one.
- **A bare loop may be badly made.** Each is the simplest program with the daemon's libraries, in a process of its own.
  It prepares bodies, headers and connections before the clock runs.
- **A daemon cannot skip its flush.** Latency is shown beside a loop that writes a line and calls fsync before each
  call, the least for a durable outbox.
- **A busy store server counts completely.** The CPU time of a PostgreSQL store is that of all its processes, ended ones
  included, from before the UPDATE until the last reply is kept.
- **Clocks.** All times are of one monotonic clock of the machine. A latency begins when the writer sends COMMIT, and
  ends when the call's last byte has arrived: the commit's own flush is in both figures. (A notification often arrives
  before the writer knows of its commit, so no latency can begin there.)
- **A daemon that does nothing is fast.** Each measure ends when every changed application has been sent, counted by id,
  and nothing else has.
"""
