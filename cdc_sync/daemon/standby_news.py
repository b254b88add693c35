"""What a daemon that stands by reports: once when it begins, and when it changes."""

from cdc_sync.core import events
from cdc_sync.core.events import Emit
from cdc_sync.core.failures import StoreError
from cdc_sync.core.reasons import coded
from cdc_sync.daemon.lasting import Lasting
from cdc_sync.store.lead import Standby


class StandbyNews:
    """See the module's text."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._leader = Lasting(emit)
        self._differs = Lasting(emit, lambda _: events.StandbyAgrees())
        self._blocked = Lasting(emit, lambda _: events.TakeOverUnblocked())
        self._failure = Lasting(emit, lambda _: events.StoreRecovered())

    def report(self, standby: Standby) -> None:
        """Report what is new of who leads, of the configurations, and of a take-over that is not possible."""
        message = coded("no-leader", "no daemon leads yet") if standby.leader is None else standby.leader.shown
        error = standby.not_taken_over
        self._failure.is_(None)
        self._leader.is_(events.StandsBy(message))
        self._differs.is_(events.StandbyDiffers() if standby.differs else None)
        self._blocked.is_(None if error is None else events.TakeOverBlocked(error.message, error.code))

    def report_failure(self, error: StoreError) -> None:
        """Report why this daemon neither leads nor stands by."""
        self._leader.is_(None)
        if error.code == "store-lead-lost":
            self._emit(events.LeadLost(error.message))
        else:
            self._failure.is_(events.StoreFailed(error.message, code=error.code))

    def over(self) -> None:
        """This daemon leads."""
        for each in (self._failure, self._leader, self._differs, self._blocked):
            each.is_(None)
