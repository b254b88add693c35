"""The ATS's database: reading its rows, and finding those that may have changed.

Every read is one short transaction. Functions raise `SourceError` if the database does not answer; those within the
caller's `asking` (`rows_of`, `look_up`, `hiding`) raise psycopg's errors.
"""
