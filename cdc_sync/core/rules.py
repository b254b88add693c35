"""What one watch wants, as the core needs it: the configuration without its syntax."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cdc_sync.core.diff import FusePolicy, Unseen
from cdc_sync.core.status_url import AllowedHosts

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
class ExtraField:
    """A further field of the payload; with `only_for`, sent with these statuses only (empty: with all)."""

    name: str
    only_for: frozenset[str]


@dataclass(frozen=True, slots=True)
class WatchRules:
    """How one watch's rows become calls. Lengths of time in milliseconds.

    Attributes:
        watch: the watch's name.
        status: from labels to statuses.
        baseline: what the rows get that exist at the first start.
        first_status: what an application gets that appears later.
        settle: status as sent → how long it must stand before it is sent; `default_settle` for the others.
        deletion_grace: how long a row must be gone before its deletion is believed.
        extra: further payload fields, in the order of the row's extra values.
        base_url: where calls go for rows without a status URL.
        own_urls: whether rows may have a status URL of their own.
        allowed: where calls may go at all.
        fuse: how many changes at once are believed.
        last_known_job: whether a row without a job is sent with the application's last known one.
        ordered_dates: whether the dates of an application's calls must rise.
    """

    watch: str
    status: StatusRules
    baseline: Unseen
    first_status: Unseen
    settle: Mapping[str, int]
    default_settle: int
    deletion_grace: int
    extra: tuple[ExtraField, ...]
    base_url: str
    own_urls: bool
    allowed: AllowedHosts
    fuse: FusePolicy
    last_known_job: bool = True
    ordered_dates: bool = True

    def extra_fields_of(self, status: str) -> frozenset[str]:
        """The names of the extra fields that go with a status."""
        return frozenset(field.name for field in self.extra if not field.only_for or status in field.only_for)
