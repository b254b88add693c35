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
from cdc_sync.daemon import wiring
from cdc_sync.event_loop import end


async def test_a_condition_that_could_not_be_saved_is_saved_though_no_event_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wiring, "LOOK", 0.01)
    process = a_process(a_config(), lambda _: None)
    async with a_lead(process) as leading:
        store = leading.store
        await store.operation.set_conditions({f"watch {WATCH}": "not connected yet"}, 0)
        save, refused = store.operation.set_conditions, list[None]()

        async def refuse_once(messages: Mapping[str, str | None], now: int) -> None:
            if not refused:
                refused.append(None)
                raise StoreError("store-unusable", "busy")
            await save(messages, now)

        monkeypatch.setattr(store.operation, "set_conditions", refuse_once)

        async def saved() -> set[str]:
            return {condition.name for condition in await store.operation.conditions()}

        noting = asyncio.create_task(leading._note_conditions())
        try:
            process.emit(CaptureStarted(WATCH))
            await eventually(lambda: refused, "the store refuses", within=5)

            async def nothing_is_left() -> bool:
                return await saved() == set()

            await eventually(nothing_is_left, "the past condition is deleted", within=5)

            process.emit(CaptureLate(WATCH, 60.0))

            async def the_next_is_there() -> bool:
                return await saved() == {f"lag {WATCH}"}

            await eventually(the_next_is_there, "another one is saved", within=5)
        finally:
            await end([noting])
