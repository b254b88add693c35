"""`cdc-sync run`: the daemon."""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from cdc_sync import event_loop
from cdc_sync.cli.context import invocation, say
from cdc_sync.config import Config, ConfigurationError
from cdc_sync.core.observations import BaselineDone, BaselineProgress, CallEnded, Consumer
from cdc_sync.daemon import running
from cdc_sync.daemon.lines import Lines, configure
from cdc_sync.daemon.logs import EventLogger
from cdc_sync.daemon.once import run_once
from cdc_sync.daemon.reloading import Reread
from cdc_sync.daemon.systemd import SystemdNotifier


def run(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Catch up, deliver what is due, exit.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the calls, send none, change no state. Works beside the daemon.")
    ] = False,
) -> None:
    """Watch the database and keep HelloWork informed (the daemon)."""
    called = invocation(context)

    def read() -> Config:
        config = called.config()
        if config.undecided and not dry_run:
            problems = [each for each in called.warnings(config) if each.code == "undecided"]
            raise ConfigurationError(str(called.config_path), problems)
        return config

    config = read()

    def configured(config: Config) -> Lines:
        lines = configure(config.log, called.environ)
        for warning in called.warnings(config):
            lines.warn(str(warning))
        return lines

    lines = configured(config)
    with _baseline_bars() as bars:
        log = EventLogger(lines, [*([BaselineProgress] if bars() else []), *([CallEnded] if dry_run else [])])
        systemd = SystemdNotifier(called.environ)
        consumers = (bars, log.handlers, systemd.handlers)
        # What is there by now stays for ever. For the collector to look through it again and again costs a tenth of the
        # time that rows take.
        gc.freeze()
        # A thousand changes are tens of thousands of objects at once, none of them in a circle. To look for circles
        # after each 700, as is the default, takes 6 of 155 µs a change.
        gc.set_threshold(20_000)
        if once:
            raise typer.Exit(_once(config, consumers, dry_run=dry_run))
        # Who only looks is at a terminal: closing it ends the look.
        reread = None if dry_run else Reread(read, lambda config: log.use(configured(config)))
        beat_every = systemd.wants_to_hear_every
        event_loop.run(running.run(config, consumers, _show, reread, dry_run=dry_run, beat_every=beat_every))


def _once(config: Config, consumers: Sequence[Consumer], *, dry_run: bool) -> int:
    result = event_loop.run(run_once(config, consumers, _show, dry_run=dry_run))
    verb = "would be sent" if dry_run else "sent"
    say(
        f"{result.calls['acknowledged']} {verb}, {result.calls['retry']} to try again, "
        f"{result.calls['dead']} given up; {result.pending} pending, {result.held} held, {result.dead} dead letters"
    )
    return 1 if result.failed else 0


def _show(text: str) -> None:
    # Only a dry run shows something; the daemon does without rich.
    from cdc_sync.cli.console import console  # noqa: PLC0415 - as above

    for line in text.split("\n"):
        console.print(line, soft_wrap=True)


@contextmanager
def _baseline_bars() -> Iterator[Consumer]:
    """What draws a bar per watch while its baseline runs, where there is a terminal; elsewhere the log has lines."""
    if not sys.stderr.isatty():
        yield dict
        return
    # A daemon without a terminal does without rich.
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - as above

    bars: dict[str, TaskID] = {}
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of about {task.total:,.0f} rows"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )

    def move(event: BaselineProgress) -> None:
        progress.start()
        # The planner's estimate may be too small: a bar never runs over its end.
        total = max(event.estimate, event.rows) or None
        if event.watch not in bars:
            bars[event.watch] = progress.add_task(f"baseline {event.watch}", total=total)
        progress.update(bars[event.watch], completed=event.rows, total=total)

    def done(event: BaselineDone) -> None:
        if event.watch in bars:
            progress.remove_task(bars.pop(event.watch))
        if not bars:
            progress.stop()

    try:
        yield lambda: {BaselineProgress: move, BaselineDone: done}
    finally:
        progress.stop()
