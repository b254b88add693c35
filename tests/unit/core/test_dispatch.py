"""Each event goes to whoever has a handler for its type, and to nobody else."""

from cdc_sync.core.events import CaughtUp, DaemonStopped, Dispatch, Event, Handlers, HeartBeat


class New(Event):
    """An event that no consumer names."""


def test_consumers_handle_what_they_have_a_handler_for_in_their_order() -> None:
    handled: list[tuple[str, Event]] = []

    def first() -> Handlers:
        return {HeartBeat: lambda event: handled.append(("first", event))}

    def second() -> Handlers:
        return {each: lambda event: handled.append(("second", event)) for each in (HeartBeat, CaughtUp)}

    emit = Dispatch(first, second).emit
    for event in (HeartBeat(), CaughtUp("w", 1.0), DaemonStopped()):
        emit(event)

    assert handled == [("first", HeartBeat()), ("second", HeartBeat()), ("second", CaughtUp("w", 1.0))]


def test_a_handler_of_any_event_has_those_that_its_consumer_does_not_name() -> None:
    handled: list[Event] = []
    emit = Dispatch(
        lambda: {Event: handled.append, CaughtUp: None},
        lambda: {HeartBeat: lambda _: None},  # that another one names a type is nothing to the first
    ).emit

    for event in (New(), HeartBeat(), CaughtUp("w", 1.0)):
        emit(event)

    assert handled == [New(), HeartBeat()]
