"""The ATS's database: what its rows say, and which of them may have changed.

Nothing here decides; it reads. Every read is one short transaction, and every statement is composed with `psycopg.sql`.
"""
