"""The shared store: the schema `cdc_sync` of a PostgreSQL database, for a daemon and its standbys on several hosts."""
