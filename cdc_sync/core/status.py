"""From the ATS's label to the status that is sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, assert_never

Unmapped = Literal["send", "ignore", "reject"]


@dataclass(frozen=True, slots=True)
class StatusRules:
    """How labels become statuses.

    Attributes:
        map: ATS label → status to send.
        unmapped: what a label outside the map gets: sent as it is, no call, or a dead letter.
        deleted: the status of an application that is gone.
    """

    map: Mapping[str, str]
    unmapped: Unmapped
    deleted: str


@dataclass(frozen=True, slots=True)
class Mapped:
    """The status to send; `refused` tells why it must not be sent, None if it may."""

    status: str
    refused: str | None = None


@lru_cache(maxsize=256)  # asked for each row, of few labels
def _sent_as(status: str) -> Mapped:
    return Mapped(status)


def map_status(rules: StatusRules, label: str) -> Mapped | None:
    """Map a label; None if it is to be ignored."""
    status = rules.map.get(label)
    if status is not None:
        return _sent_as(status)
    match rules.unmapped:
        case "send":
            return _sent_as(label)
        case "ignore":
            return None
        case "reject":
            return Mapped(label, refused=f"the label {label!r} is not in status.map, and status.unmapped is reject")
    assert_never(rules.unmapped)
