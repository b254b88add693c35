"""Decides which watches may send.

A watch sends from the moment at which the rows of its pending entries were read again, since it began: the database is
known to be the store's then, and the entries are not those of a restored store, with states that are older than what
HelloWork has. It begins at the start, after a reload with other settings, and each time its database was lost. A watch
that is no longer configured does not send.
"""

from collections.abc import Callable

from cdc_sync.config import Config
from cdc_sync.config.models import account_of

_ANOTHER = "store-another-database"


def nothing() -> None:
    """Nobody has to know."""


class Gate:
    """See the module's text; calls `changed` when a watch may send, or no longer may."""

    def __init__(self, changed: Callable[[], None] = nothing) -> None:
        self._changed = changed
        self._database_of: dict[str, str] = {}
        self._account_of: dict[str, str | None] = {}
        self._open: set[str] = set()

    def use(self, config: Config) -> None:
        """Use another configuration."""
        before, self._account_of = self._account_of, {watch: account_of(config, watch) for watch in config.watches}
        self._database_of = {watch: config.database_name(watch) for watch in config.watches}
        # With another account a watch begins again: its entries take it before they are sent.
        self._open = {
            watch for watch in self._open & self._account_of.keys() if before[watch] == self._account_of[watch]
        }
        self._changed()

    def may_send(self, watch: str) -> bool:
        """Whether the watch's entries may be sent."""
        return watch in self._open

    def open(self, watch: str) -> None:
        """The rows of the watch's pending entries were read again."""
        if watch in self._database_of:
            self._open.add(watch)
            self._changed()

    def close(self, watch: str) -> None:
        """The watch begins, or ends, or a daemon with another store captures it."""
        self._open.discard(watch)
        self._changed()

    def lost(self, watch: str, code: str | None) -> None:
        """A watch's database cannot be used, for the reason `code`: another one closes all of its watches."""
        if code == _ANOTHER:
            database = self._database_of.get(watch)
            self._open = {each for each in self._open if self._database_of[each] != database}
            self._changed()
