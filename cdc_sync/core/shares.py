"""Which daemon captures which watch, if several daemons share a store.

Every daemon reads the same table and decides by the same rule, without an election. A waiting daemon has connected to
the watch's database, so it can capture the watch.

- A free watch goes to the waiting daemon with the fewest watches.
- A watch moves only to a daemon with at least two fewer, so shares end up differing by one at most.

A daemon with an outdated table does no harm: the store gives a lease to one daemon.
"""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision, by watch: which daemon takes each free one, and to which daemon others move, in order."""

    takers: Mapping[str, int]
    moves: Mapping[str, int]


def plan(
    held: Mapping[int, AbstractSet[str]],
    waiting: Mapping[int, AbstractSet[str]],
    free: Collection[str],
    fixed: AbstractSet[str] = frozenset(),
) -> Plan:
    """Decide which daemon takes each free watch, and which watches move.

    Args:
        held: the watches that each living daemon captures.
        waiting: the watches that each living daemon would capture.
        free: the watches that nobody captures.
        fixed: watches that do not move.
    """
    load = {daemon: len(held.get(daemon, ())) for daemon in held.keys() | waiting.keys()}
    takers = dict[str, int]()
    candidates = {watch: [daemon for daemon in waiting if watch in waiting[daemon]] for watch in free}
    # Those with the fewest candidates first: the others even it out.
    for watch in sorted(free, key=lambda watch: (len(candidates[watch]), watch)):
        if candidates[watch]:
            taker = min(candidates[watch], key=lambda daemon: (load[daemon], daemon))
            takers[watch] = taker
            load[taker] += 1
    # Until no daemon has two more than one that waits for one of its watches.
    movable = {
        (giver, taker): sorted((held[giver] & waiting[taker]) - fixed, reverse=True)
        for giver in held
        for taker in waiting
        if giver != taker
    }
    moves = dict[str, int]()
    while True:
        pairs = [
            (load[taker] - load[giver], giver, taker)
            for (giver, taker), watches in movable.items()
            if watches and load[giver] - load[taker] > 1
        ]
        if not pairs:
            return Plan(takers, moves)
        _, giver, taker = min(pairs)
        watch = movable[giver, taker].pop()
        if watch in moves:
            continue  # it went to another daemon
        moves[watch] = taker
        load[giver] -= 1
        load[taker] += 1
