"""`cdc-sync run`: the daemon."""

import gc
import os
from logging import WARNING
from typing import Annotated

import typer

from cdc_sync import event_loop, signals
from cdc_sync.config import Config, ConfigurationError, undecided
from cdc_sync.core.events import CallEnded, LeadTaken
from cdc_sync.daemon.logs import LOG, configure, handlers
from cdc_sync.daemon.process import Process
from cdc_sync.daemon.running import Daemon, run_once
from cdc_sync.daemon.systemd import SystemdNotifier

from .context import configured, say, say_lines, suspicious


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
            raise ConfigurationError(str(context.obj), undecided(config))
        return config

    def log(config: Config) -> None:
        configure(config.log, os.environ)
        for warning in suspicious(config, context.obj):
            LOG.write(WARNING, str(warning), {})

    config = read()
    log(config)
    consumers = (lambda: handlers([CallEnded, LeadTaken] if dry_run else ()), SystemdNotifier(os.environ).handlers)
    # Loaded modules stay: collections that include them take a tenth of the time of rows.
    gc.freeze()
    # Rows have no cycles. Collections after 700 objects, the default, take 6 of 155 µs a change.
    gc.set_threshold(20_000)
    if once:
        signals.deliver()
        result = event_loop.run(run_once(config, consumers, say_lines, dry_run=dry_run))
        calls, left, verb = result.calls, result.left, "would be sent" if dry_run else "sent"
        say(
            f"{calls['acknowledged']} {verb}, {calls['retry']} to try again, {calls['dead']} given up; "
            f"{left['pending']} pending, {left['held']} held, {left['dead']} dead letters"
        )
        if result.failed:
            for name, message in result.conditions.items():
                say(f"{name}: {message}", err=True)
        raise typer.Exit(1 if result.failed else 0)
    process = Process(config, consumers, say_lines, dry_run=dry_run)
    event_loop.run(Daemon(process, read, log).run())
