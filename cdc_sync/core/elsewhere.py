"""Several watches of an account may meet one application.

A new or changed row is compared with the newest state that any of them has, which becomes the watch's own. What a watch
leaves goes to the others that have it in scope; while one has it alive, no deletion is sent.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .content import Content
from .outbox import Entry, Known


class Other(NamedTuple):
    """What another watch knows of an application."""

    watch: str
    known: Known


Others = Mapping[str, Sequence[Other]]
"""By application, in the order in which their states were acknowledged."""


class Inheritance(NamedTuple):
    """The state in which a watch leaves an application to another one, to which it is news; the rest as in `Known`.

    `since` is 0 if it has not been acknowledged yet.
    """

    watch: str
    application_id: str
    state: Content
    is_acknowledged: bool
    since: int


def of_account(others: Sequence[Other], account: str | None) -> list[Other]:
    """Those of an account; all if the watch's rows name theirs (None): no id is given twice."""
    return [
        other for other in others if other.known.latest is not None and account in {None, other.known.latest.account}
    ]


def heir(others: Sequence[Other]) -> str | None:
    """The watch that has it in scope and alive, and will find its end."""
    return next((watch for watch, known in others if known.in_scope and known.is_alive), None)


def newest(known: Known, others: Sequence[Other]) -> Known:
    """The application with the newest state of the account's watches: what HelloWork has, or may be receiving."""
    found = known
    for _, other in others:
        if other.is_calling:
            return known._replace(snapshot=other.latest, is_acknowledged=True, since=0)
        if other.since and not other.is_left and (found.is_left or other.since > found.since):
            found = other
    return known._replace(snapshot=found.snapshot, is_acknowledged=found.is_acknowledged, since=found.since)


def left(application_id: str, known: Known, entry: Entry | None, others: Sequence[Other]) -> list[Inheritance]:
    """What a watch leaves to those that have it in scope; `entry` has a newer state, which HelloWork may get."""
    state = known.snapshot if entry is None else entry.content
    if state is None or (entry is None and (known.is_left or not known.since)):
        return []
    since = known.since if entry is None else 0
    return [
        Inheritance(watch, application_id, state, known.is_acknowledged, since)
        for watch, other in others
        if other.in_scope and (entry is not None or not other.is_acknowledged or other.since < known.since)
        if other.snapshot is not None and not other.snapshot.same_as(state)
    ]
