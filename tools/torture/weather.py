"""HelloWork's bad days: a drizzle of single faults, and episodes in which every call goes wrong."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from support.emulated import Emulator

from torture.pausing import pause

_DRIZZLE = 0.12
"""The share of faulty calls on a good day."""

_REFUSED = 422

_ONE_FAULT: Sequence[Mapping[str, Any]] = (
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 502, "headers": {"Content-Type": "text/html"}, "body": "<h1>Bad gateway</h1>"},
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 408},
    {"kind": "status", "status": 404},
    {"kind": "status", "status": _REFUSED},
    {"kind": "reset"},
    {"kind": "lost_answer"},
    {"kind": "lost_answer"},
    {"kind": "lost_answer"},
    {"kind": "half_answer"},
    {"kind": "slow_body", "seconds": 0.5},
    {"kind": "slow_body", "seconds": 5},
    {"kind": "delay", "seconds": 0.2},
    {"kind": "delay", "seconds": 1},
    {"kind": "huge_body", "size": 2_000_000},
    {"kind": "hang", "seconds": 30},
    {"kind": "html"},
    {"kind": "redirect", "location": "http://127.0.0.1:1/elsewhere"},
)
_THROTTLED = {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}}

_EPISODES: Mapping[str, tuple[int, Sequence[Mapping[str, Any]]]] = {
    "503": (3, [{"kind": "status", "status": 503, "times": None}]),
    "401": (3, [{"kind": "status", "status": 401, "times": None}]),
    "403": (1, [{"kind": "status", "status": 403, "times": None}]),
    "404": (3, [{"kind": "status", "status": 404, "times": None}]),
    "429": (2, [{**_THROTTLED, "times": 3}]),
    "503 with Retry-After": (1, [{"kind": "status", "status": 503, "headers": {"Retry-After": "1"}, "times": None}]),
    "hangs": (2, [{"kind": "hang", "seconds": 30, "times": None}]),
    "slow": (3, [{"kind": "delay", "seconds": 0.7, "times": None}]),
    "lost answers": (3, [{"kind": "lost_answer", "times": None}]),
    "resets": (2, [{"kind": "reset", "times": None}]),
    "captive portal": (1, [{"kind": "html", "times": None}]),
}
"""Their weights, and their faults."""


class Weather:
    """What happens to calls.

    Args:
        emulator: HelloWork.
        chance: draws it.
        refuses: whether it may refuse a call for good, which makes a dead letter.

    Attributes:
        episodes: their numbers.
    """

    def __init__(self, emulator: Emulator, chance: random.Random, *, refuses: bool = True) -> None:
        self.episodes: Counter[str] = Counter()
        self._emulator = emulator
        self._chance = chance
        self._kinds = [fault for fault in _ONE_FAULT if refuses or fault.get("status") != _REFUSED]

    async def rage(self, over: asyncio.Event) -> None:
        """Change HelloWork's weather until `over`, then clear it."""
        names = list(_EPISODES)
        weights = [weight for weight, _ in _EPISODES.values()]
        while not over.is_set():
            await self._set(over, self._drizzle(), self._chance.uniform(0.5, 5))
            if over.is_set():
                break
            (name,) = self._chance.choices(names, weights)
            self.episodes[name] += 1
            await self._set(over, _EPISODES[name][1], self._chance.uniform(0.3, 2))
        self._emulator.faults.clear()

    async def _set(self, over: asyncio.Event, faults: Sequence[Mapping[str, Any]], seconds: float) -> None:
        self._emulator.faults.clear()
        self._emulator.inject(*faults)
        await pause(over, seconds)

    def _drizzle(self) -> list[Mapping[str, Any]]:
        seed = self._chance.randrange(2**32)
        return [
            {"kind": "random", "seed": seed, "rate": 0.003, "kinds": [_THROTTLED]},
            {"kind": "random", "seed": seed, "rate": _DRIZZLE, "kinds": self._kinds},
        ]
