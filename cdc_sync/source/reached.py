"""How far the server was that was read, so that no other one is read that has not come as far.

A DSN may name several hosts, or one address behind which several servers stand. After a lost connection the next one
may lead to a replica that lags, or to a primary that was left behind: there rows are as they were, and new ones are
not there yet. Read as news, that would send old states back and tell of deletions that never were.

Every snapshot has an xmax, and whatever committed below it is visible. So a server shows all that was seen before if
its xmax has reached the highest that was seen. A replica gets there when it has replayed that much; it counts the same
transactions as its primary, with the same numbers.

It is remembered as long as the daemon runs, and not in the store: a database that was restored from an older backup is
what the ATS works with from then on, and only a person knows.
"""

from dataclasses import dataclass
from typing import Any

import psycopg

from cdc_sync.source.errors import SourceError

# A standby's snapshots have an xmax of the same meaning.
_NOW = "SELECT txid_snapshot_xmax(txid_current_snapshot()), pg_is_in_recovery()"

_LOST_IN_A_CRASH = 1_000
"""Transaction ids that a primary may hand out once more after a crash: those whose end was not on its disk yet, of
commits that did not wait for it (ours do not either), within half a second or so. Without this, a server at which
nobody writes after a crash would be refused for ever; one that is busy makes up for more within moments."""


@dataclass(slots=True)
class Reached:
    """The furthest snapshot of a database that was seen.

    Attributes:
        xmax: its xmax, with epoch (64 bits, never wraps); 0 if none was seen.
    """

    xmax: int = 0

    def see(self, xmax: int) -> None:
        """A snapshot was seen."""
        self.xmax = max(self.xmax, xmax)

    async def meet(self, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        """See a connection's server, unless it is behind.

        Raises:
            SourceError: it is behind what was seen before.
            psycopg.Error: it cannot be asked.
        """
        ((xmax, in_recovery),) = await (await connection.execute(_NOW)).fetchall()
        if self.xmax - xmax > (0 if in_recovery else _LOST_IN_A_CRASH):
            raise SourceError(
                "unreachable",
                "This server is behind what was read before: it is a replica that lags, or an older copy. Nothing is "
                "read from it until it has caught up, since old states would be told as new ones. If the database was "
                "put back on purpose (restored from a backup), restart the daemon.",
            )
        self.see(xmax)
