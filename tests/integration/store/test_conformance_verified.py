"""Digests by which a sweep passes over rows: kept only where they are right, and forgotten as soon as they are not."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import get_args

import pytest
from support.builders import NOW, WATCH, a_baseline, a_batch, a_content, an_observation, moved, some_rules
from support.store_steps import adopt, known_one, observe

from cdc_sync.core.outbox import Skip, Verified
from cdc_sync.core.rows import Key
from cdc_sync.store import Store
from cdc_sync.store.encoding import key_text
from cdc_sync.store.statements import Database, statements

DIGEST = "0123456789abcdef"
OTHER = "f" * 16
IN_FULL, NOTHING = -1, 0


def digests(*keys: Key, digest: str = DIGEST) -> str:
    """A page of rows with these keys."""
    return json.dumps([digest + key_text(key) for key in keys or [("a1",)]])


def verified(id_: str = "a1", *key: str, digest: str = DIGEST, status: str = "applied", job: str = "J1") -> Verified:
    return Verified(id_, key or (id_,), digest, a_content(status, job, application_id=id_))


async def passes(store: Store) -> bool:
    """Whether the row of a1 is passed over."""
    (found,) = await store.capture.compare(WATCH, digests())
    assert found in (IN_FULL, (await known_one(store)).number)
    return found != IN_FULL


@pytest.fixture
async def known(store: Store) -> Store:
    """The store, with a1 adopted and verified."""
    await adopt(store, "a1")
    await store.capture.verify(WATCH, [verified()])
    assert await passes(store)
    return store


@pytest.mark.parametrize("database", get_args(Database))
def test_each_statement_that_changes_a_record_forgets_its_digest(database: Database) -> None:
    of_record = {
        name: statement.text
        for name, statement in statements(database).items()
        if re.search(r"UPDATE (cdc_sync\.)?snapshot\b", statement.text)
    }

    forgetful = {name for name, text in of_record.items() if "verified = NULL" not in text}

    assert (forgetful, len(of_record)) == ({"verify"}, 5)


class TestVerifying:
    async def test_a_page_is_answered_in_its_order(self, store: Store) -> None:
        await adopt(store, "a1", "a2", "a3")
        await store.capture.verify(WATCH, [verified("a3"), verified("a1")])
        numbers = {id_: known.number for id_, known in (await store.capture.known(WATCH, ["a1", "a3"])).items()}

        found = await store.capture.compare(WATCH, digests(("a3",), ("a2",), ("nobody's",), ("a1",)))

        assert found == [numbers["a3"], IN_FULL, IN_FULL, numbers["a1"]]
        assert await store.capture.compare(WATCH, "[]") == []
        assert await store.capture.compare("spontaneous", digests(("a1",))) == [IN_FULL]

    @pytest.mark.parametrize(
        "wrong", [verified(status="hired"), verified(job="J2"), verified("a1", "another row"), verified("a2", "a1")]
    )
    async def test_not_where_the_record_differs(self, store: Store, wrong: Verified) -> None:
        await adopt(store, "a1")

        await store.capture.verify(WATCH, [wrong])

        assert not await passes(store)

    async def test_not_without_a_snapshot_or_out_of_scope(self, store: Store) -> None:
        await observe(store, an_observation())
        await store.capture.verify(WATCH, [verified()])
        await store.capture.apply(some_rules(), a_baseline(an_observation("a2")))
        await store.capture.apply(some_rules(), a_batch(out_of_scope=["a2"]))
        await store.capture.verify(WATCH, [verified("a2")])

        assert await store.capture.compare(WATCH, digests(("a1",), ("a2",))) == [IN_FULL, IN_FULL]

    @pytest.mark.parametrize(
        "key", [("1", "2"), ("a,b", 'c"d'), ("é🎉", ""), ("[", "]", "\\"), ("1",), ("\x01\t\x7f",)]
    )
    async def test_a_key_may_have_several_columns_and_any_text(self, store: Store, key: Key) -> None:
        row = moved(replace(an_observation(), digest=DIGEST), *key)
        await store.capture.apply(some_rules(), a_baseline(row, an_observation("a2")))

        known = await known_one(store)
        assert known.key == key
        assert await store.capture.compare(WATCH, digests(key, ("a2",))) == [known.number, IN_FULL]
        gone = a_batch(skips=[Skip(key, None, None)])._replace(skipped={})
        assert (await store.capture.apply(some_rules(), gone)).unresolved == {"a1": NOW}

    async def test_two_records_of_one_row(self, store: Store) -> None:
        """The row has changed its id, and back: each of the two has what it was verified with."""
        await store.capture.apply(
            some_rules(), a_baseline(*(moved(an_observation(id_), "row") for id_ in ("a1", "a2")))
        )
        await store.capture.verify(WATCH, [verified("a1", "row"), verified("a2", "row", digest=OTHER)])
        numbers = {id_: known.number for id_, known in (await store.capture.known(WATCH, ["a1", "a2"])).items()}

        assert await store.capture.compare(WATCH, digests(("row",))) == [numbers["a1"]]
        assert await store.capture.compare(WATCH, digests(("row",), digest=OTHER)) == [numbers["a2"]]


@pytest.mark.parametrize(
    "happen",
    [
        lambda store: observe(store, moved(an_observation(), "another row")),
        lambda store: store.capture.apply(some_rules(), a_batch(out_of_scope=["a1"])),
        lambda store: store.capture.apply(some_rules(), a_baseline(an_observation(status="hired"))),
    ],
    ids=["another row speaks for it", "it leaves the scope", "it is adopted anew"],
)
async def test_what_changes_the_record_forgets_its_digest(
    known: Store, happen: Callable[[Store], Awaitable[object]]
) -> None:
    await happen(known)
    assert not await passes(known)
    await observe(known, an_observation())

    assert not await passes(known), "though it is as it was again, but for what waits"


class TestOtherRows:
    async def test_no_row_of_hellowork_and_one_that_must_be_read(self, known: Store) -> None:
        assert await known.capture.compare(WATCH, json.dumps(["n", "?"])) == [NOTHING, IN_FULL]

    async def test_a_row_out_of_scope_is_read_if_its_application_is_in_scope(self, known: Store) -> None:
        page = json.dumps([f"o{json.dumps([key_text(('row',)), id_])}" for id_ in ("a1", "nobody's", 'a"2')])
        await adopt(known, 'a"2')

        assert await known.capture.compare(WATCH, page) == [IN_FULL, NOTHING, IN_FULL]
        await known.capture.apply(some_rules(), a_batch(out_of_scope=["a1"]))
        assert await known.capture.compare(WATCH, page) == [NOTHING, NOTHING, IN_FULL]
