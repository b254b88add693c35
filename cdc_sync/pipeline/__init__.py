"""Keys → rows → observations → one apply: how a change in the ATS's database becomes an outbox entry.

A capture method is only a source of keys or rows. All go through `intake`, where the store's transaction decides what
they mean. So capture methods may overlap, repeat and race.

**Order.** Of two readings of one row the later one must win. One lock per watch covers reading and applying. Sweeps
compare outside it and read each difference again under it.

**What a crash costs**, for a change that the ATS has committed:

1. before it is applied: nothing; the change log has it, or the watermark has not passed it.
2. applied, not deleted from the log: it is read again; the diff finds nothing, since the outbox has it.
3. applied and deleted: the outbox is durable; the sender finds the entry at the next start.
4. call under way: the entry is marked as attempted; it is sent again, same body, same idempotency key.
5. acknowledged, not yet completed in the store: as 4. HelloWork receives the same state twice, which changes nothing.

A suspected deletion is as durable as an entry, until a fresh read answers it.
"""
