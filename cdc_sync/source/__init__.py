"""The ATS's database: reading its rows, and finding those that may have changed.

This package reads and decides nothing. Every read is one short transaction. Functions raise `SourceError` if the
database does not answer; those that run within the caller's `asking` (`rows_of`, `look_up`, `hiding`) raise psycopg's.
"""
