"""What is looked up for people, with its times as people read them: see `clock`. `shift` is what is added."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from cdc_sync.core.outbox import Entry
from cdc_sync.store.protocol import Record, WatchCounts


def entry_for_people(entry: Entry, shift: int) -> Entry:
    """An entry."""
    return replace(entry, queued_at=entry.queued_at + shift, due_at=entry.due_at + shift) if shift else entry


def records_for_people(records: Iterable[Record], shift: int) -> list[Record]:
    """What is known of an application."""
    return [
        replace(
            record,
            entry=record.entry and entry_for_people(record.entry, shift),
            suspicion=record.suspicion and replace(record.suspicion, due_at=record.suspicion.due_at + shift),
        )
        for record in records
    ]


def counts_for_people(counts: Mapping[str, WatchCounts], shift: int) -> dict[str, WatchCounts]:
    """Watches in numbers."""
    return {
        watch: of_watch
        if of_watch.oldest_queued_at is None
        else replace(of_watch, oldest_queued_at=of_watch.oldest_queued_at + shift)
        for watch, of_watch in counts.items()
    }
