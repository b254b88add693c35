"""What many idle watches of one database cost: sessions, background transactions, CPU of the daemon and of PostgreSQL.

It first shows what their start takes. `--statements 20` shows the most frequent statements too; counting them costs
PostgreSQL some of the CPU that is measured.

`python -m many_watches --watches 200 --seconds 60` measures it on a server of its own; `--writer` leaves a transaction
open that has written, for which arming the bell must wait.
"""
