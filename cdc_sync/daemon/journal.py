"""systemd's journal, spoken to in its own protocol: each fact of a line becomes a field that can be asked for.

    journalctl --unit cdc-sync CDC_SYNC_APPLICATION_ID=hw-1

One datagram per line, of NAME=VALUE lines (https://systemd.io/JOURNAL_NATIVE_PROTOCOL); values have no line break here.
"""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
"""Where the journal listens."""

_PREFIX = "CDC_SYNC_"


def is_ours(environ: Mapping[str, str], path: Path) -> bool:
    """Whether our standard error is the journal's: `$JOURNAL_STREAM` names its device and inode (systemd.exec(5))."""
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}" and path.exists()


def datagram(message: str, priority: int, facts: Mapping[str, object]) -> bytes:
    """A line as the journal takes it."""
    fields = {"MESSAGE": message, "PRIORITY": priority, "SYSLOG_IDENTIFIER": "cdc-sync"}
    fields |= {f"{_PREFIX}{name.upper()}": value for name, value in facts.items()}
    return "".join(f"{name}={value}\n" for name, value in fields.items()).encode("utf-8", "backslashreplace")


def send(line: bytes, path: Path) -> bool:
    """Hand a datagram to the journal; returns whether it took it."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as journal:
            journal.sendto(line, str(path))
    except OSError:
        return False
    return True
