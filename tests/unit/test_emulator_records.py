"""The emulator's memory: calls, options, and what must not be remembered."""

import asyncio

import pytest
from support.eventually import in_time

from cdc_sync.emulator import Call, Emulator, EmulatorOptions, faults
from cdc_sync.emulator.calls import CallLog, conceal
from cdc_sync.emulator.faults import FaultError, Reset


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


def filled(keep: int | None, count: int, max_bytes: int = 2**20) -> CallLog:
    log = CallLog(keep, max_bytes)
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
    assert call(1).as_json()["received_at"] == "2023-11-14T22:13:20.250000Z"


def test_secret_headers_are_hidden() -> None:
    assert conceal(
        {
            "x-tenant": "s",
            "X-API-Key": "s",
            "Authorization": "s",
            "Proxy-Authorization": "s",
            "Cookie": "s",
            "X-Access-Token": "s",
            "Idempotency-Key": "k",
            "Host": "h",
        },
        frozenset({"x-tenant"}),
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


def test_calls_are_kept_as_far_as_memory_is_for_them() -> None:
    size = len("{}") + len("/v1/applications/a/status")

    assert numbers(filled(1_000, 10, 3 * size), 0) == [8, 9, 10]
    assert numbers(filled(None, 10, 3 * size), 0) == list(range(1, 11)), "whoever keeps all keeps all"
    log = filled(1_000, 10, 3 * size)
    log.forget()
    log.record(call(11))
    assert numbers(log, 0) == [11]


def test_a_call_that_is_larger_than_all_memory_for_calls_is_not_kept() -> None:
    log = filled(1_000, 3, 1)

    assert numbers(log, 0) == []
    assert log.last_number == 3


def test_so_many_faults_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "MAX_FAULTS", 2)
    emulator = Emulator()
    emulator.inject(Reset())
    with pytest.raises(FaultError, match="more than 2 faults would wait; remove some"):
        emulator.inject(Reset(), Reset())
    assert len(emulator.faults) == 1
    emulator.inject(Reset())
    assert len(emulator.faults) == 2
