"""A table that logical replication feeds, from another database of the same server."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from support.postgres import Cluster, fresh_database
from support.sessions import Ats, one, run
from support.waiting import wait_until

_SUBSCRIBE = sql.SQL(
    "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION cdc_sync_test WITH (create_slot = false, copy_data = false)"
)
_READ = "SELECT active FROM pg_replication_slots WHERE slot_name = current_database()"


@contextmanager
def publisher_of(cluster: Cluster, subscriber: Ats) -> Iterator[Ats]:
    """A session in the database from which every change of `applications` comes to the subscriber's, from now on."""
    with fresh_database(cluster) as dsn, psycopg.connect(dsn, autocommit=True) as publisher:
        if one(publisher, "SHOW wal_level") != "logical":
            pytest.skip("the server's wal_level is not logical")
        name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
        # Within one server CREATE SUBSCRIPTION would wait for itself to make the slot.
        run(publisher, "CREATE PUBLICATION cdc_sync_test FOR TABLE public.applications")
        run(publisher, "SELECT pg_create_logical_replication_slot(current_database(), 'pgoutput')")
        subscriber.execute(_SUBSCRIBE.format(name, sql.Literal(dsn)))
        try:
            yield publisher
        finally:
            # Dropped with its slot it would wait for itself again.
            for end in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)"):
                subscriber.execute(sql.SQL(end).format(name))
            subscriber.execute(sql.SQL("DROP SUBSCRIPTION {}").format(name))
            wait_until(lambda: not one(publisher, _READ), "nobody reads the slot")
            run(publisher, "SELECT pg_drop_replication_slot(current_database())")
