"""A watch that the store knows and the configuration does not have: what it means, and what is to be done.

It was removed, which is harmless, or renamed, which is not: under its new name it is another watch, whose baseline
takes rows as told that had changed by then and were not read yet. Only a person can tell the one from the other.
"""

from collections.abc import Sequence

from cdc_sync.core.findings import Finding
from cdc_sync.core.observations import WatchUnconfigured

_CHECK = "store-watches"

MEANING = (
    "the store knows a watch that the configuration does not have: was it removed, or renamed? What waits of it is "
    "still sent, but its changes are watched no more. A renamed watch begins anew: its baseline takes the rows as "
    "told, so what had changed before and was not read yet is told to nobody"
)

_REMEDY = (
    "If it was renamed, give it its name back and reload: a sweep finds what was missed. If it was removed for good, "
    "only what is held or dead is to be decided about"
)

MESSAGE = f"{MEANING}. {_REMEDY}"
"""The line of the log."""


def judged(found: Sequence[WatchUnconfigured]) -> list[Finding]:
    """The findings about all such watches of a store; one that says so if there are none."""
    if not found:
        return [Finding(_CHECK, "ok", "the store knows no watch that the configuration does not have")]
    return [Finding(_CHECK, "warning", f"{MEANING}. {_holds(one)}", _remedy(one), one.watch) for one in found]


def _holds(one: WatchUnconfigured) -> str:
    return (
        f"The store holds of it: applications known {one.known}, pending {one.pending}, held {one.held}, "
        f"dead letters {one.dead}, suspected deletions {one.suspected}"
    )


def _remedy(one: WatchUnconfigured) -> str:
    lines = [f"{_REMEDY}."]
    if one.held:
        lines.append(f"cdc-sync fuse show --watch {one.watch}   # then release or discard")
    if one.dead:
        lines.append(f"cdc-sync dead-letters list --watch {one.watch}   # then retry or discard")
    return "\n".join(lines)
