"""Telling systemd how far we are: a reader of the observations that speaks sd_notify(3) where a manager listens.

The protocol is one datagram of NAME=VALUE lines to the socket that `$NOTIFY_SOCKET` names; a leading `@` stands for the
abstract namespace.
"""

import socket
from collections.abc import Mapping

from cdc_sync.core.observations import DaemonStarted, DaemonStopping, Observation


class SystemdReader:
    """Says READY when the daemon runs and STOPPING when it ends; says nothing outside systemd."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def read(self, observation: Observation) -> None:
        """Take one observation into account."""
        match observation:
            case DaemonStarted(_, watches):
                self._say(f"READY=1\nSTATUS=Watching {', '.join(watches)}")
            case DaemonStopping(signal):
                self._say(f"STOPPING=1\nSTATUS=Stopping on {signal}")
            case _:
                return

    def _say(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.sendto(text.encode(), self._address)
        except OSError:
            return  # the manager is gone; it is not what we are for
