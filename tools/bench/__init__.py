"""How fast cdc-sync is, each figure beside a bare loop that does the same physical work and promises nothing.

`make bench` prints a table and writes `bench/results.json`; docs/benchmarks.md holds a run's table and says what each
line means. `--only` measures some of the rows (`run.ROWS`, `run.STORE_ROWS`), each at the size that its budget is
about; one round of a row takes less than a minute.

One machine has everything on it: PostgreSQL (with fsync, as an ATS has it), the daemon with the SQLite store and its
history, and whoever takes the calls. A store of PostgreSQL has a server of its own, which is as durable. The
configuration is the default one, but for `concurrency` (32, as the bare client has it) and the fuse, which must let
10,000 changes pass.

What would make such figures lie, and what is done about it:

- **The machine drifts**, and others work on it. Bare loop and daemon take turns in short rounds; a ratio is taken
  within a round, and the median over the rounds counts. All rounds are in the JSON.
- **Whoever takes the calls may be the bottleneck.** It is a process of its own that parses the least that it can
  (`sink`). The bare client and the daemon call the same one.
- **A bare loop may be badly made.** Each is the simplest program with the libraries that the daemon uses, in a process
  of its own, and prepares all that it can before the clock runs: bodies, headers, connections.
- **A daemon cannot skip its flush.** Latency is shown beside a loop that keeps nothing, and beside one that writes a
  line and calls fsync before each call: the least that a durable outbox needs. The budget is against the second.
- **A busy store server counts for all that it does.** The CPU time of a PostgreSQL store is that of all its processes,
  those that have ended included, from before the UPDATE until the last reply is kept.
- **Statistics come when autovacuum comes.** The claim is timed on a server that never runs it: it has not come
  yet.
- **Clocks.** All times are of one monotonic clock, which all processes of a Linux machine share. A latency begins when
  the writer sends COMMIT, and ends when the call's last byte has arrived: the commit's own flush is in both figures. (A
  notification often arrives before the writer has heard that it has committed, so that moment is none to begin at.)
- **A daemon that does nothing is fast.** Each measure ends when every application that was changed has been
  sent, counted by id, and nothing else has.
"""
