"""Taking over another configuration while the daemon runs (SIGHUP).

The file is read and judged as at a start. Unless it is valid, and changes nothing that only a restart can change, the
one in use stays, whole: what runs is always one file as somebody wrote it, never a mixture of two.

What goes on without noticing: the store and its lock, the admin server, the calls under way, what is known of the
endpoints, and every watch whose settings are as before. A watch with other settings ends and begins again, which is
what a restart does to all of them: what it had not recorded is in the change log or behind the watermark, and comes
again.

Dying in between costs no more than dying at any other moment: nothing of this is kept, and the next start reads the
file. Signals that come meanwhile ask for one more reload after this one.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from cdc_sync.config import Config
from cdc_sync.config.models import watch_rules
from cdc_sync.core.observations import Observe, Reloaded, WatchEnded
from cdc_sync.daemon.watching import WatchWorker
from cdc_sync.event_loop import end, raise_failures
from cdc_sync.pipeline.database import Database


@dataclass(frozen=True, slots=True)
class Reread:
    """Where the configuration comes from: `read` reads it again, `used` is told when what it read is in use."""

    read: Callable[[], Config]
    used: Callable[[Config], None]


def changes_that_need_a_restart(now: Config, then: Config) -> tuple[str, ...]:
    """What stands in the way of using a configuration in place of the present one, a line for each key."""
    before, after = _of_the_process(now), _of_the_process(then)
    return tuple(
        f"{key} cannot be changed while the daemon runs: restart it for that, or write the present value again"
        for key in before
        if before[key] != after[key]
    )


def _of_the_process(config: Config) -> dict[str, object]:
    """What only a restart can change: the store and the address belong to the process."""
    state = config.state
    shares_database = state.backend == "postgres" and state.dsn is None
    return {
        **{f"state.{key}": getattr(state, key) for key in ("backend", "path", "dsn")},
        "database.dsn": config.database.dsn if shares_database else None,
        "admin.listen": config.admin.listen,
    }


@dataclass(slots=True)
class RunningWatches:
    """The watches that run, a task for each.

    Attributes:
        worker: makes a watch's worker.
        database: makes the database that all of them share, anew only if it is another one.
        observe: told of watches that end.
    """

    worker: Callable[[Config, str, Database], WatchWorker]
    database: Callable[[Config], Database]
    observe: Observe
    _used: tuple[object, Database] | None = field(default=None, init=False)
    _running: dict[str, tuple[asyncio.Task[None], WatchWorker, object]] = field(default_factory=dict, init=False)
    """Of each watch its task, its worker, and everything that it depends on."""

    def want_sweeps(self) -> None:
        """Sweep every watch as soon as the spacing of sweeps allows."""
        for _, worker, _ in self._running.values():
            worker.want_sweep()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The watches' tasks."""
        return [task for task, _, _ in self._running.values()]

    async def use(self, config: Config) -> Reloaded:
        """Begin, end and renew watches, so that those of a configuration run, as it says; returns which.

        Raises:
            BaseExceptionGroup: what a watch failed with while it was ended.
        """
        wanted = {name: (config.database, watch, watch_rules(config, name)) for name, watch in config.watches.items()}
        before = {name: task for name, (task, _, used) in self._running.items() if wanted.get(name) != used}
        await end(before.values())
        raise_failures(before.values())
        for name in before:
            del self._running[name]
            self.observe(WatchEnded(name, for_good=name not in wanted))
        if self._used is None or self._used[0] != config.database:
            self._used = config.database, self.database(config)
        fresh = [name for name in wanted if name not in self._running]
        for name in fresh:
            worker = self.worker(config, name, self._used[1])
            task = asyncio.create_task(worker.run(), name=f"watch {name}")
            self._running[name] = task, worker, wanted[name]
        return Reloaded(
            tuple(wanted),
            begun=tuple(name for name in fresh if name not in before),
            renewed=tuple(name for name in fresh if name in before),
            ended=tuple(name for name in before if name not in wanted),
        )
