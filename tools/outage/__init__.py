"""HelloWork is back after an outage, and many entries are pending.

It starts a PostgreSQL of its own, lets a real daemon adopt a table, takes HelloWork down, changes every row twice,
restarts the daemon in between, and brings HelloWork back. Then it counts the calls of each second and the daemon's most
resident memory. The test-suite holds that the number of calls grows only as they are answered
(`tests/integration/delivery/test_sender_endpoint.py`); this shows the figures.

With 100,000 entries on a busy machine (PostgreSQL 18, Python 3.11, 2 cores): 22 calls during the outage, 81 MB while
entries were pending, 93 MB at most while they were sent, 194 calls a second, and each application's newest state.
"""
