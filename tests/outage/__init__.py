"""What happens when HelloWork is back and there is much to tell: `PYTHONPATH=tests python -m outage --entries 100000`.

It starts a PostgreSQL of its own, lets a real daemon adopt a table, takes HelloWork down, changes every row twice, and
restarts the daemon in the middle of it. Then HelloWork is back, and it is counted what it hears, second by second, and
what the daemon's resident memory is at most. That the number of calls grows only as they are answered is held by the
test-suite (`tests/integration/delivery/test_sender_endpoint.py`); this tells the figures.

With 100,000 entries on a machine that was busy with much else (PostgreSQL 18, Python 3.11, 2 cores): 22 calls while it
was down, 81 MB while they waited, 93 MB at most while they were told, 194 a second, every application its newest state.
"""
