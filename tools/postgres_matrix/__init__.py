"""The suites that depend on PostgreSQL, against servers of several major versions.

Causes of a wrong result, and what prevents them:

- **The wrong server.** Each run gets its server by `CDC_SYNC_TEST_PGBIN` alone, without `CDC_SYNC_TEST_DSN`.
  `tests/integration/test_database_fixture.py`, part of every run, compares the version with that of the program.
- **A test skipped for a wrong reason.** The reasons are counted and shown: each must be a fact of that version.
- **A version that did not run** (no download, no server, an error while collecting) counts as failed.
"""
