import pytest

from cdc_sync.core.findings import host_name
from cdc_sync.store.errors import refuse_copy


@pytest.mark.parametrize("host", ["", "localhost", "LOCALHOST.", "127.0.0.1", "::1", "/var/run/postgresql"])
def test_sockets_and_loopback_are_one_host(host: str) -> None:
    assert host_name(host, "") == "localhost:5432"


def test_a_host_has_one_spelling() -> None:
    assert host_name(" DB-1.example. ", "6000") == "db-1.example:6000"


class TestHosts:
    """A host in common means that it is the same database."""

    BEFORE = ("db-1:5432", "db-2:5432")

    def test_one_host_of_several_is_enough(self) -> None:
        now = "db-3:5432", "db-2:5432"
        refuse_copy("watch-moved", "ats of cluster 1", self.BEFORE, now, database="", section="database")
