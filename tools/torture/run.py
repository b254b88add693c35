"""A run from its start to its verdict."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from torture import ats, verdict
from torture.alone import alone
from torture.configuration import TOKEN
from torture.daemon import FROZEN, Daemon
from torture.evidence import Evidence, gathered
from torture.faults import plan
from torture.hosts import hosts
from torture.options import Options
from torture.pausing import pause
from torture.place import Place
from torture.settling import settle
from torture.weather import Weather
from torture.writer import Writer

_ANSWERS_WITHIN = 10.0
_BACK_WITHIN = 30.0
"""Seconds within which a daemon answers in the end; its start takes some on a loaded machine."""

_WRITERS = 4
"""Sessions of the ATS at work."""

_MOST = 8
"""Shown complaints of a kind."""

_WIDEST = 260
"""Shown characters of each: states of the store are long."""


@dataclass(slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        complaints: what is wrong, by kind.
        figures: what happened, and how often.
        tail: the end of the first daemon's log.
    """

    complaints: Mapping[str, Sequence[str]]
    figures: Mapping[str, object] = field(default_factory=dict)
    tail: str = ""

    def __str__(self) -> str:
        width = max(map(len, self.figures))
        lines = [f"{name:<{width}}  {value}" for name, value in self.figures.items()]
        if not self.complaints:
            return "\n".join([*lines, "HelloWork's last state is the database's."])
        lines += ["", "The end of the first daemon's log:", self.tail, ""]
        for kind, found in self.complaints.items():
            lines += [f"{kind}: {len(found)}", *(f"  {complaint[:_WIDEST]}" for complaint in found[:_MOST])]
        return "\n".join(lines)


def torture(options: Options, folder: Path, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Run it all; `folder` takes the daemons' files.

    Raises:
        PostgresError: there is no server on this machine, or it could not be started.
    """
    with (hosts if options.hosts else alone)(options, folder, say) as place:
        return asyncio.run(_run(place))


async def _run(place: Place) -> Outcome:
    async with AsyncExitStack() as stack:
        http = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {TOKEN}"}, timeout=aiohttp.ClientTimeout(total=_ANSWERS_WITHIN)
        )
        await place.open(stack, await stack.enter_async_context(http))
        for daemon in place.fleet.daemons:
            stack.push_async_callback(daemon.kill)
        await place.begin()
        return await _torture(place)


async def _torture(place: Place) -> Outcome:
    options, fleet, nemesis = place.options, place.fleet, place.nemesis
    writers = [
        Writer(
            number,
            place.dsn,
            options.chance(f"writer {number}"),
            longest_pause=place.longest_pause,
            numbered=options.hosts,
        )
        for number in range(_WRITERS)
    ]
    # A refused call makes a dead letter, which only an operator ends.
    weather = Weather(place.emulator, options.chance("weather"), refuses=not options.hosts)
    over, home, settled = asyncio.Event(), asyncio.Event(), asyncio.Event()
    complaints: dict[str, Sequence[str]] = {}
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(writer.work(home)) for writer in writers]
        misfortunes = [nemesis.strike(plan(place.kinds, options), over), *place.misfortunes(over)]
        if "weather" in place.kinds:
            misfortunes.append(weather.rage(over))
        if options.hosts:  # a single daemon's ends and starts are planned
            tasks.create_task(_supervise(place, settled))
        befalling = [tasks.create_task(each) for each in misfortunes]
        await asyncio.sleep(options.seconds)
        over.set()
        await asyncio.wait(befalling)
        home.set()
        await asyncio.wait(working)
        await asyncio.to_thread(ats.wrap_up, place.dsn)
        if not options.hosts:
            await fleet.daemons[0].start_if_dead()
        begun = time.monotonic()
        try:
            await settle(fleet, place.dsn)
            await place.finish()
        except TimeoutError as error:
            complaints["not settled"] = [str(error)]
        missing = [f"daemon {n} does not answer" for n, d in enumerate(fleet.daemons, 1) if not await _answers(d)]
        settled.set()
    settling = time.monotonic() - begun
    for daemon in fleet.daemons:
        await daemon.terminate()
    ends = [end for daemon in fleet.daemons for end in daemon.surprises]
    evidence = await gathered(place)
    wrong = [*missing, *(end for end in ends if FROZEN not in end), *place.complaints()]
    complaints["ends and commands"] = [each for each in wrong if place.excused is None or place.excused not in each]
    complaints |= verdict.faults(evidence)
    if place.excused is not None:
        complaints["log"] = [line for line in complaints.get("log", ()) if place.excused not in line]
    figures = {
        "mode, store, seed": f"{options.mode}, {options.store}, {options.seed}",
        "watches": options.tenants or 1,
        "seconds to settle": round(settling, 1),
        "transactions": dict(sum((writer.done for writer in writers), Counter[str]()).most_common()),
        "faults": dict(Counter(span.fault for span in nemesis.spans)),
        "HelloWork's bad days": dict(weather.episodes),
        "daemons' ends": [dict(daemon.ends) for daemon in fleet.daemons],
        "ends by themselves": dict(Counter(ends)),
        **_of_calls(evidence),
    }
    return Outcome({kind: found for kind, found in complaints.items() if found}, figures, fleet.daemons[0].tail())


async def _supervise(place: Place, settled: asyncio.Event) -> None:
    """Start daemons that ended by themselves, as systemd does."""
    while not settled.is_set():
        await pause(settled, 0.5)
        for daemon in place.fleet.daemons:
            if daemon.has_ended:
                await daemon.start_if_dead()


async def _answers(daemon: Daemon) -> bool:
    """Whether a daemon answers again."""
    deadline = time.monotonic() + _BACK_WITHIN
    while time.monotonic() < deadline:
        if await daemon.report():
            return True
        await asyncio.sleep(0.1)
    return False


def _of_calls(evidence: Evidence) -> Mapping[str, object]:
    repeats = verdict.repeats(evidence)
    return {
        "changes": sum(map(len, evidence.ledger.values())),
        "calls": len(evidence.calls),
        "calls by fault": dict(Counter(call.fault or "none" for call in evidence.calls).most_common()),
        "how often each daemon took the lead": evidence.led,
        "overlapping calls": len(verdict.overlaps(evidence)),
        "seconds that a change waited": round(max((late for late, _ in verdict.lateness(evidence)), default=0), 1),
        "repeats by reason": dict(repeats.reasons.most_common()),
        "repeats without a reason": len(repeats.unexplained),
        "late for a lossy failover": len(verdict.excusably_late(evidence)),
    }
