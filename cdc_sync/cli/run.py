"""`cdc-sync run`: the daemon."""

import gc
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated

import typer

from cdc_sync import event_loop
from cdc_sync.cli.context import invocation
from cdc_sync.cli.progress import BaselineBar
from cdc_sync.cli.saying import say
from cdc_sync.config import Config
from cdc_sync.core.observations import Consumer
from cdc_sync.daemon import RunOptions, run_once
from cdc_sync.daemon import run as run_daemon
from cdc_sync.daemon.lines import Lines, configure
from cdc_sync.daemon.logs import EventLogger
from cdc_sync.daemon.reloading import Reread
from cdc_sync.daemon.systemd import SystemdNotifier


def run(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Catch up, deliver what is due, exit.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the calls, send none, change no state. Works beside the daemon.")
    ] = False,
) -> None:
    """Watch the database and tell HelloWork (the daemon)."""
    called = invocation(context)
    config = called.config()

    def configured(config: Config) -> Lines:
        lines = configure(config.log, called.environ)
        for warning in called.warnings(config):
            lines.warn(str(warning))
        return lines

    lines = configured(config)
    with ExitStack() as stack:
        bar = stack.enter_context(BaselineBar())
        log = EventLogger(lines, progress_elsewhere=bar.shown, rehearsal=dry_run)
        systemd = SystemdNotifier(called.environ)
        consumers = (bar.handlers, log.handlers, systemd.handlers)
        # What is there by now stays for ever. For the collector to look through it again and again costs a tenth of the
        # time that rows take.
        gc.freeze()
        # A thousand changes are tens of thousands of objects at once, none of them in a circle. To look for circles
        # after each 700, as is the default, takes 6 of 155 µs a change.
        gc.set_threshold(20_000)
        if once:
            raise typer.Exit(_once(config, consumers, dry_run=dry_run))
        options = RunOptions(dry_run=dry_run, beat_every=systemd.wants_to_hear_every)
        # Who only looks is at a terminal: closing it ends the look.
        reread = None if dry_run else Reread(called.config, lambda config: log.use(configured(config)))
        event_loop.run(run_daemon(config, options, consumers, _show, reread))


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
