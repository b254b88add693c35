"""Keys → rows → observations → one apply: how a change in the ATS's database becomes an entry to be sent.

Every capture method is only a source of keys or rows. They go through one place (`intake`), where what they mean is
decided once, in the store's transaction; so capture methods may overlap, repeat and race as they like.

**Order.** Of two readings of one row the later one must win. Reading and applying therefore happen under one lock per
watch: what is applied later was read later. Sweeps compare outside the lock; what they find is read again under it.

**What a crash costs**, step by step, for a change that the ATS has committed:

1. before it is read: nothing; the change log's row waits, the watermark has not passed.
2. read, nothing recorded: the change log keeps it, the watermark has not moved. It comes again.
3. recorded, not yet deleted from the log: it comes again; the diff finds nothing new, since the outbox holds it.
4. recorded and deleted: the outbox is durable; the sender finds the entry at the next start.
5. call under way: the entry is marked as attempted; it is sent again, same body, same idempotency key.
6. acknowledged, not yet written down: as 5. HelloWork hears the same thing twice, which changes nothing.

A suspected deletion is durable like an entry, and survives in the same way until a fresh read has answered it.
"""
