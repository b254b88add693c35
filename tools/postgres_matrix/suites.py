"""What is run on each version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suite:
    """Tests `without` some of them."""

    paths: Sequence[str]
    without: Sequence[str] = ()


# `cdc-sync demo` chooses its server itself.
_DEMO = "tests/acceptance/test_demo.py"
_FIXTURE = "tests/integration/test_database_fixture.py"

SUITES: Mapping[str, Suite] = {
    # Without what needs no PostgreSQL: client and sender, the SQLite store, the admin's pages, the emulator.
    "whole": Suite(
        (
            "tests/integration/ats",
            "tests/integration/test_embedded_postgres.py",
            _FIXTURE,
            "tests/acceptance",
        ),
        without=(_DEMO,),
    ),
    # SQL that versions may understand differently, and each shape of a schema once: short enough for every change.
    "sql": Suite(
        (
            "tests/integration/ats",
            _FIXTURE,
            "tests/acceptance/test_any_schema.py",
            "tests/acceptance/test_changes.py",
            "tests/acceptance/test_check.py",
            "tests/acceptance/test_planted_names.py",
            "tests/acceptance/test_recruitment_days.py",
            "tests/acceptance/test_row_security.py",
            "tests/acceptance/test_standby.py",
            "tests/acceptance/test_tenants.py",
            "tests/acceptance/test_physical_copies.py",
        ),
        # Memory does not depend on the version.
        without=("tests/integration/ats/test_walk_memory.py",),
    ),
}
