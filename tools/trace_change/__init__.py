"""The path of one change: the files and functions of ours that it crosses, the store jobs, the SQL statements.

A real daemon (`bench.site`) watches a table in capture mode notify. Its process records the calls of `cdc_sync`'s
functions in all threads, and the statements of psycopg and sqlite3 (`hooks`).

- **The path begins** when the writer sends COMMIT, with an idle, warm daemon. It **ends** when the reply is kept and
  the daemon has done nothing for 50 ms.
- **Functions** are code objects: each counts once. A comprehension belongs to the function around it. A resumed
  coroutine counts: what awaits a change is on its path.
- **Until the call arrives** run those of them between COMMIT and the call; the others keep its reply.
- **A store job** is a call of its coroutines from outside `cdc_sync/store/`. Each is a transaction; with SQLite several
  may share a commit.
- **Background work** (heartbeats, looks at the outbox, leases) has its own clocks. What most of several changes meet is
  the path. Counts are medians.
"""
