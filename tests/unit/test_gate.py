"""Which watches may send: those whose pending entries' rows were read again since they began."""

from typing import Any

from support.configurations import a_config

from cdc_sync.config import Config
from cdc_sync.daemon.gate import Gate

ANOTHER = "store-another-database"


def several(**watches: str) -> Config:
    """A configuration of these watches, each with its database."""
    watch: dict[str, Any] = {
        "table": "t",
        "key": ["id"],
        "columns": {"application_id": "a", "status": "b", "job_id": "c", "created": "d"},
    }
    known = {name: {"dsn": f"host={name}"} for name in ("one", "two")}
    return a_config({"databases": known, "watches": {name: {**watch, "database": of} for name, of in watches.items()}})


class Opened:
    """A gate with the watches a and b of the database one, and c of two, of which some are open.

    Attributes:
        times: how often it has changed since.
    """

    def __init__(self, *watches: str) -> None:
        self.times = 0
        self.gate = Gate(self._count)
        self.gate.use(several(a="one", b="one", c="two"))
        for watch in watches:
            self.gate.open(watch)
        self.times = 0

    @property
    def sending(self) -> set[str]:
        return {watch for watch in ("a", "b", "c", "gone") if self.gate.may_send(watch)}

    def _count(self) -> None:
        self.times += 1


def test_no_watch_sends_before_its_rows_were_read_again() -> None:
    opened = Opened()
    assert opened.sending == set()

    opened.gate.open("a")

    assert (opened.sending, opened.times) == ({"a"}, 1)


def test_a_watch_that_begins_again_waits_for_its_rows() -> None:
    opened = Opened("a", "b", "c")

    opened.gate.close("a")
    assert (opened.sending, opened.times) == ({"b", "c"}, 1)
    opened.gate.open("a")

    assert (opened.sending, opened.times) == ({"a", "b", "c"}, 2)


def test_another_database_stops_all_of_its_watches() -> None:
    opened = Opened("a", "b", "c")

    opened.gate.lost("a", ANOTHER)

    assert (opened.sending, opened.times) == ({"c"}, 1)


def test_a_database_that_is_only_down_stops_no_watch() -> None:
    """The entries are still those of that database. Its watches wait when they have connected again."""
    opened = Opened("a", "b", "c")

    opened.gate.lost("a", "unreachable")
    opened.gate.lost("a", None)

    assert opened.sending == {"a", "b", "c"}


def test_a_watch_with_another_account_begins_again_before_it_sends() -> None:
    opened = Opened("a", "b", "c")
    config = several(a="one", b="one", c="two")
    other = config.watches["b"].model_copy(update={"account": "acme"})

    opened.gate.use(config.model_copy(update={"watches": {**config.watches, "b": other}}))

    assert opened.sending == {"a", "c"}


def test_a_watch_that_is_no_longer_configured_does_not_send() -> None:
    opened = Opened("a", "b", "c")

    opened.gate.use(several(a="one", c="two"))
    opened.gate.open("b")
    opened.gate.lost("b", ANOTHER)
    assert opened.sending == {"a", "c"}
    opened.gate.use(several(a="one", b="one", c="two"))

    assert opened.sending == {"a", "c"}, "its rows were not read again since"
