"""What a daemon that stands by reports: once when it begins, and when it changes."""

from cdc_sync.core import events
from cdc_sync.core.events import Emit
from cdc_sync.core.failures import StoreError
from cdc_sync.core.reasons import coded
from cdc_sync.store.lead import Standby


class StandbyNews:
    """See the module's text."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._message = ""
        self._differs = False
        self._blocked = ""
        self._failure = ""

    def report(self, standby: Standby) -> None:
        """Report what is new of who leads, of the configurations, and of a take-over that is not possible."""
        self._store_works()
        message = coded("no-leader", "no daemon leads yet") if standby.leader is None else standby.leader.shown
        if message != self._message:
            self._message = message
            self._emit(events.StandsBy(message))
        if standby.differs != self._differs:
            self._differs = standby.differs
            self._emit(events.StandbyDiffers() if standby.differs else events.StandbyAgrees())
        self._report_take_over(standby.not_taken_over)

    def report_failure(self, error: StoreError) -> None:
        """Report why this daemon neither leads nor stands by."""
        self._message = ""
        if error.code == "store-lead-lost":
            self._emit(events.LeadLost(error.message))
        elif error.message != self._failure:
            self._failure = error.message
            self._emit(events.StoreFailed(error.message, code=error.code))

    def over(self) -> None:
        """This daemon leads."""
        self._store_works()
        self._message = ""
        if self._differs:
            self._differs = False
            self._emit(events.StandbyAgrees())
        self._report_take_over(None)

    def _store_works(self) -> None:
        if self._failure:
            self._failure = ""
            self._emit(events.StoreRecovered())

    def _report_take_over(self, error: StoreError | None) -> None:
        message = "" if error is None else str(error.message)
        if message == self._blocked:
            return
        self._blocked = message
        if error is None:
            self._emit(events.TakeOverUnblocked())
        else:
            self._emit(events.TakeOverBlocked(error.message, error.code))
