"""What a run leaves behind to be judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.content import Content
from cdc_sync.emulator import Call
from torture.ats import Committed, State


@dataclass(frozen=True, slots=True)
class Evidence:
    """See each attribute.

    Attributes:
        mode: how the daemon captured.
        truth: what is true in the end of each application that has a row.
        ledger: everything that was committed of each application's rows, in order of time.
        calls: every call that HelloWork received, in order of arrival.
        state: the body of the last call for each application that HelloWork took in.
        snapshots: by the daemon's store, of every application that it ever saw.
        kills: when the daemon died without warning, in seconds since the epoch.
        history: what the daemon's store remembers, in order of time.
        repairs: of its sweeps, by cause, as the daemon reports them.
        dead: dead letters in the end.
        log: all that the daemon wrote.
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
