"""Lets somebody know what needs a person, when it begins and when it is over: by a command, or a chat tool's webhook.

There is at most one message a minute, and one attempt for each, of ten seconds: what begins and ends within a minute
has none, and a message that nobody took is not repeated. After a restart there is one about what is still wrong.

A message has texts of ours, names of watches and endpoints, and numbers: no application's id, no text from outside.
"""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from cdc_sync.config import Notify
from cdc_sync.core import events
from cdc_sync.core.conditions import STANDBY, Conditions, kind_of
from cdc_sync.core.watch_names import first_of
from cdc_sync.store.report import WatchCounts

from .process import Process

LOOK_EVERY = 2.0
"""Seconds."""

Matters = Mapping[str, str]
"""What needs a person, in words, by its name."""


@dataclass(eq=False)
class Notices:
    """See the module's text.

    Attributes:
        every: seconds from one message to the next.
        within: seconds for one attempt.
        happened: what happened since the last message and does not last.
    """

    process: Process
    every: float = 60.0
    within: float = 10.0

    def __post_init__(self) -> None:
        self._next_at = 0.0
        """When a message may be sent, by the event loop's clock."""
        self._sent: Matters = {}
        """What was wrong at the last message."""
        self.happened: list[str] = []

    async def look(self) -> None:
        """Send what is new, if a message may be sent now."""
        process, clock = self.process, asyncio.get_running_loop().time
        now, config = self._matters(), process.config
        begun = [text for name, text in now.items() if name not in self._sent] + self.happened
        over = [text for name, text in self._sent.items() if name not in now]
        if not (begun or over) or clock() < self._next_at or config.notify == Notify():
            return
        self._sent, self.happened, self._next_at = now, [], clock() + self.every
        message = _message(config.admin.title, begun=begun, over=over, now=list(now.values()))
        body, sends = json.dumps(message).encode(), []
        if config.notify.command is not None:
            sends.append(_run(config.notify.command, body))
        if config.notify.url is not None:
            sends.append(_post(config.notify.url.get_secret_value(), body))
        await asyncio.gather(*map(self._attempt, sends))

    def _matters(self) -> Matters:
        """What needs a person. Only a leader knows what is over, and of the store also a standby."""
        conditions, counts = self.process.conditions, self.process.counts
        kept = dict(self._sent) if counts is None else {}
        kept.pop(_OF_KIND["take-over"], None)
        if STANDBY in conditions:
            kept.pop(_OF_KIND["store"], None)
        return {**kept, **of_conditions(conditions), **of_counts(counts or {})}

    async def _attempt(self, sending: Coroutine[Any, Any, str]) -> None:
        """Have a receiver, whatever it does, take a message; report why it did not."""
        try:
            async with asyncio.timeout(self.within):
                why = await sending
        except Exception as error:  # noqa: BLE001 - as above
            why = type(error).__name__
        if why:
            self.process.emit(events.NoticeFailed(why))


def of_counts(counts: Mapping[str, WatchCounts]) -> Matters:
    """What a person has to decide."""
    found: dict[str, str] = {}
    for watch, has in counts.items():
        if has.held:
            found[f"held {watch}"] = f"{watch}: {has.held} held for a decision, see `cdc-sync fuse show`"
        if has.dead:
            found[f"dead {watch}"] = f"{watch}: {has.dead} given up, see `cdc-sync dead-letters list`"
    return found


_OF_KIND = {
    "endpoint": "HelloWork refuses the credentials of {}",
    "lag": "{} is late",
    "store": "the store cannot be written",
    "take-over": "the leader is silent, and this daemon cannot take over",
}


def of_conditions(conditions: Conditions) -> Matters:
    """Which of the conditions need a person."""
    found: dict[str, str] = {}
    for name, message in conditions.items():
        kind = kind_of(name)
        passes = kind == "endpoint" and not message.startswith("paused")
        if kind in _OF_KIND and not passes:
            text = _OF_KIND[kind].format(name.removeprefix(kind).strip())
            found[text] = text
    return found


def _message(title: str | None, **texts: Sequence[str]) -> dict[str, object]:
    """The message; `text` is what chat tools show."""
    host, parts = socket.gethostname(), {name: first_of(of) for name, of in texts.items()}
    lines = [f"cdc-sync {title or 'on'} {host}", *parts["begun"], *(f"over: {text}" for text in parts["over"])]
    return {"text": "\n".join(lines), "host": host, **parts}


async def _run(command: Collection[str], body: bytes) -> str:
    # Without our environment, which may have secrets; in a group of its own, which ends as a whole.
    path = {"PATH": os.environ.get("PATH", os.defpath)}
    nowhere = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=nowhere, stderr=nowhere, env=path, start_new_session=True
    )
    try:
        await process.communicate(body)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return f"the command ended with {process.returncode}" if process.returncode else ""


async def _post(url: str, body: bytes) -> str:
    headers = {"Content-Type": "application/json"}
    async with aiohttp.request("POST", url, data=body, headers=headers, allow_redirects=False) as reply:
        return "" if reply.status // 100 == 2 else f"HTTP {reply.status}"  # noqa: PLR2004 - HTTP's classes are numbers
