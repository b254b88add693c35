"""What a thousand customers in one daemon cost: sessions, memory, CPU at rest, the start, turns at the sender.

`make bench-tenants` measures 1,000 schemas of one database by notify and by poll, and 50 databases of 20 schemas each.
`python -m bench_tenants --databases 5 --schemas 20 --mode poll` measures one shape. Each customer has 100 applications,
the first one 10,000, for a mass change.

What would make a result lie: another load on the machine, a daemon that is not at rest yet (it is waited for), and a
single watch that is measured on another server (it is the same one, after the daemon of all).
"""
