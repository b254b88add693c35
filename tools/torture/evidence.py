"""What a run leaves behind for the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from support.emulated import Call, Emulator

from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.content import Content
from cdc_sync.store import Store
from torture.ats import Committed, State, ledger, truth

_EVERYTHING = 10_000_000
"""More than the store has of anything."""


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
        history: the store's.
        dead: dead letters.
        kills: sudden deaths of the daemon, and losses of its lead, in seconds since the epoch.
        repairs: of sweeps, by cause, as the daemon reports them.
        log: the daemon's.
    """

    mode: str
    truth: Mapping[str, State]
    ledger: Mapping[str, Sequence[Committed]]
    calls: Sequence[Call]
    state: Mapping[str, Mapping[str, object]]
    snapshots: Mapping[str, Content | None]
    history: Sequence[HistoryEntry]
    dead: Sequence[str]
    kills: Sequence[float] = ()
    repairs: Mapping[str, int] = field(default_factory=dict)
    log: str = ""


async def gathered(mode: str, dsn: str, emulator: Emulator, store: Store, watches: Sequence[str]) -> Evidence:
    """What the ATS, HelloWork and the store have in the end; the store is closed."""
    committed = ledger(dsn)
    try:
        snapshots: dict[str, Content | None] = {
            name: known.snapshot
            for watch in watches
            for name, known in (await store.capture.known(watch, [*committed])).items()
        }
        dead = [entry.application_id for entry in await store.report.entries("dead", None, _EVERYTHING)]
        history = [
            event
            for watch in watches
            for name in committed
            for event in await store.report.story(name, watch, _EVERYTHING)
        ]
    finally:
        await store.driver.close()
    return Evidence(
        mode=mode,
        truth=truth(dsn),
        ledger=committed,
        calls=emulator.calls,
        state=emulator.state,
        snapshots=snapshots,
        history=history,
        dead=dead,
    )
