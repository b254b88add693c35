"""The poll against every order in which two transactions of a real server and two polls of it can happen.

Ids, snapshots and what they show are the server's; only the clock is ours, a minute for each event, since the watermark
is a whole second. A row carries its transaction's start.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from support.applications import insert
from support.builders import WATCH
from support.rig import OpenRig, Rig
from support.sessions import Ats, OpenSession, rows
from support.transactions import Event, interleavings

from cdc_sync.ats.database import Steps
from cdc_sync.ats.poll import PollCapture
from cdc_sync.core.watermark import SnapshotReading

LOOKBACK = 2
"""Minutes."""

MINUTE = 60 * 10**6
WRITERS = {"one": 1, "two": 2}
"""And the row that each writes."""


@pytest.fixture
def steps() -> Steps:
    """It looks each time."""
    return Steps(look_every=0.0, place_every=0.0)


def orders() -> Iterator[tuple[Event, ...]]:
    """Those that begin with the first transaction, and end before a poll: the rest is the same once more."""
    writers = tuple((("begin", name), ("write", name), ("commit", name)) for name in WRITERS)
    for events in interleavings((*writers, (("poll", ""),) * 2)):
        if events[0] == ("begin", "one") and events[-1][0] == "commit":
            yield events


def is_soon_enough(events: tuple[Event, ...]) -> bool:
    """Whether each first write follows its transaction's start by at most `LOOKBACK`."""
    return all(events.index(("write", name)) - events.index(("begin", name)) <= LOOKBACK for name in WRITERS)


@dataclass
class Clock:
    """Ours, in microseconds since the epoch: from 2020 on."""

    instant: int = 1_577_836_800 * 10**6

    def tick(self) -> None:
        self.instant += MINUTE


class Course:
    """A server, and what happens on it."""

    def __init__(self, rig: Rig, ats: Ats, sessions: dict[str, Ats]) -> None:
        self.rig = rig
        self._ats = ats
        self._sessions = sessions
        self._clock = Clock()
        assert isinstance(rig.capture, PollCapture)
        self._reader = rig.capture.reader
        self._look = self._reader.look
        self._reader.look = self._look_by_our_clock  # type: ignore[method-assign] # the server's clock cannot be set

    async def _look_by_our_clock(self) -> SnapshotReading:
        return (await self._look())._replace(instant=self._clock.instant)

    async def play(self, events: tuple[Event, ...], number: int) -> PollCapture:
        """Let it happen, and poll once more."""
        watermark = self._reader.watermark_at(self._clock.instant)
        poll = PollCapture(self.rig.intake, self._reader)
        poll.watermark = watermark
        starts: dict[str, int] = {}
        for what, name in events:
            self._clock.tick()
            match what:
                case "begin":
                    self._sessions[name].execute("BEGIN")
                    starts[name] = self._clock.instant
                case "write":
                    self._write(name, str(number), starts[name])
                case "commit":
                    self._sessions[name].execute("COMMIT")
                case _:
                    await poll.catch_up()
        self._clock.tick()
        await poll.catch_up()
        return poll

    def _write(self, name: str, status: str, stamp: int) -> None:
        self._sessions[name].execute(
            "UPDATE public.applications SET status = %s,"
            " updated_at = timestamptz 'epoch' + %s * interval '1 microsecond' WHERE id = %s",
            [status, stamp, WRITERS[name]],
        )

    async def agrees(self) -> bool:
        """Whether the store knows what the table has."""
        there = dict(rows(self._ats, "SELECT hellowork_id, status FROM public.applications"))
        known = await self.rig.store.capture.known(WATCH, list(there))
        return {id_: before.latest and before.latest.status for id_, before in known.items()} == there


@asynccontextmanager
async def course(open_rig: OpenRig, ats: Ats, open_session: OpenSession) -> AsyncIterator[Course]:
    for id_ in WRITERS.values():
        insert(ats, id_, f"a{id_}", updated_at="2019-12-31")
    capture = {"mode": "poll", "watermark": "updated_at", "lookback": f"{LOOKBACK}m"}
    # The fuse is not what this is about.
    async with open_rig(install=False, capture=capture, fuse={"max_changes": 100_000}) as rig:
        await rig.adopt()
        yield Course(rig, ats, {name: open_session() for name in WRITERS})


async def test_no_row_slips_past_and_what_writes_too_late_is_the_sweeps(
    ats: Ats, open_rig: OpenRig, open_session: OpenSession
) -> None:
    async with course(open_rig, ats, open_session) as played:
        for number, events in enumerate(orders()):
            poll = await played.play(events, number)
            if is_soon_enough(events):
                assert await played.agrees(), events
            elif not await played.agrees():
                assert set((await played.rig.sweep(poll)).repaired) == {"status"}
                assert await played.agrees(), events
