"""What `cdc-sync check` asks the ATS's database, beside a daemon that may be at work in it.

Every question is a short read-only transaction with a timeout of its own (`asking_shortly`), so that a check can
neither hold anything up nor wait for long, and nothing is set that would outlive it: a pooler may hand the session on.
No row is read: the catalog, the planner and the daemon's own statements with LIMIT 0 tell what there is to know.

server    who answers: version, role, clock, whether the session is ours alone; the order of the questions
watch     one watch: table, columns, types, key, privileges, policies, indexes, triggers
"""

from cdc_sync.source.check.server import check_database

__all__ = ["check_database"]
