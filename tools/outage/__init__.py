"""What happens when HelloWork is back and many entries are pending.

It starts a PostgreSQL of its own, lets a real daemon adopt a table, takes HelloWork down, changes every row twice, and
restarts the daemon in the middle of it. Then HelloWork is back, and the tool counts the calls of each second and the
most resident memory of the daemon. That the number of calls grows only as they are answered is held by the test-suite
(`tests/integration/delivery/test_sender_endpoint.py`); this shows the figures.

With 100,000 entries on a busy machine (PostgreSQL 18, Python 3.11, 2 cores): 22 calls during the outage, 81 MB while
entries were pending, 93 MB at most while they were sent, 194 calls a second, and each application's newest state.
"""
