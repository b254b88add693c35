"""Who leads: one daemon of a store works, and only it writes the store; the others stand by.

The lock that makes a daemon the leader ends with what writes the store: a file's lock with its process (sqlite), a
session's lock with the session (postgres). So a former leader cannot write, and nothing has to check it.
"""

import hashlib
import os
import platform
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from cdc_sync.core.content import iso
from cdc_sync.core.reasons import Reason, coded
from cdc_sync.store.clock import boot_id
from cdc_sync.store.driver import Transaction

_STATE, _STARTED = 0, 19
"""The places of a process's state and start among the fields behind its name in /proc/PID/stat."""

_ENDED = {"Z", "X"}
"""States of a process that has ended, and that nobody has reaped."""


@dataclass(frozen=True, slots=True)
class Leader:
    """The leader's row.

    Attributes:
        holder: names one run of one process.
        place: where a process of this number can be looked for, and its start; empty if unknown.
        since: milliseconds since the epoch, for people.
        lease: seconds for which the leader may call after it has sent a renewal.
        beat: changes with each renewal.
        backend: the process of the session that writes; None for a file.
        configuration: a digest of what the leader works by.
        stopped: whether it has ended in order, with no call under way.
    """

    holder: str
    host: str
    process: int
    place: str
    since: int = 0
    lease: float = 0.0
    beat: int = 0
    backend: int | None = None
    configuration: str = ""
    stopped: bool = False

    @classmethod
    def here(cls, configuration: str) -> Self:
        """This process as a leader; each call is another run."""
        place, process = "", os.getpid()
        with suppress(OSError):
            place = _place_in(_stat_of(process))
        host = platform.node() or "unknown"
        return cls(secrets.token_hex(16), host, process, place, configuration=configuration)

    @property
    def shown(self) -> Reason:
        """Who leads, since when."""
        facts = {"process": self.process, "host": self.host, "since": iso(self.since)}
        return coded("leader", "process %(process)s on %(host)s leads since %(since)s", **facts)

    @property
    def has_surely_ended(self) -> bool:
        """Whether no call of it can be under way.

        It ended in order; or it was an earlier run of this process, or a process of this host that is gone.
        """
        host, _, _ = self.place.rpartition(" ")
        is_of_this_host = bool(host) and host == _host()
        is_this_process = self.process == os.getpid()
        return self.stopped or (is_of_this_host and (is_this_process or _is_gone(self.process, self.place)))


def _is_gone(process: int, place: str) -> bool:
    """Whether the process of this host has ended. One that is hidden from us has not."""
    with suppress(OSError):
        return _place_in(_stat_of(process)) != place
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    return False


def _stat_of(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")


def _place_in(stat: str) -> str:
    """The host of a process, and its start; empty if it has ended, or the host is unknown."""
    fields, host = stat.rpartition(") ")[2].split(), _host()
    return f"{host} {fields[_STARTED]}" if host and fields[_STATE] not in _ENDED else ""


def _host() -> str:
    """This boot and this namespace of process numbers: containers of one host have several. Empty if unknown."""
    try:
        boot, namespace = boot_id(), Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return f"{boot} {namespace}" if boot else ""


def digest_of(text: str) -> str:
    """A short digest of a configuration's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


async def leader_in(transaction: Transaction) -> Leader | None:
    """The leader's row; None if no daemon has ever led."""
    rows = await transaction.rows("leader")
    return Leader(*rows[0]) if rows else None


async def lead(transaction: Transaction, leader: Leader, since: int) -> Leader:
    """Write the leader's row; returns it."""
    found = replace(leader, since=since, beat=0, stopped=False)
    await transaction.run("lead", **asdict(found))
    return found
