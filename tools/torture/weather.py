"""HelloWork's bad days: a drizzle of single faults, and episodes in which every call goes wrong (`weather.yaml`)."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from support.emulated import Emulator

from torture.pausing import pause

_FAULTS: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("weather.yaml").read_text())

_DRIZZLE = 0.12
"""The share of faulty calls on a good day."""

_REFUSED = 422


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
        self._kinds = [fault for fault in _FAULTS["drizzle"] if refuses or fault.get("status") != _REFUSED]

    async def rage(self, over: asyncio.Event) -> None:
        """Change HelloWork's weather until `over`, then clear it."""
        episodes = _FAULTS["episodes"]
        weights = [episode["weight"] for episode in episodes.values()]
        while not over.is_set():
            await self._set(over, self._drizzle(), self._chance.uniform(0.5, 5))
            if over.is_set():
                break
            (name,) = self._chance.choices([*episodes], weights)
            self.episodes[name] += 1
            await self._set(over, [episodes[name]["fault"]], self._chance.uniform(0.3, 2))
        self._emulator.faults.clear()

    async def _set(self, over: asyncio.Event, faults: Sequence[Mapping[str, Any]], seconds: float) -> None:
        self._emulator.faults.clear()
        self._emulator.inject(*faults)
        await pause(over, seconds)

    def _drizzle(self) -> list[Mapping[str, Any]]:
        common = {"kind": "random", "seed": self._chance.randrange(2**32)}
        return [
            {**common, "rate": 0.003, "kinds": [_FAULTS["throttled"]]},
            {**common, "rate": _DRIZZLE, "kinds": self._kinds},
        ]
