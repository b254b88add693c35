"""Whether a disk has room for the store."""

from cdc_sync.core.findings import Finding, State

LITTLE = 2**30
"""Bytes. The store of a million applications takes some hundred MB, and its log what is written in a burst."""

TOO_LITTLE = 64 * 2**20
"""Bytes with which the next mass change would fill the disk."""


def judged(free: int, folder: str) -> Finding:
    """The finding about `free` bytes on the disk of a folder."""
    state: State = "failed" if free < TOO_LITTLE else "warning" if free < LITTLE else "ok"
    message = f"{free // 2**20:,} MiB free on the disk of {folder}"
    return Finding(
        "store-space", state, message, None if state == "ok" else f"df -h {folder}   # free some space there"
    )
