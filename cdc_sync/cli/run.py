"""`cdc-sync run`: the daemon."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from cdc_sync import event_loop
from cdc_sync.cli.context import configured, say, suspicious
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

    def read() -> Config:
        config = configured(context)
        if config.undecided and not dry_run:
            problems = [each for each in suspicious(config, context.obj) if each.code == "undecided"]
            raise ConfigurationError(str(context.obj), problems)
        return config

    def logging(config: Config) -> Lines:
        lines = configure(config.log, os.environ)
        for warning in suspicious(config, context.obj):
            lines.warn(str(warning))
        return lines

    config = read()
    lines = logging(config)
    with _baseline_bars() as bars:
        log = EventLogger(lines, [*([BaselineProgress] if bars() else []), *([CallEnded] if dry_run else [])])
        systemd = SystemdNotifier(os.environ)
        consumers = (bars, log.handlers, systemd.handlers)
        # What is there by now stays for ever. For the collector to look through it again and again costs a tenth of the
        # time that rows take.
        gc.freeze()
        # A thousand changes are tens of thousands of objects at once, none of them in a circle. To look for circles
        # after each 700, as is the default, takes 6 of 155 µs a change.
        gc.set_threshold(20_000)
        if once:
            result = event_loop.run(run_once(config, consumers, _show, dry_run=dry_run))
            verb = "would be sent" if dry_run else "sent"
            say(
                f"{result.calls['acknowledged']} {verb}, {result.calls['retry']} to try again, "
                f"{result.calls['dead']} given up; {result.pending} pending, {result.held} held, "
                f"{result.dead} dead letters"
            )
            raise typer.Exit(1 if result.failed else 0)
        # Who only looks is at a terminal: closing it ends the look.
        reread = None if dry_run else Reread(read, lambda config: log.use(logging(config)))
        beat_every = systemd.wants_to_hear_every
        event_loop.run(running.run(config, consumers, _show, reread, dry_run=dry_run, beat_every=beat_every))


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
    from rich.progress import BarColumn, Progress, TaskID, TimeRemainingColumn  # noqa: PLC0415 - as above

    rows = "{task.completed:,.0f} of about {task.total:,.0f} rows"
    columns = ("{task.description}", BarColumn(), rows, TimeRemainingColumn())
    progress, bars = Progress(*columns, console=Console(stderr=True), transient=True), dict[str, TaskID]()

    def move(event: BaselineProgress) -> None:
        progress.start()
        if event.watch not in bars:
            bars[event.watch] = progress.add_task(f"baseline {event.watch}")
        # The planner's estimate may be too small: a bar never runs over its end.
        progress.update(bars[event.watch], completed=event.rows, total=max(event.estimate, event.rows, 1))

    def done(event: BaselineDone) -> None:
        if event.watch in bars:
            progress.remove_task(bars.pop(event.watch))
        if not bars:
            progress.stop()

    try:
        yield lambda: {BaselineProgress: move, BaselineDone: done}
    finally:
        progress.stop()
