"""From the ATS's label to the status that is sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

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


def map_status(rules: StatusRules, label: str | None, *, deleted: bool = False) -> Mapped | None:
    """The status of a row with this label, "" if it has none; None if the label is to be ignored.

    NULL and blanks are one label, which has a status only if the map gives it one.
    """
    if deleted:
        return Mapped(rules.deleted)
    if not label or label.isspace():
        return Mapped(rules.map.get("", ""))
    status = rules.map.get(label)
    if status is not None:
        return Mapped(status)
    if rules.unmapped == "ignore":
        return None
    if rules.unmapped == "reject":
        return Mapped(label, refused=f"the label {label!r} is not in status.map, and status.unmapped is reject")
    return Mapped(label)
