"""The PostgreSQL store, on a server of its own: beside SQLite, with two daemons, and with a long outbox."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import psutil
import psycopg
import yaml
from support.daemon_process import free_port

from bench.agreed import CONCURRENCY
from bench.calls import drained
from bench.figures import Figure, at_most, beside, ratio_at_least
from bench.options import Options
from bench.site import Rig, Site, new_store, site, store_server
from cdc_sync.config.models import sender_horizon
from cdc_sync.core.status_url import endpoint_of
from cdc_sync.demo.postgres import Server
from cdc_sync.store.opening import opened_by_daemon, store_dsn
from cdc_sync.store.postgres.claims import BEAT

_ROWS = 10_000

_BARE_OUTBOX = """
CREATE TABLE public.bare (id bigint PRIMARY KEY, due_at bigint NOT NULL, claimed boolean NOT NULL DEFAULT false);
INSERT INTO public.bare (id, due_at) SELECT i, i FROM generate_series(1, {rows}) AS i;
CREATE INDEX ON public.bare (due_at) WHERE NOT claimed
"""
_BARE_CLAIM = """
UPDATE public.bare SET claimed = true
 WHERE id = ANY (ARRAY(
       SELECT id FROM public.bare WHERE NOT claimed ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING id, due_at
"""


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
        beside(f"{measure}: beside SQLite", "calls/s", rounds, ratio_at_least(0.5, 0.7)),
        Figure(
            f"{measure}: CPU time of its server for each call",
            "µs",
            median(cpu),
            rounds=[(each, 0.0) for each in cpu],
            budget=at_most(350, 200),
        ),
    ]


def two_daemons(rig: Rig, options: Options) -> list[Figure]:
    """Two daemons that share a store, beside one, to a slow endpoint."""
    rounds: list[tuple[float, float]] = []
    cpu: list[tuple[float, float]] = []
    with store_server(rig.binaries) as of_store, _places(rig, options) as place:
        two, one = place(new_store(of_store)), place(new_store(of_store))
        two.start_second()
        time.sleep(BEAT)  # by then the first knows that it is not alone
        for _ in range(options.rounds):
            rates, used = [], []
            for each in (two, one):
                _rest(two, one)
                used.append(-_cpu_of_all())
                rates.append(drained(each, options.bulk, options.slow))
                used[-1] += _cpu_of_all()
            rounds.append((rates[0], rates[1]))
            cpu.append((used[0] * 1e6 / options.bulk, used[1] * 1e6 / options.bulk))
    measure = f"two daemons, {options.slow * 1000:.0f} ms endpoint"
    return [
        beside(f"{measure}: beside one", "calls/s", rounds, ratio_at_least(1.8, 1.9)),
        # With as many cores as there are, this is what limits two.
        beside(f"{measure}: CPU time of all processes for each call, beside one", "µs", cpu),
    ]


def claims(rig: Rig, options: Options) -> list[Figure]:
    """A claim after a long outage of HelloWork, on an outbox that was never analysed.

    The bare claim is one statement on a table with as many rows and only the needed columns.
    """
    with (
        store_server(rig.binaries, autovacuum="off") as of_store,
        tempfile.TemporaryDirectory(prefix="cdc-sync-bench-") as folder,
        site(rig, options.pending, Path(folder), state=new_store(of_store)) as place,
    ):
        document = yaml.safe_load(place.config.read_text())
        document["hellowork"]["base_url"] = f"http://127.0.0.1:{free_port()}"
        place.config.write_text(yaml.safe_dump(document))
        place.start()
        place.wait_until_swept()
        place.update_first("applications", options.pending)
        place.wait_until(lambda: place.pending() == options.pending, "all entries to be pending")
        place.stop()
        took = asyncio.run(_claimed(place, options))
    measure = f"claim at {options.pending:,} pending, never analysed, PostgreSQL store"
    return [beside(measure, "ms", took, at_most(3, 1))]


async def _claimed(place: Site, options: Options) -> list[tuple[float, float]]:
    """Milliseconds of claims as large as the workers', and of bare ones in turns with them."""
    took: list[tuple[float, float]] = []
    loaded = place.loaded  # once: it reads the file
    endpoint, horizon = endpoint_of(loaded.hellowork.base_url), sender_horizon(loaded)
    (watch,) = loaded.watches
    with psycopg.connect(store_dsn(loaded), autocommit=True) as connection:
        connection.execute(_BARE_OUTBOX.format(rows=options.pending).encode())
        async with opened_by_daemon(loaded) as store:
            for _ in range(options.claims):
                begun = time.monotonic()
                entries = await store.claim(store.clock(), horizon, {(endpoint, watch): CONCURRENCY})
                claimed = time.monotonic()
                assert connection.execute(_BARE_CLAIM, {"limit": CONCURRENCY}).rowcount == len(entries) == CONCURRENCY
                took.append(((claimed - begun) * 1000, (time.monotonic() - claimed) * 1000))
    return took


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
    """CPU seconds of a server's processes, ended ones included."""
    return _used_below(psutil.Process(server.pid))


def _cpu_of_all() -> float:
    """CPU seconds of all: the daemons, the servers and the sink."""
    return _used_below(psutil.Process())


def _used_below(process: psutil.Process) -> float:
    used = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:  # it is its parent's by now
            continue
        used += times.user + times.system + times.children_user + times.children_system
    return used
