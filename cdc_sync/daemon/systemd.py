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
from cdc_sync.core.content import iso
from cdc_sync.core.events import Handlers
from cdc_sync.core.visible import visible
from cdc_sync.core.watch_names import listed
from cdc_sync.wall_clock import wall_clock

_BEATS = 4
"""Beats within the watchdog's time: one may be late."""

_MORE_TIME = 120_000_000
"""Microseconds that a start may take from now on; renewed every ten seconds."""

_LONGEST = 100
"""Characters of a reply that fit a line of `systemctl status`."""


class SystemdNotifier:
    """Reports start, reload, end, life and status; silent without a manager."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.wants_to_hear_every = _watchdog(environ) / _BEATS
        self._watches: tuple[str, ...] = ()
        self._leader = ""
        """Who leads, while this daemon stands by."""
        self._last_call: tuple[int, events.CallEnded] | None = None

    def handlers(self) -> Handlers:
        """A report for each type of event; none if no manager listens."""
        if not self._address:
            return {}
        send = self._send
        return {
            events.StoreUpgrading: lambda e: send(
                # However long it takes: an interrupted upgrade starts over.
                f"EXTEND_TIMEOUT_USEC={_MORE_TIME}",
                f"STATUS=Bringing the store up to date for {e.seconds:.0f} s",
            ),
            events.StandsBy: self._stand_by,
            events.LeadTaken: self._lead,
            events.DaemonStopping: lambda e: send("STOPPING=1", f"STATUS=Stopping on {e.signal}"),
            # The time shows systemd which request this answers.
            events.ReloadStarted: lambda _: send(
                "RELOADING=1",
                f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}",
                "STATUS=Reading the configuration again",
            ),
            events.Reloaded: lambda e: self._ready("the configuration was read again", e.watches),
            events.TenantsFound: lambda e: self._follow((*self._watches, *e.watches)),
            events.TenantsGone: lambda e: self._follow(tuple(each for each in self._watches if each not in e.watches)),
            events.ReloadRefused: lambda _: self._ready("the configuration was read again and refused, see the log"),
            events.HeartBeat: self._heart_beat,
            events.CallEnded: self._call_ended,
        }

    def _stand_by(self, event: events.StandsBy) -> None:
        self._leader = event.message
        self._send("READY=1", f"STATUS=Standing by: {self._leader}")

    def _lead(self, event: events.LeadTaken) -> None:
        self._leader = ""
        self._ready("starting", event.watches)

    def _ready(self, text: str, watches: tuple[str, ...] | None = None) -> None:
        self._watches = self._watches if watches is None else watches
        self._send("READY=1", f"STATUS=Watching {listed(self._watches)}: {text}")

    def _follow(self, watches: tuple[str, ...]) -> None:
        """Name other watches from the next heart beat on."""
        self._watches = watches

    def _call_ended(self, event: events.CallEnded) -> None:
        self._last_call = wall_clock(), event

    def _heart_beat(self, event: events.HeartBeat) -> None:
        if self._leader:
            self._send("WATCHDOG=1", f"STATUS=Standing by: {self._leader}")
            return
        waiting, last = "the store does not answer" if event.pending is None else f"{event.pending} pending", "none yet"
        if self._last_call is not None:
            at, call = self._last_call
            last = f"{iso(at)} {call.outcome} ({' '.join(call.reply.split())[:_LONGEST]})"
        self._send("WATCHDOG=1", f"STATUS=Watching {listed(self._watches)}: {waiting}; last call: {last}")

    def _send(self, *lines: str) -> None:
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        # A missing manager must not stop the daemon.
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as manager:
            # A line break in a reply would begin another assignment.
            manager.sendto("\n".join(map(visible, lines)).encode(), self._address)


def _watchdog(environ: Mapping[str, str]) -> float:
    """Seconds within which the manager expects a beat; infinite if it expects none of this process."""
    text, process = environ.get("WATCHDOG_USEC", ""), str(os.getpid())
    is_ours = re.fullmatch("[0-9]+", text) and environ.get("WATCHDOG_PID", process) == process
    return int(text) / 1_000_000 if is_ours and int(text) else math.inf
