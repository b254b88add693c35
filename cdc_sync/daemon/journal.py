"""systemd's journal, spoken to in its own protocol: each fact of a line becomes a field that can be asked for.

    journalctl --unit cdc-sync CDC_SYNC_APPLICATION_ID=hw-1

One datagram per line, of NAME=VALUE lines (https://systemd.io/JOURNAL_NATIVE_PROTOCOL); values have no line break here.
"""

import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")

_PREFIX = "CDC_SYNC_"


def is_ours(environ: Mapping[str, str]) -> bool:
    """Whether our standard error is the journal's: `$JOURNAL_STREAM` names its device and inode (systemd.exec(5))."""
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}" and SOCKET.exists()


def datagram(message: str, priority: int, facts: Mapping[str, object]) -> bytes:
    """A line as the journal takes it."""
    fields = {"MESSAGE": message, "PRIORITY": priority, "SYSLOG_IDENTIFIER": "cdc-sync"}
    fields |= {f"{_PREFIX}{name.upper()}": value for name, value in facts.items()}
    return "".join(f"{name}={value}\n" for name, value in fields.items()).encode("utf-8", "backslashreplace")


class Journal:
    """Writes lines to the journal. One that it does not take goes to standard error, as the line that it would be."""

    def __init__(self, *_: object) -> None:
        """A logger's arguments are of no use here."""

    def error(self, *, message: str, priority: int, facts: Mapping[str, object]) -> None:
        """Write a line."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as journal:
                journal.sendto(datagram(message, priority, facts), str(SOCKET))
        except OSError:
            with suppress(OSError):
                sys.stderr.write(f"<{priority}>{message}\n")
                sys.stderr.flush()

    debug = info = warning = error
