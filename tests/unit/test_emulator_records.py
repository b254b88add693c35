"""The emulator's memory: calls, calls in progress, options, and what must not be remembered."""

import asyncio

import pytest
from support.eventually import in_time

from cdc_sync.emulator import Call, EmulatorOptions, OptionsError
from cdc_sync.emulator.calls import CallLog
from cdc_sync.emulator.concealment import Concealment
from cdc_sync.emulator.flights import Flights


def call(number: int) -> Call:
    return Call(
        number=number,
        received=1_700_000_000.25,
        method="POST",
        path="/v1/applications/a/status",
        application_id="a",
        headers={},
        idempotency_key=None,
        body={},
        raw="{}",
        violations=(),
        warnings=(),
        concurrent=False,
    )


def filled(keep: int | None, count: int) -> CallLog:
    log = CallLog(keep)
    for number in range(1, count + 1):
        log.record(call(number))
    return log


def numbers(log: CallLog, after: int) -> list[int]:
    return [each.number for each in log.after(after)]


def test_calls_after_a_number() -> None:
    log = filled(None, 5)
    assert numbers(log, 0) == [1, 2, 3, 4, 5]
    assert numbers(log, 3) == [4, 5]
    assert numbers(log, 5) == []
    assert numbers(log, 99) == []


def test_only_the_newest_calls_are_kept() -> None:
    log = filled(2, 5)
    assert numbers(log, 0) == [4, 5]
    assert numbers(log, 4) == [5]


def test_numbers_go_on_after_forgetting() -> None:
    log = filled(None, 3)
    log.forget()
    assert numbers(log, 0) == []
    log.record(call(log.last_number + 1))
    assert numbers(log, 0) == [4]
    assert numbers(log, 1) == [4]


async def test_waiting_ends_with_the_call_that_was_missing() -> None:
    log = filled(None, 1)
    log.forget()
    await in_time(log.wait(0), 1)
    waiting = asyncio.create_task(log.wait(2))
    await asyncio.sleep(0)
    log.record(call(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    log.record(call(3))
    await in_time(waiting, 1)
    await in_time(log.wait(1, after=2), 1)


def test_received_at_is_utc() -> None:
    assert call(1).received_at == "2023-11-14T22:13:20.250000Z"


class OpenTransport(asyncio.Transport):
    def is_closing(self) -> bool:
        return False


class ClosingTransport(asyncio.Transport):
    def is_closing(self) -> bool:
        return True


class Line:
    def __init__(self, transport: asyncio.Transport | None) -> None:
        self.transport = transport


def test_overlapping_calls_of_one_application_are_told() -> None:
    flights = Flights()
    first, second = Line(OpenTransport()), Line(OpenTransport())
    assert not flights.begin("a", first)
    assert not flights.begin("b", second)
    assert flights.begin("a", second)
    flights.end("a", first)
    assert flights.begin("a", first)
    flights.end("a", first)
    flights.end("a", second)
    assert not flights.begin("a", first)


@pytest.mark.parametrize("transport", [None, ClosingTransport()])
def test_a_call_whose_client_has_left_is_no_overlap(transport: asyncio.Transport | None) -> None:
    flights = Flights()
    flights.begin("a", Line(transport))
    assert not flights.begin("a", Line(OpenTransport()))


def test_secret_headers_are_hidden() -> None:
    concealment = Concealment(["X-Tenant"])
    assert concealment.conceal(
        {
            "x-tenant": "s",
            "X-API-Key": "s",
            "Authorization": "s",
            "Proxy-Authorization": "s",
            "Cookie": "s",
            "X-Access-Token": "s",
            "Idempotency-Key": "k",
            "Host": "h",
        }
    ) == {
        "x-tenant": "(hidden)",
        "X-API-Key": "(hidden)",
        "Authorization": "(hidden)",
        "Proxy-Authorization": "(hidden)",
        "Cookie": "(hidden)",
        "X-Access-Token": "(hidden)",
        "Idempotency-Key": "k",
        "Host": "h",
    }


def test_options_do_not_show_secrets() -> None:
    assert "hunter2" not in repr(EmulatorOptions(required_headers={"X-Api-Key": "hunter2"}))


def test_options_out_of_range() -> None:
    with pytest.raises(OptionsError, match=r"port is 70000; expected 0 \(any free port\) to 65535"):
        EmulatorOptions(port=70_000)
    with pytest.raises(OptionsError, match=r"latency is nan; expected a number of seconds, 0 or more"):
        EmulatorOptions(latency=float("nan"))
    with pytest.raises(OptionsError, match="keep is 0; expected at least 1 call, or None to keep all of them"):
        EmulatorOptions(keep=0)
