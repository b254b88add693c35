"""What a run leaves behind for the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from support.emulated import Call

from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.content import Content
from torture.ats import Committed, State


@dataclass(frozen=True, slots=True)
class Evidence:
    """By application, where it is a mapping; lists are in order of time.

    Attributes:
        mode: of capture.
        truth: the last state of a row.
        ledger: all that was committed.
        calls: received by HelloWork.
        state: the body of the last call that HelloWork processed.
        snapshots: the store's.
        kills: sudden deaths of the daemon, and losses of its lead, in seconds since the epoch.
        history: the store's.
        repairs: of sweeps, by cause, as the daemon reports them.
        dead: dead letters.
        log: the daemon's.
    """

    mode: str
    truth: Mapping[str, State]
    ledger: Mapping[str, Sequence[Committed]]
    calls: Sequence[Call]
    state: Mapping[str, Mapping[str, object]]
    snapshots: Mapping[str, Content | None]
    kills: Sequence[float]
    history: Sequence[HistoryEntry]
    repairs: Mapping[str, int]
    dead: Sequence[str]
    log: str
