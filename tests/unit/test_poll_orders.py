"""The real poll and its fence against every order in which transactions and its own steps can happen.

Three transactions begin, write for the first time, and commit; two polls look, read, and move the watermark; a last one
reads what is left. The server is a model (`support.transactions`); a row carries its transaction's start, and a first
write follows it by at most `LOOKBACK`. No row may slip past.
"""

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from datetime import timedelta
from typing import Any, cast

import pytest
from support.transactions import Event, ServerModel

from cdc_sync.ats.intake import Steps
from cdc_sync.ats.poll import PollCapture
from cdc_sync.ats.reading import Read
from cdc_sync.core.batch import Applied, Batch
from cdc_sync.core.rows import Key, Origin, Row
from cdc_sync.core.watermark import SnapshotReading

LOOKBACK = 3
"""Ticks; each event takes one."""

START = 1_000
WRITERS = ("one", "two", "three")
POLL = ("look", "read")


def orders() -> Iterator[tuple[Event, ...]]:
    """All of them in which a first write follows its start by at most `LOOKBACK`; alike ones once."""
    left = {**dict.fromkeys(WRITERS, ("begin", "write", "commit")), "poll": POLL * 2}

    def rest(done: tuple[Event, ...], left: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[Event, ...]]:
        if not any(left.values()):
            yield done
        waiting = [name for name in WRITERS if left[name][:1] == ("begin",)]
        for name, steps in left.items():
            # Transactions are alike, so they may as well begin in the order of their names.
            if not steps or (name in waiting and name != waiting[0]):
                continue
            if steps[0] == "write" and len(done) - done.index(("begin", name)) > LOOKBACK:
                continue
            yield from rest((*done, (steps[0], name)), {**left, name: steps[1:]})

    return rest((), left)


@types.coroutine
def turn() -> Generator[None, None, None]:
    """Let somebody else do something."""
    yield


class Reader:
    """A `WatermarkReader` on the model; it and the intake give a turn to others before each statement."""

    kind = ()

    def __init__(self, server: ServerModel) -> None:
        self.server = server
        self.seen: set[int] = set()

    async def look(self) -> SnapshotReading:
        await turn()
        xmin = self.server.xmin()
        return SnapshotReading(self.now(), xmin, self.server.take_id() + 1)

    def now(self) -> int:
        """What happens right after it may happen in the same microsecond."""
        return self.server.clock + 1

    def watermark_at(self, fence: int) -> str:
        return str(fence - LOOKBACK)

    async def page(self, place: Key, _: int) -> Read:
        await turn()
        self.seen |= {row for row in self.server.committed if self.is_behind(self.server.stamps[row], int(place[0]))}
        return Read(list[Row](), 0)

    def is_behind(self, stamp: int, watermark: int) -> bool:
        return stamp >= watermark


class Lookout:
    """Asks for nobody else."""

    server = None

    async def transactions(self, every: float, look: Callable[[], Awaitable[SnapshotReading]]) -> SnapshotReading:
        assert every >= 0
        return await look()


class Intake:
    """As much of one as a poll needs."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()

    def batch(self, origin: Origin) -> Batch:
        return Batch(origin, 0, "send")

    async def apply(self, _: Batch) -> Applied:
        return Applied()

    def interpreted(self, page: Read) -> list[Row]:
        return page.rows

    async def place(self, positions: Mapping[str, str]) -> None:
        assert positions

    def observe(self, _: object) -> None:
        """Whoever listens learns nothing about rows."""

    name = "applications"
    watched = None
    seen = types.SimpleNamespace(setup=None)
    sessions = types.SimpleNamespace(pool=None, lookout=Lookout())
    parts = types.SimpleNamespace(
        steps=Steps(look_every=0.0, place_every=0.0),
        watch=types.SimpleNamespace(
            table="", capture=types.SimpleNamespace(poll_interval=timedelta(seconds=2), watermark="stamp")
        ),
    )


def missed(events: tuple[Event, ...]) -> set[int]:
    """The committed rows that nobody has seen when all is over."""
    server = ServerModel(START)
    reader = Reader(server)
    poll = PollCapture(cast("Any", Intake()), cast("Any", reader))
    poll.watermark = str(START - LOOKBACK)
    starts: dict[str, int] = {}
    polling: Any = None
    for what, name in events:
        server.clock += 1
        match what:
            case "begin":
                starts[name] = server.clock
            case "write":
                server.write(name, starts[name])
            case "commit":
                server.end(name)
            case "look":
                polling = poll.catch_up()
                polling.send(None)  # up to the look
                polling.send(None)  # the look, and up to the page
            case _:
                finish(polling)
    server.clock += 1
    finish(poll.catch_up())
    return server.committed - reader.seen


def finish(polling: Any) -> None:
    while True:
        try:
            polling.send(None)
        except StopIteration:
            return


@pytest.mark.exhaustive
def test_no_row_slips_past() -> None:
    number = 0
    for events in orders():
        number += 1
        assert not missed(events), events

    assert number == 37_271
