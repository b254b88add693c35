"""The operator: asks how it goes, and retries dead letters."""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from support.daemon_process import environment

from torture.population import WATCHED

_WITHIN = 120.0

_NO_STORE = "does not exist yet"

RETRY = "dead-letters retry --all --yes"
_COMMANDS = ("status --json", "explain {} --json", "dead-letters list --json", "fuse show --json", "plan --json", RETRY)


class Operator:
    """Operates one daemon.

    Attributes:
        commands: their numbers.
        surprises: what commands must never do.
    """

    def __init__(self, config: Path) -> None:
        self.commands: Counter[str] = Counter()
        self.surprises: list[str] = []
        self._config = config

    async def give_any(self, chance: random.Random) -> None:
        await self.give(chance.choice(_COMMANDS).format(chance.choice(WATCHED)))

    async def give(self, command: str) -> None:
        name = " ".join(word for word in command.split() if not word.startswith(("-", "hw-")))
        self.commands[name] += 1
        line = (sys.executable, "-m", "cdc_sync", "--config", str(self._config), *command.split())
        try:
            ended = await asyncio.to_thread(_run, line)
        except subprocess.TimeoutExpired:
            self.surprises.append(f"`{name}` did not end within {_WITHIN:.0f} s")
            return
        # A plan needs the database; an explanation, that the application was ever seen.
        allowed = {0, 1} if name in {"plan", "explain"} else {0}
        if _NO_STORE in ended.stderr:
            return  # the first daemon died too early
        if ended.returncode not in allowed or "Traceback" in ended.stderr:
            self.surprises.append(f"`{name}` ended with exit code {ended.returncode}: {ended.stderr}")


def _run(line: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    variables, end = environment({}), subprocess.DEVNULL
    return subprocess.run(line, stdin=end, capture_output=True, text=True, env=variables, timeout=_WITHIN, check=False)
