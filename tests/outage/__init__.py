"""What happens when HelloWork is back and there is much to tell: `PYTHONPATH=tests python -m outage --entries 100000`.

It starts a PostgreSQL of its own, lets a real daemon adopt a table, takes HelloWork down, changes every row twice, and
restarts the daemon in the middle of it. Then HelloWork is back, and it is counted what it hears, second by second, and
what the daemon's resident memory is at most. That the number of calls grows only as they are answered is held by the
test-suite (`tests/integration/delivery/test_sender_endpoint.py`); this tells the figures.
"""
