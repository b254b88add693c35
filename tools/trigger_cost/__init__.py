"""What the triggers cost the ATS: instructions of its server for a statement, and transaction ids of a bulk update.

Neither the machine nor other work on it changes these figures. valgrind's callgrind counts in a single-user server, on
tables and triggers of an ordinary server, without a daemon and with a disarmed bell. Every statement is a transaction.
Each workload stands between two CHECKPOINTs, whose function makes callgrind write its counts.

Two things differ from production. Full pages are never written to the WAL: their number would be random. And the server
is some fifty times slower, so a bulk update looks at the log's size, as each hundredth of a second, every few rows.
"""
