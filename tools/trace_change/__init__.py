"""The path of one change: which files and functions of ours it crosses, which store jobs, which SQL statements.

A real daemon, as the benchmark has it (`bench.site`), watches a table in capture mode notify. Its process records every
call of a function of `cdc_sync`, in all threads, and every statement that psycopg and sqlite3 are given (`hooks`).

- **The path begins** when the writer sends COMMIT, with the daemon at rest and after changes that warm it up, and
  **ends** when the reply is kept and the daemon has done nothing for 50 ms: what it does afterwards because of the
  change is on the path as well.
- **Functions** are code objects: a method once, however often it is called. A comprehension belongs to the function
  around it. A coroutine counts when it is resumed as well as when it is called: what waits for a change is on its path.
- **A store job** is a call from outside `cdc_sync/store/` of one of its coroutines; each is a transaction, and with
  SQLite several may share a commit.
- **Background work** (heartbeats, looks at the outbox, leases) has clocks of its own. Several changes are traced; what
  most of them meet is the path, what fewer meet is named as seen now and then. Counts are medians.

`--times` records no functions, which would cost more than they do, and tells instead where the milliseconds between the
COMMIT and the call's arrival go, at 20 changes per second.
"""
