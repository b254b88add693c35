"""The command `cdc-sync`.

Exit codes: 0 success; 1 a check or an operation failed; 2 usage; 78 the configuration is wrong.
"""

import asyncio
import io
import logging
import os
import sys
from contextlib import suppress
from importlib import import_module
from inspect import iscoroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cdc_sync import __version__, signals
from cdc_sync.config import ConfigurationError
from cdc_sync.core.failures import OperationError
from cdc_sync.daemon.systemd import logs_to_journal

from .context import misused, say, say_lines

_IN_ORDER = """
run check init plan labels:plan status explain:status resend:operator pause:operator resume:operator
backup:operator adopt-database:operator forget:operator emulator:demo demo sql
dead-letters:operator fuse:operator config:init files:init
"""
_MODULES = {name: module or name for name, _, module in (each.partition(":") for each in _IN_ORDER.split())}
"""Each command's module, in the order of the help."""


class _Commands(TyperGroup):
    """Loads a command when it is used: a daemon keeps what it has loaded."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": dict.fromkeys(_MODULES)})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; None if there is none."""
        if cmd_name in self.commands and self.commands[cmd_name] is None:
            found = getattr(import_module(f"cdc_sync.cli.{_MODULES[cmd_name]}"), cmd_name.replace("-", "_"))
            alone = typer.Typer(rich_markup_mode="rich")
            if isinstance(found, typer.Typer):
                alone.add_typer(found, name=cmd_name)
            else:
                alone.command(cmd_name)(found)
            self.commands[cmd_name] = typer.main.get_group(alone).commands[cmd_name]
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse bytes that are no text of the locale: no store and no database accepts them."""
        given = " ".join(args)
        try:
            given.encode()
        except UnicodeEncodeError:
            raise misused(f"this is no text in the locale's encoding: {given}") from None
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> None:
        """Run the command; one that waits gets an event loop."""
        found = super().invoke(ctx)
        if iscoroutine(found):
            asyncio.run(found)


app = typer.Typer(
    name="cdc-sync",
    cls=_Commands,
    help="Keeps HelloWork informed of what happens in an ATS's PostgreSQL database, without touching the ATS.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"cdc-sync {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    # An unreadable file is no usage error.
    config: Annotated[
        Path, typer.Option(metavar="PATH", envvar="CDC_SYNC_CONFIG", readable=False, help="The configuration.")
    ] = Path("/etc/cdc-sync/config.yaml"),
    version: Annotated[  # noqa: ARG001 - an eager option acts in its callback
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    context.obj = config
    if context.invoked_subcommand != "run":  # the daemon has handlers for them, and waits for these
        signals.deliver()


def main() -> None:
    """Run the command line. Typer ends it with 1 after a closed pipe, 130 after Ctrl-C."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed
            setattr(sys, name, Path(os.devnull).open("r+", encoding="utf-8"))  # noqa: SIM115 - until the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for locales without UTF-8
    # The driver also logs what it raises.
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    try:
        app()
    except ConfigurationError as error:
        _say_why(str(error))
        sys.exit(os.EX_CONFIG)  # systemd must not restart
    except OperationError as error:
        _say_why(f"cdc-sync: {error}")
        sys.exit(1)
    except OSError as error:
        _say_why(f"cdc-sync: the system refuses what is needed, the output perhaps: {error}")
        sys.exit(1)


def _say_why(text: str) -> None:
    """Say why the command ends: in the journal as errors."""
    priority = "<3>" if logs_to_journal(os.environ) else ""
    for line in text.splitlines():
        with suppress(OSError):  # the exit code says it, too
            say_lines(f"{priority}{line}", err=True)
