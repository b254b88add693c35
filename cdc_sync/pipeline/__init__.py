"""Keys → rows → observations → one apply: how a change in the ATS's database becomes an outbox entry.

A capture method is only a source of keys or rows. All go through `intake`, where the store's transaction decides what
they mean. So capture methods may overlap, repeat and race.

**Order.** Of two readings of one row the later one must win. One lock per watch covers reading and applying. Sweeps
compare outside it and read each difference again under it.

**A crash** loses no committed change, wherever it comes ([how it works](../../docs/how-it-works.md), "What a crash
costs"). A suspected deletion is as durable as an entry, until a fresh read answers it.
"""
