"""A process of its own that leads a store, or stands by; a line of JSON for each thing that happens.

`python -m support.leading_process STORE LONGEST_CALL CONFIGURATION [PLACE]`, where the store is `sqlite:PATH` or a DSN.
A PLACE makes the process one whose end nobody here can know. It ends in order when its standard input does.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cdc_sync.core.failures import StoreError
from cdc_sync.store.lead import Lead, Leader, Standby
from cdc_sync.store.postgres.leading import leading as leading_postgres
from cdc_sync.store.sqlite.driver import leading as leading_sqlite
from support.modules import running

UNKNOWN = "another-boot pid:[1] 1"
"""A place that no process of this host has."""


class LeadingProcess:
    """One such process, as its test sees it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.pid = process.pid
        self._process = process

    def next(self, what: str) -> dict[str, Any]:
        """The next thing of this kind that happens; those before it are passed over."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            happened: dict[str, Any] = json.loads(line)
            if happened["what"] == what:
                return happened
        raise AssertionError(f"it has ended ({self._process.wait()}) without: {what}")

    def stop(self) -> None:
        """End it in order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self.ended() == 0

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def ended(self) -> int:
        """Wait for its end; returns its exit code, a signal's negative number."""
        return self._process.wait(60)


@contextmanager
def leading_process(
    store: str, *, longest_call: float = 50.0, configuration: str = "", place: str | None = None
) -> Iterator[LeadingProcess]:
    """Run one, and leave nothing of it behind."""
    places = [place] if place is not None else []
    with running(__name__, store, longest_call, configuration, *places) as process:
        yield LeadingProcess(process)


def _say(what: str, **facts: Any) -> None:
    print(json.dumps({"what": what, **facts}), flush=True)


class _StandingBy:
    """Says what is new."""

    def __init__(self) -> None:
        self._said: dict[str, Any] = {}

    async def __call__(self, standby: Standby) -> None:
        error, leader = standby.not_taken_over, standby.leader
        facts = {
            "leader": leader and leader.process,
            "differs": standby.differs,
            "is_free": standby.is_free,
            "blocked": error and str(error),
        }
        if facts != self._said:
            self._said = facts
            _say("stands by", **facts)


def _leading(store: str, ours: Leader, longest_call: float) -> AbstractAsyncContextManager[Lead]:
    kind, _, path = store.partition(":")
    if kind == "sqlite":
        return leading_sqlite(Path(path), ours, _StandingBy())
    return leading_postgres(store, ours, longest_call, _StandingBy())


async def _run(store: str, longest_call: float, ours: Leader) -> None:
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    try:
        async with _leading(store, ours, longest_call) as lead:
            _say("leads", may_call=lead.may_call())
            await asyncio.wait([ended, lead.holding], return_when=asyncio.FIRST_COMPLETED)
            lead.no_more_calls()
            if lead.holding.done():
                await lead.holding
    except StoreError as error:
        _say("failed", code=error.code)
    os._exit(0)  # the thread may wait for its input


if __name__ == "__main__":
    _store, _longest, _configuration, *_place = sys.argv[1:]
    _ours = Leader.here(_configuration)
    asyncio.run(_run(_store, float(_longest), replace(_ours, place=_place[0]) if _place else _ours))
