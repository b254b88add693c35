"""HelloWork is back after an outage, and many entries are pending.

A real daemon adopts the table of a PostgreSQL of its own. HelloWork goes down, every row changes twice, the daemon is
restarted, and HelloWork comes back. Shown are the calls and the daemon's most resident memory.
`tests/integration/delivery/test_sender_endpoint.py` holds that calls become more only as they are answered.

With 100,000 entries on a busy machine (PostgreSQL 18, Python 3.11, 2 cores): 22 calls during the outage, 81 MB while
entries were pending, 93 MB at most while they were sent, 194 calls a second, and each application's newest state.
"""
