"""How much of its lease a daemon believes to have left, and when it looks at the others'."""

import asyncio
from typing import Any

import pytest

from cdc_sync.core.failures import StoreError
from cdc_sync.store.clock import Clock
from cdc_sync.store.postgres import claims as module
from cdc_sync.store.postgres.claims import BEAT, DaemonLease


async def test_a_suspended_machine_has_used_up_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server counts that time, and so does CLOCK_BOOTTIME; the monotonic clock does not."""
    up = 1_000
    monkeypatch.setattr(module, "uptime", lambda: up)

    async def run(work: Any) -> Any:
        return 7, 0, False

    lease = DaemonLease(run, longest_call=10.0)
    await lease.ensure()
    assert lease.holds

    up += 60_000

    assert not lease.holds


async def test_steps_at_the_same_moment_share_renewals_and_their_error() -> None:
    runs = 0

    async def run(work: Any) -> Any:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0)
        raise StoreError("store-unanswered", "the server is silent")

    lease = DaemonLease(run, longest_call=10.0)

    found = await asyncio.gather(*(lease.ensure() for _ in range(20)), return_exceptions=True)

    assert [str(each) for each in found] == ["the server is silent"] * 20
    assert runs == 2, "the next one begins after all have asked"


async def test_a_failure_during_a_renewal_has_another_one_follow() -> None:
    numbers = iter([7, 8])

    async def run(work: Any) -> Any:
        number = next(numbers)
        if number == 7:
            lease.renew_first()  # another step found that the server had gone
        return number, 0, False

    lease = DaemonLease(run, longest_call=10.0)

    assert await lease.ensure() == 8


async def test_a_lease_that_is_given_up_is_not_taken_again_by_a_renewal() -> None:
    asked, statements = asyncio.Event(), list[str]()

    async def run(work: Any) -> Any:
        asked.set()
        if lease.number is None:
            return 7, 0, False
        await asyncio.sleep(0.05)
        statements.append("answered")
        return 7, 0, False

    lease = DaemonLease(run, longest_call=10.0)
    await lease.ensure()
    asked.clear()
    renewing = asyncio.create_task(lease.renew())
    await asked.wait()

    await lease.end()

    assert statements == ["answered"], "the end alone"
    with pytest.raises(asyncio.CancelledError):
        await renewing
    assert lease.number is None


async def test_a_daemon_that_was_stopped_itself_gives_the_others_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have been stopped with it, with their host, and go on with it."""
    up, answers = 1_000, list[object]()
    monkeypatch.setattr(module, "uptime", lambda: up)

    async def run(work: Any) -> Any:
        return answers.pop(0)

    lease = DaemonLease(run, longest_call=10.0)

    async def looks_at(moment: int) -> bool:
        """Whether another daemon is taken for dead, `moment` ms after the first look."""
        nonlocal up
        up = 1_000 + moment
        lapsed, no_sessions, is_expired, no_claims = [(7, "a moment ago", False, 0.0)], list[object](), True, None
        answers[:] = [lapsed, no_sessions, is_expired, no_claims]
        return await lease.expire_claims(Clock(0))

    assert [await looks_at(moment) for moment in (0, 2_000, 4_000)] == [False, False, True]
    assert [await looks_at(moment) for moment in (64_000, 66_000, 68_000)] == [False, False, True]


async def test_a_daemon_takes_over_although_ownerless_claims_cannot_be_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped session may hold one of those rows, and stays."""
    up, taken_over = 1_000, False
    monkeypatch.setattr(module, "uptime", lambda: up)
    lapsed, no_sessions, is_expired = [(7, "a moment ago", False, 0.0)], list[object](), True
    busy = StoreError("store-unanswered", "a frozen session holds the row")

    async def run(work: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    lease = DaemonLease(run, longest_call=10.0)
    for moment in range(0, 8_000, 2_000):
        up = 1_000 + moment
        answers: list[object] = [lapsed, busy] if moment < 4_000 else [lapsed, no_sessions, is_expired, busy]
        taken_over |= await lease.expire_claims(Clock(0))
        assert lease.not_taken_over is busy

    assert taken_over


@pytest.mark.parametrize(
    ("overdue", "beat"),
    [
        ([], BEAT),
        ([(7, "soon", False, 0.5)], 0.5),
        ([(7, "a moment ago", False, 0.0), (8, "soon", False, 1.5)], 1.5),
        ([(7, "a moment ago", False, 0.0)], BEAT),
    ],
)
async def test_a_lease_is_looked_at_when_it_lapses(overdue: list[tuple[Any, ...]], beat: float) -> None:
    """And not up to a beat later: what its daemon had waits for it."""
    answers = iter([overdue, None])

    async def run(work: Any) -> Any:
        return next(answers)

    lease = DaemonLease(run, longest_call=10.0)

    await lease.expire_claims(Clock(0))

    assert lease.beat == pytest.approx(beat, abs=0.1)
