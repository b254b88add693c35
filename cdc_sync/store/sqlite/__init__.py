"""The embedded store: one SQLite file in WAL mode, with `synchronous = FULL`: see decision 5."""
