"""Reports the daemon's state to systemd, from events, if there is a manager.

The protocol, sd_notify(3), is one datagram of NAME=VALUE lines to the socket `$NOTIFY_SOCKET`; a leading `@` stands for
the abstract namespace. `$WATCHDOG_USEC` is the longest time between two WATCHDOG=1.
"""

import math
import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from cdc_sync.core import events
from cdc_sync.core.events import Handlers
from cdc_sync.core.visible import visible

_BEATS = 4
"""Beats within the watchdog's time: one may be late."""


class SystemdNotifier:
    """Reports start, reload, end, life and status; silent without a manager."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.wants_to_hear_every = _watchdog(environ) / _BEATS
        self._state = "Starting"

    def handlers(self) -> Handlers:
        """A report for each type of event; none if no manager listens."""
        if not self._address:
            return {}
        return {
            events.StandsBy: lambda e: self._ready(f"Standing by: {e.message}"),
            events.LeadTaken: lambda _: self._ready("Leading"),
            events.DaemonStopping: lambda e: self._send("STOPPING=1", f"Stopping on {e.signal}"),
            events.ReloadStarted: self._reload,
            events.Reloaded: lambda _: self._ready(self._state),
            events.ReloadRefused: lambda _: self._ready(self._state),
            events.HeartBeat: self._beat,
        }

    def _ready(self, state: str) -> None:
        self._state = state
        self._send("READY=1", state)

    def _reload(self, _: events.ReloadStarted) -> None:
        # The time shows systemd which request this answers.
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}", "Reading the configuration again")

    def _beat(self, event: events.HeartBeat) -> None:
        pending = "" if event.pending is None else f": {event.pending} pending"
        self._send("WATCHDOG=1", f"{self._state}{pending}")

    def _send(self, assignments: str, status: str) -> None:
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        # A missing manager must not stop the daemon.
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as manager:
            # A line break in a status would begin another assignment.
            manager.sendto(f"{assignments}\nSTATUS={visible(status)}".encode(), self._address)


def _watchdog(environ: Mapping[str, str]) -> float:
    """Seconds within which the manager expects a beat; infinite if it expects none of this process."""
    text, process = environ.get("WATCHDOG_USEC", ""), str(os.getpid())
    is_ours = re.fullmatch("[0-9]+", text) and environ.get("WATCHDOG_PID", process) == process
    return int(text) / 1_000_000 if is_ours and int(text) else math.inf
