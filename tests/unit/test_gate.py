"""Of which watches calls may go out, as their databases are recognised and lost."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from support.configurations import a_config

from cdc_sync.config import Config
from cdc_sync.daemon.gate import Gate
from cdc_sync.store import Store
from cdc_sync.store.protocol import Reread


class Noted:
    """The part of a store that the gate uses."""

    def __init__(self, captured_from: Mapping[str, str]) -> None:
        self.withheld: Collection[str] = ()
        self.noted = dict(captured_from)
        self.owners: dict[str, str] = {}
        self.while_reading: Callable[[], None] = lambda: None

    async def captured_from(self) -> dict[str, str]:
        self.while_reading()
        return self.noted

    async def credentials(self) -> dict[str, str]:
        return self.owners


def a_gate(captured_from: Mapping[str, str], *reread: str) -> tuple[Gate, Noted, list[None]]:
    """A gate, its store, and one item for each time that it has opened; of `reread` the rows were read again."""
    store, opened = Noted(captured_from), list[None]()
    gate = Gate(cast("Store", store), lambda: opened.append(None))
    for watch in reread:
        gate.reread(watch)
    return gate, store, opened


EVERY = ("a", "b", "c", "gone", "v", "w", "applications")


def several(**watches: str) -> Config:
    """A configuration of these watches, each with its database."""
    watch: dict[str, Any] = {
        "table": "t",
        "key": ["id"],
        "columns": {"application_id": "a", "status": "b", "job_id": "c", "created": "d"},
    }
    known = {name: {"dsn": f"host={name}"} for name in ("one", "two")}
    return a_config({"databases": known, "watches": {name: {**watch, "database": of} for name, of in watches.items()}})


async def test_nothing_is_sent_of_a_watch_before_the_rows_of_its_entries_were_read_again() -> None:
    gate, store, opened = a_gate({"a": "one", "b": "one"})
    await gate.use(several(a="one", b="one"), ())
    gate.begin("a")
    assert store.withheld == {"a", "b"}
    gate.reread("a")
    assert (store.withheld, len(opened)) == ({"b"}, 1)
    gate.begin("a")
    assert store.withheld == {"a", "b"}, "its database was lost, or another daemon had it"
    gate.reread("a")
    gate.end("a")
    assert store.withheld == {"a", "b"}, "it begins again with other settings"


async def test_a_daemon_that_waits_for_its_turn_sends_once_the_one_at_work_has_read_the_rows_again() -> None:
    gate, store, _ = a_gate({"a": "one"})
    await gate.use(several(a="one"), ())
    gate.recognise("a")
    gate.reread_elsewhere([Reread("a", 7, "as it was restored")])
    gate.reread_elsewhere([Reread("a", 7, "as it was restored")])
    assert store.withheld == {"a"}, "nobody renews that lease"
    gate.reread_elsewhere([Reread("a", 7, "renewed")])
    assert store.withheld == set()


async def test_nothing_is_sent_of_a_watch_before_its_database_is_recognised() -> None:
    gate, store, opened = a_gate({"a": "one", "b": "one", "c": "two"}, *EVERY)
    await gate.use(several(a="one", b="one", c="two"), ())
    assert store.withheld == {"a", "b", "c"}
    assert not gate.any.is_set()

    gate.recognise("a")
    assert store.withheld == {"c"}
    assert gate.any.is_set()
    gate.recognise("b")
    assert len(opened) == 1
    gate.recognise("c")
    assert (store.withheld, len(opened)) == (set(), 2)


async def test_nothing_is_sent_of_a_watch_whose_credentials_were_dropped_until_it_is_configured_again() -> None:
    gate, store, _ = a_gate({"a": "one"}, *EVERY)
    await gate.use(several(a="one"), ())
    gate.recognise("a")
    gate.drop_credentials({"gone"})
    assert store.withheld == {"gone"}

    await gate.use(several(a="one"), {"one"})
    assert store.withheld == {"gone"}
    await gate.use(several(a="one", gone="one"), {"one"})
    assert store.withheld == {"gone"}, "its database is not known as its own yet"
    gate.recognise("gone")
    assert store.withheld == set()


async def test_a_watch_that_was_captured_under_another_name_waits_for_itself() -> None:
    gate, store, _ = a_gate({"a": "one"}, *EVERY)
    await gate.use(several(a="one", b="one"), ())
    gate.recognise("a")
    assert store.withheld == {"b"}, "captured from the section `database`, or never"
    gate.recognise("b")
    assert store.withheld == set()


async def test_a_watch_that_was_recognised_does_not_wait_for_its_note() -> None:
    gate, store, _ = a_gate({}, *EVERY)
    await gate.use(several(a="one"), ())
    gate.recognise("a")
    await gate.use(several(a="one", b="one"), {"one"})
    assert store.withheld == {"b"}, "no note yet, for its baseline has just begun"
    await gate.use(several(a="one", b="one"), ())
    assert store.withheld == {"a", "b"}, "the section is another one"


async def test_a_database_that_is_another_one_has_its_watches_wait_again() -> None:
    gate, store, _ = a_gate({"a": "one", "b": "one", "c": "two"}, *EVERY)
    await gate.use(several(a="one", b="one", c="two"), ())
    for watch in ("a", "c"):
        gate.recognise(watch)
    gate.lost("a", "unreachable")
    gate.lost("a", "watch-moved")
    assert store.withheld == set()
    gate.lost("a", "store-another-database")
    assert store.withheld == {"a", "b"}
    gate.recognise("b")
    assert store.withheld == set()


async def test_a_reload_has_those_wait_whose_database_is_another_one_now() -> None:
    gate, store, _ = a_gate({"a": "one", "c": "two"}, *EVERY)
    config = several(a="one", c="two")
    await gate.use(config, ())
    for watch in ("a", "c"):
        gate.recognise(watch)
    await gate.use(config, {"one"})
    assert store.withheld == {"c"}
    await gate.use(several(a="one"), {"one"})
    assert store.withheld == {"c"}, "no longer configured, and neither is its database recognised"
    gate.recognise("unknown")
    gate.lost("unknown", "store-another-database")
    await gate.use(a_config(), ())
    assert store.withheld == {"applications"}
    gate.recognise("applications")
    assert store.withheld == set()


async def test_of_a_watch_that_is_gone_nothing_is_sent_with_credentials_of_others() -> None:
    gate, store, _ = a_gate({"a": "one", "b": "one", "gone": "one"}, *EVERY)
    store.owners = {"a": "a", "gone": "gone"}
    await gate.use(several(a="one", b="one"), ())
    gate.recognise("a")
    assert store.withheld == {"gone"}
    await gate.use(several(a="one", b="one", gone="one"), {"one"})
    assert store.withheld == set(), "it is back"
    await gate.use(several(b="one"), {"one"})
    assert store.withheld == set(), "this process has seen their credentials"


async def test_a_database_that_is_recognised_while_the_store_is_read_releases_no_other_watch() -> None:
    gate, store, _ = a_gate({"v": "", "w": "elsewhere"}, *EVERY)
    watch = {
        "table": "t",
        "key": ["id"],
        "columns": {"application_id": "a", "status": "b", "job_id": "c", "created": "d"},
    }
    config = a_config({"database": {"dsn": "host=here"}, "watches": {"v": watch, "w": watch}})
    await gate.use(config, ())
    gate.recognise("v")
    assert store.withheld == {"w"}
    seen: list[Collection[str]] = []

    def recognised() -> None:
        gate.recognise("v")
        seen.append(store.withheld)

    store.while_reading = recognised
    await gate.use(config, ("",))

    assert seen == [{"w"}]
    assert store.withheld == {"w"}
