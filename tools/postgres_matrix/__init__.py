"""The suites that depend on PostgreSQL, against servers of several major versions.

What prevents a wrong result:

- Each run gets its server by `CDC_SYNC_TEST_PGBIN` alone. `tests/integration/test_database_fixture.py`, part of every
  run, compares its version with the program's.
- pytest shows the reasons of skipped tests: each must be a fact of that version.
- A version that did not run (no download, no server, an error while collecting) counts as failed.
"""
