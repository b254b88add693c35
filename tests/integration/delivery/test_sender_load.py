"""Many entries and a network that fails in every way: nothing is lost, nothing is doubled, order is kept."""

from collections import Counter

from support.emulated import Emulator
from support.eventually import eventually
from support.sending import Delivery

IDS = tuple(f"a{number:04}" for number in range(2_000))


async def test_five_hundred_calls_over_a_bad_network(desk: Delivery, hellowork: Emulator) -> None:
    ids = IDS[:500]
    statuses = [{"kind": "status", "status": status} for status in (503, 404, 429)]
    kinds = [*({"kind": kind} for kind in ("reset", "lost_answer", "half_answer", "html")), *statuses]
    hellowork.inject({"kind": "random", "seed": 4, "rate": 0.1, "kinds": kinds})
    await desk.queue(hellowork.url, *ids)

    async with desk.sending():
        await hellowork.wait_for_calls(50, timeout=60)
        # A third of them change once more in the middle of it.
        await desk.queue(hellowork.url, *ids[::3], status="hired")
        await eventually(desk.is_settled, "everything is acknowledged", within=60)

    wanted = {each: "hired" if number % 3 == 0 else "seen" for number, each in enumerate(ids)}
    assert {each: body["status"] for each, body in hellowork.state.items()} == wanted
    known = await desk.store.capture.known("applications", ids)
    assert {each: one.snapshot and one.snapshot.status for each, one in known.items()} == wanted
    assert not any(call.concurrent for call in hellowork.calls)
    acknowledged = Counter(call.idempotency_key for call in hellowork.calls if call.fault is None)
    assert set(acknowledged.values()) == {1}
