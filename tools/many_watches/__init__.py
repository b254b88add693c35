"""What many idle watches of one database cost, at their start and at rest: sessions, transactions, CPU.

It has a server of its own. `--statements 20` shows the most frequent statements; counting them costs PostgreSQL some of
the measured CPU. `--writer` leaves a transaction open that has written, for which arming the bell must wait.
"""
