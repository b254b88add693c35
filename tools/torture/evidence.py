"""What a run leaves behind for the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from support.emulated import Call

from cdc_sync.core.batch import HistoryEntry
from cdc_sync.core.content import Content
from torture.ats import Committed, State, ledger, truth
from torture.configuration import watches
from torture.faults import Span
from torture.place import Place

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
        spans: the faults that may excuse something.
        aftermath: seconds for which they still do afterwards.
        led: how often each daemon took the lead.
        frozen: how often each daemon was ended by its alarm.
        log: a single daemon's.
    """

    mode: str
    truth: Mapping[str, State]
    ledger: Mapping[str, Sequence[Committed]]
    calls: Sequence[Call]
    state: Mapping[str, Mapping[str, object]]
    snapshots: Mapping[str, Content | None]
    history: Sequence[HistoryEntry]
    dead: Sequence[str]
    spans: Sequence[Span]
    aftermath: float
    led: Sequence[int]
    frozen: Sequence[int]
    log: str

    @property
    def is_alone(self) -> bool:
        """Whether there is a single daemon."""
        return len(self.led) == 1


async def gathered(place: Place) -> Evidence:
    """What the ATS, HelloWork, the store and the daemons have in the end."""
    store, committed, daemons = await place.open_store(), ledger(place.dsn), place.fleet.daemons
    snapshots, history = dict[str, Content | None](), list[HistoryEntry]()
    try:
        for watch in watches(place.options):
            known = await store.capture.known(watch, [*committed])
            snapshots |= {name: each.snapshot for name, each in known.items()}
            for name in committed if len(daemons) == 1 else ():
                story = await store.report.story(name, _EVERYTHING)
                history += [each for each in story if each.watch == watch]
        dead = [entry.application_id for entry in await store.report.entries("dead", None, _EVERYTHING)]
    finally:
        await store.driver.close()
    return Evidence(
        mode=place.options.mode,
        truth=truth(place.dsn),
        ledger=committed,
        calls=place.emulator.calls,
        state=place.emulator.state,
        snapshots=snapshots,
        history=history,
        dead=dead,
        spans=place.spans(),
        aftermath=place.aftermath,
        led=[daemon.led() for daemon in daemons],
        frozen=[daemon.frozen for daemon in daemons],
        log=daemons[0].log() if len(daemons) == 1 else "",
    )
