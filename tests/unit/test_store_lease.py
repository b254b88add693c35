"""How much of its lease a daemon believes to have left, and when it looks at the others'."""

from typing import Any

import pytest

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
