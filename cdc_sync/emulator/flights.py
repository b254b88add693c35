"""Which applications have a call in progress: the proof, or the refutation, of one call in flight for each."""

import asyncio
from typing import Protocol


class Connection(Protocol):
    """The connection that a call came by; its transport is None once it is lost."""

    transport: asyncio.Transport | None


class Flights:
    """The calls in progress by application."""

    def __init__(self) -> None:
        self._open: dict[str, list[Connection]] = {}

    def begin(self, application_id: str, connection: Connection) -> bool:
        """Note the arrival of a call.

        Returns:
            Whether another call for the application is in progress. One whose client has left does not count: the
            client is done with it, and may well be quicker with its next call than this server in noticing.
        """
        others = self._open.get(application_id)
        if others is None:
            self._open[application_id] = [connection]
            return False
        concurrent = any(other.transport is not None and not other.transport.is_closing() for other in others)
        others.append(connection)
        return concurrent

    def end(self, application_id: str, connection: Connection) -> None:
        """Note the end of a call that began."""
        others = self._open[application_id]
        others.remove(connection)
        if not others:
            del self._open[application_id]
