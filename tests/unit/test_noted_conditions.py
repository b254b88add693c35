"""The store's list of conditions, which `status` of another process shows."""

import asyncio
from collections.abc import Mapping

import pytest
from support.builders import WATCH
from support.configurations import a_config
from support.eventually import eventually
from support.leading import a_lead, a_process

from cdc_sync.core.events import CaptureLate, CaptureStarted
from cdc_sync.core.failures import StoreError
from cdc_sync.daemon.chores import save_conditions
from cdc_sync.event_loop import end


async def test_a_condition_that_could_not_be_saved_is_saved_though_no_event_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = a_process(a_config(), lambda _: None)
    async with a_lead(process) as leading:
        store = leading.store
        await store.operation.set_conditions({f"watch {WATCH}": "not connected yet"}, 0)
        process.emit(CaptureStarted(WATCH))
        refused = asyncio.Event()

        async def refuse(_: Mapping[str, str | None], __: int) -> None:
            refused.set()
            raise StoreError("store-unusable", "busy")

        async def saved() -> set[str]:
            return {condition.name for condition in await store.operation.conditions()}

        with monkeypatch.context() as patched:
            patched.setattr(store.operation, "set_conditions", refuse)
            saving = asyncio.create_task(save_conditions(process, store))
            await refused.wait()
        assert await saved() == {f"watch {WATCH}"}

        async def is_saved(*names: str) -> bool:
            return await saved() == set(names)

        await eventually(is_saved, "the end of the past condition", within=20)
        process.emit(CaptureLate(WATCH, 60.0))
        await eventually(lambda: is_saved(f"lag {WATCH}"), "the new condition", within=20)
        await end([saving])
