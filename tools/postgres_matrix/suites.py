"""What is run on each version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suite:
    """A selection of the tests.

    Attributes:
        paths: what is run.
        without: what of it is left out.
    """

    paths: Sequence[str]
    without: Sequence[str] = ()


# Left out of all: `cdc-sync demo`, which chooses its server itself.
_DEMO = "tests/acceptance/test_demo.py"
_FIXTURE = "tests/integration/test_database_fixture.py"

SUITES: Mapping[str, Suite] = {
    # Integration and acceptance, but for what never sees a PostgreSQL: the client and the sender, the SQLite store, the
    # admin's pages, the emulator.
    "whole": Suite(
        (
            "tests/integration/source",
            "tests/integration/pipeline",
            "tests/integration/test_embedded_postgres.py",
            "tests/integration/test_bystanders.py",
            _FIXTURE,
            "tests/acceptance",
        ),
        without=(_DEMO,),
    ),
    # Where SQL is sent that a version may understand otherwise, and each shape of a schema once from end to end: short
    # enough for every change.
    "sql": Suite(
        (
            "tests/integration/source",
            "tests/integration/pipeline",
            _FIXTURE,
            "tests/acceptance/test_any_schema.py",
            "tests/acceptance/test_changes.py",
            "tests/acceptance/test_check.py",
            "tests/acceptance/test_odoo_recruitment.py",
            "tests/acceptance/test_rejection_table.py",
            "tests/acceptance/test_row_security.py",
            "tests/acceptance/test_standby.py",
            "tests/acceptance/test_tenants.py",
            "tests/acceptance/test_one_address_several_servers.py",
            "tests/acceptance/test_physical_copies.py",
            "tests/acceptance/test_views.py",
        ),
        # The daemon's memory, and its answer to a silent network, are the same whatever the server's version.
        without=(
            "tests/integration/pipeline/test_walk_memory.py",
            "tests/integration/pipeline/test_watch_reconnects.py",
            "tests/integration/source/test_statements_unanswered.py",
        ),
    ),
}
