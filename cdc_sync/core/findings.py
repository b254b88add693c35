"""What `cdc-sync check` finds: one finding for each precondition, with the remedy if it does not hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cdc_sync.core.observations import WatchUnconfigured

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

LITTLE_SPACE = 2**30
"""Bytes. The store of a million applications takes some hundred MB, and its log what is written in a burst."""

TOO_LITTLE_SPACE = 64 * 2**20
"""Bytes with which the next mass change would fill the disk."""

_UNCONFIGURED = (
    "the store knows a watch that the configuration does not have: was it removed, or renamed? What waits of it is "
    "still sent, but its changes are watched no more. A renamed watch begins anew: its baseline takes the rows as "
    "told, so what had changed before and was not read yet is told to nobody"
)

_IF_RENAMED = (
    "If it was renamed, give it its name back and reload: a sweep finds what was missed. If it was removed for good, "
    "only what is held or dead is to be decided about"
)

UNCONFIGURED = f"{_UNCONFIGURED}. {_IF_RENAMED}"
"""The line of the log about a watch that the store knows and the configuration does not have."""


def check_disk_space(free: int, folder: str) -> Finding:
    """The finding about `free` bytes on the disk of a folder."""
    state: State = "failed" if free < TOO_LITTLE_SPACE else "warning" if free < LITTLE_SPACE else "ok"
    remedy = None if state == "ok" else f"df -h {folder}   # free some space there"
    return Finding("store-space", state, f"{free // 2**20:,} MiB free on the disk of {folder}", remedy)


def check_unconfigured(found: Sequence[WatchUnconfigured]) -> list[Finding]:
    """The findings about the watches that a store knows and the configuration does not have.

    Such a watch was removed, which is harmless, or renamed, which is not: under its new name it is another watch, whose
    baseline takes rows as told that had changed by then and were not read yet. Only a person can tell which.
    """
    if not found:
        return [Finding("store-watches", "ok", "the store knows no watch that the configuration does not have")]
    findings = []
    for one in found:
        message = (
            f"{_UNCONFIGURED}. The store holds of it: applications known {one.known}, pending {one.pending}, "
            f"held {one.held}, dead letters {one.dead}, suspected deletions {one.suspected}"
        )
        remedy = f"{_IF_RENAMED}."
        if one.held:
            remedy += f"\ncdc-sync fuse show --watch {one.watch}   # then release or discard"
        if one.dead:
            remedy += f"\ncdc-sync dead-letters list --watch {one.watch}   # then retry or discard"
        findings.append(Finding("store-watches", "warning", message, remedy, one.watch))
    return findings
