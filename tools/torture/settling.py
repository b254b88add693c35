"""Waits until the daemon is idle."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
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
    """Wait for the adoption.

    Raises:
        TimeoutError: it takes too long.
    """
    started = time.monotonic()
    while time.monotonic() - started < _WITHIN:
        report = await daemons.report()
        if report and report["watches"] and all(watch["baseline"]["state"] == "done" for watch in report["watches"]):
            return
        await asyncio.sleep(_LOOK_EVERY)
    raise TimeoutError(f"the first start has not adopted the rows within {_WITHIN:.0f} s: {await daemons.report()}")


async def settle(daemons: Fleet, dsn: str) -> float:
    """Wait for idleness: nothing unread, suspected, pending or held, and then a whole sweep of each watch.

    Returns the seconds.

    Raises:
        TimeoutError: it takes too long; the message has the unfinished work.
    """
    started = time.monotonic()
    since: Counter[str] | None = None
    why = "it has not answered yet"
    while time.monotonic() - started < _WITHIN:
        report = await daemons.report()
        why = _business(report) or ("changes are unread" if ats.unread(dsn) else "")
        sweeps = daemons.sweeps()
        if since is None or why:
            # A sweep's work may show only after it.
            since = sweeps if why or since is None else since
        elif all(sweeps[watch["watch"]] - since[watch["watch"]] >= _SWEEPS for watch in report["watches"]):
            return time.monotonic() - started
        await asyncio.sleep(_LOOK_EVERY)
    raise TimeoutError(f"the daemon has not settled within {_WITHIN:.0f} s: {why or 'no sweeps end'}")


async def become_idle(daemons: Fleet) -> None:
    """Wait until nothing is left to send.

    Raises:
        TimeoutError: it takes too long; the message has the unfinished work.
    """
    started = time.monotonic()
    while why := _business(await daemons.report()):
        if time.monotonic() - started > _WITHIN:
            raise TimeoutError(f"the daemon has not become idle within {_WITHIN:.0f} s: {why}")
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
