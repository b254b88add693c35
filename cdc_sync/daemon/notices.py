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
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import aiohttp

from cdc_sync.config.daemon import Notify
from cdc_sync.core import events
from cdc_sync.core.conditions import Conditions, kind_of
from cdc_sync.core.watch_names import MOST_LISTED
from cdc_sync.daemon.process import Process
from cdc_sync.store.protocol import WatchCounts

LOOK_EVERY = 2.0
"""Seconds."""

_EVERY = 60.0
"""Seconds from one message to the next."""

_WITHIN = 10.0
"""Seconds for one attempt."""

_SUCCESSES = range(200, 300)

Matters = Mapping[str, str]
"""What needs a person, in words, by its name."""


class NotTakenError(Exception):
    """A receiver did not take a message."""


class Notices:
    """See the module's text."""

    def __init__(self, process: Process, *, every: float = _EVERY, within: float = _WITHIN) -> None:
        self._process = process
        self._every = every
        self._within = within
        self._next_at = 0.0
        """When a message may be sent, by the event loop's clock."""
        self._sent: Matters = {}
        """What was wrong at the last message."""
        self._happened: list[str] = []
        """What happened since then and does not last."""
        self._fails = False

    def tell(self, text: str) -> None:
        """Have the next message say what happened."""
        self._happened.append(text)

    async def look(self) -> None:
        """Send what is new, if a message may be sent now."""
        now, config, clock = self._matters(), self._process.config, asyncio.get_running_loop().time
        begun = [text for name, text in now.items() if name not in self._sent] + self._happened
        over = [text for name, text in self._sent.items() if name not in now]
        if not (begun or over) or clock() < self._next_at or config.notify == Notify():
            return
        self._sent, self._happened, self._next_at = now, [], clock() + self._every
        await self._send(json.dumps(_message(config.admin.title, begun, over, list(now.values()))).encode())

    async def _send(self, body: bytes) -> None:
        """Hand over a message; report the first failure, and the first success after it."""
        receiver, sends = self._process.config.notify, list[Coroutine[Any, Any, None]]()
        if receiver.command is not None:
            sends.append(_run(receiver.command, body))
        if receiver.url is not None:
            sends.append(_post(receiver.url.get_secret_value(), body))
        failure = ""
        try:
            async with asyncio.timeout(self._within):
                # All of them are waited for: neither stands in the other's way.
                ended = await asyncio.gather(*sends, return_exceptions=True)
            failure = next((_in_words(each) for each in ended if each is not None), "")
        except TimeoutError as error:
            failure = _in_words(error)
        if bool(failure) != self._fails:
            self._fails = bool(failure)
            self._process.emit(events.NoticeFailed(failure) if failure else events.NoticeTaken())

    def _matters(self) -> Matters:
        process = self._process
        decisions = of_counts(process.counts)
        if process.counts is None:  # nobody knows what became of them
            decisions = {name: text for name, text in self._sent.items() if name.startswith(("held ", "dead "))}
        return {**of_conditions(process.conditions), **decisions}


def _in_words(failure: BaseException) -> str:
    """Whatever a receiver has done."""
    return str(failure) if isinstance(failure, NotTakenError) else type(failure).__name__


def of_counts(counts: Mapping[str, WatchCounts] | None) -> Matters:
    """What a person has to decide."""
    found: dict[str, str] = {}
    for watch, has in (counts or {}).items():
        if has.held:
            found[f"held {watch}"] = f"{watch}: {has.held} held for a decision, see `cdc-sync fuse show`"
        if has.dead:
            found[f"dead {watch}"] = f"{watch}: {has.dead} given up, see `cdc-sync dead-letters list`"
    return found


_OF_KIND = {
    "lag": "{} is late",
    "store": "the store cannot be written",
    "take-over": "the leader is silent, and this daemon cannot take over",
}


def of_conditions(conditions: Conditions) -> Matters:
    """Which of the conditions need a person."""
    found: dict[str, str] = {}
    for name, message in conditions.items():
        kind = kind_of(name)
        subject = name.removeprefix(kind).strip()
        if kind == "endpoint" and message.startswith("paused"):
            found[name] = f"HelloWork refuses the credentials of {subject}"
        elif kind in _OF_KIND:
            text = _OF_KIND[kind].format(subject)
            found[text] = text
    return found


def _message(title: str | None, begun: Sequence[str], over: Sequence[str], now: Sequence[str]) -> dict[str, object]:
    """The message; `text` is what chat tools show."""
    host = socket.gethostname()
    begun, over, now = _first(begun), _first(over), _first(now)
    lines = [f"cdc-sync {title or 'on'} {host}", *begun, *(f"over: {text}" for text in over)]
    return {"text": "\n".join(lines), "host": host, "begun": begun, "over": over, "now": now}


def _first(texts: Sequence[str]) -> list[str]:
    """The first texts, and how many more there are."""
    more = len(texts) - MOST_LISTED
    return [*islice(texts, MOST_LISTED), *([f"and {more} more"] if more > 0 else [])]


async def _run(command: Sequence[str], body: bytes) -> None:
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
    if process.returncode:
        raise NotTakenError(f"the command ended with {process.returncode}")


async def _post(url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=headers, allow_redirects=False) as reply,
    ):
        if reply.status not in _SUCCESSES:
            raise NotTakenError(f"HTTP {reply.status}")
