"""What `cdc-sync check` finds: one finding for each precondition, with the remedy if it does not hold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

State = Literal["ok", "warning", "failed"]
"""`warning`: it works, but slower or with less certainty than it could. `failed`: it does not work, or not right."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one check.

    Attributes:
        check: its name, which scripts may rely on.
        state: whether the precondition holds.
        message: what was found, in one line.
        remedy: commands or SQL to paste, or what to write where; None if there is nothing to do.
        watch: the watch that it is about; None for what all of them share.
    """

    check: str
    state: State
    message: str
    remedy: str | None = None
    watch: str | None = None


Tell: TypeAlias = Callable[[Finding], None]
"""Takes each finding as soon as there is one: a check that waits for a timeout must not hide those before it."""
