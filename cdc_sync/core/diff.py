"""The decision at the heart: given what was told and what is waiting, is this observation worth a call?

The rules (design, "Diff"), with `base` = the waiting entry's content if there is one, else what HelloWork was told:

1. observed = base: nothing to do.
2. observed = told, and the waiting entry was never attempted: the change was undone in time, cancel it.
3. observed = told, but the entry *was* attempted: HelloWork may or may not have heard it (the answer can be lost), so
   only saying the observed state again makes sure. Replace.
4. Anything else: queue, or replace what waits; the newest state wins.

The dates of one application's calls rise: a receiver that orders by them keeps the newest state. A row's own date may
be older than one that was sent: a status that is taken back shows the date of an earlier event, a date without a time
is midnight all day long, and a clock may have been ahead. A date alone never causes a call.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from cdc_sync.core.content import Content, Kind
from cdc_sync.core.instants import LATEST

Unseen = Literal["send", "adopt"]


@dataclass(frozen=True, slots=True)
class Nothing:
    """HelloWork knows it already, or what waits says it."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take it as told without a call."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Forget what waits: it was undone before it was ever sent."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Let it wait for delivery, in the place of what waits now, if anything does."""

    kinds: frozenset[Kind]


Decision = Nothing | Adopt | Cancel | Queue


class Waiting(NamedTuple):
    """The part of an outbox entry (pending, held or dead) that a decision depends on."""

    content: Content
    attempted: bool


def decide(observed: Content, told: Content | None, waiting: Waiting | None, unseen: Unseen) -> Decision:
    """Decide what an observation asks for.

    Args:
        observed: the application as the ATS's database has it now.
        told: what HelloWork acknowledged last, or what was adopted; None if it was told nothing yet.
        waiting: the application's outbox entry, in whatever state.
        unseen: what to do with an application of which HelloWork was told nothing and nothing waits.
    """
    if waiting is not None:
        if observed.same_as(waiting.content):
            return Nothing()
        if told is not None and observed.same_as(told):
            return Queue(kinds_between(waiting.content, observed)) if waiting.attempted else Cancel()
        return Queue(kinds_between(told, observed))
    if told is None:
        return Adopt() if unseen == "adopt" else Queue(kinds_between(None, observed))
    kinds = kinds_between(told, observed)
    return Queue(kinds) if kinds else Nothing()


def kinds_between(told: Content | None, observed: Content) -> frozenset[Kind]:
    """In which respects `observed` is news to somebody who was told `told` (None: nothing yet); none if it is none."""
    kinds: set[Kind] = set()
    if told is None:
        kinds.add("first")
    else:
        # Existence has no field of its own in a call: an application that is back is told by its status alone.
        if told.status != observed.status or (told.deleted and not observed.deleted):
            kinds.add("status")
        if told.job_id != observed.job_id:
            kinds.add("job")
    if observed.deleted and not (told and told.deleted):
        kinds.add("deleted")
    return frozenset(kinds)


def in_order(content: Content, changed_at: int, acknowledged: Content | None, pending: Waiting | None) -> Content:
    """The content with a date that is later than each that HelloWork may have received.

    It is asked for once, when the content is enqueued, so that every attempt is the same request.

    Args:
        content: what is enqueued, with its row's own date.
        changed_at: when the change was recorded or read, in milliseconds since the epoch.
        acknowledged: the snapshot; None if it was adopted, so that its date was never sent.
        pending: the entry whose place it takes; one that was attempted may have been received.
    """
    received = [] if acknowledged is None else [acknowledged.event_date]
    if pending is not None and pending.attempted:
        received.append(pending.content.event_date)
    if not received or content.event_date > max(received):
        return content
    # Beyond the last date that can be written there is nothing to order by.
    return replace(content, event_date=min(max(changed_at, max(received) + 1, content.created), LATEST))
