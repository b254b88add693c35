"""`cdc-sync demo`: the whole thing on this machine, no other set-up."""

from typing import Annotated

import typer

from cdc_sync.cli.saying import say
from cdc_sync.demo.running import console, run_demo
from cdc_sync.demo.scenario import Mode


def demo(
    mode: Annotated[Mode, typer.Option("--mode", help="How changes are captured.")] = "notify",
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running to play with, until Ctrl-C.")] = False,
) -> None:
    """Show the whole thing: an embedded PostgreSQL, the daemon, an emulated HelloWork, and a recruiter.

    The exit code is 0 only if HelloWork received exactly the expected calls. No process and no file is left.
    """
    try:
        raise typer.Exit(run_demo(mode, console(), keep=keep))
    except KeyboardInterrupt:
        say("Stopped; nothing is left behind.", err=True)
        raise typer.Exit(130) from None
