"""What a thousand customers in one daemon cost: sessions, memory, idle CPU, the start, turns at the sender.

`make bench-tenants` measures 1,000 schemas of one database by notify and by poll, and 50 databases of 20 schemas each.
`python -m bench_tenants --databases 5 --schemas 20 --mode poll` measures one shape. Each customer has 100 applications,
the first one 10,000, for a mass change.

A single watch is measured on the same server, after all of them. The tool waits until the daemon is idle; other work on
the machine would change the results.
"""
