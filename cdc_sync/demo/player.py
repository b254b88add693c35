"""Plays the scenario: does what the recruiter does, and waits for what must follow."""

import asyncio
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

from cdc_sync.demo.ats import Ats
from cdc_sync.demo.daemon import PATIENCE, Daemon, until
from cdc_sync.demo.errors import DemoError
from cdc_sync.demo.inbox import Inbox
from cdc_sync.demo.scenario import Kill, Sql, Start, Step, Told, UntilWaiting
from cdc_sync.demo.verdict import Received, differences

_REST = "the daemon to have nothing left to send"


@dataclass(frozen=True, slots=True)
class Played:
    """A step that was played.

    Attributes:
        step: which.
        received: the calls that arrived meanwhile.
        since: when its last act began, in seconds since the epoch.
        completed: whether all that had to follow did follow in time.
    """

    step: Step
    received: tuple[Received, ...]
    since: float
    completed: bool

    @property
    def is_good(self) -> bool:
        """Whether exactly the expected calls arrived."""
        return self.completed and not differences(self.step.expected, self.received)


class Audience(Protocol):
    """Who watches."""

    async def begins(self, step: Step) -> None:
        """A step is about to be played; returns when the audience is ready for it."""

    def ended(self, played: Played) -> None:
        """It was played."""


class Player:
    """Plays steps on the real parts."""

    def __init__(self, ats: Ats, daemon: Daemon, inbox: Inbox, audience: Audience) -> None:
        self._ats = ats
        self._daemon = daemon
        self._inbox = inbox
        self._audience = audience
        self._expected: list[Told] = []

    async def play(self, steps: Iterable[Step]) -> None:
        """Play them in order; each ends when its calls have arrived.

        Raises:
            DemoError: what must follow a step did not follow in time.
        """
        for step in steps:
            await self._audience.begins(step)
            before, since = len(self._inbox.received), 0.0
            try:
                for act in step.acts:
                    since = time.time()
                    await self._do(act)
                self._expected += step.expected
                await self._calls(step)
            except DemoError:
                self._audience.ended(Played(step, tuple(self._inbox.received[before:]), since, completed=False))
                raise
            self._audience.ended(Played(step, tuple(self._inbox.received[before:]), since, completed=True))

    async def quiet(self) -> Mapping[str, int]:
        """Wait until nothing more can come: nothing waits, and the whole table has been compared once more.

        Returns:
            What sweeps found that capture had missed, by cause, since the daemon's store exists.

        Raises:
            DemoError: the daemon does not come to rest.
        """
        await self._daemon.until(_is_at_rest, _REST)
        swept = self._daemon.sweeps()

        async def swept_twice() -> bool:
            await self._daemon.check()
            # The first to end may have begun before.
            return self._daemon.sweeps() >= swept + 2

        await until(swept_twice, "a sweep")
        report = await self._daemon.until(_is_at_rest, _REST)
        repairs: Mapping[str, int] = report["sweep_repairs"]
        return repairs

    async def _do(self, act: Sql | UntilWaiting | Kill | Start) -> None:
        match act:
            case Sql(text):
                await self._ats.run(text)
            case UntilWaiting(calls):
                await self._daemon.until(
                    lambda report: bool(report["pending"] == calls), f"the daemon to let {calls} call(s) wait"
                )
            case Kill():
                # A call whose answer is not yet written down would rightly be made again, and this demo counts calls.
                await self._daemon.until(_is_at_rest, _REST)
                await self._daemon.end(signal.SIGKILL)
            case Start():
                await self._daemon.start()
            case _:
                assert_never(act)

    async def _calls(self, step: Step) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._inbox.until_as_many(self._expected)
        except TimeoutError:
            await self._daemon.check()
            raise DemoError(f"after {step.done!r} a call was missing for {PATIENCE:.0f} seconds") from None


def _is_at_rest(report: dict[str, Any]) -> bool:
    return not report["pending"] and not report["suspected_deletions"]
