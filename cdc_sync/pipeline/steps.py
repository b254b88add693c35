"""How large a watch's steps are, and how often they come."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Steps:
    """See the module's text. Intervals are in seconds.

    Attributes:
        adopted: rows that the baseline reads and adopts at once.
        drained: changes taken from the change log at once.
        give_back_every: between tries to shorten the change log's file, at least: each takes a lock for a moment,
            which a standby replays.
        polled: rows that a poll reads at once.
        look_every: between looks at the server's transactions, and so between moves of a poll's watermark: each look
            takes one of the server's transaction ids.
        compared: rows that a sweep compares at once: a statement of the store's of some 10 ms, for which the capture
            may have to wait.
        read: rows that a sweep reads at once, at most: what they take of memory Python gives little back.
        searched: record numbers looked at at once when a sweep searches for what it has not met.
        confirmed: suspected deletions that are answered at once.
        save_every: between savings of a sweep's position, at least: a sweep that is quicker than this is cheaper to
            repeat.
        save_share: saving never takes more than one part in this many of the time: a bitmap of many millions of
            records is large. 0 for no such limit.
    """

    adopted: int = 500
    drained: int = 1_000
    give_back_every: float = 60.0
    polled: int = 2_000
    look_every: float = 15.0
    compared: int = 5_000
    read: int = 500
    searched: int = 20_000
    confirmed: int = 500
    save_every: float = 5.0
    save_share: int = 20


STEPS = Steps()
