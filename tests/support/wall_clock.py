"""A daemon whose wall clock is set while it runs, by libfaketime; what nobody can set, `CLOCK_BOOTTIME`, stays real."""

import atexit
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_LIBRARIES = ("/usr/lib/*-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")


@dataclass(frozen=True, slots=True)
class SettableClock:
    """What makes the wall clock of the processes that have `variables` in their environment settable."""

    file: Path
    library: Path

    @property
    def variables(self) -> dict[str, str]:
        """For the environment of whoever is to live by it."""
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # for an old glibc: threads spin where they should wait
        }

    def set(self, seconds: int) -> None:
        """Let it be so many seconds ahead of the real one, from now on."""
        # At once: half a text would be another time.
        beside = self.file.with_suffix(".new")
        beside.write_text(f"{seconds:+d}")
        beside.replace(self.file)


@cache
def _folder() -> Path:
    made = TemporaryDirectory(prefix="cdc-sync-clock-")
    atexit.register(made.cleanup)
    return Path(made.name)


def settable_clock(seconds: int = 0) -> SettableClock:
    """The only one, set back to the real time and so many seconds; skips the test where libfaketime is missing.

    A test must have ended what lived by it before. All tests of a worker have it, so that they may fork one process.
    """
    for pattern in _LIBRARIES:
        for library in sorted(Path("/").glob(pattern.lstrip("/"))):
            clock = SettableClock(_folder() / "wall-clock", library)
            clock.set(seconds)
            return clock
    pytest.skip("libfaketime is not installed (Debian: libfaketime)")
