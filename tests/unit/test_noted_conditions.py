"""The store's list of conditions, which `status` of another process shows."""

from collections.abc import Mapping

import pytest
from support.builders import WATCH
from support.configurations import a_config
from support.leading import a_lead, a_process

from cdc_sync.core.events import CaptureLate, CaptureStarted
from cdc_sync.core.failures import StoreError
from cdc_sync.daemon.chores import NotedConditions


async def test_a_condition_that_could_not_be_saved_is_saved_though_no_event_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = a_process(a_config(), lambda _: None)
    async with a_lead(process) as leading:
        store = leading.store
        await store.operation.set_conditions({f"watch {WATCH}": "not connected yet"}, 0)
        noted = NotedConditions(process, store)
        process.emit(CaptureStarted(WATCH))

        async def refuse(_: Mapping[str, str | None], __: int) -> None:
            raise StoreError("store-unusable", "busy")

        async def saved() -> set[str]:
            return {condition.name for condition in await store.operation.conditions()}

        with monkeypatch.context() as patched:
            patched.setattr(store.operation, "set_conditions", refuse)
            await noted.look()
        assert await saved() == {f"watch {WATCH}"}
        await noted.look()
        assert await saved() == set(), "the past condition is deleted"

        process.emit(CaptureLate(WATCH, 60.0))
        await noted.look()
        assert await saved() == {f"lag {WATCH}"}
