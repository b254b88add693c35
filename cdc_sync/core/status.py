"""From the ATS's label to the status that is sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, assert_never

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


class Mapped(NamedTuple):
    """The status to send; `refused` tells why it must not be sent, None if it may."""

    status: str
    refused: str | None = None


def map_status(rules: StatusRules, label: str) -> Mapped | None:
    """Map a label; None if it is to be ignored."""
    status = rules.map.get(label)
    if status is not None:
        return Mapped(status)
    match rules.unmapped:
        case "send":
            return Mapped(label)
        case "ignore":
            return None
        case "reject":
            return Mapped(label, refused=f"the label {label!r} is not in status.map, and status.unmapped is reject")
    assert_never(rules.unmapped)
