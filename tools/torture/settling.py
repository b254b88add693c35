"""Waits until the daemon is idle."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from torture import ats

_WITHIN = 90.0
"""Seconds. A deaf connection is noticed after 25, and waited for up to 15 more."""

_SWEEPS = 2
"""Of two finished sweeps of a watch, the second began after the first one's end."""

_LOOK_EVERY = 0.1

_OF_THE_ATS = "watermark "
"""A condition that is true, and stays: the writers date some rows into the future (see `torture.writer`)."""


class Watched(Protocol):
    """A daemon, or several on one store."""

    async def report(self) -> dict[str, Any]:
        """See `Daemon.report`."""

    def sweeps(self) -> Counter[str]:
        """See `Daemon.sweeps`."""


async def adopt(daemon: Watched) -> None:
    """Wait until the rows that exist are adopted.

    Raises:
        TimeoutError: it takes too long; the message has the report.
    """
    started = time.monotonic()
    while time.monotonic() - started < _WITHIN:
        report = await daemon.report()
        if report and report["watches"] and all(watch["baseline"]["state"] == "done" for watch in report["watches"]):
            return
        await asyncio.sleep(_LOOK_EVERY)
    raise TimeoutError(f"the first start has not adopted the rows within {_WITHIN:.0f} s: {await daemon.report()}")


async def settle(daemon: Watched, dsn: str) -> float:
    """Wait for idleness: nothing unread, suspected, pending or held, and a whole sweep of each watch since.

    Returns the seconds.

    Raises:
        TimeoutError: it takes too long; the message has what is left to do.
    """
    started = time.monotonic()
    since: Counter[str] | None = None
    why = "it has not answered yet"
    while time.monotonic() - started < _WITHIN:
        report = await daemon.report()
        why = _business(report) or ("changes are unread" if ats.unread(dsn) else "")
        sweeps = daemon.sweeps()
        if since is None or why:
            # A sweep's work may show only after it.
            since = sweeps if why or since is None else since
        elif all(sweeps[watch["watch"]] - since[watch["watch"]] >= _SWEEPS for watch in report["watches"]):
            return time.monotonic() - started
        await asyncio.sleep(_LOOK_EVERY)
    raise TimeoutError(f"the daemon has not settled within {_WITHIN:.0f} s: {why or 'no sweeps end'}")


async def become_idle(daemon: Watched) -> None:
    """Wait until nothing is left to be sent.

    Raises:
        TimeoutError: it takes too long; the message has what is left to do.
    """
    started = time.monotonic()
    while why := _business(await daemon.report()):
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
