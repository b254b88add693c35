"""The path of one change: the files and functions of ours that it crosses, the store jobs, the SQL statements.

A real daemon, as in the benchmark (`bench.site`), watches a table in capture mode notify. Its process records every
call of a function of `cdc_sync`, in all threads, and every statement for psycopg and sqlite3 (`hooks`).

- **The path begins** when the writer sends COMMIT, with the daemon idle and warmed up. It **ends** when the reply is
  kept and the daemon has done nothing for 50 ms.
- **Functions** are code objects: a method counts once, however often it is called. A comprehension belongs to the
  function around it. A coroutine counts when it is resumed too: what awaits a change is on its path.
- **A store job** is a call of one of its coroutines from outside `cdc_sync/store/`. Each is a transaction; with SQLite
  several may share a commit.
- **Background work** (heartbeats, looks at the outbox, leases) has clocks of its own. Several changes are traced: what
  most of them meet is the path, the rest is listed as seen now and then. Counts are medians.

`--times` records no functions, which would cost more than they do. It shows where the milliseconds between the COMMIT
and the call's arrival go, at 20 changes per second.
"""
