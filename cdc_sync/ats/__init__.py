"""The ATS's database, all of it: sessions, table and key, change log, poll, sweep, scripts.

    what captures ──keys──▶ rows, read by key ──▶ observations ──▶ one apply: the store decides what they mean

A kind of capture is only a source of keys; a sweep and a poll give rows. All go through `intake`. So kinds may overlap,
repeat and race.

**Order.** Of two readings of one row the later one must win. One lock per watch covers reading and applying. Sweeps
compare outside it and read each difference again under it.

**A crash** loses no committed change, wherever it comes ([how it works](../../docs/how-it-works.md), "What a crash
costs"). A suspected deletion is as durable as an entry, until a fresh read answers it.

Every read is one short transaction. Functions raise `SourceError` if the database does not answer; those within the
caller's `asking` (`rows_of`, `described`, `hiding`) raise psycopg's errors.
"""
