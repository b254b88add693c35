"""Who leads: one daemon of a store works, and only it writes the store; the others stand by.

The lock that makes a daemon the leader ends with what writes the store: a file's lock with its process (sqlite), a
session's lock with the session (postgres). So a former leader cannot write, and nothing has to check it.
"""

import asyncio
import os
import platform
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from cdc_sync.core.content import iso
from cdc_sync.core.failures import StoreError
from cdc_sync.core.reasons import Reason, coded
from cdc_sync.event_loop import end

from . import Store
from .driver import Driver, Transaction
from .errors import store_error

LOOKS_EVERY = 1.0
"""Seconds between a standby's looks at the lead, and between a leader's whether the store is still there."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

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
            place = _place_of(process)
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
        return _place_of(process) != place
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    return False


def _place_of(process: int) -> str:
    """The host of a process, and its start; empty if it has ended, or the host is unknown."""
    stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    fields, host = stat.rpartition(") ")[2].split(), _host()
    return f"{host} {fields[_STARTED]}" if host and fields[_STATE] not in _ENDED else ""


def _host() -> str:
    """This boot and this namespace of process numbers: containers of one host have several. Empty if unknown."""
    try:
        boot, namespace = _BOOT_ID.read_text(encoding="ascii").strip(), Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return f"{boot} {namespace}" if boot else ""


def in_use(leader: Leader | None) -> StoreError:
    """The error that another daemon leads."""
    return store_error("store-in-use/daemons", daemons="a process" if leader is None else leader.shown)


async def leader_in(transaction: Transaction) -> Leader | None:
    """The leader's row; None if no daemon has ever led."""
    rows = await transaction.run("leader")
    return Leader(*rows[0]) if rows else None


async def present_leader(store: Store) -> Leader | None:
    """The daemon that leads; None without one."""
    leader = await store.driver.transact(leader_in)
    if leader is None or leader.stopped or not await store.driver.leads(leader.backend):
        return None
    return leader


async def begin_to_lead(driver: Driver, ours: Leader) -> Leader:
    """Write the leader's row; returns it."""
    leader = replace(ours, since=driver.clock.for_people())
    await driver.run("lead", **asdict(leader))
    return leader


@dataclass(frozen=True, slots=True)
class Standby:
    """A daemon that waits for the lead.

    Attributes:
        store: to be read meanwhile.
        leader: the row of who leads, or led last.
        ours: this process as a leader.
        is_free: whether nobody leads: it only waits for the former leader's calls to end.
        not_taken_over: why this daemon cannot take over from a leader that is silent.
    """

    store: Store
    leader: Leader | None
    ours: Leader
    is_free: bool = False
    not_taken_over: StoreError | None = None

    @property
    def differs(self) -> bool:
        """Whether the leader works by another configuration."""
        return self.leader is not None and self.leader.configuration != self.ours.configuration


StandingBy = Callable[[Standby], Awaitable[None]]
"""Called about each second while a daemon stands by."""


class Lead:
    """This daemon's lead of a store; nobody else can lead a store in a file while this process lives.

    Attributes:
        store: see there.
        leader: its row.
        holding: keeps the lead; it ends with a `StoreError` when the lead is lost. No call may be under way any more.
    """

    def __init__(self, driver: Driver, leader: Leader) -> None:
        self.store = Store(driver)
        self.leader = leader
        self.holding = asyncio.create_task(self._hold(), name="holding the lead")

    async def _hold(self) -> None:
        while True:
            self.store.driver.check_place()
            await asyncio.sleep(LOOKS_EVERY)

    def may_call(self) -> bool:
        """Whether a call that begins now ends before another daemon can lead: ask right before the call."""
        return True

    def expect(self, longest_call: float, configuration: str) -> None:
        """From now on, a call's bytes may leave this host for so many seconds, by another configuration."""

    def no_more_calls(self) -> None:
        """No call is under way, and none begins."""


@asynccontextmanager
async def held(lead: Lead) -> AsyncIterator[Lead]:
    """Begin to send; after an end in order, when no call is under way, the leader's row says so."""
    try:
        await lead.store.delivery.begin_sending()
        yield lead
    finally:
        await end([lead.holding])
    await lead.store.driver.run("stop_leading", holder=lead.leader.holder)
