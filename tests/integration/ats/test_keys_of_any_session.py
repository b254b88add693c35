"""The triggers write a key as the ATS's session does: a row is found by it, its deletion perhaps by the next sweep.

A key of most types is written alike by every session, and by whatever way it is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from support.builders import WATCH
from support.rig import OpenRig
from support.sessions import Ats, one, run
from support.source import keys_of_pages
from support.store_steps import events_of, known_one

from cdc_sync.ats.mapping import keys_of

KEYED: Mapping[str, Any] = {
    "table": "public.keyed",
    "key": ["k"],
    "columns": {
        "application_id": "id",
        "status": "status",
        "job_id": "job",
        "created": {"sql": "now()"},
        "event_date": None,
        "deleted": None,
    },
}
SHAPE = "of the test"
INDIA = "timezone = 'Asia/Kolkata'"
PARIS = "timezone = 'Europe/Paris'"


@dataclass(frozen=True, slots=True)
class Case:
    """A key of a type, and a setting of the ATS's session by which it is written otherwise than the daemon reads it."""

    type_: str
    key: str
    setting: str

    def __str__(self) -> str:
        """What the test is called."""
        return f"{self.type_} {self.key} with {self.setting}"


CASES = [
    Case("timestamptz", "2024-07-01 12:00:00.5+00", INDIA),
    Case("timestamptz", "2024-10-27 00:30:00+00", PARIS),  # the hour that comes twice
    Case("timestamptz", "1900-01-01 00:00:00+00", PARIS),  # when its offset had seconds
    Case("instant", "2024-07-01 12:00:00+00", INDIA),
    Case("bytea", r"\x00ff5c27", "bytea_output = 'escape'"),
    Case("interval", "1 year 2 mons 3 days 04:05:06.7", "intervalstyle = 'iso_8601'"),
    Case("interval", "1 mon", "intervalstyle = 'sql_standard'"),
]


def create(ats: Ats, type_: str, *keys: str) -> None:
    """The table, with an application for each key: a1, a2 and so on."""
    run(ats, "SET timezone = 'UTC'; CREATE DOMAIN public.instant AS timestamptz")
    run(ats, "CREATE TABLE public.keyed (k {type_} PRIMARY KEY, id text, status text, job text)", type_=type_)
    for number, key in enumerate(keys, start=1):
        insert = "INSERT INTO public.keyed VALUES (%s::text::{type_}, %s, 'new', 'J1')"
        run(ats, insert, [key, f"a{number}"], type_=type_)


def with_setting(ats: Ats, setting: str, statement: str) -> None:
    """Run a statement in a session that is set otherwise than the daemon's."""
    run(ats, "SET {setting}", setting=setting)
    run(ats, statement)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_change_needs_no_sweep_and_a_deletion_waits_for_the_next_one(
    ats: Ats, open_rig: OpenRig, case: Case
) -> None:
    create(ats, case.type_, case.key)
    async with open_rig(**KEYED) as rig:
        (read,) = (await known_one(rig.store)).key
        with_setting(ats, case.setting, "UPDATE public.keyed SET status = 'hired'")
        assert one(ats, "SELECT row_key[1] FROM cdc_sync.changes") != read, "nothing to test"
        assert await rig.calls() == [("a1", "hired", "J1")]

        run(ats, "DELETE FROM public.keyed")
        await rig.drain.catch_up()
        assert (await rig.sweep()).repaired == {"gone": 1}
        assert await rig.later_calls() == [("a1", "deleted", "J1")]
        assert (await known_one(rig.store)).key == (read,), "what the store has is as it was"


ALIKE = [
    ("int", ["-2", "-1", "0", "9", "10"]),
    ("bigint", ["9007199254740992", "9007199254740993", "9007199254740994"]),
    ("numeric(10,2)", ["-1.50", "2.00", "10.00"]),
    ("uuid", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("mood", ["", "sad", "happy", "angry"]),
    ("label", ["", "a", "b", "c"]),
    ('text COLLATE "C"', ["", "\x01\x1f\x7f\t\n\r\b\f", "7", "\\", 'a"b', "a/b", "É", "é🎉", "\u2028"]),
    ("char(4)", ["a   ", "ab  ", "b   "]),
    ("varchar(2)", ["a", "ab", "b"]),
    ("boolean", ["false", "true"]),
    ("float8", ["0.1", "1234567890"]),
    ("date", ["2023-12-31", "2024-01-02", "2024-02-01"]),
    ("timestamp", ["2024-01-01T00:00:00", "2024-01-01T00:00:00.000001", "2024-01-02T00:00:00"]),
    ("timestamp(0)", ["0044-03-15T12:00:00 BC", "2024-01-01T00:00:00"]),
]
"""Types of which every session writes a key alike, and keys in the type's own order, as they are written."""


@pytest.mark.parametrize(("type_", "keys"), [pytest.param(*case, id=case[0]) for case in ALIKE])
async def test_a_key_is_walked_digested_read_and_recorded_alike(
    ats: Ats, open_rig: OpenRig, type_: str, keys: list[str]
) -> None:
    ats.execute("CREATE TYPE mood AS ENUM ('', 'sad', 'happy', 'angry'); CREATE DOMAIN label AS text NOT NULL")
    create(ats, type_, *reversed(keys))
    expected = [(key,) for key in keys]
    async with open_rig(**KEYED) as rig:
        page = await rig.intake.reader.digests(None, 100, SHAPE)
        assert page is not None
        assert await keys_of_pages(lambda after: rig.intake.reader.page(after, 1, SHAPE)) == expected
        assert keys_of(page.text, list(range(len(keys)))) == expected
        assert sorted(row.key for row in (await rig.intake.reader.by_key(expected)).rows) == sorted(expected)
        for setting in ("datestyle = 'SQL, DMY'", "bytea_output = 'escape'", "extra_float_digits = 0", INDIA):
            run(ats, "SET {setting}", setting=setting)
        ats.execute("DELETE FROM public.keyed")
        await rig.drain.catch_up()
        assert await rig.store.capture.suspected(WATCH, [f"a{n}" for n, _ in enumerate(keys, 1)]) == {
            f"a{n}" for n, _ in enumerate(keys, 1)
        }


async def test_a_key_that_reads_like_another_ones_harms_nobody(ats: Ats, open_rig: OpenRig) -> None:
    """Of a range of dates DateStyle tells which number is the month: the deletion of a1 looks like one of a2."""
    create(ats, "daterange", "[2024-02-01,2024-03-05)", "[2024-01-02,2024-05-03)")
    async with open_rig(**KEYED) as rig:
        with_setting(ats, "datestyle = 'SQL, DMY'", "DELETE FROM public.keyed WHERE id = 'a1'")
        assert one(ats, "SELECT row_key[1] FROM cdc_sync.changes") == "[01/02/2024,05/03/2024)"

        await rig.drain.catch_up()
        assert await rig.later_calls() == []

        assert (await rig.sweep()).repaired == {"gone": 1}
        assert await rig.later_calls() == [("a1", "deleted", "J1")]
        assert await events_of(rig.store, "a2") == []
