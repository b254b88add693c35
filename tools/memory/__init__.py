"""How much memory the daemon takes for a table.

It fills the table of a PostgreSQL of its own, and shows a real daemon's most resident memory during its baseline and
its first sweep. `tests/integration/ats/test_walk_memory.py` holds that many rows take no more than few.

With 20 thousand, 100 thousand and a million rows it was 83 to 84 MB (PostgreSQL 18, Python 3.11, 2 cores): the
interpreter, libraries, and a page of 2,000 rows. Mapped columns are read whole: 2,000 rows with 50 KB in one take
200 MB more.
"""
