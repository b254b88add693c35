"""Waits until the daemon is idle."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from torture import ats
from torture.daemon import Fleet

_WITHIN = 600.0
"""Seconds. A deaf connection is noticed after 25, and may be waited for 15 more. Sweeps take a tenth of the time: after
one of 45 s, which such a connection held up, the next begins 405 s later."""

_SWEEPS = 2
"""The second began after the first one's end."""

_LOOK_EVERY = 0.1

_OF_THE_ATS = "watermark "
"""A condition that is true, and stays: `torture.writer` dates some rows into the future."""


async def adopt(daemons: Fleet) -> None:
    """Wait for the adoption; may raise `TimeoutError`."""

    async def lacks() -> str:
        report = await daemons.report()
        is_done = report and report["watches"] and all(w["baseline"]["state"] == "done" for w in report["watches"])
        return "" if is_done else str(report) or "no answer"

    await _until_nothing(lacks, "the first start has not adopted the rows")


async def settle(daemons: Fleet, dsn: str) -> None:
    """Wait for idleness: nothing unread, suspected, pending or held, and then a whole sweep of each watch.

    May raise `TimeoutError`.
    """
    since: Counter[str] | None = None

    async def lacks() -> str:
        nonlocal since
        report = await daemons.report()
        sweeps = daemons.sweeps()
        if why := _business(report) or ("changes are unread" if ats.unread(dsn) else ""):
            since = None
            return why
        # A sweep's work may show only after it.
        since = sweeps if since is None else since
        are_over = all(sweeps[watch["watch"]] - since[watch["watch"]] >= _SWEEPS for watch in report["watches"])
        return "" if are_over else "no sweeps end"

    await _until_nothing(lacks, "the daemon has not settled")


async def become_idle(daemons: Fleet) -> None:
    """Wait until nothing is left to send; may raise `TimeoutError`."""

    async def lacks() -> str:
        return _business(await daemons.report())

    await _until_nothing(lacks, "the daemon has not become idle")


async def _until_nothing(lacks: Callable[[], Awaitable[str]], what: str) -> None:
    """Wait until nothing lacks.

    Raises:
        TimeoutError: it takes too long; the message has the unfinished work.
    """
    started = time.monotonic()
    while why := await lacks():
        if time.monotonic() - started > _WITHIN:
            raise TimeoutError(f"{what} within {_WITHIN:.0f} s: {why}")
        await asyncio.sleep(_LOOK_EVERY)


def _business(report: Mapping[str, Any]) -> str:
    """Its unfinished work; empty if it has none."""
    if not report:
        return "it does not answer"
    counted = ("pending", "held", "suspected_deletions")
    busy = {name: number for name in counted if (number := sum(watch[name] for watch in report["watches"]))}
    conditions = [each for each in report["conditions"] if not each["name"].startswith(_OF_THE_ATS)]
    wrong = [f"{condition['name']}: {condition['message']}" for condition in conditions]
    return ", ".join([*(f"{name} {number}" for name, number in busy.items()), *wrong])
