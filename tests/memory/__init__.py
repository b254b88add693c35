"""How much memory the daemon takes for a table: `PYTHONPATH=tests python -m memory --rows 100000 1000000`.

It starts a PostgreSQL of its own, fills the ATS's table, and looks at a real daemon's resident memory while it makes
its baseline and its first sweep. The test-suite holds, in seconds, that walks take no more for many rows than for few
(`tests/integration/pipeline/test_walk_memory.py`); this tells the figures.
"""
