"""What `plan` lists."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from cdc_sync.cli import plan


def test_a_limit_is_for_what_is_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def planned(*_: Any) -> plan.Found:
        return plan.Found([{"action": action} for action in ("send", "held", "skip")])

    monkeypatch.setattr(plan, "rehearsed", planned)
    monkeypatch.setattr(plan, "configured", lambda _: SimpleNamespace(watches={}, templates={}))

    def listed(**options: Any) -> list[str]:
        asyncio.run(plan.plan(SimpleNamespace(), as_json=True, **options))  # type: ignore[arg-type]
        return [item["action"] for item in json.loads(capsys.readouterr().out)]

    assert listed(limit=2) == ["send", "held"]
    assert listed(limit=2, every=True) == listed(limit=None, every=False) == ["send", "held", "skip"]
