"""Several senders on one store: what an endpoint says to one counts for all, and no call begins without a claim."""

from collections.abc import Callable

import pytest
from support.builders import HOUR
from support.eventually import eventually
from support.sending import SLOW, Delivery

from cdc_sync.core.events import CallEnded, EndpointChanged
from cdc_sync.core.outbox import Entry
from cdc_sync.core.replies import Health
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.emulator import Emulator


class TestTheEndpointsHealth:
    async def test_what_another_daemon_was_told_counts_here_too(self, desk: Delivery, hellowork: Emulator) -> None:
        endpoint = endpoint_of(hellowork.url)
        await desk.queue(hellowork.url, "a1")
        paused = Health("paused", failures=1, until=desk.clock() + HOUR, reason="HTTP 401")
        async with desk.sending(policy=SLOW) as sender:
            await eventually(desk.is_settled, "the first call", within=60)
            await desk.store.complete([], {endpoint: paused})
            await eventually(lambda: [each.mode for each in desk.of_type(EndpointChanged)] == ["paused"], "news", 60)

            await desk.queue(hellowork.url, "a2")
            desk_calls = len(hellowork.calls)
            assert sender._endpoints.all[endpoint].most == 1, "it comes back gently here too"
            await desk.store.complete([], {endpoint: Health()})
            await eventually(desk.is_settled, "the second call", within=60)

        assert desk_calls == 1
        assert [each.mode for each in desk.of_type(EndpointChanged)] == ["paused", "healthy"]

    async def test_what_it_was_told_itself_is_not_undone_by_what_the_store_had(
        self, desk: Delivery, hellowork: Emulator
    ) -> None:
        await desk.queue(hellowork.url, "a1")
        desk.outbox.complete_may_begin.clear()
        async with desk.sending(policy=SLOW) as sender:
            await eventually(lambda: desk.outbox.completions, "an end to be written", within=60)
            looks = desk.outbox.looks
            sender._endpoints.all[endpoint_of(hellowork.url)].health = Health("paused", 1, desk.clock() + HOUR)
            await eventually(lambda: desk.outbox.looks > looks + 1, "looks at the store", within=60)

            assert sender._endpoints.all[endpoint_of(hellowork.url)].health.mode == "paused"

            desk.outbox.complete_may_begin.set()


class TestTheClaim:
    async def test_without_it_no_call_begins_and_the_entry_stays(
        self, desk: Delivery, hellowork: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await desk.queue(hellowork.url, "a1")
        lapsed: Callable[[Entry], bool] = lambda _: False  # noqa: E731 - what only another daemon could bring about
        monkeypatch.setattr(desk.outbox, "holds", lapsed)

        await desk.send_once()

        assert hellowork.calls == []
        assert [call.outcome for call in desk.of_type(CallEnded)][:1] == ["retry"]
        monkeypatch.undo()
        await desk.send_once()
        assert len(hellowork.calls) == 1
        assert await desk.is_settled()
