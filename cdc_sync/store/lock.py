"""One daemon per store: a lock file beside it.

`flock` belongs to the open file and goes with the process, also by kill -9, so a stale lock cannot exist.
"""

import fcntl
import os
from pathlib import Path
from typing import Self

from cdc_sync.store.protocol import StoreError, StoreLockedError


class StoreLock:
    """The lock of the store at `path`, held until `release`.

    Raises:
        StoreLockedError: another process holds it.
        StoreError: the lock file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        lock = _lock_path(path)
        try:
            self._file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                "store-lock-file",
                f"The lock file {lock} cannot be opened: {error.strerror}. Does the folder exist, and may this user "
                f"write there? It is the folder of state.path.",
            ) from error
        if not _acquire(self._file):
            holder = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            raise StoreLockedError(
                f"Another cdc-sync (process {holder or 'unknown'}) works on the store {path}. One daemon per store: "
                f"stop that one, or give this one a state.path of its own."
            )
        os.ftruncate(self._file, 0)
        os.write(self._file, str(os.getpid()).encode())

    def release(self) -> None:
        """Let another daemon have the store."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def holder_of(path: Path) -> int | None:
    """The process id of the daemon that works on the store at `path`; None if there is none."""
    try:
        file = os.open(_lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _flock(file, fcntl.LOCK_SH):
            return None
        text = os.read(file, 32).decode("ascii", "replace")
        return int(text) if text.isdigit() else 0
    finally:
        os.close(file)


def _acquire(file: int) -> bool:
    while not _flock(file, fcntl.LOCK_EX):
        # Only a daemon refuses to share; a glance of `holder_of` is over at once, and must not keep a daemon from
        # starting.
        if not _flock(file, fcntl.LOCK_SH):
            return False
    return True


def _flock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")
