"""The operator: asks how it goes, and retries dead letters."""

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path

from support.daemon_process import environment

from torture.population import WATCHED

_WITHIN = 120.0

_NO_STORE = "does not exist yet"

RETRY = "dead-letters retry --all --yes"
_COMMANDS = (
    "status --json",
    "explain {} --json",
    "dead-letters list --json",
    "fuse show --json",
    "plan --json",
    RETRY,
)


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
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cdc_sync", "--config", str(self._config), *command.split()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment({}),
        )
        try:
            async with asyncio.timeout(_WITHIN):
                _, output = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            self.surprises.append(f"`{name}` did not end within {_WITHIN:.0f} s")
            return
        # A plan needs the database; an explanation, that the application was ever seen.
        allowed = {0, 1} if name in {"plan", "explain"} else {0}
        complaint = output.decode(errors="replace")
        if _NO_STORE in complaint:
            return  # the first daemon died too early
        if process.returncode not in allowed or "Traceback" in complaint:
            self.surprises.append(f"`{name}` ended with exit code {process.returncode}: {complaint}")
