"""What can be chosen about an emulator before it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cdc_sync.core.failures import OperationError

_HIGHEST_PORT = 65_535


class OptionsError(OperationError):
    """An option has a value that the emulator cannot work with."""


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """How an emulator listens, what it knows and what it demands.

    Attributes:
        host: The address to listen on. Loopback unless another is asked for: the control API has no authentication.
        port: The port to listen on; 0 takes any free one.
        ats_name: The name by which HelloWork calls the ATS; part of the documented 404.
        known: The application ids that are not answered 404; None knows every one.
        required_headers: Headers (any case) that a status call must carry with exactly this value, or be answered 401.
        journal: A file to which one JSON line is appended for each call that is over.
        latency: Seconds between the arrival of a call and whatever is answered.
        keep: How many calls are kept to be shown, the newest ones, and at most 64 MiB of them; of so many applications
            the state is kept. None keeps all.

    Raises:
        OptionsError: A value is out of range.
    """

    host: str = "127.0.0.1"
    port: int = 0
    ats_name: str = "staging"
    known: frozenset[str] | None = None
    # Values of authentication headers: out of every repr, and so out of every log and test report.
    required_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    journal: Path | None = None
    latency: float = 0.0
    keep: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= _HIGHEST_PORT:
            raise OptionsError(f"port is {self.port}; expected 0 (any free port) to {_HIGHEST_PORT}")
        if not 0 <= self.latency < float("inf"):
            raise OptionsError(f"latency is {self.latency}; expected a number of seconds, 0 or more")
        if self.keep is not None and self.keep < 1:
            raise OptionsError(f"keep is {self.keep}; expected at least 1 call, or None to keep all of them")
