"""What a thousand customers in one daemon cost: sessions, memory, idle CPU, the start, turns at the sender.

Without options it measures 1,000 schemas of one database by notify and by poll, and 50 databases of 20 schemas each;
`--databases 5 --schemas 20 --mode poll` is one shape. Each customer has 100 applications, the first one 10,000, for a
mass change. Afterwards a single watch is measured on the same server. Other work on the machine changes the results.
"""
