"""Reads never go back: every read returns its server and how far that was.

Another server's rows are used only if its snapshot shows all that was read before (decision 23). Otherwise
`connection.Pool.read` repeats the statement; then the watch waits. The position is stored with the changes it protects.
"""

import json
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from cdc_sync.ats.errors import source_error
from cdc_sync.ats.expressions import composed, sections

POSITION = "replica"
"""The position's name in the store."""

NOW, IDENTITY = (sql.SQL(sections("reading.sql")[name]) for name in ("position", "identity"))

NOW_AND_IDENTITY = composed("SELECT {}, {}", NOW, IDENTITY)


LOST_IN_A_CRASH = 1_000
"""Transaction ids that a primary may assign again after a crash, since they were not on its disk. Else an idle server
would be refused for ever.
"""


@dataclass(frozen=True, slots=True)
class ReplicaPosition:
    """A server, and a snapshot there. Ids have their epoch (64 bits).

    Attributes:
        server: its start, in microseconds since the epoch, and its address.
        open: the open transactions from xmin to xmax; unknown for a standby.
        timeline: a primary's, by its last checkpoint; else 0.
    """

    server: str
    in_recovery: bool
    xmin: int
    xmax: int
    open: frozenset[int] = frozenset()
    timeline: int = 0

    @classmethod
    def from_text(cls, text: str) -> "ReplicaPosition":
        """From JSON: start, address, port, whether in recovery, snapshot as PostgreSQL writes it, timeline."""
        started, address, port, in_recovery, snapshot, timeline = json.loads(text)
        xmin, xmax, listed = snapshot.split(":")
        server = f"{started} {address or 'socket'} {port or ''}".rstrip()
        open_ = frozenset(int(each) for each in listed.split(",") if each)
        return cls(server, in_recovery, int(xmin), int(xmax), open_, timeline or 0)


def behind(read: ReplicaPosition, now: ReplicaPosition) -> int | None:
    """Whether a server is behind what was read at another; None if not.

    Returns the oldest transaction that is open there and may have been read as ended; 0 if the server lags.
    """
    if now.server == read.server:
        return None
    lost = 0 if now.in_recovery else LOST_IN_A_CRASH
    # A primary that a failover left behind may reach any xmax by its own writes.
    if (not now.in_recovery and now.timeline < read.timeline) or now.xmax + lost < read.xmax:
        return 0
    if now.in_recovery:
        # All from xmin on may be open; what was open before was not read. A longer range can be no subset.
        since = range(now.xmin, min(read.xmax, now.xmin + len(read.open) + 1))
        shows_all = now.xmin >= read.xmax or read.open.issuperset(since)
        return None if shows_all else now.xmin
    return min((each for each in now.open if each < read.xmax and each not in read.open), default=None)


@dataclass(slots=True)
class ReplicaGuard:
    """The furthest position that was read, as the server wrote it (`text`), and the store's.

    Methods raise `SourceError` for a server that is behind. A read is repeated for `behind_for` seconds. `identity` is
    the database's; empty if unknown.
    """

    position: ReplicaPosition | None = None
    text: str = ""
    stored: str = ""
    identity: str = ""
    behind_for: float = 3.0

    def load(self, text: str | None) -> None:
        """Take the store's position, unless reads have passed it since."""
        if not text or text == self.stored:
            return
        self.stored = text
        stored = ReplicaPosition.from_text(text)
        if self.position is None or self.position.xmax < stored.xmax:
            self.position, self.text = stored, text

    def check(self, text: str) -> ReplicaPosition:
        """Parse a position; raises for one that is behind."""
        now = ReplicaPosition.from_text(text)
        waits_for = None if self.position is None else behind(self.position, now)
        if waits_for:
            raise source_error("server-may-lag", transaction=waits_for)
        if waits_for is not None:
            raise source_error("server-behind" if now.in_recovery else "server-behind/primary")
        return now

    def advance(self, text: str) -> None:
        """Check a position, and require it of later reads."""
        now, before = ReplicaPosition.from_text(text), self.position
        if before is None or now.server != before.server:
            now = self.check(text)
        elif (now.xmin, now.xmax, -len(now.open)) <= (before.xmin, before.xmax, -len(before.open)):
            return  # one server's latest snapshot counts
        self.position, self.text = now, text

    async def meet(self, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        """Check a connection's server and database, and stay on the first server."""
        ((text, identity),) = await (await connection.execute(NOW_AND_IDENTITY)).fetchall()
        if self.identity not in ("", identity):
            raise source_error("two-databases", one=identity, another=self.identity)
        self.check(text)
        if self.position is None:
            self.advance(text)

    def is_on(self, server: str) -> bool:
        """Whether a server is the one that was read last, or none was."""
        return self.position is None or server == self.position.server
