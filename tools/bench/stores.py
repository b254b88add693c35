"""The PostgreSQL store, on a server of its own: beside SQLite."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import psutil

from bench.calls import drained
from bench.figures import Figure, at_most, beside, ratio_at_least
from bench.options import Options
from bench.site import Rig, Site, new_store, site, store_server, used_below
from cdc_sync.demo.postgres import Server

_ROWS = 10_000


def beside_sqlite(rig: Rig, options: Options) -> list[Figure]:
    """A drain with a PostgreSQL store, beside one with SQLite; and its costs for PostgreSQL."""
    rounds: list[tuple[float, float]] = []
    cpu: list[float] = []
    with store_server(rig.binaries) as of_store, _places(rig, options) as place:
        shared, alone = place(new_store(of_store)), place(None)
        for _ in range(options.rounds):
            _rest(shared, alone)
            used = _cpu(of_store)
            ours = drained(shared, options.bulk)
            cpu.append((_cpu(of_store) - used) * 1e6 / options.bulk)
            _rest(shared, alone)
            rounds.append((ours, drained(alone, options.bulk)))
    measure = f"{options.bulk:,} rows by one UPDATE, PostgreSQL store"
    return [
        beside(f"{measure}: beside SQLite", "calls/s", rounds, ratio_at_least(0.8, 0.95)),
        Figure(
            f"{measure}: CPU time of its server for each call",
            "µs",
            median(cpu),
            rounds=[(each, 0.0) for each in cpu],
            budget=at_most(350, 200),
        ),
    ]


@contextmanager
def _places(rig: Rig, options: Options) -> Iterator[Callable[[Mapping[str, str] | None], Site]]:
    """Makes sites whose daemons have swept; they end with the `with`."""
    with ExitStack() as stack:

        def place(state: Mapping[str, str] | None) -> Site:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdc-sync-bench-")))
            made = stack.enter_context(site(rig, max(options.bulk, _ROWS), folder, state=state))
            made.start()
            made.wait_until_swept()
            return made

        yield place


def _rest(*places: Site) -> None:
    for place in places:
        place.rest()


def _cpu(server: Server) -> float:
    return used_below(psutil.Process(server.pid))
