"""How much of its lease a daemon believes to have left."""

from typing import Any

import pytest

from cdc_sync.store.postgres import claims as module
from cdc_sync.store.postgres.claims import Living


async def test_a_suspended_machine_has_used_up_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server counts that time, and so does CLOCK_BOOTTIME; the monotonic clock does not."""
    up = 1_000
    monkeypatch.setattr(module, "uptime", lambda: up)

    async def run(work: Any) -> Any:
        return 7, 0, False

    living = Living(run, longest_call=10.0)
    await living.ensure()
    assert living.holds

    up += 60_000

    assert not living.holds
