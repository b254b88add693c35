"""What is in the sender's memory, step by step; `support.sender_model` searches for longer stories."""

from dataclasses import replace

from support.sending import SETTINGS, an_entry

from cdc_sync.core.batch import Applied
from cdc_sync.core.outbox import DueEntries, Entry
from cdc_sync.delivery.endpoints import Endpoints
from cdc_sync.delivery.memory import AT_ONCE, Lanes, Memory, lane_of

OURS = an_entry(base_url="http://127.0.0.1:1")
OTHERS = OURS._replace(watch="archive")


def with_entries(*entries: Entry) -> Memory:
    endpoints = Endpoints(replace(SETTINGS, concurrency=1), clock=lambda: 1)
    memory = Memory(endpoints, Lanes(endpoints, lambda _: True))
    memory.take_in(DueEntries({lane_of(entry): [entry] for entry in entries}, {}))
    return memory


def test_another_watchs_entry_of_an_application_is_read_after_the_first_ones_call() -> None:
    memory = with_entries(OURS, OTHERS)
    assert list(memory.entries) == [OURS.id]
    assert memory.begin() is not None

    memory.completed(OURS.id)

    assert memory.lanes.unread == {lane_of(OTHERS): AT_ONCE}


def test_an_entry_that_another_watch_has_replaced_leaves_memory() -> None:
    memory = with_entries(OTHERS)

    memory.end_apply(memory.begin_apply(OURS.watch, [OURS.application_id]), Applied(replaced=[OTHERS.id]))

    assert not memory.entries


def test_the_lanes_of_an_endpoint_share_its_room() -> None:
    memory, lanes = with_entries(), [lane_of(OURS), lane_of(OTHERS)]
    for lane in lanes:
        memory.lanes.read_at(lane, AT_ONCE)

    wanted = memory.take_wanted()

    assert {lane: wanted[lane].limit for lane in wanted} == dict.fromkeys(lanes, 4)
