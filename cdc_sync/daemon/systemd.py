"""Reports the daemon's state to systemd, from events, if there is a manager.

The protocol, sd_notify(3), is one datagram of NAME=VALUE lines to the socket `$NOTIFY_SOCKET`; a leading `@` stands for
the abstract namespace.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from cdc_sync.core import events
from cdc_sync.core.events import Handlers
from cdc_sync.core.visible import visible

_TAKES_WITHIN = 0.1
"""Seconds for the manager to take a message."""


def logs_to_journal(environ: Mapping[str, str]) -> bool:
    """Whether standard error leads to the journal: what a service starts inherits the variable with any other one."""
    ours = os.fstat(2)
    return environ.get("JOURNAL_STREAM") == f"{ours.st_dev}:{ours.st_ino}"


class SystemdNotifier:
    """Reports start, reload, end, life and status; silent without a manager."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def handlers(self) -> Handlers:
        """A report for each type of event."""
        return {
            events.StandsBy: lambda e: self._send("READY=1", f"STATUS=Standing by: {e.message}"),
            events.LeadTaken: lambda _: self._send("READY=1", "STATUS=Leading"),
            events.LeadLost: lambda _: self._send("STATUS=Leads no longer, and stands by"),
            events.DaemonStopping: lambda e: self._send("STOPPING=1", f"STATUS=Stopping on {e.signal}"),
            events.ReloadStarted: self._reload,
            events.Reloaded: lambda _: self._send("READY=1"),
            events.ReloadRefused: lambda _: self._send("READY=1"),
            events.HeartBeat: lambda _: self._send("WATCHDOG=1"),
        }

    def _reload(self, _: events.ReloadStarted) -> None:
        # The time shows systemd which request this answers.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def _send(self, *assignments: str) -> None:
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        # A manager that is missing, or frozen, must not stop the daemon.
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as manager:
            manager.settimeout(_TAKES_WITHIN)
            # A line break in a status would begin another assignment.
            manager.sendto("\n".join(map(visible, assignments)).encode(), self._address)
