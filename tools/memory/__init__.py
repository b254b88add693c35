"""How much memory the daemon takes for a table.

It starts a PostgreSQL of its own, fills the ATS's table, and looks at a real daemon's resident memory while it makes
its baseline and its first sweep. The test-suite holds, in seconds, that walks take no more for many rows than for few
(`tests/integration/pipeline/test_walk_memory.py`); this shows the figures.

With 20 thousand, 100 thousand and a million rows the most was 83 to 84 MB each (PostgreSQL 18, Python 3.11, 2 cores):
the interpreter, its libraries, and a page of 2,000 rows. Only mapped columns are read, but each of those whole: 2,000
rows in which one mapped column holds 50 KB take 200 MB more.
"""
