"""What matters of PostgreSQL's transactions to whoever polls: ids, snapshots, and what they show.

An id is handed out at a transaction's first write. A snapshot's xmin and xmax know only ids up to the highest that has
*ended* (src/backend/storage/ipc/procarray.c, GetSnapshotData). A row carries a time from before its transaction's first
write.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

Event: TypeAlias = tuple[str, str]
"""What somebody does, and who."""


@dataclass
class ServerModel:
    """PostgreSQL, as far as a poll can see it; one tick of `clock` is a microsecond."""

    clock: int = 1_000
    next_id: int = 10
    writing: dict[str, int] = field(default_factory=dict)
    written: dict[str, set[int]] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)
    stamps: list[int] = field(default_factory=list)
    highest_ended: int = 9

    def write(self, transaction: str, stamp: int) -> None:
        """Write a row that carries `stamp`; its number is its place in `stamps`."""
        if transaction not in self.writing:
            self.writing[transaction] = self.next_id
            self.next_id += 1
        self.written.setdefault(transaction, set()).add(len(self.stamps))
        self.stamps.append(stamp)

    def end(self, transaction: str, *, commit: bool = True) -> None:
        rows = self.written.pop(transaction, set())
        if commit:
            self.committed |= rows
        if transaction in self.writing:
            self.highest_ended = max(self.highest_ended, self.writing.pop(transaction))

    def take_id(self) -> int:
        """What a transaction gets that only asks for an id."""
        self.highest_ended, self.next_id = self.next_id, self.next_id + 1
        return self.highest_ended

    def xmax(self) -> int:
        """A snapshot's."""
        return self.highest_ended + 1

    def xmin(self) -> int:
        """A snapshot's."""
        return min([self.xmax(), *self.writing.values()])
