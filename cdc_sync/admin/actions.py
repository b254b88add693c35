"""What a person does through the page, or a script with the token: release, discard, retry.

A page is older than the press of its button. Whoever discards everything says how much that was when he looked, and is
refused if it has become more or less meanwhile; a release sends no more than was seen.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdc_sync.core.outbox import EntryState
from cdc_sync.store import in_steps
from cdc_sync.store.protocol import WatchCounts
from cdc_sync.store.store import Store


class CannotActError(Exception):
    """What was asked for makes no sense, or no sense any more."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for: of one watch or of all, of some applications or of all, and how many were seen then."""

    watch: str | None
    application_ids: Sequence[str] | None
    seen: int | None


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, as the answer's JSON, and how many entries that were."""

    what: str
    number: int
    answer: Mapping[str, Any]


def wish_of(watches: Collection[str], fields: Mapping[str, Sequence[str]]) -> Wish:
    """Read a form.

    Args:
        watches: those that there are, in the configuration or in the store.
        fields: the form's.

    Raises:
        CannotActError: it names no watch of ours, or not what it is about.
    """
    watch = _one(fields, "watch")
    if watch is not None and watch not in watches:
        raise CannotActError(f"There is no watch {watch!r}.")
    ids = [id_ for id_ in fields.get("application_id", ()) if id_]
    if watch is None and not ids and _one(fields, "all") is None:
        raise CannotActError("Name applications (application_id), a watch, or say all=1.")
    number = _one(fields, "number")
    if number is not None and not (number.isascii() and number.isdigit() and len(number) < 10):  # noqa: PLR2004 - int() is slow for thousands of digits
        raise CannotActError("The field number takes a number.")
    return Wish(watch, ids or None, None if number is None else int(number))


async def release(store: Store, wish: Wish, now: int) -> Done:
    """Let held entries be sent.

    Raises:
        CannotActError: single ones were named.
    """
    if wish.application_ids is not None:
        raise CannotActError("Held entries are released together: name a watch, not applications.")
    number = await in_steps.release_held(store, wish.watch, lambda: now, limit=wish.seen)
    return Done("released", number, {"released": number})


async def retry(store: Store, wish: Wish, now: int) -> Done:
    """Send dead letters again."""
    return _done("retried", await store.retry_dead(wish.watch, wish.application_ids, now))


async def discard(store: Store, wish: Wish, now: int, *, state: EntryState) -> Done:
    """Take held entries, or dead letters, as told.

    Raises:
        CannotActError: there are more or fewer than were seen.
    """
    if wish.application_ids is not None:
        return _done("discarded", await store.discard(state, wish.watch, wish.application_ids, now=now))
    if wish.seen is not None:
        counts = await store.counts()
        watches = counts.values() if wish.watch is None else [counts.get(wish.watch, WatchCounts())]
        number = sum(of.held if state == "held" else of.dead for of in watches)
        if number != wish.seen:
            raise CannotActError(
                f"There are {number} now, and there were {wish.seen}: look again before you discard them."
            )
    # No more than were counted: what comes to be held from now on, nobody has seen.
    return _done("discarded", await in_steps.discard(store, state, wish.watch, lambda: now, limit=wish.seen))


def _done(what: str, found: Sequence[tuple[str, str]]) -> Done:
    named = [{"watch": watch, "application_id": application_id} for watch, application_id in found]
    return Done(what, len(found), {what: named})


def _one(fields: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = fields.get(name, ())
    return values[0] if values and values[0] else None
