"""The suites that depend on PostgreSQL, against servers of several major versions.

What could make its result lie, and what is done about it:

- **Another server is tested than one thinks.** Each run gets its server by `CDC_SYNC_TEST_PGBIN` alone; a
  `CDC_SYNC_TEST_DSN` that is set is taken away. `tests/integration/test_database_fixture.py`, which is part of every
  run, compares the version that answers with that of the program.
- **A test is passed over for a wrong reason.** The reasons are counted and shown beside the result: each must be a fact
  of that version.
- **A version did not run at all** (no download, no server, an error while collecting). It counts as failed.
"""
