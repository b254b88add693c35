"""The decision at the heart: given what was told and what is waiting, is this observation worth a call?

The rules (design, "Diff"), with `base` = the waiting entry's content if there is one, else what HelloWork was told:

1. observed = base: nothing to do.
2. observed = told, and the waiting entry was never attempted: the change was undone in time, cancel it.
3. observed = told, but the entry *was* attempted: HelloWork may or may not have heard it (the answer can be lost), so
   only saying the observed state again makes sure. Replace.
4. Anything else: queue, or replace what waits; the newest state wins.
"""

from dataclasses import dataclass
from typing import Literal

from cdc_sync.core.content import Content, Kind, kinds_between

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


@dataclass(frozen=True, slots=True)
class Waiting:
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
    return Nothing() if observed.same_as(told) else Queue(kinds_between(told, observed))


def is_said(sent: Content, waiting: Waiting) -> bool:
    """Whether an acknowledgement of `sent` also says what was put in its place while the call was under way.

    A → B in flight, back to A, and to B again: the entry that now waits says what HelloWork has just acknowledged.
    At most one call per application is under way, so nothing was sent in between.
    """
    return waiting.content.same_as(sent)
