"""Reads never go back: every read says which server it was made on and how far that server was.

A DSN may name several hosts; behind one address several servers may stand; and behind a transaction pooler each
transaction may run on another one. A replica that lags shows rows as they were, and does not show new ones yet. Read as
news, that would send old states back and report deletions that never were.

So each statement that reads rows returns its server and snapshot with them, in the same statement. Reads stay on one
server. Rows of another one are used only if its snapshot shows all that was read before (`behind`). Else
the statement is repeated for moments, since most replicas lag by less; then the watch waits (`connection.Pool.read`).

The position is stored with the news that it protects, so a restart does not forget it. A database that was put back on
purpose (restored from a backup) is behind too: only a person knows, who says so by `cdc-sync adopt-database`.

A replica counts the same transactions as its primary, with the same numbers. A snapshot shows what committed below its
xmax, except for the transactions that it lists as still open. A snapshot of a server in recovery lists none: there any
transaction from its xmin on may be open (src/backend/storage/ipc/procarray.c, GetSnapshotData). So an equal xmax does
not tell that a replica has come as far.
"""

import json
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from cdc_sync.source.errors import source_error
from cdc_sync.source.expressions import composed, sections

POSITION = "replica"
"""The name of the position in the store."""

NOW, IDENTITY = (sql.SQL(sections("reading.sql")[name]) for name in ("position", "identity"))

NOW_AND_IDENTITY = composed("SELECT {}, {}", NOW, IDENTITY)


LOST_IN_A_CRASH = 1_000
"""Transaction ids that a primary may hand out once more after a crash: those whose end was not on its disk yet, of
commits that did not wait for it (ours do not either), within half a second or so. Without this, a server at which
nobody writes after a crash would be refused for ever; one that is busy makes up for more within moments."""


@dataclass(frozen=True, slots=True)
class ReplicaPosition:
    """A server, and the snapshot that was read there.

    Attributes:
        server: names a running server: when it was started, in microseconds since the epoch, and its address.
        in_recovery: whether it was a standby.
        xmin: the snapshot's; every transaction below has ended. With epoch (64 bits, never wraps), like all ids here.
        xmax: the snapshot's; nothing from here on is visible.
        open: the transactions in between that were open; of a standby they are not known.
        timeline: of a primary, that of its last checkpoint: a promotion begins a new one, and a checkpoint; else 0.
    """

    server: str
    in_recovery: bool
    xmin: int
    xmax: int
    open: frozenset[int] = frozenset()
    timeline: int = 0

    @classmethod
    def from_text(cls, text: str) -> "ReplicaPosition":
        """From a JSON array: start, address, port, whether in recovery, snapshot as PostgreSQL writes it, timeline."""
        started, address, port, in_recovery, snapshot, timeline = json.loads(text)
        xmin, xmax, listed = snapshot.split(":")
        server = f"{started} {address or 'socket'} {port or ''}".rstrip()
        open_ = frozenset(int(each) for each in listed.split(",") if each)
        return cls(server, in_recovery, int(xmin), int(xmax), open_, timeline or 0)


def behind(read: ReplicaPosition, now: ReplicaPosition) -> int | None:
    """Whether a server is behind what was read at another one; None if it shows all of it.

    Returns the oldest transaction that is open there and may be one whose outcome was seen; 0 if the server has not
    come as far at all.
    """
    if now.server == read.server:
        return None
    lost = 0 if now.in_recovery else LOST_IN_A_CRASH
    # A primary with an older timeline is one that a failover left behind. It may take writes, and reach any xmax.
    if (not now.in_recovery and now.timeline < read.timeline) or now.xmax + lost < read.xmax:
        return 0
    if now.in_recovery:
        # All from xmin on may be open. What was open before was not seen either.
        # Cut behind one more than can be among them.
        since = range(now.xmin, min(read.xmax, now.xmin + len(read.open) + 1))
        shows_all = now.xmin >= read.xmax or read.open.issuperset(since)
        return None if shows_all else now.xmin
    return min((each for each in now.open if each < read.xmax and each not in read.open), default=None)


@dataclass(slots=True)
class ReplicaGuard:
    """Knows the furthest position that a watch was read at, and refuses servers that are behind it.

    Attributes:
        position: that position; None if none is known.
        text: the same as the server wrote it, and as the store keeps it.
        stored: what the store has.
        identity: the database's; empty as long as it is not known.
        behind_for: seconds for which a read is repeated that meets a server that is behind.
    """

    position: ReplicaPosition | None = None
    text: str = ""
    stored: str = ""
    identity: str = ""
    behind_for: float = 3.0

    def load(self, text: str | None) -> None:
        """Take up what the store has, unless it was read further since."""
        if not text or text == self.stored:
            return
        self.stored = text
        stored = ReplicaPosition.from_text(text)
        if self.position is None or self.position.xmax < stored.xmax:
            self.position, self.text = stored, text

    def check(self, text: str) -> ReplicaPosition:
        """Refuse what was read at a server that is behind.

        Raises:
            SourceError: it is behind what was read before.
        """
        now = ReplicaPosition.from_text(text)
        waits_for = None if self.position is None else behind(self.position, now)
        if waits_for:
            raise source_error("server-may-lag", transaction=waits_for)
        if waits_for is not None:
            raise source_error("server-behind" if now.in_recovery else "server-behind/primary")
        return now

    def advance(self, text: str) -> None:
        """Check, and take the position as the one that no later read may be behind.

        Raises:
            SourceError: it is behind what was read before.
        """
        now, before = ReplicaPosition.from_text(text), self.position
        if before is None or now.server != before.server:
            now = self.check(text)
        elif (now.xmin, now.xmax, -len(now.open)) <= (before.xmin, before.xmax, -len(before.open)):
            return  # of one server's snapshots the latest counts
        self.position, self.text = now, text

    async def meet(self, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        """Refuse a connection to a server that is behind; the first server that is met is the one to stay on.

        Raises:
            SourceError: it is behind what was read before, or it is of another database.
            psycopg.Error: it cannot be asked.
        """
        ((text, identity),) = await (await connection.execute(NOW_AND_IDENTITY)).fetchall()
        if self.identity not in ("", identity):
            raise source_error("two-databases", one=identity, another=self.identity)
        self.check(text)
        if self.position is None:
            self.advance(text)

    def is_on(self, server: str) -> bool:
        """Whether a server is the one that was read last; any is, if none was."""
        return self.position is None or server == self.position.server
